"""The speed of a learner's MLP against the exercise's start, the rung that solves it, and the first version.

All of them take turns in the same processes. What is wanted is a share of what the rung itself gains over the start in
the same run (its square root for a share of 0.5), so that it fits every machine: a replicate's value is

    log(start / mine) - share * log(start / reference)        (+ log 1.05 where the share is 0)

and the claim that it is 0 or more is decided as `mlpprof compare --at-least 1` decides, in fewer looks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlpprof.measure.gate import is_spent, log_ratios, part_of
from mlpprof.measure.racers import Racer
from mlpprof.process import Progress
from mlpprof.report.format import format_time, plain
from mlpprof.results import Change, Race
from mlpprof.stats import Decision, Outcome, Procedure, decide
from mlpprof.workshop.outcome import Ratio, Speed

AS_FAST = 1.05
"""Where nothing is to be gained, this factor still counts as equally fast: a version that is unchanged must pass."""


@dataclass(frozen=True)
class Places:
    """Where the contestants stand in a race; those that are the same code may share a place."""

    reference: int
    start: int
    first: int
    mine: int


def measure_speed(
    racer: Racer,
    places: Places,
    share: float | None,
    procedure: Procedure,
    budget_s: float,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> Speed:
    """Add processes until the claim is decided, the looks are over, or the budget is spent.

    share: None where nothing is claimed; then the first look is enough.
    """
    begun = clock()
    done, spent = 0, False
    decision: Decision | None = None
    for look in procedure.looks:
        while done < look and not spent:
            if is_spent(budget_s, clock() - begun, done):
                spent = True
            else:
                racer.run(part_of(progress, done, look))
                done += 1
        decision = None if share is None else decide(_values(racer.race(), places, share), 1.0, procedure, final=spent)
        if spent or decision is None or decision.outcome is not Outcome.CONTINUE:
            break
    return _speed(racer.race(), places, share, decision)


def _values(race: Race, places: Places, share: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    gained = log_ratios(race, places.start, places.mine)
    if share == 0:
        return gained + math.log(AS_FAST)
    return gained - share * log_ratios(race, places.start, places.reference)


def _speed(race: Race, places: Places, share: float | None, decision: Decision | None) -> Speed:
    over_start = _ratio(race, places.start, places.mine)
    reference = _ratio(race, places.start, places.reference)
    outcome = "pass"
    if decision is not None:
        undecided = decision.outcome in (Outcome.CONTINUE, Outcome.INCONCLUSIVE, None)
        outcome = "inconclusive" if undecided else str(decision.outcome)
    return Speed(
        outcome=outcome,
        over_start=over_start,
        over_reference=_ratio(race, places.reference, places.mine),
        over_first=_ratio(race, places.first, places.mine),
        reference_over_start=reference,
        target=None if share is None else reference.ratio**share,
        step_s=race.step_s(places.mine),
        processes=len(race.turns_s),
    )


def _ratio(race: Race, old: int, new: int) -> Ratio:
    if old == new:
        return Ratio(1.0, 1.0, 1.0)
    found = decide(log_ratios(race, old, new))
    # the interval of two processes can reach further than a float
    return Ratio(found.estimate, max(found.low, 1e-9), min(found.high, 1e9) if math.isfinite(found.high) else 1e9)


def lost_time(waterfall: tuple[Change, ...]) -> str:
    """Where a step takes longer than the reference's: 'backward: 1.20 ms, the reference 410 µs; most in ...'."""
    phases = [change for change in waterfall if not change.label and change.new_s > change.old_s]
    if not phases:
        return ""
    worst = max(phases, key=lambda change: change.new_s - change.old_s)
    text = f"{worst.phase} takes {format_time(worst.new_s)}, that of the reference {format_time(worst.old_s)}"
    labels = [c for c in waterfall if c.label and c.phase == worst.phase and c.new_s > c.old_s]
    if not labels:
        return text
    label = max(labels, key=lambda change: change.new_s - change.old_s)
    layer = "" if label.layer is None else f" of layer {label.layer}"
    return f"{text}; most of it in '{plain(label.label)}'{layer}: {format_time(label.new_s)}, there " + (
        format_time(label.old_s) if label.old_s > 0 else "nothing"
    )
