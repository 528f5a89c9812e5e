"""The doctor: what is worth trying on which machine, how gains are measured, and what becomes advice."""

from __future__ import annotations

import math
import os
import time

import psutil
import pytest

from mlpprof.machine import doctor as pairs
from mlpprof.machine.doctor import (
    Examination,
    Gain,
    Setting,
    Task,
    Tried,
    gain_of,
    measure_gains,
    neighbour,
    not_known,
    notes,
    settings_to_try,
    usable_cpus,
    with_change,
)
from mlpprof.machine.doctor_worker import NETWORK
from mlpprof.machine.doctor_worker import Task as WorkerTask

OPENBLAS = {"vendor": "openblas", "version": "0.3.31", "kernel": "SkylakeX", "threads": 4, "loaded_by": "numpy"}
MACHINE = {
    "cpu_count": 4,
    "cpu_affinity_count": 4,
    "cpu_quota": None,
    "cpu_simd": ["avx2", "avx512vl"],
    "blas": [OPENBLAS],
    "blas_environment": {},
    "allocator_environment": {},
    "preloaded_libraries": [],
    "libc_version": "glibc 2.36",
    "transparent_hugepages": "madvise",
    "load_avg_1min": 0.1,
}
TASK = Task("a step", "step", 500)


def lines(machine, *, quick=False):
    return [setting.line for setting in settings_to_try(machine, quick=quick)]


def changed(**facts):
    return {**MACHINE, **facts}


def test_a_pinned_kernel_is_tried_without_its_pin():
    pinned = changed(blas_environment={"OPENBLAS_CORETYPE": "Haswell"}, blas=[{**OPENBLAS, "kernel": "Haswell"}])
    setting = next(settings_to_try(pinned, quick=True))
    assert setting.line == "unset OPENBLAS_CORETYPE"
    assert setting.change == (("OPENBLAS_CORETYPE", None),)
    assert "OPENBLAS_CORETYPE=Haswell" in setting.what
    other = changed(blas_environment={"MKL_DEBUG_CPU_TYPE": "5"})
    assert "unset MKL_DEBUG_CPU_TYPE" not in lines(other)  # another vendor's variable


def test_a_kernel_narrower_than_the_cpu_is_tried_with_a_wider_one():
    narrow = changed(blas=[{**OPENBLAS, "kernel": "Haswell"}])
    assert lines(narrow)[0] == "export OPENBLAS_CORETYPE=SkylakeX"
    assert not any("CORETYPE" in line for line in lines(MACHINE))


def test_fewer_and_more_threads_are_tried_where_the_environment_has_others():
    assert lines(MACHINE).count("export OPENBLAS_NUM_THREADS=1") == 2  # batch 500 and 20,000
    single = changed(blas=[{**OPENBLAS, "threads": 1}])
    assert lines(single).count("export OPENBLAS_NUM_THREADS=4") == 2
    assert "export OPENBLAS_NUM_THREADS=1" not in lines(single)
    unknown = changed(blas=[])
    assert "export OMP_NUM_THREADS=1" in lines(unknown)


def test_a_quota_counts_as_fewer_cpus():
    assert usable_cpus(changed(cpu_quota=2.5)) == 2
    assert usable_cpus(changed(cpu_quota=0.5)) == 1
    assert any("may use 2.5 CPUs" in note for note in notes(changed(cpu_quota=2.5), None))


def test_two_pools_are_tried_only_where_both_libraries_bring_one():
    text = "NumPy and SciPy bring a BLAS each"
    two = changed(blas=[OPENBLAS, {**OPENBLAS, "loaded_by": "scipy"}])
    assert any(text in setting.what for setting in settings_to_try(two, quick=False))
    assert not any(text in setting.what for setting in settings_to_try(MACHINE, quick=False))


def test_the_allocator_is_tried_on_glibc_alone():
    assert any("MALLOC_MMAP_THRESHOLD_" in line and "MALLOC_TRIM_THRESHOLD_" in line for line in lines(MACHINE))
    for other in (changed(libc_version=None), changed(preloaded_libraries=["libjemalloc.so.2"])):
        assert not any("MALLOC" in line or "glibc" in line for line in lines(other))
    assert "the C library, so the settings of its allocator were not tried" in list(
        not_known(changed(libc_version=None))
    )


