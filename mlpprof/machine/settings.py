"""The settings that could make steps faster on a described machine, and what its description alone shows.

Every rule looks at the description and proposes something to try; `doctor` measures whether it helps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mlpprof.machine.blas import (
    KERNEL_VARIABLES,
    VectorRank,
    cpu_rank,
    kernel_rank,
    libraries_in,
    numpy_blas,
    pinned_kernel_warning,
)
from mlpprof.machine.doctor_worker import NETWORK, PRODUCT_SIZE
from mlpprof.machine.keys import Json

Machine = Mapping[str, Json]
EnvironmentChange = tuple[tuple[str, str | None], ...]
"""Environment variables to set, or to unset where the value is None."""

SMALL_BATCH, LARGE_BATCH = 500, 20_000
LARGEST_MMAP_THRESHOLD = 32 << 20
"""glibc refuses a larger one on 64-bit systems: half of a heap's size."""
TRIM_THRESHOLD = 1 << 30
TOP_PAD = 64 << 20
THREADS_OF = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS", "blis": "BLIS_NUM_THREADS"}
KERNEL_OF = {VectorRank.AVX512: "SkylakeX", VectorRank.AVX2: "Haswell"}
"""The OpenBLAS kernel to ask for where OpenBLAS chose a narrower one by itself."""

BUSY_LOAD = 0.5
STOLEN_SHARE = 0.01


@dataclass(frozen=True)
class Task:
    """The work on which a setting is tried, in words and for the worker: kind 'step', 'product' or 'two_pools'.

    batch: samples of a step or rows of a product. threads: BLAS threads; None leaves them to the setting.
    """

    text: str
    kind: str
    batch: int
    threads: int | None = None


@dataclass(frozen=True)
class Setting:
    """Something to try: why it may help, the line that a user would type, and the variables that it changes.

    with_neighbour: both processes, with and without the setting, run beside a process that keeps a core busy.
    """

    what: str
    line: str
    change: EnvironmentChange
    task: Task
    with_neighbour: bool = False


def settings_to_try(machine: Machine, *, quick: bool) -> Iterator[Setting]:
    """The settings that could matter on this machine, the most likely ones first; quick leaves out the slow ones."""
    yield from _kernel(machine)
    yield from _threads(machine, SMALL_BATCH)
    yield from _allocator(machine, quick)
    if not quick:
        yield from _pools(machine)
        yield from _huge_pages(machine)
        yield from _neighbour(machine)
        yield from _threads(machine, LARGE_BATCH)


def usable_cpus(machine: Machine) -> int:
    """The number of whole CPUs that affinity and quota leave to a process."""
    counts = [machine.get("cpu_affinity_count"), machine.get("cpu_count")]
    cpus = next((count for count in counts if isinstance(count, int)), 1)
    quota = machine.get("cpu_quota")
    return max(1, min(cpus, int(quota))) if isinstance(quota, int | float) else cpus


def blas_threads(machine: Machine) -> int:
    """The threads that NumPy's BLAS has in the current environment."""
    threads = (numpy_blas(machine) or {}).get("threads")
    return threads if isinstance(threads, int) else usable_cpus(machine)


def _threads_variable(machine: Machine) -> str:
    return THREADS_OF.get(str((numpy_blas(machine) or {}).get("vendor")), "OMP_NUM_THREADS")


def _step(batch: int, threads: int | None = None) -> Task:
    return Task(f"a training step of {NETWORK.text} at batch {batch:,}", "step", batch, threads)


def _kernel(machine: Machine) -> Iterator[Setting]:
    blas = numpy_blas(machine) or {}
    pinned = machine.get("blas_environment")
    shape = f"{PRODUCT_SIZE} x {PRODUCT_SIZE}"
    product = Task(f"a product of {shape} matrices, float32, 1 thread", "product", PRODUCT_SIZE, 1)
    if isinstance(pinned, dict):
        for variable, vendor in KERNEL_VARIABLES.items():
            if variable in pinned and vendor == blas.get("vendor"):
                what = f"{variable}={pinned[variable]} pins the BLAS kernel ({blas.get('kernel') or 'not known'})"
                yield Setting(what, f"unset {variable}", ((variable, None),), product)
                return
    offered, used = cpu_rank(machine), kernel_rank(str(blas.get("kernel")))
    better = None if offered is None else KERNEL_OF.get(offered)
    if blas.get("vendor") == "openblas" and used is not None and offered is not None and better and used < offered:
        what = f"OpenBLAS chose its {blas.get('kernel')} kernel ({used.text}), but this CPU has {offered.text}"
        yield _exported(what, (("OPENBLAS_CORETYPE", better),), product)


def _exported(what: str, change: tuple[tuple[str, str], ...], task: Task) -> Setting:
    return Setting(what, "export " + " ".join(f"{name}={value}" for name, value in change), change, task)


def _threads(machine: Machine, batch: int) -> Iterator[Setting]:
    """One thread instead of those of the environment, and all threads where the environment has fewer."""
    now, cpus, variable, task = blas_threads(machine), usable_cpus(machine), _threads_variable(machine), _step(batch)
    if now > 1:
        yield _exported(f"BLAS uses {now} threads, but one may be faster: {task.text}", ((variable, "1"),), task)
    if now != cpus and cpus > 1:
        what = f"BLAS uses {now} thread{'s' if now > 1 else ''} on {cpus} CPUs: {task.text}"
        yield _exported(what, ((variable, str(cpus)),), task)


