"""`python -m reports.workshop.submissions`: how often `mlpprof workshop check` judges submissions right without a race.

A submission is the solution of an exercise in one of several styles, with a plant (`reports.workshop.planted`): a
mistake, or a change that leaves it right. The styles are such changes too. Each is examined as `check` does, with the
network and the batch size of the classroom. It is judged right if code that is right passes, and if code with a mistake
does not. A mistake is named if the message says what was planted, or where, as the label of the plant demands.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import click

from mlpprof import errors
from mlpprof.cli.terminal import progress_bar
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.workloads import Workload
from mlpprof.workshop.check_worker import examine
from mlpprof.workshop.conditions import CLASSROOM
from mlpprof.workshop.exercises import MY_MLP, built_in
from mlpprof.workshop.solutions import solution_text, solved_in
from reports.advise.forked import Failure, forked
from reports.program import Program, markdown_table, minutes_option, out_option, over_after, seed_option
from reports.studies.study import Study
from reports.workshop.fresh import FRESH
from reports.workshop.planted import AT_LINE, PLANTS, Form, Plant

FOLDER = Path("reports") / "workshop"

LONGEST_S = 300.0
"""An examination that takes longer counts as a hang. It takes less than a second on a machine that is not busy."""

KEPT_EVERY = 20
"""The files are written again after this many submissions, so that an interrupted study leaves what it has found."""

REFUSALS = frozenset(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.VariantError)
)
"""Errors of the learner's code. Every other error is a defect of mlpprof."""


@dataclass(frozen=True)
class Submission:
    """What a learner hands in. right: the file before the mistake was planted. style: what it is written in."""

    exercise: int
    plant: Plant
    form: int
    source: str
    right: str
    style: str = ""

    @property
    def lines(self) -> tuple[int, ...]:
        """The lines that planting has changed."""
        return changed_lines(self.right, self.source)


@dataclass(frozen=True)
class Verdict:
    """What the check says: an empty message is a pass. line: the one that the message is about, if it has one."""

    message: str
    line: int | None = None
    failure: str = ""


@dataclass(frozen=True)
class Judged:
    """One submission with what the check made of it. is_named is None for code that is right."""

    exercise: int
    kind: str
    plant: str
    form: int
    style: str
    is_judged_right: bool
    is_named: bool | None
    message: str
    failure: str
    seconds: float


@dataclass
class Outcome:
    """All that a run has found, and how many submissions there are in all."""

    results: list[Judged] = field(default_factory=list)
    total: int = 0


def submissions(seed: int) -> Iterator[Submission]:
    """Yield every plant in every form in which it fits the solution of an exercise, and the start of each exercise.

    seed: of the choice of a style for each.
    """
    random_ = random.Random(seed)
    course = built_in()
    for exercise in course.exercises:
        solution = solution_text(course, exercise.number)
        styles = [
            (plant.name, styled)
            for plant in PLANTS
            if plant.is_right and plant.first <= exercise.number <= plant.last
            for form in plant.forms
            if (styled := planted(solution, form)) is not None
        ]
        for plant in (*PLANTS, *FRESH):
            if plant.first <= exercise.number <= plant.last:
                for i, form in enumerate(plant.forms):
                    fitting = [
                        (style, styled, source)
                        for style, styled in styles
                        if style != plant.name and (source := planted(styled, form)) is not None
                    ]
                    if fitting:
                        style, styled, source = random_.choice(fitting)
                        yield Submission(exercise.number, plant, i, source, styled, style)
        if exercise.facts and solved_in(course, exercise.number) == exercise.number:
            start = Plant("the start", f"of exercise {exercise.number}", (exercise.facts[-1],), ())
            source = solution_text(course, exercise.number - 1)
            yield Submission(exercise.number, start, 0, source, source)


def planted(source: str, form: Form) -> str | None:
    """Return the source with the replacements of a form in its code; None if one of them does not fit."""
    docstring, quotes, code = source.partition('"""\n\nimport')
    code = quotes + code
    for old, new in form:
        if old not in code:
            return None
        code = code.replace(old, new, 1)
    return docstring + code


def changed_lines(before: str, after: str) -> tuple[int, ...]:
    """Return the lines of the new text that are new, or that follow a line that is gone."""
    matcher = SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    found: list[int] = []
    for tag, _, _, start, stop in matcher.get_opcodes():
        if tag != "equal":
            found += range(start + 1, max(start + 1, stop) + 1)
    return tuple(found)


