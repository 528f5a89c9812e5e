"""One check of one exercise: is it right, is it built as the exercise asks, is it fast enough on this machine?

The stages come in the order of what they cost, and the first that fails ends the check: what is wrong is not timed, and
a loop over samples need not be raced to be told. The learner's code runs in worker processes only.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlpprof import __version__
from mlpprof.compare import Decision, Outcome, Procedure, decide
from mlpprof.compare.entrants import Environment, Racer, VariantRacer
from mlpprof.compare.verdict import is_spent, log_ratios, part_of
from mlpprof.errors import VariantError, WorkerDied
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker
from mlpprof.profile.profile import Settings, profile
from mlpprof.profile.request import Request
from mlpprof.report.numbers import digits, format_time, plain, printable
from mlpprof.report.roofline import run_bound_s
from mlpprof.results import Change, Race
from mlpprof.workloads import Workload
from mlpprof.workshop.check_worker import MODULE
from mlpprof.workshop.exercises import RUNGS, Exercise, Setting, solution_text
from mlpprof.workshop.folder import MY_MLP, place_of, require_folder
from mlpprof.workshop.result import LONGEST_TEXT, Ratio, Result, Speed

# The speed of a learner's MLP against the exercise's start, the rung that solves it, and the first version.
#
# All of them take turns in the same processes. What is wanted is a share of what the rung itself gains over the start
# in
# the same run (its square root for a share of 0.5), so that it fits every machine: a replicate's value is
#
# log(start / mine) - share * log(start / reference)        (+ log 1.05 where the share is 0)
#
# and the claim that it is 0 or more is decided as `mlpprof compare --at-least 1` decides, in fewer looks.


AS_FAST = 1.05
"""Where nothing is to be gained, this factor still counts as equally fast: a version that is unchanged must pass."""


@dataclass(frozen=True)
class Places:
    """Where the contestants stand in a race; those that are the same code may share a place."""

    reference: int
    start: int
    first: int
    mine: int


def measure_speed(
    racer: Racer,
    places: Places,
    share: float | None,
    procedure: Procedure,
    budget_s: float,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> Speed:
    """Add processes until the claim is decided, the looks are over, or the budget is spent.

    share: None where nothing is claimed; then the first look is enough.
    """
    begun = clock()
    done, spent = 0, False
    decision: Decision | None = None
    for look in procedure.looks:
        while done < look and not spent:
            if is_spent(budget_s, clock() - begun, done):
                spent = True
            else:
                racer.run(part_of(progress, done, look))
                done += 1
        decision = None if share is None else decide(_values(racer.race(), places, share), 1.0, procedure, final=spent)
        if spent or decision is None or decision.outcome is not Outcome.CONTINUE:
            break
    return _speed(racer.race(), places, share, decision)


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
    # the interval of two processes can reach further than a float
    return Ratio(found.estimate, max(found.low, 1e-9), min(found.high, 1e9) if math.isfinite(found.high) else 1e9)


def lost_time(waterfall: tuple[Change, ...]) -> str:
    """Where a step takes longer than the reference's: 'backward: 1.20 ms, the reference 410 µs; most in ...'."""
    phases = [change for change in waterfall if not change.label and change.new_s > change.old_s]
    if not phases:
        return ""
    worst = max(phases, key=lambda change: change.new_s - change.old_s)
    text = f"{worst.phase} takes {format_time(worst.new_s)}, that of the reference {format_time(worst.old_s)}"
    labels = [c for c in waterfall if c.label and c.phase == worst.phase and c.new_s > c.old_s]
    if not labels:
        return text
    label = max(labels, key=lambda change: change.new_s - change.old_s)
    layer = "" if label.layer is None else f" of layer {label.layer}"
    return f"{text}; most of it in '{plain(label.label)}'{layer}: {format_time(label.new_s)}, there " + (
        format_time(label.old_s) if label.old_s > 0 else "nothing"
    )


