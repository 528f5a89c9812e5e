"""The worker of `profile_program`: it runs the user's program, and answers with what its step does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from statistics import mean
from typing import Any

from mlpprof.instrument.other_profilers import LineObserver, StackObserver
from mlpprof.machine.facts import describe
from mlpprof.process import Progress, serve
from mlpprof.profile.step_table import step_table
from mlpprof.programs.in_worker import guarded, opened, recorded, time_of
from mlpprof.programs.notebook import parts_of, place_of
from mlpprof.programs.record.clocks import calm_step_s, times_as_long
from mlpprof.programs.record.graph import Graph, shown
from mlpprof.programs.record.trace import Times
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.watch_steps import Observer, WatchedSteps, own_sources, watch_steps
from mlpprof.results import LineProfile, LineTime
from mlpprof.results.json import Message, encode, plain


def _profile(report: Progress, program: dict[str, Any], few: int, plain_s: list[float]) -> Message:
    recording = recorded(report, opened(program), program["step"], few, plain_s)
    trace = recording.trace
    if trace is None:
        return {"ended": recording.count, "plain_s": recording.plain_s}
    report("counting", 0.95)
    graph = Graph(trace)
    table = step_table(graph)
    own = own_sources(trace.sources)
    sources = {
        place.source: text for path, source in own.items() for place, text in parts_of(path, source, graph.shown(path))
    }
    return {
        "result": encode(table.result),
        "expressions": encode(table.expressions),
        "phases_from": table.phases_from,
        "step": graph.step_name,
        "source": trace.sources[trace.step_file],
        "summary": _summary(next(iter(own.values()), "")),
        "sources": sources,
        "loading_s": trace.loading_s,
        "time": plain(time_of(recording, graph), keep_nan=True),
        "page_faults": mean(trace.times.faults) if trace.times.faults else None,
        "notes": [*trace.notes, *_busy_note(trace.times)],
        "machine": describe(),
    }


def _summary(source: str) -> str:
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _busy_note(times: Times) -> Iterator[str]:
    """A note that the median step is far above a step without interruptions, if it is; `advise` reports the latter."""
    if (longer := times_as_long(times)) is not None:
        yield (
            f"other programs used the CPU: steps took {longer:.1f} times as long as a step without interruptions, "
            f"which takes {1e3 * calm_step_s(times):.3g} ms"
        )


def _lines(report: Progress, program: dict[str, Any]) -> Message:
    observer = LineObserver()
    seen, folder = _watched(report, program, observer, "line view")
    lengths = {path: len(source.splitlines()) for path, source in seen.sources.items()}
    lines = [
        LineTime(place.line, line.hits, line.time_s, place.source)
        for path, line in observer.lines
        if line.line <= lengths.get(path, 0)  # the hooks of the step are behind the last line
        for place in [place_of(path, line.line, shown(path, folder))]
    ]
    return encode(LineProfile(0, seen.steps, seen.wall_s, tuple(lines)))


def _stacks(report: Progress, program: dict[str, Any]) -> Message:
    observer = StackObserver()
    seen, _ = _watched(report, program, observer, "call view")
    return {"batch": 0, "steps": seen.steps, "session_json": observer.session_json}


def _watched(report: Progress, program: dict[str, Any], observer: Observer, what: str) -> tuple[WatchedSteps, str]:
    report(f"running the program for the {what}", 0.0)
    runnable, writes = opened(program)
    place = StepPlace.parse(program["step"])
    return guarded(writes, lambda: watch_steps(runnable, place, observer, writes)), runnable.folder


def main() -> None:
    """Serve until the parent is done."""
    serve({"profile": _profile, "lines": _lines, "stacks": _stacks})
