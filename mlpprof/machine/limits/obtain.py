"""Limits from outside: those kept for an environment, and those that are missing measured in a process of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlpprof.errors import UsageError
from mlpprof.machine.keys import Json
from mlpprof.machine.limits import cache
from mlpprof.machine.limits.names import Limits
from mlpprof.process import Progress, Worker

WORKER = "mlpprof.machine.limits.worker"


def limits_for(
    names: Sequence[str],
    machine: Mapping[str, Json],
    environment: Mapping[str, str],
    progress: Progress,
    folder: Path | None = None,
) -> Limits:
    """The named limits of a process: from the cache, the missing ones measured in a fresh process and kept.

    machine: the description of a process in that environment. folder: of the cache, the user's own by default.
    Raises whatever `Worker.call` raises.
    """
    key = cache.key_of(machine)
    kept = cache.read(key, folder)
    missing = [name for name in names if name not in kept]
    if missing:
        with Worker(WORKER, environment) as worker:
            kept = cache.merged(kept, worker.call("measure", progress, names=missing))
        keep(key, kept, folder)
    return {name: kept[name] for name in names}


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
    with Worker(WORKER, environment) as worker:
        machine: dict[str, Json] = worker.call("machine", progress)
        measured: Limits = worker.call("measure", progress, names=list(names), share_of_budget=share_of_budget)
    key = cache.key_of(machine)
    kept = cache.merged({} if forget else cache.read(key, folder), measured)
    keep(key, kept, folder)
    return machine, {name: kept[name] for name in names}


def keep(key: Mapping[str, Json], limits: Limits, folder: Path | None) -> None:
    """Write the cache where that is possible; where it is not, the next run measures again."""
    with contextlib.suppress(OSError, UsageError):
        cache.write(key, limits, folder)
