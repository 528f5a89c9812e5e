"""The fastest variant and setting for one network on this machine, by successive halving.

All candidates are ready at once, those of one environment in one process. A round races the ones that are left in
interleaved blocks, drops the slower half, and doubles the blocks; the last two race again in fresh processes, so that
the interval of their ratio counts what differs between processes.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from mlpprof.catalog import ladder
from mlpprof.compare.entrants import (
    SHARING,
    Contest,
    Entered,
    Entrant,
    Environment,
    Participant,
    Relay,
    StartWorker,
    Turns,
    all_threads,
    require_agreement,
    start_resident,
    with_workers,
    worker_counts,
)
from mlpprof.compare.race import TURN_S
from mlpprof.compare.verdict import difference, measure
from mlpprof.errors import UnsupportedNetwork
from mlpprof.files import make_folder, write_atomically
from mlpprof.machine.keys import Json
from mlpprof.machine.limits import key_of
from mlpprof.model import Network
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.results import Change, Verdict
from mlpprof.results.tuning import Trial, Tuning

CHUNKS = (125, 250, 1000, 2000)
"""Rows of a piece that are tried beside the 500 of the file."""
IN_ONE_PROCESS = ("tanh_sigmoid", "buffered", "chunked", "fused_update", "compiled", "delayed", "gram")
WITH_ALL_THREADS = ("tanh_sigmoid", "buffered", "chunked")
AGREEING_STEPS = 3
"""Steps whose losses are compared before anything is timed."""
HALVING_SHARE = 0.45
"""Of the time for the whole search; when it is spent, the two fastest go on at once."""
DIFFERENCE_STEPS, FEWEST_STEPS = 30, 3
DIFFERENCE_S = 6.0
"""Timed steps a pass for the reason by phase: so many, or as the time allows."""
HOPELESS = 4.0
HOPELESS_S = 0.3
"""A candidate whose first run, in which nothing compiles, takes so many times the fastest one's is not raced."""

RaceOf = Callable[[Sequence[int], int, int], Turns]
"""Places, blocks, seed -> seconds a step in every turn, (blocks, places, 2)."""


@dataclass(frozen=True)
class Standing:
    """The candidates that are left, the fastest first, and the round and step of every one that took part."""

    left: tuple[int, ...]
    rounds: Mapping[int, int]
    step_s: Mapping[int, float]


def candidates(request: Request, batch: int) -> list[Entrant]:
    """Rungs times settings: chunk sizes below the batch, one BLAS thread and all of them, both memory layouts."""
    known = ladder()
    alone, together = Environment(1, native_blas=True), Environment(all_threads(), native_blas=True)

    def entrant(name: str, environment: Environment, constants: Mapping[str, int], apart: bool = False) -> Entrant:
        wanted = Request(name, request.network, request.source, request.dtype, request.seed)
        return Entrant(wanted, environment, constants, apart)

    found = []
    for environment in dict.fromkeys((alone, together)):
        for name in IN_ONE_PROCESS:
            if name not in known or (environment is not alone and name not in WITH_ALL_THREADS):
                continue
            found.append(entrant(name, environment, {}))
            if name == "chunked":
                found += [entrant(name, environment, {"ROWS": rows}) for rows in CHUNKS if rows < batch]
    for name in SHARING:  # not `mpi`: the file that is written runs without mpiexec
        environments = [with_workers(count) for count in worker_counts()]
        found += [entrant(name, environment, {}, apart=True) for environment in environments if name in known]
    return found


