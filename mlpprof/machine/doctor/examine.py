"""The whole examination: describe, measure the limits, try the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from mlpprof.machine.blas import worker_environment
from mlpprof.machine.cpu import cpu_times_s
from mlpprof.machine.doctor.pairs import PAIRS, QUICK_PAIRS, measure_gains
from mlpprof.machine.doctor.records import Examination, Tried
from mlpprof.machine.doctor.settings import not_known, notes, settings_to_try, usable_cpus
from mlpprof.machine.doctor.worker import NETWORK
from mlpprof.machine.limits.names import DTYPES, Limits, depends_on_threads, names_for
from mlpprof.machine.limits.obtain import measure_again
from mlpprof.process import Progress

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
