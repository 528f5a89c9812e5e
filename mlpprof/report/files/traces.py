"""One median step as a trace, for two viewers: speedscope, and Perfetto with the trace events of Chrome.

`timeline` divides the step into nested slices of whole nanoseconds. A step contains its phases, and a phase contains
its labelled statements, in the order in which they run (`report.anatomy`). Statements with the same label and layer are
one slice. Time without a label is at the end of its phase, and time outside of all phases is at the end of the step.
Noise may make the phases add up to more than the step; then the slice of the step is as long as they are.

In Chrome's trace events a run is a process and a batch size is a thread. The step, its phases and their statements are
pairs of events that begin and end ("ph": "B", "E"), with layer, shapes and precision as arguments. All tracks begin at
0, so that steps can be compared by eye. Times are microseconds with three digits after the point. Complete events ("X")
would not do: their end is the sum of two rounded numbers, which may lie after the beginning of the next slice, and
viewers drop slices that overlap.

In speedscope's format a run at one batch size is an evented profile, in nanoseconds. Events are in order of time, and
an event closes the frame that was opened last. Source: github.com/jlfwong/speedscope, src/lib/file-format-spec.ts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlpprof import __version__
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.report.anatomy import Part, PhasePart, anatomy
from mlpprof.report.sentences import batch_text
from mlpprof.results import BatchResult, Operation, Run

STEP = "step"


@dataclass(frozen=True)
class Slice:
    """A stretch of time. depth: 0 for the step, 1 for a phase, 2 for a labelled statement.

    share: of the step. layer, calls: only for a statement. operations: what it computes and moves in one step.
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
    """The step, then each phase followed by its statements, in order of their beginning."""
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
            # the sum of the parts may be larger than the phase by the last bit of a float
            begin_ns, end_ns = (nanoseconds(min(at, end_s)) for at in (begin_s, begin_s + part.time_s))
            yield _statement(part, begin_ns, end_ns, operations_of(result, part.phase, part.layer, part.label))
        begin_s += part.time_s


def _statement(part: Part, begin_ns: int, end_ns: int, operations: tuple[Operation, ...]) -> Slice:
    return Slice(part.text, 2, begin_ns, end_ns, part.share, part.phase, part.layer, part.label, part.calls, operations)


def openings(slices: Sequence[Slice]) -> Iterator[tuple[Slice, bool]]:
    """Each slice twice, in order of time: when it opens (True) and when it closes; inner slices close first."""
    opened: list[Slice] = []
    for one in slices:
        while len(opened) > one.depth:
            yield opened.pop(), False
        yield one, True
        opened.append(one)
    while opened:
        yield opened.pop(), False


def operations_of(result: BatchResult, phase: str, layer: int | None, label: str) -> tuple[Operation, ...]:
    """The operations of the statements under a label in one step."""
    return tuple(o for o in result.operations if (o.phase, o.layer, o.label) == (phase, layer, label))


def nanoseconds(seconds: float) -> int:
    """The nearest whole number of nanoseconds."""
    return round(1e9 * seconds)


def track_names(runs: tuple[Run, ...]) -> tuple[str, ...]:
    """A name for each run: that of its variant, with a number if several runs have the same variant."""
    names = [run.variant.name for run in runs]
    return tuple(
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name for i, name in enumerate(names)
    )


def source_file(run: Run) -> str:
    """The file that a run's lines belong to: the variant's, or the file of a program that contains the step."""
    return f"{run.variant.name}.py" if run.program is None else run.program.step.partition(":")[0]


Event = dict[str, Any]

NOTE = (
    "Each track shows one median step without instruments, divided by the shares that were measured with clocks on "
    "phases and on labelled statements. It is not the recording of a single step."
)


def chrome_trace_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Chrome's trace events of all runs, in the object form of the format."""
    events: list[Event] = []
    for pid, (name, run) in enumerate(zip(track_names(tuple(runs)), runs, strict=True), start=1):
        known = [run.workload, None if run.network is None else run.network.text, run.dtype]
        title = f"{name} ({', '.join(filter(None, known))})"
        events += [_meta("process_name", pid, 0, name=title), _meta("process_sort_index", pid, 0, sort_index=pid)]
        for tid, result in enumerate(run.results, start=1):
            events += [
                _meta("thread_name", pid, tid, name=batch_text(result)),
                _meta("thread_sort_index", pid, tid, sort_index=tid),
                *(_event(one, opens, result, pid, tid) for one, opens in openings(timeline(result))),
            ]
    return {
        "displayTimeUnit": "ns",
        "otherData": {
            "note": NOTE,
            "runs": "; ".join(f"{run.command} (mlpprof {run.mlpprof_version}, {run.created})" for run in runs),
        },
        "traceEvents": events,
    }


