"""From replicates to a verdict: they are added until the claim is decided or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlpprof.compare.decide import Decision, NullResult, Outcome, decide, log_ratios, null_bias
from mlpprof.compare.error_bounds import REPLICATED, Procedure
from mlpprof.compare.live_race import LiveRace
from mlpprof.process import Progress
from mlpprof.results import Race, Verdict

Null = Callable[[], NullResult]
"""The A/A null of a session: it is measured when it is first needed, then remembered."""

UNCLAIMED_REPLICATES = 5
"""Replicates where nothing is claimed: enough for an interval that is useful."""
LEAST_REPLICATES = 3
"""A budget never stops before the third: two replicates decide hardly anything, however clear (t is 318 and more)."""


def race_until_decided(
    live: LiveRace,
    progress: Progress,
    decisions_on: Callable[[Race, bool], Sequence[Decision]],
    looks: Sequence[int],
    budget_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Sequence[Decision], bool]:
    """Add replicates until no decision asks for more, or looks or budget run out; also whether the budget was spent.

    decisions_on: decides on the race so far at every look; with True, for good. budget_s: no replicate is started that
    would not end within it, once there are three; then it is decided from the replicates that there are.
    """
    begun = clock()
    done, spent = 0, False
    for look in looks:
        while done < look and not spent:
            if budget_s is not None and _is_spent(budget_s, clock() - begun, done):
                spent = True
            else:
                live.run(part_of(progress, done, look))
                done += 1
        decisions = decisions_on(live.race(), spent)
        if spent or all(decision.outcome is not Outcome.CONTINUE for decision in decisions):
            break
    return decisions, spent


def measure(
    live: LiveRace,
    progress: Progress,
    at_least: float | None = None,
    null: Null | None = None,
    budget_s: float | None = None,
    procedure: Procedure = REPLICATED,
    clock: Callable[[], float] = time.monotonic,
) -> list[Verdict]:
    """Race until "each newer one is at_least times as fast as the first" is decided; a verdict for each of them.

    Without a claim, there are as many replicates as an interval needs. null: it is measured only before a FAIL is
    pronounced; where it is biased, the outcome is inconclusive instead. budget_s: see `race_until_decided`.
    """

    def decisions_on(race: Race, final: bool) -> list[Decision]:
        return [_decide(log_ratios(race, 0, i), at_least, null, procedure, final) for i in range(1, len(race.variants))]

    looks = (UNCLAIMED_REPLICATES,) if at_least is None else procedure.looks
    decisions, spent = race_until_decided(live, progress, decisions_on, looks, budget_s, clock)
    return [
        verdict_of(decision, procedure, _budget_note(decision, budget_s if spent else None)) for decision in decisions
    ]


def measure_null(live: LiveRace, progress: Progress, procedure: Procedure = REPLICATED) -> NullResult:
    """Race something against itself through the same pipeline."""
    add_replicates(live, procedure.looks[0], progress)
    return null_bias(log_ratios(live.race()), procedure)


def add_replicates(live: LiveRace, count: int, progress: Progress) -> None:
    """So many more replicates."""
    for done in range(count):
        live.run(part_of(progress, done, count))


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
        null=() if decision.null is None else decision.null.log_ratios,
        is_final=decision.is_final,
    )


def part_of(progress: Progress, done: int, of: int) -> Progress:
    """Progress of one replicate among several."""

    def part(what: str, share: float) -> None:
        progress(f"process {done + 1} of {of}: {what}", (done + share) / of)

    return part


def _is_spent(budget_s: float, elapsed_s: float, done: int) -> bool:
    """Whether one more replicate, as long as those so far, would not end within the budget."""
    return done >= LEAST_REPLICATES and elapsed_s * (done + 1) / done > budget_s


def _decide(
    ratios: NDArray[np.float64], at_least: float | None, null: Null | None, procedure: Procedure, final: bool
) -> Decision:
    """The decision on the replicates so far; the null is measured where it would be a FAIL."""
    decision = decide(ratios, at_least, procedure, final=final)
    if decision.outcome is Outcome.FAIL and null is not None:
        decision = decide(ratios, at_least, procedure, null=null(), final=final)
    return decision


def _budget_note(decision: Decision, spent_s: float | None) -> str:
    """What a verdict adds where the spent budget has ended it: an undecided claim is one that more time may decide."""
    if spent_s is None or decision.outcome in (Outcome.PASS, Outcome.FAIL):
        return ""
    return f"; the budget of {spent_s:g} s is spent"
