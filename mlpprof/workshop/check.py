"""A check of one exercise: is the code correct, is it built as required, and is it fast enough on this machine?

The cheapest stage comes first, and the first stage that fails ends the check. So code that is wrong, or that still has
a loop over samples, takes no part in a race. The learner's code runs in worker processes only.

In the race, the learner's file runs against the start of the exercise, its solution (the reference), and the very
first version, all in the same processes. The required speedup is a share of the solution's speedup in the same race
(its square root for a share of 0.5), so it fits every machine. The value of one process is

    log(start / mine) - share * log(start / reference)        (+ log 1.05 if the share is 0)

and whether its mean is 0 or more is decided as in `mlpprof compare --at-least 1`, with fewer looks.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlpprof import __version__
from mlpprof.allowance import Allowance, allowing
from mlpprof.compare.decide import Decision, Outcome, decide, log_ratios
from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import Procedure
from mlpprof.compare.live_race import LiveRace, ProcessRace, variant_race
from mlpprof.compare.verdict import looks_for, race_until_decided
from mlpprof.errors import CheckFailed, UsageError, VariantError, WorkerDied, WorkerKilled
from mlpprof.machine.roofline import run_bounds
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.profile.variant import Settings, profile
from mlpprof.report.figures.gallery import write_figure
from mlpprof.report.figures.roofline import has_roofline
from mlpprof.report.numbers import digits, format_time, plain, printable
from mlpprof.report.story import Story
from mlpprof.results import PhaseChange, Race
from mlpprof.workloads import Workload
from mlpprof.workshop.as_used import measure_as_used, run_s
from mlpprof.workshop.bottleneck import next_bottleneck
from mlpprof.workshop.check_program import LearnersProgram, examine_program, program_race, without_options
from mlpprof.workshop.check_variant import ask_worker
from mlpprof.workshop.conditions import Conditions
from mlpprof.workshop.exercises import MY_MLP, ROOFLINE, Course, Exercise
from mlpprof.workshop.folder import place_of, require_folder
from mlpprof.workshop.result import LONGEST_TEXT, Ratio, Result, Speed
from mlpprof.workshop.solutions import WrittenVersion, solved_in, written_versions

LIMITS_S = 10.0
"""In the free exercise, the race leaves this much time for the comparison with the limits of the machine."""

AS_FAST = 1.05
"""If no gain is required, a version that is slower by less than this factor passes, as an unchanged version has to."""

RACE_ALLOWANCE = Allowance(processor_s=40.0)
"""What one process of a race may use. It times about a hundred turns, most of them of versions that are known."""

NO_CLASS = (
    f"there is no class in {MY_MLP}, or the file is empty; expected a class with the method train_step. Undo your last "
    f"changes, or take {MY_MLP} from a new folder: mlpprof workshop new DIR"
)

OTHER_CLASS = (
    f"The class in {MY_MLP} needs all the methods that it had at the beginning, with the same names. Write the missing "
    "ones again, or copy them from a new folder: mlpprof workshop new DIR"
)

PLACE = re.compile(rf"(?:.* in the loop of )?{re.escape(MY_MLP)}:(\d+)")
"""The line that a message is about: the first one that it names, or a loop that never ends."""


@dataclass(frozen=True)
class Places:
    """The index of each version among the entrants of a race. Versions with the same code share an entrant."""

    reference: int
    start: int
    first: int
    mine: int

    @property
    def rarely(self) -> tuple[int, ...]:
        """The first version, unless the verdict depends on it: it would take most of the time of a race."""
        return () if self.first in (self.reference, self.start) else (self.first,)


def measure_speed(
    live: LiveRace,
    places: Places,
    share: float | None,
    procedure: Procedure,
    budget_s: float,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> Speed:
    """Add processes until the verdict is clear, all looks are made, or the time is over.

    share: the required share of the solution's speedup; None requires nothing, and the first look is enough.
    """

    def decisions_on(race: Race, final: bool) -> list[Decision]:
        return [] if share is None else [decide(_values(race, places, share), 1.0, procedure, final=final)]

    looks = procedure.looks if share is None else looks_for(1.0, procedure)
    decisions, _ = race_until_decided(live, progress, decisions_on, looks, budget_s, clock)
    return _speed(live.race(), places, share, decisions[0] if decisions else None)


def _values(race: Race, places: Places, share: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    gained = log_ratios(race, places.start, places.mine)
    if share == 0:
        return gained + math.log(AS_FAST)
    return gained - share * log_ratios(race, places.start, places.reference)


def _speed(race: Race, places: Places, share: float | None, decision: Decision | None) -> Speed:
    over_start = _ratio(race, places.start, places.mine)
    reference = _ratio(race, places.start, places.reference)
    outcome = "pass"
    if decision is not None:
        undecided = decision.outcome in (Outcome.CONTINUE, Outcome.INCONCLUSIVE, None)
        outcome = "inconclusive" if undecided else str(decision.outcome)
    return Speed(
        outcome=outcome,
        over_start=over_start,
        over_reference=_ratio(race, places.reference, places.mine),
        over_first=_ratio(race, places.first, places.mine),
        reference_over_start=reference,
        target=None if share is None else reference.ratio**share,
        step_s=race.step_s(places.mine),
        processes=len(race.turns_s),
    )


def _ratio(race: Race, old: int, new: int) -> Ratio:
    if old == new:
        return Ratio(1.0, 1.0, 1.0)
    found = decide(log_ratios(race, old, new))
    # the interval of two processes can be larger than any float
    return Ratio(found.estimate, max(found.low, 1e-9), min(found.high, 1e9) if math.isfinite(found.high) else 1e9)


def lost_time(waterfall: tuple[PhaseChange, ...]) -> str:
    """Return where a step takes longer than in the solution: 'backward takes 1.20 ms, but 410 µs in ...'."""
    phases = [change for change in waterfall if not change.label and change.new_s > change.old_s]
    if not phases:
        return ""
    worst = max(phases, key=lambda change: change.new_s - change.old_s)
    text = f"{worst.phase} takes {format_time(worst.new_s)}, but {format_time(worst.old_s)} in the solution"
    labels = [c for c in waterfall if c.label and c.phase == worst.phase and c.new_s > c.old_s]
    if not labels:
        return text
    label = max(labels, key=lambda change: change.new_s - change.old_s)
    layer = "" if label.layer is None else f" in layer {label.layer}"
    old = f"{format_time(label.old_s)} in the solution" if label.old_s > 0 else "not in the solution"
    return f"{text}; the largest part is '{plain(label.label)}'{layer} ({format_time(label.new_s)}, {old})"


@dataclass(frozen=True)
class Examined:
    """A learner's file after all stages but the race.

    result: what is known so far; if its outcome is "pass", the race may begin. trained: network, data and batch;
    None for a program, which brings its own. step: that of the program. mixed: the statements that mix memory orders,
    as (line, description). seconds: how long this took.
    """

    course: Course
    exercise: Exercise
    folder: Path
    conditions: Conditions
    trained: Workload | None
    result: Result
    step: str = ""
    mixed: tuple[tuple[int, str], ...] = ()
    seconds: float = 0.0


def examine(
    folder: Path, course: Course, exercise: Exercise, learner: str, conditions: Conditions, progress: Progress
) -> Examined:
    """Load the file, check its results and count a step, without a clock. Raises UsageError if there is no file."""
    file = require_folder(folder)
    trained = None if course.is_program else conditions.trained(folder, course.workload)
    begun_s, source = time.monotonic(), file.read_bytes()
    workload = "" if trained is None else f"{trained.name}, {trained.network.text}, batch {trained.batch}"
    begun = Result(
        exercise=exercise.number,
        learner=learner,
        place=place_of(folder),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mlpprof_version=__version__,
        workload=workload or f"the program of {course.name}",
        outcome="pass",
        stage="load",
        source_sha256=hashlib.sha256(source).hexdigest(),
        course=course.name,
    )

    def examined(result: Result, answer: Mapping[str, Any]) -> Examined:
        mixed = tuple((line, what) for line, what in answer.get("mixed", ()))
        seconds = time.monotonic() - begun_s
        return Examined(course, exercise, folder, conditions, trained, result, answer.get("step", ""), mixed, seconds)

    if trained is not None and b"class " not in source:
        return examined(_failed(begun, "load", NO_CLASS, source), {})
    try:
        with allowing(Allowance(processor_s=exercise.longest_s)):
            if trained is None:
                answer = _program_answer(file, course, exercise, conditions, progress)
            else:
                answer = ask_worker(
                    "examine",
                    file,
                    trained,
                    conditions.environment,
                    progress,
                    at_most=exercise.at_most,
                    is_solved=exercise.goal == "solve",
                )
    except WorkerKilled:
        raise
    except (VariantError, WorkerDied, LearnersProgram) as problem:
        message = str(problem)
        if type(problem) is VariantError and without_options(message) != message:
            message = f"{without_options(message)}. {OTHER_CLASS}"  # the rest is about other commands
        return examined(_failed(begun, "load", message, source), {})
    networks = replace(begun, networks=answer["networks"])
    if answer["wrong"] is not None:
        return examined(_failed(replace(networks, networks=0), "correctness", answer["wrong"], source), answer)
    notes = _notes(answer)
    broken = answer["broken"]
    held = exercise.facts if broken is None else exercise.facts[: exercise.facts.index(broken["fact"])]
    known = replace(networks, facts=held, notes=notes)
    if broken is not None:
        message = f"{broken['what']}. Required: {broken['fact']}. {broken['advice']}."
        return examined(_failed(known, "structure", message, source, broken["line"]), answer)
    return examined(replace(known, stage="speed"), answer)


def _program_answer(
    file: Path, course: Course, exercise: Exercise, conditions: Conditions, progress: Progress
) -> dict[str, Any]:
    with written_versions(course, (solved_in(course, exercise.number),)) as (solution,):
        return examine_program(file, solution, exercise, conditions.environment, progress)


def require_as_used(course: Course) -> None:
    """Raise UsageError if the exercises are about a program, which is not timed as it is used."""
    if course.is_program:
        raise UsageError(
            "--as-used is for exercises about a class MLP, and this exercise is about a whole program; leave it out"
        )


def race(examined: Examined, guess: float | None, progress: Progress, as_used: bool = False) -> Result:
    """Race an examined file, and return the result with its verdict.

    as_used: also time a fresh process. Code that fails only here has failed the exercise. Raises WorkerKilled if
    somebody else ended a worker.
    """
    ends_s = time.monotonic() + examined.conditions.whole_s - examined.seconds
    source = (examined.folder / MY_MLP).read_bytes()
    try:
        result = _raced(replace(examined, result=replace(examined.result, guess=guess)), ends_s, progress, as_used)
    except WorkerKilled:
        raise
    except (VariantError, WorkerDied, CheckFailed) as problem:
        return _failed(replace(examined.result, guess=guess), "speed", str(problem), source)
    if result.outcome == "inconclusive":
        return result
    left_s = ends_s - time.monotonic()
    found = next_bottleneck(examined.folder / MY_MLP, examined.course, examined.trained, left_s, progress)
    return replace(result, bottleneck=printable(found)[:LONGEST_TEXT])


def _raced(examined: Examined, ends_s: float, progress: Progress, as_used: bool) -> Result:
    exercise, conditions, trained = examined.exercise, examined.conditions, examined.trained
    share = None if exercise.goal == "measure" else exercise.share
    used = None
    with _entrants(examined) as (files, places), allowing(RACE_ALLOWANCE):
        live: ProcessRace
        if trained is None:
            live = program_race(files, examined.step, conditions)
        else:
            requests = [Request(str(one.path), trained.network, trained.source) for one in files]
            live = variant_race(
                requests, trained.batch, conditions.environment, blocks=conditions.blocks, rarely=places.rarely
            )
        begun_s = time.monotonic()
        budget_s = ends_s - begun_s - (LIMITS_S if exercise.is_free else 0.0)
        speed = measure_speed(live, places, share, conditions.procedure, budget_s, progress)
        now_s = time.monotonic()
        has_time = (now_s - begun_s) / speed.processes < ends_s - now_s  # the profiles take about as long as a process
        if speed.outcome != "pass" and _is_below(speed) and trained is not None and has_time:
            speed = replace(speed, lost=lost_time(live.waterfall(progress)))
        machine = live.described["machine"]
        if as_used and trained is not None:
            used = measure_as_used(
                files[places.start].path,
                files[places.mine].path,
                lambda file: run_s(file, trained, conditions.environment, progress),
            )
    notes = examined.result.notes
    if exercise.is_free and conditions.roofline and trained is not None:
        share_of_limit, drawn = _share_of_limit(examined, trained, speed, progress)
        speed, notes = replace(speed, share_of_limit=share_of_limit), notes + drawn
    result = replace(
        examined.result,
        speed=speed,
        notes=notes,
        as_used=used,
        outcome=speed.outcome,
        cpu=printable(_cpu(machine))[:LONGEST_TEXT],
    )
    message, line = advice_on_speed(examined, speed)
    source = (examined.folder / MY_MLP).read_bytes()
    return replace(result, message=message, line=line, text=_line_text(source, line))


@contextmanager
def _entrants(examined: Examined) -> Iterator[tuple[list[WrittenVersion], Places]]:
    """Write the files of a race, the solution first and the learner's last; yield them and their places."""
    course, exercise = examined.course, examined.exercise
    goal = course.last.number if exercise.goal == "measure" else exercise.number
    # a version that is two of the three races once
    solved, start = solved_in(course, goal), solved_in(course, exercise.number - 1)
    order = list(dict.fromkeys((solved, start, -1)))
    with written_versions(course, order) as written:
        reference, beginning, first = (order.index(n) for n in (solved, start, -1))
        mine = WrittenVersion((examined.folder / MY_MLP).resolve(), examined.step)
        yield [*written, mine], Places(reference, beginning, first, mine=len(order))


