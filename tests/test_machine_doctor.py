"""The doctor: how gains are measured, and which of them become advice."""

from __future__ import annotations

import math
import os
import time

import psutil
import pytest
from threadpoolctl import threadpool_limits

from mlpprof.machine.doctor import (
    Examination,
    Gain,
    Tried,
    examine,
    gain_of,
    measure_gains,
    neighbour,
    pair_of_processes,
    with_change,
)
from mlpprof.machine.doctor_worker import PreparedTask
from mlpprof.machine.settings import Setting, Task

TASK = Task("a step", "step", 500)


def silent(what: str, share: float) -> None:
    """No progress is shown."""


def test_a_gain_is_the_median_of_the_pairs_with_students_interval():
    gain = gain_of([0.1, 0.2, 0.3])
    assert gain.ratio == pytest.approx(math.exp(0.2))
    half = 4.302652729911275 * 0.1 / math.sqrt(3)  # t at 97.5 % with 2 degrees of freedom
    assert (gain.low, gain.high) == pytest.approx((math.exp(0.2 - half), math.exp(0.2 + half)))
    assert gain_of([0.5]) == Gain(math.exp(0.5), 0.0, math.inf, 1)


@pytest.mark.parametrize(
    ("gain", "is_advice"),
    [
        (Gain(1.5, 1.2, 1.9, 5), True),
        (Gain(1.029, 1.02, 1.04, 5), False),  # less than 3 %
        (Gain(1.5, 0.9, 2.5, 5), False),  # not certain
        (Gain(40.0, 0.0, math.inf, 1), False),  # one pair has no interval
    ],
)
def test_only_a_certain_gain_of_three_percent_is_advice(gain, is_advice):
    assert gain.is_advice is is_advice


def test_advice_comes_with_the_largest_gain_first():
    tried = tuple(Tried(Setting(str(g), "", (), TASK), Gain(g, g - 0.01, g + 0.01, 5)) for g in (1.1, 1.01, 3.0))
    found = Examination({}, {}, tried, (), (), None, False)
    assert [t.gain.ratio for t in found.advice] == [3.0, 1.1]


def test_a_change_sets_and_unsets_variables():
    assert with_change({"A": "1", "B": "2"}, (("A", None), ("C", "3"), ("D", None))) == {"B": "2", "C": "3"}


class MadeUpPairs:
    """Pairs of processes with a known log ratio and a known duration in seconds for each setting."""

    def __init__(self, truth: dict[str, tuple[float, float]]) -> None:
        self.now = 0.0
        self._truth = truth

    def pair(self, setting: Setting, environment: object) -> float:
        log_ratio, cost_s = self._truth[setting.what]
        self.now += cost_s
        return log_ratio

    def gains(self, budget_s: float) -> list[Gain]:
        settings = [Setting(what, "", (), TASK) for what in self._truth]
        return measure_gains(settings, {}, 5, budget_s, silent, lambda: self.now, self.pair)


def test_a_setting_without_promise_gets_two_pairs_and_one_with_promise_gets_all():
    gains = MadeUpPairs({"good": (0.5, 1.0), "useless": (0.0, 1.0)}).gains(60.0)
    assert [gain.pairs for gain in gains] == [5, 2]
    assert gains[0].ratio == pytest.approx(math.exp(0.5))


def test_the_budget_is_kept_and_shared_between_the_settings():
    made_up = MadeUpPairs({"slow": (0.5, 8.0), "quick": (0.5, 1.0), "other": (0.5, 1.0)})
    assert [gain.pairs for gain in made_up.gains(30.0)] == [3, 3, 3]
    assert made_up.now == 30.0


def test_every_setting_is_tried_once_even_when_time_is_up():
    assert [gain.pairs for gain in MadeUpPairs({"a": (0.5, 50.0), "b": (0.5, 50.0)}).gains(10.0)] == [1, 1]


@pytest.mark.parametrize(("kind", "batch"), [("step", 20), ("product", 32), ("two_pools", 20)])
def test_the_tasks_of_the_worker_run(kind, batch):
    task = PreparedTask()
    with threadpool_limits(1):  # many threads wait for each other where the tests run side by side
        assert task.prepare(silent, kind, batch, pause=False)["fastest_s"] > 0
        assert task.turn(silent)["seconds"] > 0


def test_the_busy_neighbour_is_gone_after_the_block():
    with neighbour():
        time.sleep(0.05)
        here = psutil.Process(os.getpid())
        children = [c for c in here.children() if "spin" in " ".join(c.cmdline())]
        assert len(children) == 1
    assert not children[0].is_running()


def test_a_pair_of_processes_gives_a_ratio_of_their_times():
    setting = Setting("nothing", "", (("MLPPROF_UNUSED", "1"),), Task("a product", "product", 32, threads=1))
    assert abs(pair_of_processes(setting, os.environ)) < math.log(20)


@pytest.mark.slow
@pytest.mark.timing
def test_a_setting_that_changes_nothing_is_not_advice_and_an_old_pinned_kernel_does_no_harm():
    machine = {"OPENBLAS_CORETYPE": "Nehalem"}
    task = Task("a product", "product", 512, threads=1)
    settings = [
        Setting("nothing", "", (("MLPPROF_UNUSED", "1"),), task),
        Setting("unpin", "", (("OPENBLAS_CORETYPE", None),), task),
    ]
    nothing, unpinned = measure_gains(settings, {**os.environ, **machine}, 3, 30.0, silent)
    assert nothing.ratio < 1.5
    # Where BLAS is not OpenBLAS on x86, or the CPU is that old, the pin does nothing.
    assert unpinned.ratio > 0.7


class FakeLimits:
    """Answers for the process that measures limits: each call is recorded, every limit has the value 1."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str | None]] = []

    def __call__(self, names, environment, progress, note, **options):
        self.calls.append((len(names), environment.get("OPENBLAS_NUM_THREADS")))
        return {"cpu_count": 4, "blas": []}, {name: {"value": 1.0, "unit": "GFLOP/s"} for name in names}


def test_an_examination_measures_products_at_one_and_at_all_threads(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    measured = FakeLimits()
    monkeypatch.setattr("mlpprof.machine.doctor.measure_again", measured)
    monkeypatch.setattr("mlpprof.machine.doctor.measure_gains", lambda settings, *_: [gain_of([0.0])] * len(settings))
    found = examine(silent, quick=True)
    assert [threads for _, threads in measured.calls] == ["1", "2", "4"]
    assert {"gemm_float32_1_thread", "gemm_float32_4_threads", "bandwidth_1MiB"} <= set(found.limits)
    assert [tried.setting.line for tried in found.tried] == ["export OMP_NUM_THREADS=1"]
