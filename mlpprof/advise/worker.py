"""The worker of `find`: it runs the program, records its step, and answers with what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from statistics import median
from typing import Any, TypeVar

from mlpprof.advise.findings import findings_of
from mlpprof.advise.step_table import step_table
from mlpprof.advise.variant_loop import VariantLoop
from mlpprof.errors import UsageError
from mlpprof.instrument.compiled import ADVICE, WORDS
from mlpprof.machine.facts import describe
from mlpprof.process import Progress, serve
from mlpprof.profile.request import Request
from mlpprof.programs import file_view
from mlpprof.programs.find_step.watch_run import seek
from mlpprof.programs.load import Program, UserProgram
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import BUDGET
from mlpprof.programs.record.run import Recording, record
from mlpprof.programs.record.schedule import OBSERVED_STEPS
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.writes import Writes

Answer = TypeVar("Answer")

MEASURING_S = 6.0
"""Measuring what the cures save starts no new operation after so many seconds."""


BUSY = 1.25
"""If steps usually took so many times as long as a calm step, a note reports it."""


def main() -> None:
    """Serve until the input closes."""
    serve({"seek": _seek, "advise": _advise, "profile": _profile})


def _program(message: dict[str, Any], report: Progress) -> tuple[Program, Writes | None]:
    """The program, and what prevents it from writing, unless the user allows it."""
    if "request" in message:
        return VariantLoop(Request.from_json(message["request"]), message["batch"], report), None
    request = ProgramRequest.from_json(message["program"])
    program = UserProgram(request)
    if request.allow_writes:
        return program, None
    writes = Writes(request.name, message["how_often"], program.is_own, file_view.current)
    writes.prevent()
    return program, writes


def _guarded(writes: Writes | None, run: Callable[[], Answer]) -> Answer:
    return run() if writes is None else writes.guarded(run)


def _seek(report: Progress, program: dict[str, Any]) -> dict[str, Any]:
    report("running the program to find its training step", 0.0)
    runnable, writes = _program(program, report)
    return asdict(_guarded(writes, lambda: seek(runnable, writes)))


MUCH_COMPILED = 0.5
"""If compiled functions take more than this share of a step, mlpprof has seen too little of it to report on it."""


def compiled_share(graph: Graph) -> float:
    """The share of the step that calls of functions compiled by numba take."""
    calls = [event for event in graph.last if type(event.function).__module__.partition(".")[0] == "numba"]
    return graph.seconds(calls) / graph.step_s if calls and graph.step_s else 0.0


def _record(report: Progress, program: dict[str, Any], few: int, plain_s: list[float]) -> Recording:
    report("running the program and recording its step", 0.0)
    runnable, writes = _program(program, report)
    place = StepPlace.parse(program["step"])
    return _guarded(writes, lambda: record(runnable, place, few, plain_s, writes))


def _advise(report: Progress, program: dict[str, Any], few: int, plain_s: list[float]) -> dict[str, Any]:
    recording = _record(report, program, few, plain_s)
    if recording.trace is None:
        return {"ended": recording.count, "plain_s": recording.plain_s}
    report("measuring what the cures are worth", 0.6)
    graph = Graph(recording.trace)
    recording.trace.notes.extend(busy_note(recording.trace.times.plain_s, graph.step_s))
    BUDGET.left_s = MEASURING_S
    findings = findings_of(graph)
    recording.trace.notes.extend(_hidden(graph))
    if not findings:
        _require_looked_into(graph, few)
    if BUDGET.left_out:
        recording.trace.notes.append(
            f"after {MEASURING_S:.0f} seconds of measuring, mlpprof left out {BUDGET.left_out} comparisons, so some "
            "findings may be missing"
        )
    files = {graph.shown(path): source for path, source in recording.trace.sources.items()}
    wanted = {one.file for one in findings}
    return {
        "step": graph.step_name,
        "step_s": graph.step_s,
        "steps": len(recording.trace.times.plain_s),
        "findings": [asdict(one) for one in findings],
        "notes": recording.trace.notes,
        "source": {file: source for file, source in files.items() if file in wanted},
        "environment": describe(),
    }


def _hidden(graph: Graph) -> Iterator[str]:
    if share := compiled_share(graph):
        yield f"{share:.0%} of the step is {WORDS}; {ADVICE}"


def _require_looked_into(graph: Graph, few: int) -> None:
    """Raise UsageError if mlpprof has seen too little of the step to report that there is nothing to fix."""
    if compiled_share(graph) > MUCH_COMPILED:
        raise UsageError(f"most of the step {graph.step_name} is {WORDS}; {ADVICE}")
    if 0 < few <= OBSERVED_STEPS:
        raise UsageError(
            f"only {few} {'step' if few == 1 else 'steps'} of {graph.step_name} ran, and mlpprof needs at least "
            f"{OBSERVED_STEPS + 1} to look for all flaws. Run more epochs"
        )


def busy_note(plain_s: list[float], step_s: float) -> Iterator[str]:
    """A note that the reported step time is far below the median of the measured ones, if it is."""
    usual_s = median(plain_s or [step_s])
    if usual_s > BUSY * step_s:
        yield (
            f"other programs used the CPU: steps took {usual_s / step_s:.1f} times as long as a step without "
            "interruptions, which is the time reported here"
        )


def _profile(report: Progress, program: dict[str, Any], few: int, plain_s: list[float]) -> dict[str, Any]:
    recording = _record(report, program, few, plain_s)
    if recording.trace is None:
        return {"ended": recording.count, "plain_s": recording.plain_s}
    return {**step_table(Graph(recording.trace)), "environment": describe()}
