"""In a worker: the program of a message, and its runs to find its step and to record it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import Any, TypeVar

from mlpprof.instrument.rewriting import Site
from mlpprof.process import Progress
from mlpprof.programs import file_view
from mlpprof.programs.find_step.watch_run import seek
from mlpprof.programs.load import Program, UserProgram
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.program_time import program_time
from mlpprof.programs.record.run import Recording, record
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.writes import Writes
from mlpprof.results.place import Place
from mlpprof.results.program_time import ProgramTime

Answer = TypeVar("Answer")

Opened = tuple[Program, Writes | None]
"""A program, and what prevents it from writing; None if it may write."""


def opened(message: dict[str, Any]) -> Opened:
    """The user's program of a message, kept from writing unless the user allows it."""
    request = ProgramRequest.from_json(message["program"])
    program = UserProgram(request)
    if request.allow_writes:
        return program, None
    writes = Writes(request.name, message["how_often"], program.is_own, file_view.current, file_view.reason)
    writes.prevent()
    return program, writes


def guarded(writes: Writes | None, run: Callable[[], Answer]) -> Answer:
    """The result of `run`. Raises UsageError if the program wanted to write too early."""
    return run() if writes is None else writes.guarded(run)


def sought(report: Progress, program: Opened) -> dict[str, Any]:
    """The step of a program, as JSON of `Sought`."""
    report("running the program to find its training step", 0.0)
    runnable, writes = program
    return asdict(guarded(writes, lambda: seek(runnable, writes)))


def recorded(report: Progress, program: Opened, step: str, few: int, plain_s: list[float]) -> Recording:
    """The recording of a program's step, and of what is around it; few and plain_s as for `record`."""
    report("running the program and recording its step", 0.0)
    runnable, writes = program
    place = StepPlace.parse(step)
    return guarded(writes, lambda: record(runnable, place, few, plain_s, writes, looks_around=True))


def time_of(recording: Recording, graph: Graph) -> ProgramTime | None:
    """Where the time of the recorded program goes."""
    if recording.timeline is None:
        return None

    def place_and_text(site: Site) -> tuple[Place, str]:
        return graph.place_of(site), graph.line_text(site.file, site.line)

    fed_s = median(graph.trace.times.fed_s or [0.0])  # the loop around the step shows that, too
    step_s = max(0.0, graph.step_s - fed_s)
    return program_time(recording.timeline, graph.trace.sites, step_s, place_and_text, recording.has_ended)
