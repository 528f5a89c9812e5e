"""`python -m reports.workshop.raced`: does a whole check give the same outcome on different machine settings?

Some of the labelled submissions (`reports.workshop.submissions`) are checked with their race, as `mlpprof workshop
check` does, on each of three settings: on one core, on two cores beside a busy program, and with the kernels of another
CPU in OpenBLAS. Three of five are right, one has a mistake, and one is right but trains each batch three times before
it updates, so it is too slow. A right one has to end in PASS, and the others in NOT THERE YET.

A submission takes up to three minutes, because each of its three checks may take one. With --minutes the study can be
made in pieces: the next run skips the submissions that raced.json has, if the code of the check is still the same.
Otherwise it begins again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

import mlpprof
from mlpprof.cli.terminal import progress_bar
from mlpprof.process import Progress, part_of
from mlpprof.results.json import decode
from mlpprof.workshop.check import examine, race
from mlpprof.workshop.conditions import CLASSROOM
from mlpprof.workshop.exercises import MY_MLP, built_in
from mlpprof.workshop.result import Result
from mlpprof.workshop.solutions import solution_text
from reports.program import Program, markdown_table, minutes_option, out_option, over_after, seed_option
from reports.studies.study import Study
from reports.workshop.planted import Plant, swap
from reports.workshop.submissions import FOLDER, Submission, planted, submissions

SLOW = Plant(
    "slow",
    "three passes for each update",
    ("not fast enough",),
    (
        swap(
            "        self.backward()\n        self.update()\n",
            "        self.backward()\n"
            + 2 * "        self.forward()\n        self.backward()\n"
            + "        self.update()\n",
        ),
    ),
    first=1,
    last=6,
)
"""It is right and built as required, but its step takes about three times as long, and no exercise allows that."""

PATTERN = ("right", "right", "right", "slow", "wrong")
"""The submissions come in this order, so that the first ones are a mixture too."""

OTHER_KERNELS = "Haswell"
"""The value of OPENBLAS_CORETYPE in the setting with the kernels of another CPU: those of 2013, for AVX2."""


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Let this process and those that it starts use so many of its cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def beside_a_busy_program() -> Iterator[None]:
    """Use two cores, one of which another program keeps busy."""
    with on_cores(2), subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            yield
        finally:
            busy.kill()


@contextmanager
def with_other_kernels() -> Iterator[None]:
    """Use two cores, and let OpenBLAS take the kernels of another CPU."""
    before = os.environ.get("OPENBLAS_CORETYPE")
    os.environ["OPENBLAS_CORETYPE"] = OTHER_KERNELS
    try:
        with on_cores(2):
            yield
    finally:
        if before is None:
            del os.environ["OPENBLAS_CORETYPE"]
        else:
            os.environ["OPENBLAS_CORETYPE"] = before


SETTINGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "1 core": lambda: on_cores(1),
    "beside a busy program": beside_a_busy_program,
    f"OPENBLAS_CORETYPE={OTHER_KERNELS}": with_other_kernels,
}


@dataclass(frozen=True)
class Ended:
    """How one check ended, on one setting. ratio, target: of the race; 0 if there was none."""

    outcome: str
    stage: str
    ratio: float
    target: float
    processes: int
    seconds: float


@dataclass(frozen=True)
class Raced:
    """One submission with its outcomes by setting. expected: the outcome that its label demands. source: its hash."""

    exercise: int
    kind: str
    plant: str
    style: str
    expected: str
    source: str
    ended: dict[str, Ended]

    @property
    def outcomes(self) -> list[str]:
        return [one.outcome for one in self.ended.values()]


@dataclass
class Outcome:
    """All that a run has found."""

    results: list[Raced] = field(default_factory=list)


def chosen(count: int, seed: int) -> list[Submission]:
    """Return so many submissions of the exercises with a solution and a required speedup, in the order of PATTERN."""
    random_ = random.Random(seed)
    course = built_in()
    exercises = [e.number for e in course.exercises if e.goal == "solve"]
    everything = [one for one in submissions(seed) if one.exercise in exercises]
    random_.shuffle(everything)
    slow = []
    for number in random_.sample(exercises, len(exercises)):
        right = solution_text(course, number)
        source = planted(right, SLOW.forms[0])
        if source is not None:
            slow.append(Submission(number, SLOW, 0, source, right))
    kinds = {
        "right": iter([one for one in everything if one.plant.is_right]),
        "wrong": iter([one for one in everything if not one.plant.is_right]),
        "slow": iter(slow * (count // len(slow) + 1)),
    }
    return [next(kinds[PATTERN[i % len(PATTERN)]]) for i in range(count)]


def checked(submission: Submission, progress: Progress) -> Ended:
    """Check a submission with its race, in a folder of its own."""
    course, begun_s = built_in(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MY_MLP).write_text(submission.source, encoding="utf-8")
        exercise = course.numbered(submission.exercise)
        found = examine(Path(folder), course, exercise, "a submission", CLASSROOM, progress)
        result = race(found, None, progress) if found.result.outcome == "pass" else found.result
    return ended(result, time.monotonic() - begun_s)


def ended(result: Result, seconds: float) -> Ended:
    """Return what the table shows of a result."""
    speed = result.speed
    if speed is None:
        return Ended(result.outcome, result.stage, 0.0, 0.0, 0, seconds)
    ratio, target = speed.over_start.ratio, speed.target or 0.0
    return Ended(result.outcome, result.stage, ratio, target, speed.processes, seconds)


def code_of_check() -> str:
    """Return a hash of the code that decides how a check ends: the packages `workshop` and `compare`."""
    package = Path(mlpprof.__file__).parent
    files = sorted(path for name in ("compare", "workshop") for path in (package / name).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def earlier_pieces(path: Path, code: str) -> tuple[list[Raced], list[dict[str, Any]]]:
    """Return what earlier runs with the same code have found, and their circumstances; both empty if there is none."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if document.get("code") != code:
        return [], []
    return decode(list[Raced], document["submissions"]), [*document["earlier"], document["circumstances"]]