def examined(submission: Submission, trained: Workload) -> Verdict:
    """Return what the check says of a submission, without a race."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder).resolve() / MY_MLP
        file.write_text(submission.source, encoding="utf-8")
        network = Request(str(file), trained.network, trained.source).to_json()["network"]
        exercise = built_in().exercises[submission.exercise]
        is_solved = exercise.goal == "solve"
        try:
            answer = forked(
                lambda: examine(
                    lambda what, share: None, str(file), network, trained.batch, exercise.at_most, is_solved
                ),
                LONGEST_S,
            )
        except Failure as failure:
            is_refusal = failure.kind in REFUSALS
            return Verdict(failure.text, None, "" if is_refusal else f"{failure.kind}: {failure.text}")
    if answer["wrong"] is not None:
        return Verdict(answer["wrong"])
    broken = answer["broken"]
    if broken is None:
        return Verdict("")
    return Verdict(f"{broken['what']}. Required: {broken['fact']}. {broken['advice']}.", broken["line"])


def judged(submission: Submission, ask: Callable[[Submission], Verdict]) -> Judged:
    """Compare what the check says with the label. ask: examines a submission."""
    begun_s = time.monotonic()
    verdict, plant = ask(submission), submission.plant
    passes = not verdict.message
    return Judged(
        submission.exercise,
        plant.kind,
        plant.name,
        submission.form,
        submission.style,
        is_judged_right=not verdict.failure and passes == plant.is_right,
        is_named=None if plant.is_right else is_named(submission, verdict),
        message=verdict.message,
        failure=verdict.failure,
        seconds=time.monotonic() - begun_s,
    )


def is_named(submission: Submission, verdict: Verdict) -> bool:
    """Return whether the message says what was planted, or its line."""
    lines = submission.lines
    places = [f"{MY_MLP}:{line}" for line in lines]
    at_line = verdict.line in lines or any(
        f"{place}{end}" in f"{verdict.message} " for place in places for end in (":", " ", ",", ".")
    )
    return any(at_line if words == AT_LINE else words in verdict.message for words in submission.plant.says)


def run(
    sample: int | None,
    only: str,
    seed: int,
    minutes: float | None,
    progress: Progress,
    keep: Callable[[Outcome], object],
    ask: Callable[[Submission], Verdict],
) -> Outcome:
    """Judge so many submissions in a random order, or all of them.

    only: the beginning of their kinds. keep: gets what there is from time to time.
    """
    is_over = over_after(minutes)
    everything = [one for one in submissions(seed) if one.plant.kind.startswith(only)]
    random.Random(seed).shuffle(everything)
    outcome = Outcome(total=len(everything))
    for submission in everything[:sample]:
        if is_over():
            break
        done = len(outcome.results)
        progress(f"{submission.plant.name} in exercise {submission.exercise}", done / len(everything[:sample]))
        outcome.results.append(judged(submission, ask))
        if (done + 1) % KEPT_EVERY == 0:
            keep(outcome)
    return outcome


def table(outcome: Outcome) -> str:
    """The figures as Markdown: a row for each kind, then everything that was judged or named wrong."""
    by_kind: dict[str, list[Judged]] = defaultdict(list)
    for one in outcome.results:
        by_kind[one.kind].append(one)
    rows = [_row(kind, results) for kind, results in sorted(by_kind.items())]
    rows.append(_row("all", outcome.results))
    lines = list(markdown_table(("planted", "submissions", "judged right", "share", "named", "share"), rows))
    lines += ["", f"There are {outcome.total} submissions in all; {len(outcome.results)} of them were examined."]
    failures = [one for one in outcome.results if one.failure]
    lines.append(f"{len(failures)} examinations ended with a defect of mlpprof or a hang.")
    misses = [one for one in outcome.results if _is_miss(one)]
    if misses:
        lines += ["", "Judged wrong, or not named:", ""]
        lines += markdown_table(("planted", "exercise", "the check says"), [_miss(one) for one in misses], words=3)
    return "\n".join(lines) + "\n"


def _row(kind: str, results: Sequence[Judged]) -> tuple[str, ...]:
    right = sum(one.is_judged_right for one in results)
    labelled = [one for one in results if one.is_named is not None]
    named = sum(bool(one.is_named) for one in labelled)
    share = f"{named / len(labelled):.1%}" if labelled else ""
    shown = f"{named} of {len(labelled)}" if labelled else ""
    return kind, str(len(results)), str(right), f"{right / len(results):.1%}" if results else "", shown, share


def _miss(one: Judged) -> tuple[str, ...]:
    says = one.failure or one.message or "(passes)"
    words = " ".join(says.split()).replace("|", "/")
    style = f", with {one.style}" if one.style else ""
    place = f"{one.plant}{style} ({one.kind}{'' if one.is_judged_right else ', judged wrong'})"
    return place, str(one.exercise), words if len(words) <= 160 else f"{words[:160]} ..."


def as_json(outcome: Outcome) -> dict[str, Any]:
    """For each plant, how many submissions were examined, judged right and named; and every miss with its message."""
    plants: dict[str, dict[str, int]] = defaultdict(lambda: {"submissions": 0, "judged_right": 0, "named": 0})
    for one in outcome.results:
        counts = plants[f"{one.kind}: {one.plant}"]
        counts["submissions"] += 1
        counts["judged_right"] += one.is_judged_right
        counts["named"] += bool(one.is_named)
    misses = [asdict(one) for one in outcome.results if _is_miss(one)]
    return {"schema": 1, "total": outcome.total, "plants": dict(plants), "misses": misses}


def _is_miss(one: Judged) -> bool:
    return not one.is_judged_right or one.is_named is False


@click.command(cls=Program)
@click.option("--sample", type=click.IntRange(1), help="Number of submissions (default: all).")
@click.option("--only", metavar="KIND", default="", help="Only kinds that begin so, such as fresh.")
@seed_option("Seed of their styles and order.")
@minutes_option("submission")
@out_option(FOLDER, "submissions.md and submissions.json")
def main(sample: int | None, only: str, seed: int, minutes: float | None, out: Path) -> None:
    """Examine labelled submissions, and count those that are judged right and those whose mistake is named."""
    study = Study.begin("submissions", out)
    with tempfile.TemporaryDirectory() as folder:
        trained = CLASSROOM.trained(Path(folder))

        def written(outcome: Outcome) -> tuple[str, dict[str, Any]]:
            return study.keep(table(outcome), as_json(outcome), "reports.workshop")

        with progress_bar() as progress:
            outcome = run(sample, only, seed, minutes, progress, written, lambda one: examined(one, trained))
        text, _ = written(outcome)
    click.echo(text, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m reports.workshop.submissions")
