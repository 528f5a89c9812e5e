"""From replicates to a verdict: they are added until the claim is decided or the budget is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mlpprof.compare.decide import (
    Decision,
    NullResult,
    Outcome,
    clear_outcome,
    decide,
    expected_replicates,
    log_ratios,
    null_bias,
)
from mlpprof.compare.error_bounds import CLEAR_REPLICATES, REPLICATED, Procedure
from mlpprof.compare.live_race import LiveRace
from mlpprof.process import Progress, part_of
from mlpprof.results import Race, Verdict

Null = Callable[[], NullResult]
"""The A/A null of a session: it is measured when it is first needed, then remembered."""

UNCLAIMED_REPLICATES = 5
"""Replicates where nothing is claimed: enough for an interval that is useful."""
LEAST_REPLICATES = 3
"""A budget never ends a race before the third replicate.

Two replicates decide only what lies beyond a limit by a factor of 2.4 (`clear_factor`), and this ends the race anyway.
Student's t of two is 318 and more, so that a smaller effect would never be decided.
"""


def race_until_decided(
    live: LiveRace,
    progress: Progress,
    decisions_on: Callable[[Race, bool], Sequence[Decision]],
    looks: Sequence[int],
    budget_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    expected: Callable[[Race], int] | None = None,
) -> tuple[Sequence[Decision], bool]:
    """Add replicates until no decision asks for more, or looks or budget run out; also whether the budget was spent.

    decisions_on: decides on the race so far at every look; with True, for good. budget_s: no replicate is started that
    would not end within it, once there are three; then it is decided from the replicates that there are. expected: how
    many replicates the race so far will probably take, for the progress.
    """
    begun = clock()
    done, spent = 0, False
    for look in looks:
        while done < look and not spent:
            elapsed_s = clock() - begun
            if budget_s is not None and _is_spent(budget_s, elapsed_s, done):
                spent = True
            else:
                likely = look
                if expected is not None and done >= CLEAR_REPLICATES[0]:
                    likely = max(look, expected(live.race()))
                live.run(replicate_of(progress, done, likely, _left_s(elapsed_s, done, likely, budget_s)))
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
    """Race until "each newer one at_least times as fast as the first" is decided; a verdict for each of them.

    Without a claim, there are as many replicates as an interval needs; with a fine resolution, as many as it takes
    until no interval is wider than that. null: it is measured only before a FAIL is pronounced that is not clear; where
    it is biased, the outcome is inconclusive instead. budget_s: see `race_until_decided`.
    """

    def ratios_of(race: Race) -> list[NDArray[np.float64]]:
        return [log_ratios(race, 0, i) for i in range(1, len(race.variants))]

    def decisions_on(race: Race, final: bool) -> list[Decision]:
        return [_decide(ratios, at_least, null, procedure, final) for ratios in ratios_of(race)]

    def expected(race: Race) -> int:
        if at_least is None:
            return 0
        last = procedure.looks[-1]
        return max(expected_replicates(ratios, at_least, procedure) or last for ratios in ratios_of(race))

    looks = looks_for(at_least, procedure)
    decisions, spent = race_until_decided(live, progress, decisions_on, looks, budget_s, clock, expected)
    return [
        verdict_of(decision, procedure, _budget_note(decision, budget_s if spent else None)) for decision in decisions
    ]


def looks_for(at_least: float | None, procedure: Procedure) -> tuple[int, ...]:
    """The numbers of replicates after which a race may end; the last one is the largest."""
    if at_least is not None:
        return tuple(sorted({CLEAR_REPLICATES[0], *procedure.looks}))
    return procedure.looks if procedure.is_fine else (UNCLAIMED_REPLICATES,)


def race_until_narrow(
    live: LiveRace,
    progress: Progress,
    ratios_of: Callable[[Race], Sequence[NDArray[np.float64]]],
    least: int,
    procedure: Procedure,
) -> None:
    """Add `least` replicates; with a fine resolution, as many as it takes until no interval is wider than that."""

    def decisions_on(race: Race, final: bool) -> list[Decision]:
        return [_unclaimed(ratios, procedure, final) for ratios in ratios_of(race)]

    further = [look for look in procedure.looks if look > least] if procedure.is_fine else []
    race_until_decided(live, progress, decisions_on, (least, *further))


def measure_null(live: LiveRace, progress: Progress, procedure: Procedure = REPLICATED) -> NullResult:
    """Race something against itself through the same pipeline."""
    add_replicates(live, procedure.looks[0], progress)
    return null_bias(log_ratios(live.race()), procedure)


def add_replicates(live: LiveRace, count: int, progress: Progress) -> None:
    """So many more replicates."""
    for done in range(count):
        live.run(replicate_of(progress, done, count))


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
        resolution=procedure.share,
    )


def replicate_of(progress: Progress, done: int, of: int, left_s: float | None = None) -> Progress:
    """Progress of one replicate among several; left_s: how long they will probably take."""
    left = "" if left_s is None else f", about {left_s:.0f} s left"
    return part_of(progress, done / of, 1 / of, f"process {done + 1} of {of}{left}")


def _is_spent(budget_s: float, elapsed_s: float, done: int) -> bool:
    """Whether one more replicate, as long as those so far, would not end within the budget."""
    return done >= LEAST_REPLICATES and elapsed_s * (done + 1) / done > budget_s


def _left_s(elapsed_s: float, done: int, of: int, budget_s: float | None) -> float | None:
    """How long the remaining replicates will take, if they are as long as those so far; None before the first."""
    if done == 0:
        return None
    left_s = elapsed_s / done * (of - done)
    return left_s if budget_s is None else min(left_s, budget_s - elapsed_s)


def _decide(
    ratios: NDArray[np.float64], at_least: float | None, null: Null | None, procedure: Procedure, final: bool
) -> Decision:
    """The decision on the replicates so far; the null is measured where it would be a FAIL."""
    if at_least is None:
        return _unclaimed(ratios, procedure, final)
    decision = decide(ratios, at_least, procedure, final=final)
    is_clear = clear_outcome(ratios, at_least, procedure) is not None
    if decision.outcome is Outcome.FAIL and null is not None and not is_clear:
        decision = decide(ratios, at_least, procedure, null=null(), final=final)
    return decision


def _unclaimed(ratios: NDArray[np.float64], procedure: Procedure, final: bool) -> Decision:
    """The interval alone; where a fine resolution is wanted, it asks for more until that is as narrow."""
    decision = decide(ratios, procedure=procedure, final=final)
    is_wide = math.log(decision.high / decision.low) > math.log(procedure.resolution)
    is_open = procedure.is_fine and is_wide and not final and len(ratios) < procedure.looks[-1]
    return replace(decision, outcome=Outcome.CONTINUE) if is_open else decision


def _budget_note(decision: Decision, spent_s: float | None) -> str:
    """What a verdict adds where the spent budget has ended it: an undecided claim is one that more time may decide."""
    if spent_s is None or decision.outcome in (Outcome.PASS, Outcome.FAIL):
        return ""
    return f"; the budget of {spent_s:g} s is spent"
