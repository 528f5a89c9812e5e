"""The worker of `find`: it runs the program, records its step, and answers with what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mlpprof.advise.expensive import uncovered
from mlpprof.advise.findings import candidates_of, finding_of
from mlpprof.advise.outside import FoundAround, findings_around, with_knowledge
from mlpprof.advise.single_sample import single_sample_note
from mlpprof.advise.variant_loop import VariantLoop
from mlpprof.errors import UsageError
from mlpprof.instrument.compiled import ADVICE, WORDS
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.machine.facts import describe
from mlpprof.process import Progress, serve
from mlpprof.profile.request import Request
from mlpprof.programs.in_worker import Opened, opened, recorded, time_of
from mlpprof.programs.notebook import parts_of
from mlpprof.programs.record.clocks import times_as_long
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import BUDGET
from mlpprof.programs.record.schedule import OBSERVED_STEPS
from mlpprof.programs.record.trace import Times
from mlpprof.results.program_time import ProgramTime

MEASURING_S, AROUND_S = 6.0, 2.0
"""Measuring what the cures save starts no new operation after so many seconds: of cures in the step, and around it."""


def main() -> None:
    """Serve until the input closes."""
    serve({"advise": advise})


def _program(message: dict[str, Any], report: Progress) -> Opened:
    """The program of a message: a variant in a training loop, or the user's own."""
    if "request" in message:
        return VariantLoop(Request.from_json(message["request"]), message["batch"], report), None
    return opened(message)


MUCH_COMPILED = 0.5
"""If compiled functions take more than this share of a step, mlpprof has seen too little of it to report on it."""


LEAST_OF_TRAINING = 0.02
"""A training step takes at least this share of the training; what takes less may be a part of it."""


def compiled_share(graph: Graph) -> float:
    """The share of the step that calls of functions compiled by numba take."""
    calls = [event for event in graph.last if type(event.function).__module__.partition(".")[0] == "numba"]
    return graph.seconds(calls) / graph.step_s if calls and graph.step_s else 0.0


def advise(report: Progress, program: dict[str, Any], few: int, plain_s: list[float]) -> dict[str, Any]:
    """The findings of a program, as a message; few and plain_s as for `record`."""
    recording = recorded(report, _program(program, report), program["step"], few, plain_s)
    if recording.trace is None:
        return {"ended": recording.count, "plain_s": recording.plain_s}
    report("measuring what the cures are worth", 0.6)
    graph = Graph(recording.trace)
    recording.trace.notes.extend(busy_note(recording.trace.times))
    BUDGET.left_s = MEASURING_S
    found = candidates_of(graph)
    findings = [finding_of(one, graph) for one in found.large]
    small = [finding_of(one, graph, is_small=True) for one in found.small]
    expensive = uncovered(graph, found.large)
    recording.trace.notes.extend(_hidden(graph))
    if all(one.category != "sample-loop" for one in findings):
        recording.trace.notes.extend(single_sample_note(graph))
    if not findings:
        _require_looked_into(graph, few)
    if BUDGET.left_out:
        recording.trace.notes.append(
            f"after {MEASURING_S:.0f} seconds of measuring, mlpprof left out {BUDGET.left_out} comparisons, so some "
            "findings may be missing"
        )
    program_time = time_of(recording, graph)
    around: list[FoundAround] = []
    if program_time is not None:
        program_time = with_knowledge(program_time, recording.around, graph)
        BUDGET.left_s = AROUND_S
        around = findings_around(program_time, recording.around, graph)
        findings += [finding for finding, _ in around]
    if not findings:
        require_whole_step(graph, program_time)
    files = {
        place.source: text
        for path, source in recording.trace.sources.items()
        for place, text in parts_of(path, source, graph.shown(path))
    }
    wanted = {place.source for one in (*findings, *small) for place in (one.place, *one.related)}
    return {
        "step": graph.step_name,
        "step_s": graph.step_s,
        "steps": len(recording.trace.times.plain_s),
        "findings": [asdict(one) for one in findings],
        "small": [asdict(one) for one in small],
        "expensive": [asdict(one) for one in expensive],
        "notes": recording.trace.notes,
        "source": {file: source for file, source in files.items() if file in wanted},
        "environment": describe(),
        "folder": recording.trace.folder,
        "cures": [
            *([asdict(cure) for cure in one.cures] for one in found.large),
            *([asdict(cure) for cure in cures] for _, cures in around),
        ],
        "texts": recording.trace.sources,
        "program": None if program_time is None else asdict(program_time),
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


def require_whole_step(graph: Graph, program_time: ProgramTime | None) -> None:
    """Raise UsageError if the step is likely to be only a part of the real one: then nothing found means nothing."""
    reason = ""
    if all(event.kind != PRODUCT for event in graph.last):
        reason = "multiplies no matrices"
    elif program_time is not None and program_time.steps_s < LEAST_OF_TRAINING * program_time.unit_s:
        share = program_time.steps_s / program_time.unit_s
        reason = f"takes {share:.1%} of the time of the training"
    if reason:
        raise UsageError(
            f"mlpprof found nothing to fix in {graph.step_name}, but this {reason}, so it is probably not the whole "
            "training step. Name the step with --step Class.method, or with --step LINE, the line number of its loop"
        )


def busy_note(times: Times) -> Iterator[str]:
    """A note that the reported step time is far below the median of the measured ones, if it is."""
    if (longer := times_as_long(times)) is not None:
        yield (
            f"other programs used the CPU: steps took {longer:.1f} times as long as a step without interruptions, "
            "which is the time reported here"
        )
