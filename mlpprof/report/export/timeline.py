"""One median step as nested slices on a line of whole nanoseconds, which traces are written from.

A step holds its phases, a phase its labelled statements, in the order in which they run (`report.anatomy`). Statements
of one label and layer are one slice. What has no label is the end of its phase, and what is in no phase the end of the
step; where the phases of their own pass add up to more than the step, which is noise, the step is as long as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlpprof.report.anatomy import Part, PhasePart, anatomy
from mlpprof.results import BatchResult, Operation, Run

STEP = "step"


@dataclass(frozen=True)
class Slice:
    """A stretch of time; depth 0 is the step, 1 a phase, 2 a labelled statement.

    share: of the step. layer, calls: of a statement. operations: what it computes and moves in one step.
    """

    name: str
    depth: int
    begin_ns: int
    end_ns: int
    share: float
    phase: str = ""
    layer: int | None = None
    label: str = ""
    calls: int | None = None
    operations: tuple[Operation, ...] = ()


def timeline(result: BatchResult) -> tuple[Slice, ...]:
    """The step, then each phase followed by its statements: parents before children, begins in order."""
    phases = anatomy(result)
    step_s = max(result.step_s.median, sum(phase.time_s for phase in phases))
    slices = [Slice(STEP, 0, 0, nanoseconds(step_s), 1.0)]
    begin_s = 0.0
    for phase in phases:
        slices += _phase_slices(result, phase, begin_s)
        begin_s += phase.time_s
    return tuple(slices)


def _phase_slices(result: BatchResult, phase: PhasePart, begin_s: float) -> Iterator[Slice]:
    end_s = begin_s + phase.time_s
    done = tuple(o for o in result.operations if o.phase == phase.phase)
    yield Slice(
        phase.phase, 1, nanoseconds(begin_s), nanoseconds(end_s), phase.share, phase=phase.phase, operations=done
    )
    for part in phase.parts:
        if part.label:
            # a sum of parts may pass its phase by the last bit of a float, and half a nanosecond with it
            begin_ns, end_ns = (nanoseconds(min(at, end_s)) for at in (begin_s, begin_s + part.time_s))
            yield _statement(part, begin_ns, end_ns, operations_of(result, part.phase, part.layer, part.label))
        begin_s += part.time_s


def _statement(part: Part, begin_ns: int, end_ns: int, operations: tuple[Operation, ...]) -> Slice:
    return Slice(part.text, 2, begin_ns, end_ns, part.share, part.phase, part.layer, part.label, part.calls, operations)


def openings(slices: Sequence[Slice]) -> Iterator[tuple[Slice, bool]]:
    """Each slice twice, in order of time: where it opens (True) and where it closes, inner ones before outer ones."""
    opened: list[Slice] = []
    for one in slices:
        while len(opened) > one.depth:
            yield opened.pop(), False
        yield one, True
        opened.append(one)
    while opened:
        yield opened.pop(), False


def operations_of(result: BatchResult, phase: str, layer: int | None, label: str) -> tuple[Operation, ...]:
    """What the statements under a label compute and move in one step."""
    return tuple(o for o in result.operations if (o.phase, o.layer, o.label) == (phase, layer, label))


def nanoseconds(seconds: float) -> int:
    """The nearest whole number."""
    return round(1e9 * seconds)


def track_names(runs: tuple[Run, ...]) -> tuple[str, ...]:
    """A name a run: its variant's, with a number where several runs are of one variant."""
    names = [run.variant.name for run in runs]
    return tuple(
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name for i, name in enumerate(names)
    )
