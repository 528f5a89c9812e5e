"""The fastest variant and setting for one network on this machine, by successive halving.

All candidates are ready at once; those of one environment share a process. A round races the candidates that are left,
drops the slower half, and doubles the blocks. The last two race again in fresh processes, so that the interval of
their ratio includes what differs between processes.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mlpprof.catalog import ladder
from mlpprof.compare.entrants import (
    IN_ONE_PROCESS,
    SHARING,
    Entrant,
    Environment,
    VariantSubject,
    all_threads,
    with_workers,
    worker_counts,
    worker_for,
)
from mlpprof.compare.live_race import ProcessRace, require_losses
from mlpprof.compare.race import Turns
from mlpprof.compare.replicate import FirstRun, Loaded, Replicate, StartWorker
from mlpprof.compare.verdict import measure
from mlpprof.data.source import DataSource, data_state
from mlpprof.errors import UnsupportedNetwork
from mlpprof.machine.keys import Json
from mlpprof.machine.limits import key_of
from mlpprof.model import Network
from mlpprof.owned import new_folder
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.results import PhaseChange, Verdict
from mlpprof.results.cache import Cache
from mlpprof.results.json import plain
from mlpprof.results.tuning import Trial, Tuning

CHUNKS = (125, 250, 1000, 2000)
"""`chunked` is tried with pieces of this many rows too, besides the 500 of its file."""
ON_ONE_THREAD = ("tanh_sigmoid", *IN_ONE_PROCESS)
WITH_ALL_THREADS = ("tanh_sigmoid", "buffered", "chunked")
AGREEING_STEPS = 3
"""Steps whose losses are compared before anything is timed."""
HALVING_SHARE = 0.45
"""When this share of the time for the whole search is spent, the two fastest go on at once."""
DIFFERENCE_STEPS, FEWEST_STEPS = 30, 3
DIFFERENCE_S = 6.0
"""The passes that show which phases differ take so many steps each, as far as DIFFERENCE_S allows."""
HOPELESS = 4.0
HOPELESS_S = 0.3
"""A candidate is not raced if its first run takes HOPELESS times as long as the fastest one's, plus HOPELESS_S."""

RaceOf = Callable[[Sequence[int], int, int], Turns]
"""Places, blocks, seed -> the times of a race."""


@dataclass(frozen=True)
class Halving:
    """The candidates that are left, the fastest first; of all candidates the rounds that they raced, and their step."""

    left: tuple[int, ...]
    rounds: Mapping[int, int]
    step_s: Mapping[int, float]


def candidates(request: Request, batch: int) -> list[Entrant]:
    """All rungs in all their settings: chunk sizes below the batch, one BLAS thread and all, numbers of workers."""
    known = ladder()
    alone, together = Environment(1, native_blas=True), Environment(all_threads(), native_blas=True)

    def entrant(
        name: str, environment: Environment, constants: Mapping[str, int], process: str | None = "shared"
    ) -> Entrant:
        wanted = Request(name, request.network, request.source, request.dtype, request.seed)
        return Entrant(VariantSubject(wanted, batch, constants), environment, process)

    found = []
    for environment in dict.fromkeys((alone, together)):
        for name in ON_ONE_THREAD:
            if name not in known or (environment is not alone and name not in WITH_ALL_THREADS):
                continue
            found.append(entrant(name, environment, {}))
            if name == "chunked":
                found += [entrant(name, environment, {"ROWS": rows}) for rows in CHUNKS if rows < batch]
    for name in SHARING:  # not `mpi`: the file that is written runs without mpiexec
        environments = [with_workers(count) for count in worker_counts()]
        found += [entrant(name, environment, {}, process=None) for environment in environments if name in known]
    return found


def halve(places: Sequence[int], race_of: RaceOf, out_of_time: Callable[[], bool]) -> Halving:
    """Drop the slower half, round by round, until two are left; every round has twice the blocks of the last.

    A candidate's value is its median log time compared with the others of the same block, so that a drift of the
    machine affects all of them alike.
    """
    left = list(places)
    rounds: dict[int, int] = {}
    step_s: dict[int, float] = {}
    blocks = 1
    while True:
        turns = race_of(left, blocks, len(rounds) + blocks)
        logs = np.log(turns).mean(axis=2)
        relative = logs - np.nanmean(logs, axis=1, keepdims=True)
        value = dict(zip(left, np.nanmedian(relative, axis=0), strict=True))
        for i, place in enumerate(left):
            rounds[place] = rounds.get(place, 0) + 1
            step_s[place] = float(np.nanmedian(turns[:, i]))
        left.sort(key=lambda place: float(value[place]))
        if len(left) <= 2 and blocks > 1:
            break
        left = left[: 2 if out_of_time() else max(2, math.ceil(len(left) / 2))]
        blocks *= 2
        if out_of_time():
            break
    return Halving(tuple(left), rounds, step_s)


