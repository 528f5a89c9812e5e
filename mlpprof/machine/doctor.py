"""The whole examination: describe, measure the limits, try the settings."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy.special import stdtrit

from mlpprof.machine.blas import (
    KERNEL_VARIABLES,
    VectorRank,
    cpu_rank,
    kernel_rank,
    pinned_kernel_warning,
    worker_environment,
)
from mlpprof.machine.doctor_worker import NETWORK, PRODUCT_SIZE, SLOW_S
from mlpprof.machine.keys import Json
from mlpprof.machine.limits import DTYPES, Limits, depends_on_threads, measure_again, names_for
from mlpprof.machine.linux import cpu_times_s
from mlpprof.process import Progress, Worker

# What an examination finds: the machine, its limits, advice with measured gains, and what could not be known.


LEAST_GAIN = 1.03
"""A gain below 3 % is no advice."""


@dataclass(frozen=True)
class Task:
    """What a gain is measured on, in words and for the worker: kind step, product or two_pools.

    batch: samples of a step or rows of a product. variant: whose step. threads: of BLAS; None leaves it to the setting.
    """

    text: str
    kind: str
    batch: int
    variant: str = "sliced"
    threads: int | None = None


@dataclass(frozen=True)
class Setting:
    """Something to try: variables to set or (None) to unset, and the line that a user would type.

    beside: variables of the process without the setting. with_neighbour: both run beside a process that keeps a core
    busy.
    """

    what: str
    line: str
    change: tuple[tuple[str, str | None], ...]
    task: Task
    beside: tuple[tuple[str, str | None], ...] = ()
    with_neighbour: bool = False


@dataclass(frozen=True)
class Gain:
    """Time without a setting over time with it, above 1 is faster: median of the pairs of processes, 95 % interval."""

    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def is_advice(self) -> bool:
        """Whether it is at least 3 % and the interval leaves no doubt that it is a gain."""
        return self.ratio >= LEAST_GAIN and self.low > 1


@dataclass(frozen=True)
class Tried:
    """A setting and what it gave."""

    setting: Setting
    gain: Gain


@dataclass(frozen=True)
class Examination:
    """Everything `mlpprof doctor` found. steal_share: CPU time that a hypervisor took while it looked."""

    machine: dict[str, Json]
    limits: Limits
    tried: tuple[Tried, ...]
    not_known: tuple[str, ...]
    notes: tuple[str, ...]
    steal_share: float | None
    quick: bool

    @property
    def advice(self) -> tuple[Tried, ...]:
        """What is worth setting, the largest gain first."""
        worth = [tried for tried in self.tried if tried.gain.is_advice]
        return tuple(sorted(worth, key=lambda tried: -tried.gain.ratio))


# Which settings are worth trying on a described machine, what can be told without trying, and what is not known.


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


# What a setting gives: a fresh process with it and a fresh one without take turns, several such pairs, an interval.
#
# A pair's value is the mean log ratio of its blocks (without, with, with, without), in which linear drift cancels; the
# gain is the median of the pairs, its interval Student's t over them. When the first pairs show no gain near 3 %, no
# more are made: what cannot become advice need not be known well. Nor are there more than the time allows.


WORKER = "mlpprof.machine.doctor_worker"
PAIRS = 5
QUICK_PAIRS = 3
BLOCKS = 2
HOPELESS = 2
"""After so many pairs without one at the least gain, no more follow."""
CONFIDENCE = 0.95

Environment = Mapping[str, str]
Clock = Callable[[], float]

# Spins until its input closes, which happens also when the parent is killed.
NEIGHBOUR = "import sys, threading\ndef spin():\n    while True: pass\n"
NEIGHBOUR += "threading.Thread(target=spin, daemon=True).start()\nsys.stdin.read()\n"


def measure_gains(
    settings: Sequence[Setting],
    environment: Environment,
    most_pairs: int,
    budget_s: float,
    progress: Progress,
    clock: Clock = perf_counter,
) -> list[Gain]:
    """The gain of each setting over an environment, in about budget_s seconds.

    The settings take turns, a pair of processes each, so that none has all of a busy minute. Every setting gets two
    pairs while there is time, and at most most_pairs. Raises whatever `Worker.call` raises.
    """
    found: list[list[float]] = [[] for _ in settings]
    cost_s = [0.0] * len(settings)
    begun = clock()
    for i in range(most_pairs):
        for k, setting in enumerate(settings):
            left_s = budget_s - (clock() - begun)
            is_late = left_s < cost_s[k] if i >= 2 else left_s < 0
            if i > 0 and (is_late or _is_hopeless(found[k])):
                continue
            progress(setting.what, min(1.0, 1 - left_s / budget_s))
            start = clock()
            found[k].append(_pair(setting, environment))
            cost_s[k] = clock() - start
    return [gain_of(log_ratios) for log_ratios in found]


def _is_hopeless(log_ratios: Sequence[float]) -> bool:
    return len(log_ratios) >= HOPELESS and max(log_ratios) < math.log(LEAST_GAIN)


def gain_of(log_ratios: Sequence[float]) -> Gain:
    """Median and 95 % interval of pairs' log ratios; one pair has no interval."""
    n = len(log_ratios)
    middle = float(np.median(log_ratios))
    if n < 2:
        return Gain(math.exp(middle), 0.0, math.inf, n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(np.std(log_ratios, ddof=1)) / math.sqrt(n)
    mean = float(np.mean(log_ratios))
    low, high = min(mean - half, middle), max(mean + half, middle)
    return Gain(math.exp(middle), math.exp(low), math.exp(min(high, 700.0)), n)


def with_change(environment: Environment, change: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """The environment with variables set, or unset where the value is None."""
    changed = dict(environment)
    for name, value in change:
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    return changed


def _pair(setting: Setting, environment: Environment) -> float:
    """The log ratio of one pair of processes, time without the setting over time with it: mean of its blocks."""
    task = setting.task
    base = worker_environment(environment, task.threads, False)
    without, changed = with_change(base, setting.beside), with_change(base, setting.change)
    with (
        neighbour() if setting.with_neighbour else nullcontext(),
        Worker(WORKER, without) as slow,
        Worker(WORKER, changed) as fast,
    ):
        slowest_s = 0.0
        for worker in (slow, fast):
            found = worker.call(
                "prepare", kind=task.kind, batch=task.batch, variant=task.variant, pause=task.threads != 1
            )
            slowest_s = max(slowest_s, found["fastest_s"])
        logs = []
        blocks = BLOCKS if slowest_s < SLOW_S else 1
        for block in range(blocks):
            order = (slow, fast, fast, slow) if block % 2 == 0 else (fast, slow, slow, fast)
            logs += [(1 if w is slow else -1) * math.log(w.call("turn")["seconds"]) / 2 for w in order]
    return sum(logs) / blocks


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps one core busy for the time of the block."""
    with subprocess.Popen([sys.executable, "-c", NEIGHBOUR], stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()


EXAMINATION_S, QUICK_EXAMINATION_S = 50.0, 20.0
"""About how long it may take; what a busy machine delays comes on top of it."""
LIMITS_SHARE = 0.3
"""Of the progress bar."""
QUICK_BUDGET = 0.4
BATCH = 500


def examine(
    progress: Progress,
    *,
    quick: bool = False,
    forget: bool = False,
    folder: Path | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Examination:
    """Describe the machine, measure its limits at one and at all threads, and try what could be set better.

    forget: leave out the limits that were kept before. folder: of their cache. Takes about `EXAMINATION_S`, or
    `QUICK_EXAMINATION_S`: a setting that takes long gets fewer pairs of processes.
    Raises whatever `Worker.call` raises.
    """
    environment = dict(os.environ)
    begun, before = clock(), cpu_times_s()
    share = QUICK_BUDGET if quick else 1.0

    def limits_part(what: str, done: float) -> None:
        progress(what, LIMITS_SHARE * done / 2)

    # the shapes of products in one precision are enough to see what small ones lose
    wanted = [name for dtype in DTYPES for name in names_for(NETWORK, dtype, (BATCH,))]
    products = [name for name in dict.fromkeys(wanted) if not name.startswith("product_float64")]
    one = worker_environment(environment, 1, False)
    _, single = measure_again(products, one, limits_part, share_of_budget=share, forget=forget, folder=folder)
    limits: Limits = {_threaded(name, 1): limit for name, limit in single.items()}
    machine, _ = measure_again([], environment, limits_part, folder=folder)
    cpus = usable_cpus(machine)
    if cpus > 1:
        many = worker_environment(environment, cpus, False)
        names = [name for name in products if depends_on_threads(name)]
        _, threaded = measure_again(names, many, limits_part, share_of_budget=share, forget=forget, folder=folder)
        limits |= {_threaded(name, cpus): limit for name, limit in threaded.items()}
    settings = list(settings_to_try(machine, quick=quick))
    left_s = (QUICK_EXAMINATION_S if quick else EXAMINATION_S) - (clock() - begun)

    def settings_part(what: str, done: float) -> None:
        progress(what, LIMITS_SHARE + (1 - LIMITS_SHARE) * done)

    pairs = QUICK_PAIRS if quick else PAIRS
    gains = measure_gains(settings, environment, pairs, max(left_s, 1.0), settings_part)
    tried = [Tried(setting, gain) for setting, gain in zip(settings, gains, strict=True)]
    steal = _steal_share(before, cpu_times_s())
    return Examination(
        machine, limits, tuple(tried), tuple(not_known(machine)), tuple(notes(machine, steal)), steal, quick
    )


def _threaded(name: str, threads: int) -> str:
    """'gemm_float32' at 4 threads -> 'gemm_float32_4_threads'; only products depend on threads."""
    if not depends_on_threads(name):
        return name
    return f"{name}_{threads}_thread{'s' if threads > 1 else ''}"


def _steal_share(before: tuple[float | None, float | None], after: tuple[float | None, float | None]) -> float | None:
    """The share of CPU time between two readings that a hypervisor took."""
    if before[0] is None or after[0] is None or before[1] is None or after[1] is None or after[0] <= before[0]:
        return None
    return (after[1] - before[1]) / (after[0] - before[0])