def advice_on_speed(examined: Examined, speed: Speed) -> tuple[str, int | None]:
    """Return the message about the speed, and the line that it is about."""
    if speed.outcome == "pass":
        return "", None
    if speed.outcome == "inconclusive" and speed.target is not None and not _is_below(speed):
        return (
            f"Measured {digits(speed.over_start.ratio)}x (required {digits(speed.target)}x), but the {speed.processes} "
            "measurements vary too much for a final result. Close other programs, plug the laptop in, and run the "
            "check again.",
            None,
        )
    if speed.outcome == "inconclusive":
        parts = [
            "The code is correct and built as required, and is probably not fast enough yet. The "
            f"{speed.processes} measurements vary too much for a final result"
        ]
    else:
        parts = ["The code is correct and built as required, but it is not fast enough yet"]
    if speed.lost:
        parts.append(speed.lost)
    line = None
    if examined.mixed:
        line, what = examined.mixed[0]
        parts.append(
            f"This line combines a row-major (C) with a column-major (F) array ({what}), so NumPy jumps through "
            "memory. Give both the same order"
        )
    return "".join(f"{part}. " for part in parts).rstrip(), line


def _is_below(speed: Speed) -> bool:
    """Return whether the measured speedup, apart from its noise, is less than required."""
    return speed.target is not None and speed.over_start.ratio < speed.target