def slow_starters(loaded: Mapping[int, Loaded], first_runs: Mapping[int, FirstRun]) -> list[int]:
    """The places of candidates whose first run is hopelessly slow; those that compile in it stay."""
    fastest_s = min(first_runs[place].first_s for place in loaded)
    limit_s = HOPELESS * fastest_s + HOPELESS_S
    return [place for place, one in loaded.items() if not one.compiles and first_runs[place].first_s > limit_s]


def autotune(
    request: Request,
    workload: str,
    batch: int,
    budget_s: float,
    progress: Progress,
    start: StartWorker = worker_for,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Search, decide between the last two, and find where their difference lies, in about budget_s seconds.

    Raises EntrantWrong before anything is timed if losses deviate, and UnsupportedNetwork if no candidate can do the
    network.
    """
    begun = clock()
    entrants = candidates(request, batch)
    shared = new_folder("tune")
    try:
        with Replicate(entrants, shared, start) as replicate:
            replicate.open(lambda what, share: progress(what, 0.0))
            replicate.run_first(lambda what, share: progress(what, 0.0))
            if not replicate.loaded:
                raise UnsupportedNetwork("; ".join(str(why) for why in replicate.absent.values()))
            first_s = {place: one.first_s for place, one in replicate.first_runs.items()}
            replicate.dismiss(slow_starters(replicate.loaded, replicate.first_runs))
            require_losses(replicate, shared, progress, start, AGREEING_STEPS)

            def race_of(places: Sequence[int], blocks: int, seed: int) -> Turns:
                progress(f"racing {len(places)} candidates", 0.1 + 0.3 / len(places))
                return replicate.race(places, blocks, seed, lambda what, share: None)

            halving = halve(sorted(replicate.loaded), race_of, lambda: clock() - begun > HALVING_SHARE * budget_s)
            dtype = replicate.loaded[halving.left[0]].dtype
            absent = {entrants[place].subject.variant: str(why) for place, why in replicate.absent.items()}
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    last = [entrants[place] for place in halving.left[:2]]
    verdict: Verdict | None = None
    phases: tuple[PhaseChange, ...] = ()
    if len(last) > 1:
        live = ProcessRace([[one] for one in reversed(last)], start=start)
        left_s = max(10.0, 0.8 * (budget_s - (clock() - begun)))
        [verdict] = measure(live, lambda what, share: progress(what, 0.5 + 0.4 * share), budget_s=left_s)
        old, new = 0, 1
        if verdict.ratio < 1:  # fresh processes have the last word
            last.reverse()
            old, new = 1, 0
            verdict = replace(verdict, ratio=1 / verdict.ratio, low=1 / verdict.high, high=1 / verdict.low)
        step_s = live.race().step_s(new)
        if clock() - begun < budget_s:
            progress("finding where the difference lies", 0.9)
            steps = max(FEWEST_STEPS, min(DIFFERENCE_STEPS, int(DIFFERENCE_S / (6 * step_s))))  # 3 passes of 2
            phases = live.waterfall(lambda what, share: progress(what, 0.9), old, new, steps)
    else:
        step_s = halving.step_s[halving.left[0]]
    winner = last[0]
    subject = winner.subject
    assert isinstance(subject, VariantSubject)
    step_of = first_s | dict(halving.step_s)
    rounds = dict.fromkeys(first_s, 0) | dict(halving.rounds)
    ordered = sorted(rounds, key=lambda place: (-rounds[place], step_of[place]))
    return Tuning(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        workload=workload,
        network=request.network,
        batch=batch,
        dtype=dtype,
        seed=request.seed,
        winner=winner.name,
        variant=subject.request.variant,
        constants=dict(subject.constants),
        threads=winner.environment.threads or all_threads(),
        variables=dict(winner.environment.variables),
        step_s=step_s,
        runner_up=last[1].name if len(last) > 1 else None,
        over_runner_up=verdict,
        phases=tuple(change for change in phases if not change.label),
        trials=tuple(Trial(entrants[place].name, rounds[place], step_of[place]) for place in ordered),
        absent=absent,
    )


@dataclass(frozen=True)
class Kept:
    """The fastest variant and setting that `autotune` has found for a key."""

    tuning: Tuning


CACHE = Cache("tuned", 2, Kept)


def tuned_key(
    machine: Mapping[str, Json], network: Network, batch: int, dtype: str | None, source: DataSource
) -> dict[str, Any]:
    """What a result depends on. dtype: None if every variant used its own. source: its zeros decide about `sparse`."""
    key = {"machine": key_of(machine), "network": plain(network), "batch": batch, "dtype": dtype}
    return {**key, "data": data_state(source)}
