"""The studies of the fast rungs: bound, tables and figures from made-up races, and what the memory study claims."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpprof.catalog import find, load
from mlpprof.model import Network
from mlpprof.results import Race
from reports.studies import memory
from reports.studies.goals import COPY, WORKS, Result, Work, as_json, best_of, bound_s, goals_text, rate_names
from reports.studies.study import circumstances_text

S1 = Network((784, 70, 30, 10), momentum=0.9, l2=1e-4)
PROTOTYPE = {"gemm_float32": 834.0, COPY: 64.0, "exp_float32": 4 * 1.46, "tanh_float32": 4 * 2.43, "expit_float32": 1.0}
"""The limits of the machine that the goals were set on, four cores."""


def test_the_bound_is_the_one_that_the_goals_were_set_against():
    assert set(rate_names("float32")) == set(PROTOTYPE)
    epoch_s = bound_s(S1, 500, "float32", PROTOTYPE, full_batch=False) * 120
    assert epoch_s == pytest.approx(23.4e-3, rel=0.01)


def test_a_full_batch_need_not_be_gathered():
    gathered, full = (bound_s(S1, 500, "float32", PROTOTYPE, full_batch=full) for full in (False, True))
    assert gathered - full == pytest.approx(2 * 500 * 794 * 4 / 64e9)


def test_of_several_measurements_the_best_counts_and_each_workload_has_names_of_its_own():
    assert best_of([{"a": 1.0, "b": 4.0}, {"a": 2.0, "c": 3.0}]) == {"a": 2.0, "b": 4.0, "c": 3.0}


def test_the_best_at_the_shapes_takes_the_faster_kernel_for_each_product():
    network = Network((784, 70))
    shapes = {
        "product_float32_70x784x500": 400.0,
        "tiles_float32_70x784x500": 800.0,
        "product_float32_70x500x784": 500.0,
    }
    squares, best = (bound_s(network, 500, "float32", PROTOTYPE | shapes, True, at_shapes=at) for at in (False, True))
    assert best - squares == pytest.approx(2e-9 * 784 * 70 * 500 * (1 / 800 + 1 / 500 - 2 / 834))


def result(**step_s: float) -> Result:
    turns = np.array([[[s, s] for s in step_s.values()]] * 3)
    race = Race(tuple(step_s), ("float64",) * len(step_s), 209, (turns, 1.1 * turns))
    work = Work("cats", "optprop", 209, 3.0, {"buffered": 7.9}, rungs=("gram",))
    return Result(work, "12288-20-7-5-1", "float64", race, 1e-3, 0.25e-3, 0.8e-3, 0.2e-3, {"processes": "no numba"})


def test_the_table_of_goals_says_what_is_reached_by_one_process_and_by_all_cores():
    table = goals_text([result(sliced=4e-3, buffered=2.5e-3, processes=1e-3, gram=0.1e-3)], PROTOTYPE, PROTOTYPE, 4)
    assert "goal 3 x bound, one process: reached, buffered at 2.62" in table
    assert "goal 3 x bound, all cores: not reached, processes at 4.20" in table
    assert "gram 30 x as fast as the best direct form, processes: not reached, 10.0 x" in table
    assert "goal 7.9 us with buffered on the goal's machine" in table
    assert "processes did not take part: no numba" in table
    assert re.search(r"buffered +2.62 ms +2.62 +3.28", table)


def test_the_speedup_over_sliced_is_paired_within_processes():
    ratio, error = result(sliced=4e-3, buffered=2e-3).over_base("buffered")
    assert ratio == pytest.approx(2.0)
    assert error == pytest.approx(1.0)  # the second process is slower for both alike
    assert json.dumps(as_json([result(sliced=4e-3, buffered=2e-3)]), allow_nan=False)


def test_every_goal_of_the_project_is_measured():
    assert {work.name: work.goal for work in WORKS}["S1 batch 20,000"] == 1.2
    assert {work.batch for work in WORKS} == {32, 128, 500, 20_000, 100, 10_000, 209, 1}


def test_others_on_the_machine_are_told():
    found = {"machine": {}, "begun": "now", "minutes": 1.0, "command": "it", "load_before": 2.5, "load_after": 3.0}
    assert "others kept the machine busy" in circumstances_text(found)
    assert "busy" not in circumstances_text({**found, "load_before": 0.2})


def peak_of_a_step(name: str, m: int) -> int:
    """Bytes that an instance and its steps take at most, data aside."""
    rng = np.random.default_rng(0)
    X, Y = rng.random((2 * m, 784), dtype=np.float32), np.eye(10, dtype=np.float32)[rng.integers(10, size=2 * m)]
    cls: Any = load(find(name))
    parameters, index = S1.initial_parameters(0, np.float32), np.arange(m)
    tracemalloc.start()
    try:
        instance = cls(S1, parameters)
        for _ in range(2):
            instance.train_step(X, Y, index)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_chunked_needs_for_a_large_batch_what_one_chunk_needs():
    one_chunk = peak_of_a_step("chunked", 500)
    assert peak_of_a_step("chunked", 4000) <= one_chunk + 50_000
    assert peak_of_a_step("buffered", 4000) > 4 * one_chunk
    numbers = 500 * (784 + 3 * 110 + 3 * 10) + 5 * S1.parameter_count
    assert one_chunk <= 1.1 * 4 * numbers


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc")
def test_the_memory_study_tells_libraries_data_and_steps_apart():
    needs, refused = memory.measure([find("chunked"), find("gram")], [500], None, lambda what, share: None)
    (need,) = needs
    assert need.data == 60_000 * (784 + 10) * 4
    assert 0 < need.steps < 20e6 < need.libraries < need.peak
    assert need.peak >= need.data + need.steps
    assert "at most 4,096" in refused["gram"]