def halve(places: Sequence[int], race_of: RaceOf, out_of_time: Callable[[], bool]) -> Standing:
    """Drop the slower half, round by round, until two are left; every round has twice the blocks of the last.

    A candidate's value is its median log time against the others of the same block, so that drift falls on all alike.
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
    return Standing(tuple(left), rounds, step_s)


def slow_starters(entered: Mapping[int, Entered]) -> list[int]:
    """The places of candidates that are out of the running by their first run; those that compile in it stay."""
    fastest_s = min(one.first_s for one in entered.values())
    return [
        place for place, one in entered.items() if not one.compiles and one.first_s > HOPELESS * fastest_s + HOPELESS_S
    ]


def autotune(
    request: Request,
    workload: str,
    batch: int,
    budget_s: float,
    progress: Progress,
    start: StartWorker = start_resident,
    clock: Callable[[], float] = time.monotonic,
) -> Tuning:
    """Search, decide between the last two, and tell where their difference lies, in about budget_s seconds.

    Raises EntrantWrong before anything is timed if losses deviate, and UnsupportedNetwork if no candidate can do it.
    """
    begun = clock()
    entrants = candidates(request, batch)
    shared = tempfile.mkdtemp(prefix="mlpprof-tune-")
    try:
        with Relay(entrants, batch, None, shared, start) as relay:
            relay.open(lambda what, share: progress(what, 0.0))
            entered = relay.entered
            if not entered:
                raise UnsupportedNetwork("; ".join(relay.absent.values()))
            first_s = {place: one.first_s for place, one in entered.items()}
            hopeless = slow_starters(relay.entered)
            relay.dismiss(hopeless)
            for place in hopeless:
                entered.pop(place)
            require_agreement(relay, batch, shared, progress, start, AGREEING_STEPS)

            def race_of(places: Sequence[int], blocks: int, seed: int) -> Turns:
                progress(f"racing {len(places)} candidates", 0.1 + 0.3 / len(places))
                return relay.race(places, blocks, seed, lambda what, share: None, TURN_S)

            standing = halve(sorted(entered), race_of, lambda: clock() - begun > HALVING_SHARE * budget_s)
            dtype = entered[standing.left[0]].dtype
            absent = {relay.entrants[place].variant: why for place, why in relay.absent.items()}
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    last = [entrants[place] for place in standing.left[:2]]
    contest = Contest([Participant((one,)) for one in reversed(last)], batch, check=False, start=start)
    verdict: Verdict | None = None
    phases: tuple[Change, ...] = ()
    if len(last) > 1:
        left_s = max(10.0, 0.8 * (budget_s - (clock() - begun)))
        verdict = measure(contest, lambda what, share: progress(what, 0.5 + 0.4 * share), budget_s=left_s)
        if verdict.ratio < 1:  # fresh processes have the last word
            last.reverse()
            verdict = replace(verdict, ratio=1 / verdict.ratio, low=1 / verdict.high, high=1 / verdict.low)
        names = contest.race().variants
        old, new = names.index(last[1].name), names.index(last[0].name)
        step_s = contest.race().step_s(new)
        if clock() - begun < budget_s:
            progress("where the difference lies", 0.9)
            steps = max(FEWEST_STEPS, min(DIFFERENCE_STEPS, int(DIFFERENCE_S / (6 * step_s))))  # 3 passes of 2
            phases = difference(contest, old, new, progress, steps, start)
    else:
        step_s = standing.step_s[standing.left[0]]
    winner = last[0]
    step_of = first_s | dict(standing.step_s)
    rounds = dict.fromkeys(first_s, 0) | dict(standing.rounds)
    ordered = sorted(rounds, key=lambda place: (-rounds[place], step_of[place]))
    return Tuning(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        workload=workload,
        network=request.network,
        batch=batch,
        dtype=dtype,
        seed=request.seed,
        winner=winner.name,
        variant=winner.request.variant,
        constants=dict(winner.constants),
        threads=winner.environment.threads or all_threads(),
        variables=dict(winner.environment.variables),
        step_s=step_s,
        runner_up=last[1].name if len(last) > 1 else None,
        over_runner_up=verdict,
        phases=tuple(change for change in phases if not change.label),
        trials=tuple(Trial(entrants[place].name, rounds[place], step_of[place]) for place in ordered),
        absent=absent,
    )


# What `autotune` has found, kept in the user's cache folder: one file a machine, network, batch and precision.


SCHEMA = 2


def tuned_key(machine: Mapping[str, Json], network: Network, batch: int, dtype: str | None) -> dict[str, Any]:
    """What a result depends on; dtype None: every variant's own."""
    return {"machine": key_of(machine), "network": json.loads(json.dumps(asdict(network))), "batch": batch} | {
        "dtype": dtype
    }


def default_folder() -> Path:
    """Below the folder that this system has for caches."""
    return Path(platformdirs.user_cache_dir("mlpprof", appauthor=False)) / "tuned"


def tuned_path(key: Mapping[str, Any], folder: Path | None = None) -> Path:
    """The file of a key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return (default_folder() if folder is None else folder) / f"{digest[:16]}.json"


def read_tuned(key: Mapping[str, Any], folder: Path | None = None) -> Tuning | None:
    """What is kept for a key; None where there is no file, or one that is damaged or of another schema."""
    try:
        document = json.loads(tuned_path(key, folder).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or document["key"] != json.loads(json.dumps(key)):
            return None
        return tuning_from(document["tuning"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def keep_tuned(key: Mapping[str, Any], tuning: Tuning, folder: Path | None = None) -> Path:
    """Keep a result, whole or not at all; returns its file. Raises UsageError where it cannot be written."""
    path = tuned_path(key, folder)
    make_folder(path.parent)
    document = {"schema": SCHEMA, "key": dict(key), "tuning": asdict(tuning)}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def tuning_from(plain: Mapping[str, Any]) -> Tuning:
    """A Tuning from its JSON."""
    network, verdict = plain["network"], plain["over_runner_up"]
    return Tuning(
        **{
            **plain,
            "network": Network(**{**network, "layers": tuple(network["layers"])}),
            "over_runner_up": None if verdict is None else Verdict(**verdict),
            "phases": tuple(Change(**change) for change in plain["phases"]),
            "trials": tuple(Trial(**trial) for trial in plain["trials"]),
        }
    )