def test_huge_pages_are_tried_where_a_process_may_ask_for_them():
    assert "export GLIBC_TUNABLES=glibc.malloc.hugetlb=1" in lines(MACHINE)
    refused = changed(allocator_environment={"NUMPY_MADVISE_HUGEPAGE": "0"})
    assert "unset NUMPY_MADVISE_HUGEPAGE" in lines(refused)
    never = changed(transparent_hugepages="never")
    assert not any("hugetlb" in line for line in lines(never))
    assert any("only its administrator" in note for note in notes(never, None))


def test_quick_tries_less():
    assert len(lines(MACHINE, quick=True)) < len(lines(MACHINE))


def test_a_busy_machine_and_stolen_time_are_told():
    assert any("load was 3.0" in note for note in notes(changed(load_avg_1min=3.0), None))
    assert any("hypervisor took 7 %" in note for note in notes(MACHINE, 0.07))
    assert list(notes(MACHINE, 0.0)) == []


def test_what_the_system_does_not_tell_is_named():
    told = list(not_known(changed(cpu_config=None, steal_s=None, blas=[])))
    assert any("governor" in text for text in told)
    assert any("hypervisor" in text for text in told)
    assert any("BLAS under NumPy" in text for text in told)


def test_a_gain_is_the_median_of_the_pairs_with_students_interval():
    gain = gain_of([math.log(2.0)] * 3)
    assert (gain.ratio, gain.low, gain.high) == pytest.approx((2.0, 2.0, 2.0))
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


class Pairs:
    """Stands for pairs of processes: each setting has a true log ratio and a cost in seconds."""

    def __init__(self, monkeypatch, truth: dict[str, tuple[float, float]]) -> None:
        self.now = 0.0
        self.made: list[str] = []
        self._truth = truth
        monkeypatch.setattr(pairs, "_pair", self._pair)

    def _pair(self, setting: Setting, environment: object) -> float:
        log_ratio, cost_s = self._truth[setting.what]
        self.now += cost_s
        self.made.append(setting.what)
        return log_ratio

    def gains(self, budget_s: float) -> list[Gain]:
        settings = [Setting(what, "", (), TASK) for what in self._truth]
        return measure_gains(settings, {}, 5, budget_s, lambda what, share: None, lambda: self.now)


def test_a_setting_without_promise_gets_two_pairs_and_one_with_gets_all(monkeypatch):
    fake = Pairs(monkeypatch, {"good": (0.5, 1.0), "useless": (0.0, 1.0)})
    gains = fake.gains(60.0)
    assert [gain.pairs for gain in gains] == [5, 2]
    assert gains[0].ratio == pytest.approx(math.exp(0.5))


def test_the_time_is_kept_and_no_setting_takes_it_from_the_others(monkeypatch):
    fake = Pairs(monkeypatch, {"slow": (0.5, 8.0), "quick": (0.5, 1.0), "other": (0.5, 1.0)})
    gains = fake.gains(30.0)
    assert fake.now == 30.0
    assert [gain.pairs for gain in gains] == [3, 3, 3]


def test_every_setting_is_tried_once_even_when_time_is_up(monkeypatch):
    fake = Pairs(monkeypatch, {"a": (0.5, 50.0), "b": (0.5, 50.0)})
    assert [gain.pairs for gain in fake.gains(10.0)] == [1, 1]


def test_the_workers_tasks_run_and_tell_seconds():
    for kind, batch in (("step", 20), ("product", 32), ("two_pools", 20)):
        task = WorkerTask()
        prepared = task.prepare(lambda what, share: None, kind, batch, "sliced", pause=False)
        assert prepared["fastest_s"] > 0
        assert task.turn(lambda what, share: None)["seconds"] > 0
    assert NETWORK.layers == (784, 70, 30, 10)


def test_the_busy_neighbour_is_gone_after_the_block():
    with neighbour():
        time.sleep(0.05)
        here = psutil.Process(os.getpid())
        children = [c for c in here.children() if "spin" in " ".join(c.cmdline())]
        assert len(children) == 1
    assert not children[0].is_running()


@pytest.mark.timing
def test_a_setting_that_changes_nothing_is_no_advice_and_a_pinned_old_kernel_is():
    machine = {"OPENBLAS_CORETYPE": "Nehalem"}
    task = Task("a product", "product", 512, threads=1)
    settings = [
        Setting("nothing", "", (("MLPPROF_UNUSED", "1"),), task),
        Setting("unpin", "", (("OPENBLAS_CORETYPE", None),), task),
    ]
    nothing, unpinned = measure_gains(settings, {**os.environ, **machine}, 3, 30.0, lambda what, share: None)
    assert nothing.ratio < 1.5
    # where BLAS is not OpenBLAS on x86, or the CPU is that old, the pin does nothing
    assert unpinned.ratio > 0.7
