"""From replicates to a verdict: processes are started until the claim is decided or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mlpprof.measure.racers import Racer
from mlpprof.process import Progress
from mlpprof.results import Race, Verdict
from mlpprof.stats import (
    REPLICATED,
    Decision,
    NullResult,
    Outcome,
    Procedure,
    block_log_ratio,
    decide,
    null_bias,
    replicate_log_ratio,
)

Null = Callable[[], NullResult]
"""The A/A null of a session: measured when it is first asked for, then remembered."""

UNGATED_REPLICATES = 5
LEAST_REPLICATES = 3
"""A budget never stops before the third: two replicates decide hardly anything, however clear (t is 318 and more)."""


def log_ratios(race: Race, old: int = 0, new: int = 1) -> NDArray[np.float64]:
    """The replicates of old over new, (replicates,): of each the median of its blocks' mean log ratios.

    A block in which one of the two sat out is no block of this pair.
    """
    replicates = []
    for turns_s in race.turns_s:
        pairs = turns_s[:, [old, new]]
        blocks = [block_log_ratio(*pair) for pair in pairs if not np.isnan(pair).any()]
        replicates.append(replicate_log_ratio(blocks))
    return np.array(replicates)


def measure(
    racer: Racer,
    progress: Progress,
    at_least: float | None = None,
    null: Null | None = None,
    budget_s: float | None = None,
    procedure: Procedure = REPLICATED,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Add replicates until the claim "old over new is at_least" passes or fails, or looks or budget run out.

    Without a claim, so many replicates that the interval means something. null: asked only before a FAIL is
    pronounced; where it is biased, the outcome is inconclusive instead. budget_s: no replicate is started that would
    not end within it, once there are three; the claim is then decided from the replicates that there are.
    """
    begun = clock()
    looks = (UNGATED_REPLICATES,) if at_least is None else procedure.looks
    done, spent = 0, False
    for look in looks:
        while done < look and not spent:
            if budget_s is not None and is_spent(budget_s, clock() - begun, done):
                spent = True
            else:
                racer.run(part_of(progress, done, look))
                done += 1
        decision = decide_gate(log_ratios(racer.race()), at_least, null, procedure, final=spent)
        if decision.outcome is not Outcome.CONTINUE:
            break
    return verdict_of(decision, procedure, budget_note(decision, budget_s if spent else None))


def is_spent(budget_s: float, elapsed_s: float, done: int) -> bool:
    """Whether one more replicate, as long as those so far, would not end within the budget."""
    return done >= LEAST_REPLICATES and elapsed_s * (done + 1) / done > budget_s


def decide_gate(
    ratios: NDArray[np.float64],
    at_least: float | None,
    null: Null | None,
    procedure: Procedure = REPLICATED,
    *,
    final: bool = False,
) -> Decision:
    """The decision on the replicates so far; the null is asked where it would be a FAIL."""
    decision = decide(ratios, at_least, procedure, final=final)
    if decision.outcome is Outcome.FAIL and null is not None:
        decision = decide(ratios, at_least, procedure, null=null(), final=final)
    return decision


def budget_note(decision: Decision, spent_s: float | None) -> str:
    """What a verdict adds where the spent budget has ended it: an undecided claim is one that more time may decide."""
    if spent_s is None or decision.outcome in (Outcome.PASS, Outcome.FAIL):
        return ""
    return f"; the budget of {spent_s:g} s is spent"


def measure_null(racer: Racer, progress: Progress, procedure: Procedure = REPLICATED) -> NullResult:
    """Race something against itself through the same pipeline."""
    add_replicates(racer, procedure.looks[0], progress)
    return null_bias(log_ratios(racer.race()), procedure)


def add_replicates(racer: Racer, count: int, progress: Progress) -> None:
    """So many more replicates."""
    for done in range(count):
        racer.run(part_of(progress, done, count))


def verdict_of(decision: Decision, procedure: Procedure = REPLICATED, addition: str = "") -> Verdict:
    """The record of a decision."""
    return Verdict(
        outcome=None if decision.outcome is None else str(decision.outcome),
        ratio=decision.estimate,
        low=decision.low,
        high=decision.high,
        at_least=decision.at_least,
        processes=decision.replicates,
        reason=decision.reason + addition,
        in_process=procedure.process_sd > 0,
    )


def part_of(progress: Progress, done: int, of: int) -> Progress:
    """Progress of one replicate among several."""

    def part(what: str, share: float) -> None:
        progress(f"process {done + 1} of {of}: {what}", (done + share) / of)

    return part
