"""Limits: measured by name, kept per machine and environment, measured only where they are missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mlpprof.errors import WorkerKilled
from mlpprof.machine import limits
from mlpprof.machine import limits_worker as worker
from mlpprof.machine.limits import (
    CALLS,
    COMMON,
    Kept,
    Limits,
    depends_on_threads,
    is_better,
    names_for,
    product_name,
    tile_names,
    unit_of,
)
from mlpprof.model import Network
from mlpprof.results import Operation

NETWORK = Network((784, 70, 30, 10))
MACHINE = {
    "cpu_model_name": "AMD EPYC",
    "numpy_version": "2.4.6",
    "blas": [{"vendor": "openblas", "kernel": "Zen", "threads": 1, "loaded_by": "numpy"}, {"loaded_by": "scipy"}],
    "blas_environment": {"OPENBLAS_NUM_THREADS": "1"},
    "load_avg_1min": 0.2,
}


def quiet(what: str, share: float) -> None:
    """No progress."""


class Clock:
    """Time that passes only when work is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, *seconds: float):
        """A function that takes these times in turn, then the last one for ever."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_the_best_repetition_of_the_best_way_is_the_limit():
    clock = Clock()
    slow, fast = clock.work(3.0), clock.work(9.0, 9.0, 5.0, 2.0, 4.0)
    assert worker.best_s([slow, fast], 60.0, clock) == 2.0


def test_a_short_operation_is_repeated_between_two_readings_of_the_clock():
    clock = Clock()
    readings = []

    def read() -> float:
        readings.append(clock.now)
        return clock.now

    assert worker.best_s([clock.work(1e-6)], 0.01, read) == pytest.approx(1e-6)
    assert len(readings) < 60  # of 10,000 operations


def test_measuring_stops_when_the_budget_is_spent_even_in_the_middle_of_a_round():
    clock = Clock()
    worker.best_s([clock.work(1.0)] * 8, 0.5, clock)
    assert clock.now == 17.0  # every way twice, to touch and to look, and one more


@pytest.mark.parametrize(
    "name", ["product_float32_4x8x6", "bandwidth_64KiB", "exp_float32", "expit_float64", "ufunc_call", "product_call"]
)
def test_a_limit_is_measured_by_its_name(name):
    answer = worker.measure(quiet, [name], share_of_budget=0.05)
    assert answer[name]["unit"] == unit_of(name)
    assert np.isfinite(answer[name]["value"])
    assert answer[name]["value"] > 0


@pytest.mark.slow
def test_a_product_in_tiles_is_measured_by_its_name_where_numba_is_installed():
    pytest.importorskip("numba")
    assert "tiles_float32_6x4x8" in tile_names(Network((4, 6)), "float32", (8,))
    assert worker.measure_one("tiles_float32_6x4x8", share_of_budget=0.05) > 0


def test_the_limits_of_tiles_are_left_out_where_numba_does_not_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlpprof.engines.tile_products", None)  # importing it raises ImportError
    assert worker.measure(quiet, ["tiles_float32_6x4x8"]) == {}


def test_a_fault_costs_more_than_nothing():
    assert worker.measure(quiet, ["page_fault"], share_of_budget=0.2)["page_fault"]["value"] > 0


def test_the_names_of_a_step_hold_the_shapes_of_the_network_and_of_what_ran():
    ran = Operation("forward", 1, "x", 1, "product", "matmul", "float32", (70, 785, 500), "", 1, 2, 2, 8, 8, 0, 0)
    vector = Operation("loss", None, "x", 1, "product", "vdot", "float16", (1, 9, 1), "", 1, 2, 2, 8, 8, 0, 0)
    names = names_for(NETWORK, "float32", (500,), [ran, ran, vector])
    assert names[0] == "gemm_float32"
    assert {*COMMON, "tanh_float32"} <= set(names)
    assert "product_float32_70x784x500" in names  # forward
    assert "product_float32_70x500x784" in names  # gradient
    assert "product_float32_30x10x500" in names  # back from layer 3
    assert "product_float32_784x70x500" not in names  # nobody needs the input delta
    assert names.count("product_float32_70x785x500") == 1
    assert not any("float16" in name for name in names)


def test_a_product_and_its_transpose_have_one_name():
    assert (
        product_name("float32", 500, 784, 70) == product_name("float32", 70, 784, 500) == "product_float32_70x784x500"
    )


def test_more_is_better_but_for_calls_and_faults():
    assert is_better("gemm_float32", 2.0, than=1.0)
    assert all(is_better(name, 1.0, than=2.0) for name in CALLS)
    assert {unit_of(name) for name in ("gemm_float32", "product_float32_1x2x3")} == {"GFLOP/s"}
    assert unit_of("bandwidth_8MiB") == "GB/s"
    assert [name for name in ("gemm_float32", "product_call", "exp_float32") if depends_on_threads(name)] == [
        "gemm_float32"
    ]


def kept(value: float = 80.0, doubtful: frozenset[str] = frozenset()) -> Kept:
    return Kept({"gemm_float32": {"value": value, "unit": "GFLOP/s"}}, doubtful)


def test_kept_limits_hold_for_the_same_machine_and_environment_alone():
    key = limits.key_of(MACHINE)
    assert limits.key_of(MACHINE | {"load_avg_1min": 9.0}) == key
    for changed in (
        {"cpu_model_name": "Intel"},
        {"numpy_version": "2.5"},
        {"blas_environment": {"OPENBLAS_CORETYPE": "Haswell"}},
        {"blas": [{"vendor": "openblas", "kernel": "Haswell", "threads": 1}]},
    ):
        assert limits.key_of(MACHINE | changed) != key


def test_the_better_of_two_measurements_is_kept():
    first: Limits = {"gemm_float32": {"value": 80.0, "unit": "GFLOP/s"}, "ufunc_call": {"value": 0.5, "unit": "us"}}
    second: Limits = {"gemm_float32": {"value": 70.0, "unit": "GFLOP/s"}, "ufunc_call": {"value": 0.4, "unit": "us"}}
    assert limits.merged(first, second) == {"gemm_float32": first["gemm_float32"], "ufunc_call": second["ufunc_call"]}


class FakeWorker:
    """Stands for a worker process: answers every name with the same value, and tells what it was asked."""

    asked: list[list[str]]

    def __init__(self, module, environment, limit_s=None, runs=""):
        self.environment = environment

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def call(self, name, progress=None, **arguments):
        if name == "machine":
            return MACHINE
        FakeWorker.asked.append(arguments["names"])
        return {n: {"value": 50.0, "unit": unit_of(n)} for n in arguments["names"]}


@pytest.fixture
def asked(monkeypatch):
    FakeWorker.asked = []
    monkeypatch.setattr(limits, "Worker", FakeWorker)
    monkeypatch.setattr(limits, "neighbours_run", lambda: False)
    return FakeWorker.asked


def test_only_what_is_missing_is_measured(tmp_path, asked):
    limits.CACHE.write(limits.key_of(MACHINE), kept(), tmp_path)
    names = ["gemm_float32", "exp_float32"]
    assert limits.limits_for(names, MACHINE, {}, quiet, pytest.fail, tmp_path) == {
        "gemm_float32": {"value": 80.0, "unit": "GFLOP/s"},
        "exp_float32": {"value": 50.0, "unit": "Gelem/s"},
    }
    limits.limits_for(names, MACHINE, {}, quiet, pytest.fail, tmp_path)
    assert asked == [["exp_float32"]]


def test_what_was_measured_on_a_busy_machine_is_measured_again_once_it_is_quiet(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(limits, "neighbours_run", lambda: True)
    names = ["gemm_float32", "exp_float32"]
    limits.limits_for(names, MACHINE, {}, quiet, pytest.fail, tmp_path)
    limits.limits_for(names, MACHINE, {}, quiet, pytest.fail, tmp_path)
    monkeypatch.setattr(limits, "neighbours_run", lambda: False)
    limits.limits_for(names, MACHINE, {}, quiet, pytest.fail, tmp_path)
    limits.limits_for(names, MACHINE, {}, quiet, pytest.fail, tmp_path)
    assert asked == [names, names]


def test_measuring_again_can_forget_what_was_kept(tmp_path, asked):
    limits.CACHE.write(limits.key_of(MACHINE), kept(), tmp_path)
    _, found = limits.measure_again(["gemm_float32"], {}, quiet, pytest.fail, folder=tmp_path)
    assert found["gemm_float32"]["value"] == 80.0
    _, found = limits.measure_again(["gemm_float32"], {}, quiet, pytest.fail, forget=True, folder=tmp_path)
    assert found["gemm_float32"]["value"] == 50.0


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, asked):
    blocked = tmp_path / "file"
    blocked.write_text("no folder", encoding="utf-8")
    found = limits.limits_for(["exp_float32"], MACHINE, {}, quiet, pytest.fail, blocked / "limits")
    assert found["exp_float32"]["value"] == 50.0


def test_if_the_process_that_measures_limits_is_killed_the_rest_of_the_report_stays(tmp_path, asked, monkeypatch):
    def killed(*_, **__):
        raise WorkerKilled("the worker process of the machine's limits was killed by SIGKILL")

    monkeypatch.setattr(FakeWorker, "call", killed)
    notes: list[str] = []
    assert limits.limits_for(["gemm_float32"], MACHINE, {}, quiet, notes.append, tmp_path) == {}
    assert notes == [
        "the machine's limits were not measured, so the report does not compare with them: "
        "the worker process of the machine's limits was killed by SIGKILL"
    ]


@pytest.mark.parametrize(("sound", "damaged"), [("80.0", "8" * 400), ("GFLOP/s", "GB/s")])
def test_kept_limits_that_are_damaged_are_measured_anew_with_a_note(tmp_path, asked, sound, damaged):
    path = limits.CACHE.write(limits.key_of(MACHINE), kept(), tmp_path)
    path.write_text(path.read_text().replace(sound, damaged))
    notes: list[str] = []
    found = limits.limits_for(["gemm_float32"], MACHINE, {}, quiet, notes.append, tmp_path)
    assert found["gemm_float32"]["value"] == 50.0
    assert str(path) in notes[0]
