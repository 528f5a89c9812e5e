"""The profile of a step in a user's unchanged program: each array expression with its time, arithmetic and memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlpprof.results.run import Json


@dataclass(frozen=True)
class Expression:
    """One expression of the step, all its executions together; times are its own, without the expressions inside it.

    line, column: 1-based. text: the source of the expression, one line. times: executions per step. seconds: per step,
    one value for each step under clocks. flop, bytes_moved, bytes_allocated: per step. kind, name, dtype, shape,
    orders: as in `results.Operation`; if the executions differ, of the one with the most work.
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


@dataclass(frozen=True)
class StepProfile:
    """A step's expressions and phases.

    step: as in `Advice.step`. step_s: seconds of each undisturbed step. clocked_s: of each step under clocks,
    interleaved. phases: phase -> seconds in each step under clocks. phases_from: 'comments' if phases come from
    ``# phase:`` comments, 'calls' if from the calls that the step makes, else 'statements'.
    """

    step: str
    step_s: tuple[float, ...]
    clocked_s: tuple[float, ...]
    phases: dict[str, tuple[float, ...]]
    phases_from: str
    expressions: tuple[Expression, ...]
    notes: tuple[str, ...] = ()
    environment: Json = field(default_factory=dict)
