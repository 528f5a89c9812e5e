"""Limits from outside: those kept for an environment, and those that are missing measured in a process of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from mlpprof.errors import UsageError
from mlpprof.machine.cpu import load_average
from mlpprof.machine.keys import Json
from mlpprof.machine.limits import cache
from mlpprof.machine.limits.names import Limits
from mlpprof.process import Progress, Worker

WORKER = "mlpprof.machine.limits.worker"
LOOKS, LOOK_EVERY_S = 5, 0.01


def limits_for(
    names: Sequence[str],
    machine: Mapping[str, Json],
    environment: Mapping[str, str],
    progress: Progress,
    folder: Path | None = None,
) -> Limits:
    """The named limits of a process: from the cache, the missing ones measured in a fresh process and kept.

    What was measured while others kept the machine busy is doubtful: it is used, and measured again by the first run
    that has the machine to itself.
    machine: the description of a process in that environment. folder: of the cache, the user's own by default.
    Raises whatever `Worker.call` raises.
    """
    key = cache.key_of(machine)
    kept = cache.read(key, folder)
    missing = [name for name in names if name not in kept.limits]
    doubtful = [name for name in names if name in kept.doubtful]
    busy = bool(missing or doubtful) and neighbours_run()
    if doubtful and not busy:
        missing += doubtful
    if missing:
        with Worker(WORKER, environment) as worker:
            measured: Limits = worker.call("measure", progress, names=missing)
        kept = updated(kept, measured, busy)
        keep(key, kept, folder)
    return {name: kept.limits[name] for name in names}


def measure_again(
    names: Sequence[str],
    environment: Mapping[str, str],
    progress: Progress,
    *,
    share_of_budget: float = 1.0,
    forget: bool = False,
    folder: Path | None = None,
) -> tuple[dict[str, Json], Limits]:
    """Measure the named limits now, in a fresh process: its description, and the best that is known of each limit.

    share_of_budget: below 1 for a quick look. forget: leave out what was kept before.
    """
    busy = neighbours_run()
    with Worker(WORKER, environment) as worker:
        machine: dict[str, Json] = worker.call("machine", progress)
        measured: Limits = worker.call("measure", progress, names=list(names), share_of_budget=share_of_budget)
    key = cache.key_of(machine)
    kept = updated(cache.Kept() if forget else cache.read(key, folder), measured, busy)
    keep(key, kept, folder)
    return machine, {name: kept.limits[name] for name in names}


def updated(kept: cache.Kept, measured: Limits, busy: bool) -> cache.Kept:
    """The better of the kept and the measured limits; new ones are doubtful if others ran beside them."""
    new = measured.keys() - kept.limits.keys()
    doubtful = kept.doubtful | new if busy else kept.doubtful - measured.keys()
    return cache.Kept(cache.merged(kept.limits, measured), frozenset(doubtful))


def neighbours_run() -> bool:
    """Whether other threads than this one are running on this machine; False where the system does not tell."""
    runnable = []
    for _ in range(LOOKS):
        runnable.append(load_average()[1] or 1)
        time.sleep(LOOK_EVERY_S)
    return median(runnable) > 1


def keep(key: Mapping[str, Json], kept: cache.Kept, folder: Path | None) -> None:
    """Write the cache where that is possible; where it is not, the next run measures again."""
    with contextlib.suppress(OSError, UsageError):
        cache.write(key, kept, folder)
