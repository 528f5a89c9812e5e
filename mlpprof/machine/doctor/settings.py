"""Which settings are worth trying on a described machine, what can be told without trying, and what is not known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlpprof.machine.blas import KERNEL_VARIABLES, pinned_kernel_warning
from mlpprof.machine.doctor.records import Setting, Task
from mlpprof.machine.doctor.worker import NETWORK, PRODUCT_SIZE
from mlpprof.machine.kernels import VectorRank, cpu_rank, kernel_rank
from mlpprof.machine.keys import Json

Machine = Mapping[str, Json]

SMALL_BATCH, LARGE_BATCH = 500, 20_000
LARGEST_MMAP_THRESHOLD = 32 << 20
"""glibc refuses a larger one on 64-bit systems: half of a heap's size."""
TRIM_THRESHOLD = 1 << 30
THREADS_OF = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS", "blis": "BLIS_NUM_THREADS"}
KERNEL_OF = {VectorRank.AVX512: "SkylakeX", VectorRank.AVX2: "Haswell"}
"""The OpenBLAS kernel to ask for where it chose a narrower one by itself."""


def settings_to_try(machine: Machine, *, quick: bool) -> Iterator[Setting]:
    """The settings that could matter here, the likely ones first; quick leaves out what takes long."""
    yield from _kernel(machine)
    yield from _threads(machine, SMALL_BATCH)
    yield from _allocator(machine, quick)
    if not quick:
        yield from _pools(machine)
        yield from _huge_pages(machine)
        yield from _neighbour(machine)
        yield from _threads(machine, LARGE_BATCH)


def numpy_blas(machine: Machine) -> Mapping[str, Json] | None:
    """The BLAS that NumPy uses, where it is known."""
    found = machine.get("blas")
    libraries = [library for library in found if isinstance(library, dict)] if isinstance(found, list) else []
    return next((library for library in libraries if library.get("loaded_by") != "scipy"), None)


def usable_cpus(machine: Machine) -> int:
    """Whole CPUs that a process can use: affinity and quota."""
    counts = [machine.get("cpu_affinity_count"), machine.get("cpu_count")]
    cpus = next((count for count in counts if isinstance(count, int)), 1)
    quota = machine.get("cpu_quota")
    return max(1, min(cpus, int(quota))) if isinstance(quota, int | float) else cpus


def blas_threads(machine: Machine) -> int:
    """Threads of NumPy's BLAS in the environment as it is."""
    blas = numpy_blas(machine) or {}
    threads = blas.get("threads")
    return threads if isinstance(threads, int) else usable_cpus(machine)


def threads_variable(machine: Machine) -> str:
    """The variable that sets the threads of this machine's BLAS."""
    blas = numpy_blas(machine) or {}
    return THREADS_OF.get(str(blas.get("vendor")), "OMP_NUM_THREADS")


def _text(batch: int) -> str:
    return f"a training step of {NETWORK.text} at batch {batch:,}"


def _step(batch: int, threads: int | None = None) -> Task:
    return Task(_text(batch), "step", batch, threads=threads)


def _kernel(machine: Machine) -> Iterator[Setting]:
    blas = numpy_blas(machine) or {}
    pinned = machine.get("blas_environment")
    product = Task(
        f"a product of {PRODUCT_SIZE} x {PRODUCT_SIZE} matrices, float32, 1 thread", "product", PRODUCT_SIZE, threads=1
    )
    if isinstance(pinned, dict):
        for variable, vendor in KERNEL_VARIABLES.items():
            if variable in pinned and vendor == blas.get("vendor"):
                what = f"{variable}={pinned[variable]} pins the BLAS kernel ({blas.get('kernel') or 'not told'})"
                yield Setting(what, f"unset {variable}", ((variable, None),), product)
                return
    offered, used = cpu_rank(machine), kernel_rank(str(blas.get("kernel")))
    better = None if offered is None else KERNEL_OF.get(offered)
    if blas.get("vendor") == "openblas" and used is not None and offered is not None and better and used < offered:
        what = f"OpenBLAS chose its {blas.get('kernel')} kernel ({used.text}), but this CPU has {offered.text}"
        yield Setting(what, f"export OPENBLAS_CORETYPE={better}", (("OPENBLAS_CORETYPE", better),), product)


def _threads(machine: Machine, batch: int) -> Iterator[Setting]:
    """One thread against those of the environment, and all against them where it has fewer."""
    now, cpus, variable = blas_threads(machine), usable_cpus(machine), threads_variable(machine)
    if now > 1:
        what = f"{now} BLAS threads where one is faster: {_text(batch)}"
        yield Setting(what, f"export {variable}=1", ((variable, "1"),), _step(batch))
    if now != cpus and cpus > 1:
        what = f"{now} BLAS thread{'s' if now > 1 else ''} on {cpus} CPUs: {_text(batch)}"
        yield Setting(what, f"export {variable}={cpus}", ((variable, str(cpus)),), _step(batch))