PLACE = re.compile(rf"{re.escape(MY_MLP)}:(\d+)")
REFERENCE_OF_ALL = 6
"""The exercise whose solution the first exercise measures: where the workshop leads to."""


@dataclass(frozen=True)
class Examined:
    """A learner's file after everything but the race.

    result: what is known so far; its outcome is "pass" where the race may begin. trained: network, data and batch.
    mixed: statements in which memory orders meet, as (line, what).
    """

    exercise: Exercise
    folder: Path
    setting: Setting
    trained: Workload
    result: Result
    mixed: tuple[tuple[int, str], ...] = ()


def examine(folder: Path, exercise: Exercise, learner: str, setting: Setting, progress: Progress) -> Examined:
    """Load the file, check the gradients, count a step; nothing is timed. Raises UsageError where there is no file."""
    file = require_folder(folder)
    trained = setting.trained(folder)
    source = file.read_bytes()
    begun = Result(
        exercise=exercise.number,
        learner=learner,
        place=place_of(folder),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mlpprof_version=__version__,
        workload=f"{setting.workload}, {trained.network.text}, batch {trained.batch}",
        outcome="pass",
        stage="load",
        source_sha256=hashlib.sha256(source).hexdigest(),
    )

    def examined(result: Result, mixed: tuple[tuple[int, str], ...] = ()) -> Examined:
        return Examined(exercise, folder, setting, trained, result, mixed)

    environment = worker_environment(os.environ, setting.environment.threads, setting.environment.native_blas)
    request = Request(str(file.resolve()), trained.network, trained.source).to_json()
    try:
        with Worker(MODULE, environment) as worker:
            answer = worker.call(
                "examine", progress, file=request["variant"], network=request["network"], facts=list(exercise.facts)
            )
    except (VariantError, WorkerDied) as problem:
        return examined(_failed(begun, "load", str(problem), source))
    networks = replace(begun, networks=answer["networks"])
    if answer["wrong"] is not None:
        return examined(_failed(replace(networks, networks=0), "correctness", answer["wrong"], source))
    notes = _notes(answer)
    broken = answer["broken"]
    held = exercise.facts if broken is None else exercise.facts[: exercise.facts.index(broken["fact"])]
    known = replace(networks, facts=held, notes=notes)
    if broken is not None:
        message = f"{broken['what']}. Wanted: {broken['fact']}; {broken['advice']}"
        return examined(_failed(known, "structure", message, source, broken["line"]))
    return examined(replace(known, stage="speed"), tuple((line, what) for line, what in answer["mixed"]))


def race(examined: Examined, guess: float | None, progress: Progress) -> Result:
    """Race what has been examined, and judge; raises whatever a worker raises."""
    exercise, setting, trained = examined.exercise, examined.setting, examined.trained
    share = None if exercise.number == 0 else exercise.share
    with _contestants(examined) as (files, places):
        requests = [Request(str(path), trained.network, trained.source) for path in files]
        racer = VariantRacer(requests, trained.batch, setting.environment, blocks=setting.blocks)
        speed = measure_speed(racer, places, share, setting.procedure, setting.budget_s, progress)
        if speed.outcome != "pass" and _is_below(speed):
            speed = replace(speed, lost=lost_time(racer.waterfall(progress)))
        machine = racer.described["machine"]
    if exercise.is_free and setting.roofline:
        speed = replace(speed, share_of_limit=_share_of_limit(examined, speed, progress))
    result = replace(
        examined.result, guess=guess, speed=speed, outcome=speed.outcome, cpu=printable(_cpu(machine))[:LONGEST_TEXT]
    )
    message, line = _advice(examined, speed)
    source = (examined.folder / MY_MLP).read_bytes()
    return replace(result, message=message, line=line, text=_line_text(source, line))


