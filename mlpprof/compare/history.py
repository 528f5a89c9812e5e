"""Several versions of a program from one race, in order: how fast each is, also compared with the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlpprof.compare.decide import decide, log_ratios
from mlpprof.compare.verdict import verdict_of
from mlpprof.results import Comparison, Race, Verdict


@dataclass(frozen=True)
class Version:
    """A version in a history.

    step_s: median seconds of a step in the race. over_first, over_previous: how many times as fast it is; None for the
    first version.
    """

    name: str
    step_s: float
    over_first: Verdict | None = None
    over_previous: Verdict | None = None


def history(comparisons: Sequence[Comparison]) -> tuple[Version, ...]:
    """The versions of two or more comparisons of programs from one race; empty if they are not that."""
    if len(comparisons) < 2 or any(one.programs is None for one in comparisons):
        return ()
    first = comparisons[0]
    if not all(_is_of_the_same_race(first.race, one.race) for one in comparisons):
        return ()
    versions = [Version(first.old, first.race.step_s(0))]
    for before, one in zip((None, *comparisons), comparisons, strict=False):
        previous = one.race if before is None else _race_of(before.race, one.race)
        versions.append(Version(one.new, one.race.step_s(1), one.verdict, _measured(previous)))
    return tuple(versions)


def _is_of_the_same_race(race: Race, other: Race) -> bool:
    """Whether the first entrant of both took the same turns."""
    return len(race.turns_s) == len(other.turns_s) and all(
        np.array_equal(ours[:, 0], theirs[:, 0], equal_nan=True)
        for ours, theirs in zip(race.turns_s, other.turns_s, strict=True)
    )


def _race_of(before: Race, after: Race) -> Race:
    """The race of the second entrants of two pairs from one race."""
    turns_s = tuple(
        np.stack([ours[:, 1], theirs[:, 1]], axis=1) for ours, theirs in zip(before.turns_s, after.turns_s, strict=True)
    )
    return replace(before, variants=(before.variants[1], after.variants[1]), turns_s=turns_s)


def _measured(race: Race) -> Verdict | None:
    return verdict_of(decide(log_ratios(race))) if len(race.turns_s) > 1 else None
