"""The profile of somebody's unmodified step: every array expression with its time, its arithmetic and its memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlpprof.results.run import Json


@dataclass(frozen=True)
class Expression:
    """One expression of the step, all its executions together; times are its own, without the expressions inside it.

    line, column: 1-based. text: the source of the expression, one line. times: executions a step. seconds: a step,
    one value for every step under clocks. flop, bytes_moved, bytes_allocated: a step. kind, name, dtype, shape, orders:
    as in `results.Operation`; of the execution with the most work where they differ.
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

    step: as in `Advice.step`. step_s: seconds of undisturbed steps, raw. clocked_s: of steps under clocks, interleaved.
    phases: phase -> seconds a step under clocks; phases come from ``# phase:`` comments (phases_from 'comments'), else
    from the calls that the step makes ('calls'), else from its statements ('statements').
    """

    step: str
    step_s: tuple[float, ...]
    clocked_s: tuple[float, ...]
    phases: dict[str, tuple[float, ...]]
    phases_from: str
    expressions: tuple[Expression, ...]
    notes: tuple[str, ...] = ()
    environment: Json = field(default_factory=dict)