@contextmanager
def _contestants(examined: Examined) -> Iterator[tuple[list[Path], Places]]:
    """The files of a race, the reference first and the learner's last, and where each contestant stands."""
    number = examined.exercise.number
    solved, start = number or REFERENCE_OF_ALL, max(0, number - 1)
    mine = (examined.folder / MY_MLP).resolve()
    folder = Path(tempfile.mkdtemp(prefix="mlpprof-workshop-"))
    try:
        # a rung that stands for two of the three takes part once
        numbers: dict[str, int] = {}
        for n in (solved, start, 0):
            numbers.setdefault(RUNGS[n], n)
        for rung, n in numbers.items():
            (folder / f"{rung}.py").write_text(solution_text(n), encoding="utf-8")
        order = list(numbers)
        reference, beginning, first = (order.index(RUNGS[n]) for n in (solved, start, 0))
        places = Places(reference, beginning, first, mine=len(order))
        yield [*(folder / f"{rung}.py" for rung in order), mine], places
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _advice(examined: Examined, speed: Speed) -> tuple[str, int | None]:
    """What to say of the speed, and the line it is about."""
    if speed.outcome == "pass":
        return "", None
    if speed.outcome == "inconclusive" and speed.target is not None and not _is_below(speed):
        return (
            f"Measured {digits(speed.over_start.ratio)}x (required {digits(speed.target)}x), but the {speed.processes} "
            "measurements vary too much for a final result. Close other programs, plug the laptop in, and run the "
            "check again",
            None,
        )
    if speed.outcome == "inconclusive":
        parts = [f"right, and probably not fast enough yet, but too close to tell after {speed.processes} processes"]
    else:
        parts = ["right, and built as it should be, but not fast enough yet"]
    if speed.lost:
        parts.append(speed.lost)
    line = None
    if examined.mixed:
        line, what = examined.mixed[0]
        parts.append(
            f"here rows meet columns ({what}): C is row by row and F column by column in memory, and the pass hops "
            "from cache line to cache line; give both the same order"
        )
    return "; ".join(parts), line


def _is_below(speed: Speed) -> bool:
    """Whether what was measured, noise aside, is less than what was wanted."""
    return speed.target is not None and speed.over_start.ratio < speed.target


def _share_of_limit(examined: Examined, speed: Speed, progress: Progress) -> float | None:
    """The lower bound of a step on this machine over the time of the learner's, 0 to 1."""
    environment: Environment = examined.setting.environment
    trained = examined.trained
    settings = Settings([trained.batch], 20, environment.threads, environment.native_blas, check=False)
    request = Request(str((examined.folder / MY_MLP).resolve()), trained.network, trained.source)
    run = profile(request, examined.setting.workload, settings, "mlpprof workshop check", progress)
    bound_s = run_bound_s(run, run.results[0])
    return None if bound_s is None else bound_s / speed.step_s


def _failed(result: Result, stage: str, message: str, source: bytes, line: int | None = None) -> Result:
    """The result of a stage that ends the check; the line is taken from the message where it names one."""
    if line is None:
        named = PLACE.search(message)
        line = None if named is None else int(named.group(1))
    text = _line_text(source, line)
    shown = printable(message)[:LONGEST_TEXT]
    return replace(result, outcome="fail", stage=stage, message=shown, line=line if text else None, text=text)


def _line_text(source: bytes, line: int | None) -> str:
    """A line of the file as it may be shown; empty where there is none."""
    lines = source.decode("utf-8", "replace").splitlines()
    return printable(lines[line - 1].strip())[:LONGEST_TEXT] if line is not None and 0 < line <= len(lines) else ""


def _notes(answer: Mapping[str, Any]) -> tuple[str, ...]:
    uncounted = answer["uncounted"]
    if not uncounted:
        return ()
    return (f"not counted, so that the structure is only partly known: {printable(', '.join(uncounted))[:200]}",)


def _cpu(machine: Mapping[str, Any]) -> str:
    return str(machine.get("cpu_model_name") or "")
