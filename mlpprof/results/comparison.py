"""Variants compared: races, verdicts, and where a difference lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mlpprof.model import Network
from mlpprof.results.place import Place
from mlpprof.results.run import DataRecord, Json, Run


@dataclass(frozen=True)
class Verdict:
    """A speedup with its interval, from paired replicates.

    ratio: old time divided by new time, so above 1 the new one is faster; low, high: its 95 % interval.
    outcome: "pass", "fail" or "inconclusive"; None where no speedup was claimed.
    at_least: the claim. processes: the number of replicates; in_process: they are blocks of one process instead.
    reason: the outcome in words. null: the log ratios of the A/A race, (replicates,), if one was measured before a
    FAIL. is_final: the budget ended the race, so that it was decided from the replicates that there were. resolution:
    as a share; a PASS certifies at_least / (1 + resolution).
    """

    outcome: str | None
    ratio: float
    low: float
    high: float
    at_least: float | None
    processes: int
    reason: str
    in_process: bool = False
    null: tuple[float, ...] = ()
    is_final: bool = False
    resolution: float = 0.1

    @property
    def is_faster(self) -> bool:
        return self.low > 1

    @property
    def is_slower(self) -> bool:
        return self.high < 1

    @property
    def has_effect(self) -> bool:
        """Whether 1 lies outside the interval."""
        return self.is_faster or self.is_slower


@dataclass(frozen=True)
class PhaseChange:
    """The time of one phase, or of one label in it, before and after, and its share of the difference.

    old_s, new_s: seconds per step, as shares of the uninstrumented steps. label "" is the phase itself.
    share: of old step minus new step, so that all phases and the rest add up to 1; negative where the phase got slower
    while the step got faster. low_s, high_s: the 95 % interval of the time lost, from several pairs of profiles in
    processes of their own; None if there was only one pair.
    """

    phase: str
    layer: int | None
    label: str
    old_s: float
    new_s: float
    share: float
    low_s: float | None = None
    high_s: float | None = None

    @property
    def lost_s(self) -> float:
        """How much longer it takes than before."""
        return self.new_s - self.old_s


@dataclass(frozen=True)
class Race:
    """Variants timed in interleaved blocks.

    variants: names; dtypes: one for each. turns_s[p]: the times in process p, (blocks, variants, 2), seconds per step,
    NaN where a variant did not take part in a block or process. trained: variants that were timed through `train`, a
    turn at a time.
    """

    variants: tuple[str, ...]
    dtypes: tuple[str, ...]
    batch: int
    turns_s: tuple[NDArray[np.float64], ...]
    trained: tuple[str, ...] = ()

    @property
    def slow(self) -> tuple[str, ...]:
        """Variants that left out some blocks."""
        turns_s = self.turns_s[0]
        return tuple(name for i, name in enumerate(self.variants) if np.isnan(turns_s[:, i]).any())

    def dtype(self, name: str) -> str:
        return self.dtypes[self.variants.index(name)]

    def step_s(self, i: int) -> float:
        """Median seconds per step of variant i, over all turns of all processes."""
        return float(np.nanmedian(np.concatenate([turns[:, i].ravel() for turns in self.turns_s])))

    def pair(self, new: int, old: int = 0) -> Race:
        """The race of two of the variants."""
        names = (self.variants[old], self.variants[new])
        return replace(
            self,
            variants=names,
            dtypes=(self.dtypes[old], self.dtypes[new]),
            turns_s=tuple(turns_s[:, [old, new]] for turns_s in self.turns_s),
            trained=tuple(name for name in self.trained if name in names),
        )

    def scatter(self, process: int) -> NDArray[np.float64]:
        """How much the turns of each variant scatter in a process, (variants,): the standard deviation of their log."""
        turns_s = self.turns_s[process]
        logs = np.log(turns_s.transpose(1, 0, 2).reshape(len(self.variants), -1))
        return np.asarray(np.nanstd(logs, axis=1), np.float64)


@dataclass(frozen=True)
class Training:
    """Whether two programs train the same, from the values of their parameters after some steps from the same seeds.

    is_same: None where it cannot be known. reason: one sentence. notes: what you have to know about it.
    parameter: the one that differs most; None if no parameter can be named. difference: after these steps, as a share
    of what training has changed in it; of its size, if steps is 0. allowed: what rounding explains of that. first_step:
    the first step after which any parameter differs, 0 if they start differently.
    """

    is_same: bool | None
    steps: int
    reason: str
    notes: tuple[str, ...] = ()
    parameter: str | None = None
    difference: float | None = None
    allowed: float | None = None
    first_step: int | None = None

    @property
    def relation(self) -> str:
        """What stands between the names of two programs that are not the same: 'NEW does not train the same as OLD'."""
        return "does not train the same as" if self.is_same is False else "may train differently from"


@dataclass(frozen=True)
class DifferentTraining:
    """Two programs that do not train the same, so that nothing was timed. steps: as in `ProgramPair`."""

    old: str
    new: str
    steps: tuple[str, str]
    training: Training
    command: str = ""


@dataclass(frozen=True)
class ExpressionChange:
    """The time of one expression of a program's step before and after, in seconds a step.

    file, line, cell, text: as in the newer program, or as in the older one if the newer does not have it. old_text:
    what it was, if that is another text. old_s, new_s: None where the program does not have it. low_s, high_s: as in
    `PhaseChange`.
    """

    file: str
    line: int
    text: str
    old_text: str
    old_s: float | None
    new_s: float | None
    cell: int | None = None
    low_s: float | None = None
    high_s: float | None = None

    @property
    def place(self) -> Place:
        return Place(self.file, self.line, self.cell)

    @property
    def lost_s(self) -> float:
        """How much longer it takes than before."""
        return (self.new_s or 0.0) - (self.old_s or 0.0)

    @property
    def is_changed(self) -> bool:
        """Whether the code is another; else the same code takes another time."""
        return self.old_text != "" or self.old_s is None or self.new_s is None


@dataclass(frozen=True)
class CountedChange:
    """A counted fact of the step that differs between old and new; it is the same in every run.

    where: the place of an expression, or the phase of a statement; "" for the whole step. text: of the expression or
    the statement. what: "dtype", "memory order", "bytes allocated", "bytes copied" or "floating-point operations".
    operand: the one whose memory order differs, if it is only one.
    """

    where: str
    text: str
    what: str
    old: str | int
    new: str | int
    operand: str = ""


EXPLAINING = 0.25
"""Changed expressions explain a difference if they lost at least this share of it together."""


@dataclass(frozen=True)
class ProgramPair:
    """What is known only of programs that are compared.

    steps: the training step of each, as `--step` takes it. between_s: seconds a step that the rest of the loop
    takes, between one step and the next, for each; what the loop needs to get its next item is a part of the step
    instead. training: None after --no-check. expressions: those whose time changed the most, the largest change
    first; empty if they were not measured. notes: what you have to know about the measurement.
    """

    steps: tuple[str, str]
    between_s: tuple[float, float]
    training: Training | None
    expressions: tuple[ExpressionChange, ...] = ()
    notes: tuple[str, ...] = ()

    def lost(self, difference_s: float) -> ExpressionChange | None:
        """The expression that lost the most time, if any did. difference_s: how much longer the whole step takes.

        The two profiles come from two processes, so the same code may take another time by chance. Changed code is
        therefore preferred if it explains a good part of the difference.
        """
        lost = sorted((one for one in self.expressions if one.lost_s > 0), key=lambda one: -one.lost_s)
        lost = [one for one in lost if one.low_s is not None and one.low_s > 0] or lost
        changed = [one for one in lost if one.is_changed]
        explains = sum(one.lost_s for one in changed) >= EXPLAINING * difference_s
        return next(iter([*changed, *lost] if explains else lost), None)


@dataclass(frozen=True)
class Comparison:
    """One subject compared with an older one; variants at one batch size.

    network: None for programs, whose workload is "" and whose batch is 0. waterfall: the phases of the difference, then
    its labels; empty if they were not measured. equivalent: whether both compute the same, or train the same; None
    after --no-check, and where it cannot be known. engines: only where each ran in its own process
    and their losses were compared instead of their gradients; the engine of each, and its compile time.
    programs: None for variants. counted: facts that differ, the most important one first.
    """

    old: str
    new: str
    workload: str
    network: Network | None
    batch: int
    race: Race
    verdict: Verdict
    equivalent: bool | None
    waterfall: tuple[PhaseChange, ...]
    machine: Json
    command: str = ""
    engines: tuple[str, ...] = ()
    programs: ProgramPair | None = None
    counted: tuple[CountedChange, ...] = ()

    @property
    def lost(self) -> ExpressionChange | None:
        """The expression of programs that lost the most time, if it was measured."""
        return None if self.programs is None else self.programs.lost(self.race.step_s(1) - self.race.step_s(0))

    @property
    def subject(self) -> str:
        """What was trained, in short."""
        if self.network is None:
            return "your programs"
        return f"{self.workload}, {self.network.text}, batch {self.batch:,}"


@dataclass(frozen=True)
class Rung:
    """One variant of a ladder, compared with its parent and with the root of the race.

    over_parent, over_root: paired ratios, None for the root. step_s: median seconds per step in the same race.
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

    rungs: in the order of the ladder. runs: a profile of every rung, if they were measured. skipped: variant -> why it
    could not take part. checked: whether all rungs were checked to compute the same.
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

    @property
    def root(self) -> Rung:
        """The rung that all others are compared with."""
        return next((rung for rung in self.rungs if rung.over_root is None), self.rungs[0])

    @property
    def fastest(self) -> Rung:
        return min(self.rungs, key=lambda rung: rung.step_s)


@dataclass(frozen=True)
class Speedup:
    """The outcome of one assertion about a speedup.

    subject: workload, network and batch, or "" for callables. waterfall: where the time went, for variants and programs
    that failed. command: the one that shows more. notes: what you have to know about how it was measured. lost: the
    expression of a program that lost the most time, if it failed. counted: as in `Comparison`, if it failed.
    """

    new: str
    old: str
    subject: str
    verdict: Verdict
    waterfall: tuple[PhaseChange, ...] = ()
    command: str = ""
    notes: tuple[str, ...] = ()
    lost: ExpressionChange | None = None
    counted: tuple[CountedChange, ...] = ()
