"""A user's program that was profiled, and the expressions of its step with their time, arithmetic and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mlpprof.results.place import Place
from mlpprof.results.program_time import ProgramTime
from mlpprof.results.shares import own_shares_of

ITERATOR = "(the loop's iterator)"
"""The phase in which the loop around the step gets its next item, as from a generator of batches."""


@dataclass(frozen=True)
class Expression:
    """One expression of the step in one phase, all its executions together, without the expressions inside it.

    line, column: 1-based. cell: of a notebook, as in `Place`. text: the source of the expression, one line. times:
    executions per step. seconds: per step, one value for each step under clocks, without what the clocks themselves
    took. Only its ratio to the step under clocks means something: the time of the expression is this share of the
    undisturbed step (`StepProfile.time_s`).
    flop, bytes_moved, bytes_allocated, bytes_copied: per step. kind, name, dtype, shape, orders: as in
    `results.Operation`; if the executions differ, of the one with the most work.
    """

    file: str
    line: int
    column: int
    text: str
    phase: str
    times: int
    seconds: tuple[float, ...]
    kind: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    orders: str
    flop: int
    bytes_moved: int
    bytes_allocated: int
    cell: int | None = None
    bytes_copied: int = 0

    @property
    def place(self) -> Place:
        return Place(self.file, self.line, self.cell)


@dataclass(frozen=True)
class StepProfile:
    """A step's expressions and phases.

    step: as in `Advice.step`. step_s: seconds of each undisturbed step, with what the loop around it took to get
    the item of the step. clocked_s: of each step under clocks, interleaved. phases: phase -> seconds in each step
    under clocks, as the seconds of an expression. phases_from: 'comments' if phases come from ``# phase:``
    comments, 'calls' if from the calls that the step makes, else 'statements'. A time is a share of the median
    undisturbed step, so the parts never add up to more than the step.
    """

    step: str
    step_s: tuple[float, ...]
    clocked_s: tuple[float, ...]
    phases: dict[str, tuple[float, ...]]
    phases_from: str
    expressions: tuple[Expression, ...]
    notes: tuple[str, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The share of each expression in the step, 0 to 1, in their order."""
        parts = {number: np.array(one.seconds) for number, one in enumerate(self.expressions)}
        return tuple(own_shares_of(parts, np.array(self.clocked_s)).values())

    @cached_property
    def phase_shares(self) -> dict[str, float]:
        """Phase -> its share of the step, 0 to 1: the sum of its expressions."""
        found = dict.fromkeys(self.phases, 0.0)
        for one, share in zip(self.expressions, self.shares, strict=True):
            found[one.phase] = found.get(one.phase, 0.0) + share
        return found

    @property
    def median_s(self) -> float:
        """Seconds of an undisturbed step; NaN if none was measured."""
        return float(np.median(self.step_s)) if self.step_s else math.nan

    def time_s(self, share: float) -> float:
        """The seconds of an undisturbed step that a part with this share takes."""
        return share * self.median_s


@dataclass(frozen=True)
class ProgramRecord:
    """What was run, if a user's own program was profiled and not a variant.

    step: as in `Advice.step`. is_found: mlpprof found the step, and the user did not name it.
    phases_from: as in `StepProfile`. arguments: those of the program. loading_s: seconds from the start of the program
    to its first step, which are its own. runs: how often the program was run. measuring_s: seconds of all of it.
    page_faults: of an undisturbed step, on average; None where the system does not count them. sources: the text of
    each file, or of each cell of a notebook, by `Place.source`. expressions: in the order of the labels of the result,
    one for each. time: where the time of the whole program goes; None if its steps run in another thread.
    """

    step: str
    phases_from: str
    expressions: tuple[Expression, ...]
    sources: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    is_found: bool = False
    loading_s: float = 0.0
    runs: int = 1
    measuring_s: float = 0.0
    page_faults: float | None = None
    notes: tuple[str, ...] = ()
    time: ProgramTime | None = None