def run(
    count: int,
    seed: int,
    minutes: float | None,
    progress: Progress,
    keep: Callable[[Outcome], object],
    ask: Callable[[Submission, Progress], Ended],
    settings: Mapping[str, Callable[[], AbstractContextManager[None]]],
    known: Sequence[Raced] = (),
) -> Outcome:
    """Check so many submissions on each setting, apart from those that are known.

    ask: checks one. keep: gets what there is after each of them. known: each of them stands for one submission, because
    some of the slow ones come twice.
    """
    is_over, outcome, everything = over_after(minutes), Outcome(), chosen(count, seed)
    not_taken = list(known)
    share = 1 / (len(everything) * len(settings))
    for done, submission in enumerate(everything):
        source = hashlib.sha256(f"{submission.exercise} {submission.source}".encode()).hexdigest()
        earlier = next((one for one in not_taken if one.source == source), None)
        if earlier is not None:
            not_taken.remove(earlier)
            outcome.results.append(earlier)
            continue
        if is_over():
            continue  # known ones may follow
        plant, found = submission.plant, dict[str, Ended]()
        for name, setting in settings.items():
            before = done / len(everything) + share * len(found)
            with setting():
                found[name] = ask(submission, part_of(progress, before, share, f"submission {done + 1}, {name}"))
        expected = "pass" if plant.is_right else "fail"
        outcome.results.append(
            Raced(submission.exercise, plant.kind, plant.name, submission.style, expected, source, found)
        )
        keep(outcome)
    return outcome


def table(outcome: Outcome, settings: Sequence[str], earlier: Sequence[Mapping[str, Any]] = ()) -> str:
    """The figures as Markdown: what all outcomes have in common, then a row for each submission.

    earlier: the circumstances of the earlier pieces of the study.
    """
    results = outcome.results
    same = sum(len(set(one.outcomes)) == 1 for one in results)
    opposite = sum({"pass", "fail"} <= set(one.outcomes) for one in results)
    as_labelled = sum(one.outcomes.count(one.expected) for one in results)
    against = sum({"pass": "fail", "fail": "pass"}[one.expected] in one.outcomes for one in results)
    checks = sum(len(one.outcomes) for one in results)
    lines = [
        f"{len(results)} submissions were checked on {len(settings)} settings, which are {checks} checks. {same} of "
        f"the submissions had the same outcome on all settings, and {opposite} a PASS on one and a FAIL on another.",
        f"{as_labelled} of the checks ended as their label demands. {against} submissions ended against it on some "
        "setting; the other checks were inconclusive.",
        "",
    ]
    rows = [
        (f"{one.plant} ({one.kind})", str(one.exercise), one.expected, *(_cell(one.ended[name]) for name in settings))
        for one in results
    ]
    lines += markdown_table(("submission", "exercise", "expected", *settings), rows, words=3)
    lines += ["", *(_piece(one) for one in earlier)] if earlier else []
    return "\n".join(lines) + "\n"


def _piece(circumstances: Mapping[str, Any]) -> str:
    words = (
        "An earlier piece of the study began at {begun} and took {minutes:g} min; the load was {load_before:g} before "
        "it and {load_after:g} after it."
    )
    return words.format_map(circumstances)


def _cell(one: Ended) -> str:
    if not one.processes:
        return f"{one.outcome}, {one.stage}"
    return f"{one.outcome}: {one.ratio:.2f}x of {one.target:.2f}x, {one.processes} processes, {one.seconds:.0f} s"


@click.command(cls=Program)
@click.option("--sample", type=click.IntRange(1), default=40, show_default=True, help="Number of submissions.")
@seed_option("Seed of their choice.")
@minutes_option("submission")
@out_option(FOLDER, "raced.md and raced.json")
def main(sample: int, seed: int, minutes: float | None, out: Path) -> None:
    """Check labelled submissions, with their race, on three machine settings; go on where an earlier run stopped."""
    study, code = Study.begin("raced", out), code_of_check()
    known, earlier = earlier_pieces(out / "raced.json", code)

    def written(outcome: Outcome) -> tuple[str, dict[str, Any]]:
        done = [asdict(one) for one in outcome.results]
        document = {"schema": 1, "code": code, "submissions": done, "earlier": earlier}
        return study.keep(table(outcome, list(SETTINGS), earlier), document, "reports.workshop")

    with progress_bar() as progress:
        outcome = run(sample, seed, minutes, progress, written, checked, SETTINGS, known)
    text, _ = written(outcome)
    click.echo(text, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m reports.workshop.raced")
