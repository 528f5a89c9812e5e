"""Steps as Chrome trace events, which https://ui.perfetto.dev, chrome://tracing and speedscope open.

A process a run, a thread a batch size, on each one median step: begin and end ("ph": "B", "E") of the step, its phases
and their labelled statements, nested, with layer, shapes and precision as arguments. All tracks begin at 0, so that
steps can be compared by eye. Times are microseconds with the nanoseconds behind the point.

Readers drop a slice that overlaps another without being inside it. Complete events ("X") would come to that: their end
is the sum of two rounded numbers, which differs in its last bit from where the next one begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlpprof.instrument.semantics_table import PRODUCT
from mlpprof.report.export.timeline import Slice, openings, timeline, track_names
from mlpprof.results import BatchResult, Operation, Run

Event = dict[str, Any]

NOTE = (
    "One median step without instruments for each batch size, divided as the passes with clocks on phases and on "
    "labelled statements say; no single step of a recording."
)


def chrome_trace_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Trace events of all runs, in the object form of the format."""
    events: list[Event] = []
    for pid, (name, run) in enumerate(zip(track_names(tuple(runs)), runs, strict=True), start=1):
        title = f"{name} ({run.workload}, {run.network.text}, {run.dtype})"
        events += [_meta("process_name", pid, 0, name=title), _meta("process_sort_index", pid, 0, sort_index=pid)]
        for tid, result in enumerate(run.results, start=1):
            events += [
                _meta("thread_name", pid, tid, name=f"batch {result.batch:,}"),
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
