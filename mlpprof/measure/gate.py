"""From replicates to a verdict: processes are started until the claim is decided or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mlpprof.measure.racers import Racer
from mlpprof.process import Progress
from mlpprof.results import Race, Verdict
from mlpprof.stats import ACROSS_PROCESSES, Decision, NullResult, Procedure, decide, null_bias, replicate_log_ratio

Null = Callable[[], NullResult]
"""The A/A null of a session: measured when it is first asked for, then remembered."""

UNGATED_REPLICATES = 5


def log_ratios(race: Race, old: int = 0, new: int = 1) -> NDArray[np.float64]:
    """The replicates of old over new, (replicates,): of each the median of its blocks' mean log ratios.

    A block in which one of the two sat out is no block of this pair.
    """
    replicates = []
    for turns in race.turns_s:
        pair = turns[:, [old, new]]
        pair = pair[~np.isnan(pair).any(axis=(1, 2))]
        replicates.append(replicate_log_ratio(pair[:, 0], pair[:, 1]))
    return np.array(replicates)


def measure(
    racer: Racer,
    progress: Progress,
    at_least: float | None = None,
    null: Null | None = None,
    budget_s: float | None = None,
    procedure: Procedure = ACROSS_PROCESSES,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Add replicates until the claim "old over new is at_least" passes or fails, or looks or budget run out.

    Without a claim, so many replicates that the interval means something. null: asked only before a FAIL is
    pronounced; where it is biased, the outcome is inconclusive instead. budget_s: no replicate is started that would
    not end within it, as long as one has been measured.
    """
    begun = clock()
    looks = procedure.looks if at_least is not None else (UNGATED_REPLICATES,)
    done = 0
    for look in looks:
        while done < look:
            elapsed_s = clock() - begun
            if budget_s is not None and done > 0 and elapsed_s * (done + 1) / done > budget_s:
                return _verdict(racer, at_least, procedure, f"the budget of {budget_s:g} s is spent")
            racer.run(_part(progress, done, look))
            done += 1
        decision = decide(log_ratios(racer.race()), at_least, procedure)
        if decision.outcome == "fail" and null is not None and (bias := null()).biased:
            return _verdict(racer, at_least, procedure, f"it would fail, but {bias.reason}")
        if decision.outcome in ("pass", "fail"):
            break
    return _of(decision, at_least, procedure)


def measure_null(racer: Racer, progress: Progress, procedure: Procedure = ACROSS_PROCESSES) -> NullResult:
    """Race something against itself through the same pipeline."""
    for done in range(procedure.looks[0]):
        racer.run(_part(progress, done, procedure.looks[0]))
    return null_bias(log_ratios(racer.race()), procedure)
