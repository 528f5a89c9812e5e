"""The worker's side of `search`: run the program, record its step, and answer with what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from mlpprof.advise.findings import findings_of
from mlpprof.advise.graph import Graph
from mlpprof.advise.own_files import own_files
from mlpprof.advise.places import StepPlace
from mlpprof.advise.program import Script, VariantLoop
from mlpprof.advise.recording import Recording, record
from mlpprof.advise.replay import BUDGET
from mlpprof.advise.seeking import seek
from mlpprof.advise.step_table import step_table
from mlpprof.advise.writes import Writes
from mlpprof.catalog import find
from mlpprof.machine.description import describe
from mlpprof.measure.request import Request
from mlpprof.process import Progress, serve

Answer = TypeVar("Answer")

MEASURING_S = 6.0
"""What cures are worth is measured for no longer than this, and the operation that it ends with."""


BUSY = 1.25
"""Times a calm step, that steps must have taken for the reader to be told."""


def main() -> None:
    """Serve until the input closes."""
    serve({"seek": _seek, "advise": _advise, "profile": _profile})


def _program(message: dict[str, Any], report: Progress) -> tuple[Script | VariantLoop, str]:
    """The program, and the folder that its files are shown relative to."""
    if "script" in message:
        path = message["script"]
        return Script(path, tuple(message["arguments"])), str(Path(path).resolve().parent)
    request = Request.from_json(message["request"])
    return VariantLoop(request, message["batch"], report), str(find(request.variant).path.parent)


def _writes(program: dict[str, Any]) -> Writes | None:
    """What keeps a script from writing, unless the user lets it write."""
    if "script" not in program or program["allow_writes"]:
        return None
    writes = Writes(program["script"], program["how_often"], own_files(program["include"], program["exclude"]))
    writes.prevent()
    return writes


def _guarded(writes: Writes | None, run: Callable[[], Answer]) -> Answer:
    return run() if writes is None else writes.guarded(run)


def _seek(report: Progress, program: dict[str, Any]) -> dict[str, Any]:
    report("running the program to find its training step", 0.0)
    runnable, _ = _program(program, report)
    writes = _writes(program)
    return asdict(_guarded(writes, lambda: seek(runnable, program["include"], program["exclude"], writes)))


def _record(report: Progress, program: dict[str, Any], few: int, plain_s: list[float]) -> Recording:
    report("running the program and recording its step", 0.0)
    runnable, folder = _program(program, report)
    include, exclude, writes = program["include"], program["exclude"], _writes(program)
    place = StepPlace.parse(program["step"])
    return _guarded(writes, lambda: record(runnable, place, folder, include, exclude, few, plain_s, writes))


def _advise(report: Progress, program: dict[str, Any], few: int, plain_s: list[float]) -> dict[str, Any]:
    recording = _record(report, program, few, plain_s)
    if recording.trace is None:
        return {"ended": recording.count, "plain_s": recording.plain_s}
    report("measuring what the cures are worth", 0.6)
    graph = Graph(recording.trace)
    recording.trace.notes.extend(busy_note(recording.trace.times.plain_s, graph.step_s))
    BUDGET.left_s = MEASURING_S
    findings = findings_of(graph)
    if BUDGET.left_out:
        recording.trace.notes.append(
            f"after {MEASURING_S:.0f} seconds of measuring {BUDGET.left_out} comparisons were left out, of what comes "
            "late among the detectors"
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


def busy_note(plain_s: list[float], step_s: float) -> Iterator[str]:
    """That the step's time is not the median of the measured ones, if it is far from it."""
    usual_s = median(plain_s or [step_s])
    if usual_s > BUSY * step_s:
        yield (
            f"others kept the core busy: steps took {usual_s / step_s:.1f} times as long as one without interruptions, "
            "which is what is told here"
        )


def _profile(report: Progress, program: dict[str, Any], few: int, plain_s: list[float]) -> dict[str, Any]:
    recording = _record(report, program, few, plain_s)
    if recording.trace is None:
        return {"ended": recording.count, "plain_s": recording.plain_s}
    return {**step_table(Graph(recording.trace)), "environment": describe()}
