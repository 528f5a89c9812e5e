"""Variants against each other: races, verdicts, and where a difference lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlpprof.model import Network
from mlpprof.results.run import DataRecord, Json, Run


@dataclass(frozen=True)
class Verdict:
    """What paired replicates say about a speedup.

    ratio: old time over new, above 1 the new one is faster; low, high: its 95 % interval.
    outcome: "pass", "fail" or "inconclusive"; None where no speedup was claimed.
    at_least: the claim. processes: replicates it rests on; in_process: they are blocks of one process instead.
    reason: the outcome in words.
    """

    outcome: str | None
    ratio: float
    low: float
    high: float
    at_least: float | None
    processes: int
    reason: str
    in_process: bool = False


@dataclass(frozen=True)
class Change:
    """What one phase, or one label in it, cost before and after: seconds a step, and its share of the difference.

    The seconds come from instrumented passes and are scaled to the uninstrumented step. label "" is the phase itself.
    share: of old step minus new step, so all phases and the rest make 1; negative where it got slower while the
    step got faster.
    """

    phase: str
    layer: int | None
    label: str
    old_s: float
    new_s: float
    share: float


@dataclass(frozen=True)
class Race:
    """Variants timed against each other in interleaved blocks, one entry of turns_s a process.

    variants: names; dtypes: of each. turns_s[p]: (blocks, variants, 2), seconds a step, NaN where a slow variant sat
    out. slow: the variants that were timed in fewer blocks than the others. trained: those that were timed through
    `train`, which spans steps, a turn at a time.
    """

    variants: tuple[str, ...]
    dtypes: tuple[str, ...]
    batch: int
    turns_s: tuple[NDArray[np.float64], ...]
    trained: tuple[str, ...] = ()

    @property
    def slow(self) -> tuple[str, ...]:
        """Variants that sat out some blocks."""
        turns_s = self.turns_s[0]
        return tuple(name for i, name in enumerate(self.variants) if np.isnan(turns_s[:, i]).any())

    def step_s(self, i: int) -> float:
        """Median seconds a step of variant i, over all turns of all processes."""
        return float(np.nanmedian(np.concatenate([turns[:, i].ravel() for turns in self.turns_s])))


@dataclass(frozen=True)
class Comparison:
    """One variant against an older one at one batch size.

    waterfall: the phases, then the labels, of the difference; empty where it was not asked for.
    equivalent: both compute the same; None where the user said --no-check. engines: where each ran in a process of its
    own, and their losses were compared instead of their gradients: what each of the two runs on, and its compile time.
    """

    old: str
    new: str
    workload: str
    network: Network
    batch: int
    race: Race
    verdict: Verdict
    equivalent: bool | None
    waterfall: tuple[Change, ...]
    machine: Json
    command: str = ""
    engines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rung:
    """One variant of a ladder: against its parent and against the root of the race, both as paired ratios.

    over_parent: None for the root. step_s: median seconds a step, from the same race.
    """

    name: str
    summary: str
    parent: str | None
    step_s: float
    over_parent: Verdict | None
    over_root: Verdict | None


@dataclass(frozen=True)
class Ladder:
    """All rungs of a ladder in one interleaved race at one batch size.

    rungs: in the order of the ladder, the root first. runs: a profile of every rung, where they were asked for.
    skipped: variants that could not take part -> why. checked: first, that all compute the same.
    """

    created: str
    command: str
    workload: str
    network: Network
    data: DataRecord
    batch: int
    threads: int | None
    race: Race
    rungs: tuple[Rung, ...]
    machine: Json
    skipped: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    checked: bool = True


@dataclass(frozen=True)
class Speedup:
    """The outcome of one assertion about a speedup.

    subject: workload, network and batch, or "" for callables. waterfall: where the time went, for variants that
    failed. command: shows more. notes: what the reader has to know about how it was measured.
    """

    new: str
    old: str
    subject: str
    verdict: Verdict
    waterfall: tuple[Change, ...] = ()
    command: str = ""
    notes: tuple[str, ...] = ()