def _share_of_limit(
    examined: Examined, trained: Workload, speed: Speed, progress: Progress
) -> tuple[float | None, tuple[str, ...]]:
    """Return the lower bound of a step on this machine divided by the time of the learner's step, and notes.

    If the operations of the step can be counted, draw them below the limits of the machine.
    """
    environment: Environment = examined.conditions.environment
    settings = Settings([trained.batch], 20, environment.threads, environment.native_blas, check=False)
    request = Request(str((examined.folder / MY_MLP).resolve()), trained.network, trained.source)
    run = profile(request, trained.name, settings, "mlpprof workshop check", progress)
    bounds = run_bounds(run, run.results[0])
    notes: tuple[str, ...] = ()
    if has_roofline(run, run.results[0]):
        write_figure(examined.folder / ROOFLINE, Story.of([run]), "roofline")
        notes = (f"{ROOFLINE} shows your statements below the limits of this machine",)
    return None if bounds is None else bounds.blas_s / speed.step_s, notes


def _failed(result: Result, stage: str, message: str, source: bytes, line: int | None = None) -> Result:
    """Return the result of a stage that ends the check. If the message names a line, the result contains it."""
    if line is None:
        named = PLACE.search(message)
        line = None if named is None else int(named.group(1))
    text = _line_text(source, line)
    shown = printable(" ".join(message.split()))[:LONGEST_TEXT]
    return replace(result, outcome="fail", stage=stage, message=shown, line=line if text else None, text=text)


def _line_text(source: bytes, line: int | None) -> str:
    """Return a line of the file, safe to print; empty if there is no such line."""
    lines = source.decode("utf-8", "replace").splitlines()
    return printable(lines[line - 1].strip())[:LONGEST_TEXT] if line is not None and 0 < line <= len(lines) else ""


def _notes(answer: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    if answer["prints"] is not None:
        notes.append(
            f"{MY_MLP}:{answer['prints']} prints in every training step. Printing takes time, which counts as time of "
            "your step, so remove it"
        )
    if "trained" in answer:
        notes.append(f"the program trains as the solution does: {answer['trained']}")
    if answer["uncounted"]:
        names = printable(", ".join(answer["uncounted"]))[:200]
        notes.append(f"mlpprof cannot count these operations, so the structure is only partly known: {names}")
    return tuple(notes)


def _cpu(machine: Mapping[str, Any]) -> str:
    return str(machine.get("cpu_model_name") or "")
