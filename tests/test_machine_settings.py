"""The settings that are worth trying on a described machine, and what its description shows by itself."""

from __future__ import annotations

import pytest

from mlpprof.machine.settings import not_known, notes, settings_to_try, usable_cpus

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
ONE_THREAD, FOUR_THREADS = "export OPENBLAS_NUM_THREADS=1", "export OPENBLAS_NUM_THREADS=4"
HUGE_PAGES = "export GLIBC_TUNABLES=glibc.malloc.hugetlb=1"
THRESHOLDS = "export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824"
WIDER_KERNEL = "export OPENBLAS_CORETYPE=SkylakeX"


def blas(**facts: object) -> dict[str, object]:
    return {"blas": [OPENBLAS | facts]}


def lines(changes: dict[str, object], *, quick: bool = False) -> list[str]:
    return [setting.line for setting in settings_to_try(MACHINE | changes, quick=quick)]


@pytest.mark.parametrize(
    ("changes", "tried", "not_tried"),
    [
        ({}, [ONE_THREAD, HUGE_PAGES, THRESHOLDS], [FOUR_THREADS, WIDER_KERNEL]),
        # A pinned kernel, but only by a variable of the BLAS that is loaded.
        (
            {"blas_environment": {"OPENBLAS_CORETYPE": "Haswell"}} | blas(kernel="Haswell"),
            ["unset OPENBLAS_CORETYPE"],
            [WIDER_KERNEL],
        ),
        ({"blas_environment": {"MKL_DEBUG_CPU_TYPE": "5"}}, [], ["unset MKL_DEBUG_CPU_TYPE"]),
        # A kernel that is narrower than the CPU by OpenBLAS's own choice.
        (blas(kernel="Haswell"), [WIDER_KERNEL], []),
        (blas(threads=1), [FOUR_THREADS], [ONE_THREAD]),
        ({"blas": []}, ["export OMP_NUM_THREADS=1"], [ONE_THREAD]),
        # Only glibc's allocator has these settings.
        ({"libc_version": None}, [], [THRESHOLDS, HUGE_PAGES]),
        ({"preloaded_libraries": ["libjemalloc.so.2"]}, [], [THRESHOLDS, HUGE_PAGES]),
        ({"allocator_environment": {"NUMPY_MADVISE_HUGEPAGE": "0"}}, ["unset NUMPY_MADVISE_HUGEPAGE"], [HUGE_PAGES]),
        ({"transparent_hugepages": "never"}, [], [HUGE_PAGES]),
    ],
)
def test_a_setting_is_tried_where_the_description_gives_a_reason(changes, tried, not_tried):
    found = lines(changes)
    assert set(tried) <= set(found)
    assert not set(not_tried) & set(found)


def test_a_setting_changes_the_variables_that_its_line_shows():
    pinned = MACHINE | {"blas_environment": {"OPENBLAS_CORETYPE": "Haswell"}}
    first, second, *_ = settings_to_try(pinned, quick=True)
    assert (first.change, second.change) == ((("OPENBLAS_CORETYPE", None),), (("OPENBLAS_NUM_THREADS", "1"),))
    assert "OPENBLAS_CORETYPE=Haswell pins" in first.what


def test_threads_are_tried_at_both_batch_sizes_and_beside_a_neighbour():
    assert lines({}).count(ONE_THREAD) == 2
    (beside,) = (setting for setting in settings_to_try(MACHINE, quick=False) if setting.with_neighbour)
    assert beside.line == "export OPENBLAS_NUM_THREADS=3  # while something else runs"
    assert beside.change == (("OPENBLAS_NUM_THREADS", "3"),)


def test_two_pools_are_tried_only_where_both_libraries_bring_one():
    def kinds(machine: dict[str, object]) -> set[str]:
        return {setting.task.kind for setting in settings_to_try(machine, quick=False)}

    assert "two_pools" in kinds(MACHINE | {"blas": [OPENBLAS, OPENBLAS | {"loaded_by": "scipy"}]})
    assert "two_pools" not in kinds(MACHINE)


def test_quick_tries_less():
    assert len(lines({}, quick=True)) < len(lines({}))


@pytest.mark.parametrize(("quota", "cpus"), [(None, 4), (2.5, 2), (0.5, 1)])
def test_a_quota_leaves_fewer_usable_cpus(quota, cpus):
    assert usable_cpus(MACHINE | {"cpu_quota": quota}) == cpus


@pytest.mark.parametrize(
    ("changes", "steal_share", "note"),
    [
        ({"cpu_quota": 2.5}, None, "may use 2.5 CPUs, but BLAS starts 4 threads"),
        ({"load_avg_1min": 3.0}, None, "the load was 3.0"),
        ({}, 0.07, "a hypervisor took 7 %"),
        ({"transparent_hugepages": "never"}, None, "only its administrator"),
        (blas(kernel="Haswell") | {"blas_environment": {"OPENBLAS_CORETYPE": "Haswell"}}, None, "pins OpenBLAS"),
    ],
)
def test_a_note_says_what_the_description_shows(changes, steal_share, note):
    (found,) = notes(MACHINE | changes, steal_share)
    assert note in found


def test_a_quiet_machine_has_no_notes():
    assert list(notes(MACHINE, 0.0)) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cpu_config": None}, "governor"),
        ({"steal_s": None}, "hypervisor"),
        ({"libc_version": None}, "the settings of its allocator were not tried"),
        ({"blas": []}, "the BLAS that NumPy uses"),
        (blas(kernel="Marvel"), "whether the BLAS kernel 'Marvel' is the widest"),
    ],
)
def test_facts_that_the_system_does_not_show_are_named(changes, text):
    assert any(text in line for line in not_known(MACHINE | changes))