def _allocator(machine: Machine, quick: bool) -> Iterator[Setting]:
    if not _is_glibc(machine):
        return
    trim = ("MALLOC_TRIM_THRESHOLD_", str(TRIM_THRESHOLD))
    thresholds = (("MALLOC_MMAP_THRESHOLD_", str(LARGEST_MMAP_THRESHOLD)), trim)
    never = (("MALLOC_MMAP_MAX_", "0"), trim, ("MALLOC_TOP_PAD_", str(TOP_PAD)))
    choices = [(SMALL_BATCH, thresholds)] if quick else [(SMALL_BATCH, thresholds), (LARGE_BATCH, never)]
    for batch, change in choices:
        task = _step(batch, threads=1)
        yield _exported(f"freed large arrays go back to the system page by page: {task.text}, 1 thread", change, task)


def _huge_pages(machine: Machine) -> Iterator[Setting]:
    policy, allocator = machine.get("transparent_hugepages"), machine.get("allocator_environment")
    set_here = allocator if isinstance(allocator, dict) else {}
    if policy not in ("always", "madvise"):
        return
    task = _step(LARGE_BATCH, threads=1)
    variable = "NUMPY_MADVISE_HUGEPAGE"
    if str(set_here.get(variable)) == "0":
        what = f"{variable}=0 keeps NumPy from asking for huge pages: {task.text}"
        yield Setting(what, f"unset {variable}", ((variable, None),), task)
    elif "GLIBC_TUNABLES" not in set_here and _is_glibc(machine):
        what = f"the allocator does not ask for huge pages: {task.text}, 1 BLAS thread"
        yield _exported(what, (("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),), task)


def _pools(machine: Machine) -> Iterator[Setting]:
    """One thread for each, where NumPy and SciPy bring a BLAS each and both have threads."""
    owners = {library.get("loaded_by") for library in libraries_in(machine)}
    if {"numpy", "scipy"} <= owners and blas_threads(machine) > 1:
        what = "NumPy and SciPy bring a BLAS each, whose threads compete where a step calls both"
        task = Task("a product by NumPy and one by SciPy in turn, 70 x 784 by 784 x 500", "two_pools", SMALL_BATCH)
        yield _exported(what, ((_threads_variable(machine), "1"),), task)


def _neighbour(machine: Machine) -> Iterator[Setting]:
    now = blas_threads(machine)
    if now > 1 and now >= usable_cpus(machine):
        what = f"beside another busy process, {now} BLAS threads wait for the one that shares its core"
        setting = _exported(what, ((_threads_variable(machine), str(now - 1)),), _step(SMALL_BATCH))
        yield replace(setting, line=f"{setting.line}  # while something else runs", with_neighbour=True)


def _is_glibc(machine: Machine) -> bool:
    preloaded = machine.get("preloaded_libraries")
    replaced = isinstance(preloaded, list) and any("malloc" in str(name) for name in preloaded)
    return str(machine.get("libc_version")).startswith("glibc") and not replaced


def notes(machine: Machine, steal_share: float | None) -> Iterator[str]:
    """What the description shows without a measurement. steal_share: CPU time that a hypervisor took."""
    pinned = pinned_kernel_warning(machine)
    if pinned is not None:
        yield pinned
    quota, cpus = machine.get("cpu_quota"), machine.get("cpu_count")
    if isinstance(quota, int | float) and isinstance(cpus, int) and quota < cpus and blas_threads(machine) > quota:
        yield f"the container may use {quota:g} CPUs, but BLAS starts {blas_threads(machine)} threads"
    load = machine.get("load_avg_1min")
    if isinstance(load, int | float) and load >= BUSY_LOAD:
        yield f"the load was {load:.1f} at the start: on a quiet machine limits may be higher and gains may differ"
    if steal_share is not None and steal_share >= STOLEN_SHARE:
        yield f"a hypervisor took {100 * steal_share:.0f} % of the CPU time: do not trust these timings"
    if machine.get("transparent_hugepages") == "never":
        yield "transparent huge pages are off for the whole system; only its administrator can turn them on"


UNKNOWN_FACTS = {
    "cpu_config": "frequency driver and governor (virtual machines and some containers do not see them)",
    "cpu_freq": "the clock of the CPUs",
    "cpu_simd": "the vector instructions of the CPU",
    "cpu_caches": "the sizes of the caches",
    "cpu_quota": "a CPU quota: none is set, or this process cannot see it",
    "steal_s": "CPU time that a hypervisor takes away",
    "transparent_hugepages": "the policy of transparent huge pages",
    "load_avg_1min": "the load of the machine",
    "libc_version": "the C library, so the settings of its allocator were not tried",
}


def not_known(machine: Machine) -> Iterator[str]:
    """The facts that this system does not show, and what was not tried for that reason."""
    yield from (text for fact, text in UNKNOWN_FACTS.items() if machine.get(fact) is None)
    blas = numpy_blas(machine)
    if blas is None:
        yield "the BLAS that NumPy uses: its kernel and threads (threadpoolctl sees OpenBLAS, MKL, BLIS and FlexiBLAS)"
    elif kernel_rank(str(blas.get("kernel"))) is None:
        yield f"whether the BLAS kernel '{blas.get('kernel')}' is the widest for this CPU"
