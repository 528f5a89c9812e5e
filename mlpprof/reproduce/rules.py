"""Ratios from interleaved races, and the rules by which a claim counts as holding.

The rules are few and fixed before anything is measured, so that no result can be argued into agreement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpprof.report.format import digits
from mlpprof.results import Race

ABOUT = 1.5
"""A ratio that is claimed as "about R" holds from R / 1.5 to R * 1.5."""
ELSEWHERE = 5.0
"""A time in seconds from an unknown machine holds within this factor: the span of a decade of desktop computers."""

RULE_AT_LEAST = "every process (or block, if there is one process) measures at least as much"
RULE_ABOUT = f"measured within a factor of {ABOUT:g}"
RULE_ELSEWHERE = f"a time on an unknown machine: within a factor of {ELSEWHERE:g}"


@dataclass(frozen=True)
class Ratio:
    """Old time over new: the median of the replicates, and the lowest and highest of them."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The ratio with its spread: '1.23 x (1.20 to 1.25)'."""
        return f"{digits(self.value)} x ({digits(self.low)} to {digits(self.high)})"

    @property
    def saved(self) -> Ratio:
        """The share of the old time that is saved: 1 - new / old."""
        return Ratio(1 - 1 / self.value, 1 - 1 / self.low, 1 - 1 / self.high)

    def times(self, factor: float) -> Ratio:
        """The ratio scaled, for an old time that was measured in part."""
        return Ratio(self.value * factor, self.low * factor, self.high * factor)


def ratio(race: Race, old: int, new: int) -> Ratio:
    """Old over new from the blocks that both took part in.

    A process is one replicate, the median of its blocks; of a single process the blocks are the replicates.
    """
    by_process = []
    for turns in race.turns_s:
        pair = turns[:, [old, new]]
        pair = pair[~np.isnan(pair).any(axis=(1, 2))]
        by_process.append(np.log(pair[:, 0] / pair[:, 1]).mean(axis=1))
    logs = by_process[0] if len(by_process) == 1 else np.array([np.median(blocks) for blocks in by_process])
    return Ratio(float(np.exp(np.median(logs))), float(np.exp(logs.min())), float(np.exp(logs.max())))


def at_least(measured: Ratio, claimed: float) -> bool | None:
    """Whether all replicates reach the claim; None where some do and some do not."""
    if measured.low >= claimed:
        return True
    return False if measured.high < claimed else None


def about(measured: float, claimed: float, factor: float = ABOUT) -> bool:
    """Whether the two lie within a factor of each other."""
    return claimed / factor <= measured <= claimed * factor