def _allocator(machine: Machine, quick: bool) -> Iterator[Setting]:
    if not _is_glibc(machine):
        return
    thresholds = (
        ("MALLOC_MMAP_THRESHOLD_", str(LARGEST_MMAP_THRESHOLD)),
        ("MALLOC_TRIM_THRESHOLD_", str(TRIM_THRESHOLD)),
    )
    never = (
        ("MALLOC_MMAP_MAX_", "0"),
        ("MALLOC_TRIM_THRESHOLD_", str(TRIM_THRESHOLD)),
        ("MALLOC_TOP_PAD_", "67108864"),
    )
    choices = [(SMALL_BATCH, thresholds)] if quick else [(SMALL_BATCH, thresholds), (LARGE_BATCH, never)]
    for batch, change in choices:
        line = "export " + " ".join(f"{name}={value}" for name, value in change)
        what = f"large arrays go back to the system and fault their pages in again: {_text(batch)}, 1 BLAS thread"
        yield Setting(what, line, change, _step(batch, threads=1))


def _huge_pages(machine: Machine) -> Iterator[Setting]:
    policy, allocator = machine.get("transparent_hugepages"), machine.get("allocator_environment")
    set_here = allocator if isinstance(allocator, dict) else {}
    if policy not in ("always", "madvise"):
        return
    if str(set_here.get("NUMPY_MADVISE_HUGEPAGE")) == "0":
        what = f"NUMPY_MADVISE_HUGEPAGE=0 keeps NumPy from asking for huge pages: {_text(LARGE_BATCH)}"
        change: tuple[tuple[str, str | None], ...] = (("NUMPY_MADVISE_HUGEPAGE", None),)
        yield Setting(what, "unset NUMPY_MADVISE_HUGEPAGE", change, _step(LARGE_BATCH, threads=1))
    elif "GLIBC_TUNABLES" not in set_here and _is_glibc(machine):
        what = f"the allocator does not ask for huge pages: {_text(LARGE_BATCH)}, 1 BLAS thread"
        tunable = "glibc.malloc.hugetlb=1"
        yield Setting(
            what, f"export GLIBC_TUNABLES={tunable}", (("GLIBC_TUNABLES", tunable),), _step(LARGE_BATCH, threads=1)
        )


def _pools(machine: Machine) -> Iterator[Setting]:
    """Only where NumPy and SciPy bring a BLAS each, with threads."""
    found = machine.get("blas")
    owners = (
        {library.get("loaded_by") for library in found if isinstance(library, dict)}
        if isinstance(found, list)
        else set()
    )
    if {"numpy", "scipy"} <= owners and blas_threads(machine) > 1:
        variable = threads_variable(machine)
        what = "NumPy and SciPy bring a BLAS each, whose threads get in each other's way where a step calls both"
        task = Task("a product by NumPy and one by SciPy in turn, 70 x 784 by 784 x 500", "two_pools", SMALL_BATCH)
        yield Setting(what, f"export {variable}=1", ((variable, "1"),), task)


def _neighbour(machine: Machine) -> Iterator[Setting]:
    now, variable = blas_threads(machine), threads_variable(machine)
    if now > 1 and now >= usable_cpus(machine):
        what = f"beside a busy process, {now} BLAS threads wait for the one that shares its core"
        yield Setting(
            what,
            f"export {variable}={now - 1}  # while something else runs",
            ((variable, str(now - 1)),),
            _step(SMALL_BATCH),
            with_neighbour=True,
        )


def _is_glibc(machine: Machine) -> bool:
    preloaded = machine.get("preloaded_libraries")
    replaced = isinstance(preloaded, list) and any("malloc" in str(name) for name in preloaded)
    return str(machine.get("libc_version")).startswith("glibc") and not replaced


def notes(machine: Machine, steal_share: float | None) -> Iterator[str]:
    """What can be told without a measurement."""
    pinned = pinned_kernel_warning(machine)
    if pinned is not None:
        yield pinned
    quota, cpus = machine.get("cpu_quota"), machine.get("cpu_count")
    if isinstance(quota, int | float) and isinstance(cpus, int) and quota < cpus and blas_threads(machine) > quota:
        yield f"the container may use {quota:g} CPUs, but BLAS starts {blas_threads(machine)} threads"
    load = machine.get("load_avg_1min")
    if isinstance(load, int | float) and load >= 0.5:
        yield f"the load was {load:.1f} when the doctor came: limits may be higher and gains differ on a quiet machine"
    if steal_share is not None and steal_share >= 0.01:
        yield f"a hypervisor took {100 * steal_share:.0f} % of the CPU time meanwhile: do not trust these timings"
    policy = machine.get("transparent_hugepages")
    if policy == "never":
        yield "transparent huge pages are off for the whole system; only its administrator can try them"


UNKNOWN_FACTS = {
    "cpu_config": "frequency driver and governor (not told to virtual machines and some containers)",
    "cpu_freq": "the clock of the CPUs",
    "cpu_simd": "the vector instructions of the CPU",
    "cpu_caches": "the sizes of the caches",
    "cpu_quota": "a CPU quota: none is set, or it is not shown to this process",
    "steal_s": "CPU time that a hypervisor takes away",
    "transparent_hugepages": "the policy of transparent huge pages",
    "load_avg_1min": "the load of the machine",
    "libc_version": "the C library, so the settings of its allocator were not tried",
}


def not_known(machine: Machine) -> Iterator[str]:
    """What this system does not tell, and what was left untried for that reason."""
    yield from (text for fact, text in UNKNOWN_FACTS.items() if machine.get(fact) is None)
    blas = numpy_blas(machine)
    if blas is None:
        yield "the BLAS under NumPy: its kernel and threads (threadpoolctl sees OpenBLAS, MKL, BLIS and FlexiBLAS)"
    elif kernel_rank(str(blas.get("kernel"))) is None:
        yield f"whether the BLAS kernel '{blas.get('kernel')}' is the widest for this CPU"