def _meta(kind: str, pid: int, tid: int, **arguments: str | int) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": arguments}


def _event(one: Slice, opens: bool, result: BatchResult, pid: int, tid: int) -> Event:
    event: Event = {
        "ph": "B" if opens else "E",
        "name": one.name,
        "cat": ("step", "phase", "label")[one.depth],
        "pid": pid,
        "tid": tid,
        "ts": (one.begin_ns if opens else one.end_ns) / 1000,
    }
    return {**event, "args": dict(_arguments(one, result))} if opens else event


def _arguments(one: Slice, result: BatchResult) -> Iterator[tuple[str, Any]]:
    if one.depth == 0:
        if result.batch:
            yield "batch", result.batch
    else:
        yield "share of step", round(one.share, 4)
    if one.layer is not None:
        yield "layer", one.layer
    if one.calls is not None:
        yield "clocked calls", one.calls
    if not one.operations:
        return
    on_arrays = [o for o in one.operations if o.shape] or one.operations
    yield "dtype", ", ".join(dict.fromkeys(o.dtype for o in on_arrays))
    if one.depth == 2:
        yield "shape", shape_text(max(one.operations, key=lambda o: (o.flop, o.bytes_moved)))
        yield "operations", [operation_text(o) for o in one.operations]
    yield "flop", sum(o.flop for o in one.operations)
    yield "bytes moved", sum(o.bytes_moved for o in one.operations)
    yield "bytes allocated", sum(o.bytes_allocated for o in one.operations)


def shape_text(operation: Operation) -> str:
    """'(70, 784) @ (784, 500)' of a product, else '(70, 500)'."""
    if operation.kind == PRODUCT and len(operation.shape) == 3:
        p, k, q = operation.shape
        return f"({p}, {k}) @ ({k}, {q})"
    return str(operation.shape)


def operation_text(operation: Operation) -> str:
    """'matmul float32 (70, 784) @ (784, 500), orders C·F, 2 times'."""
    orders = f", orders {operation.orders}" if operation.orders else ""
    times = f", {operation.times:,} times" if operation.times > 1 else ""
    return f"{operation.name} {operation.dtype} {shape_text(operation)}{orders}{times}"


SCHEMA_URL = "https://www.speedscope.app/file-format-schema.json"

Frame = tuple[str, str, int | None]
"""The name, file and line of a slice; equal ones are one frame."""


def speedscope_json(runs: Sequence[Run]) -> dict[str, Any]:
    """speedscope's file: one median step of every run at every batch size."""
    frames: dict[Frame, int] = {}
    profiles = [
        {
            "type": "evented",
            "name": f"{name}, {batch_text(result)}",
            "unit": "nanoseconds",
            "startValue": 0,
            "endValue": slices[0].end_ns,
            "events": _events(slices, source_file(run), frames),
        }
        for name, run in zip(track_names(tuple(runs)), runs, strict=True)
        for result in run.results
        for slices in [timeline(result)]
    ]
    return {
        "$schema": SCHEMA_URL,
        "exporter": f"mlpprof@{__version__}",
        "name": "one median step: " + ", ".join(dict.fromkeys(run.variant.name for run in runs)),
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in frames]},
        "profiles": profiles,
    }


def _events(slices: Sequence[Slice], file: str, frames: dict[Frame, int]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for one, opens in openings(slices):
        line = min((o.line for o in one.operations), default=None) if one.label else None
        number = frames.setdefault((one.name, file, line), len(frames))
        at = one.begin_ns if opens else one.end_ns
        events.append({"type": "O" if opens else "C", "frame": number, "at": at})
    return events


def _frame(frame: Frame) -> dict[str, Any]:
    name, file, line = frame
    return {"name": name, "file": file} if line is None else {"name": name, "file": file, "line": line}
