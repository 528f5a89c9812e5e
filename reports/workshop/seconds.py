"""`python -m reports.workshop.seconds`: how many seconds each part of `mlpprof workshop check` takes, by exercise.

The solution of each exercise is checked with its race, as a learner's file. The parts are what comes before the race,
the race, and what comes after it: the comparison with the limits of the machine, and the search for the next
bottleneck. Starting mlpprof is not among them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import click

from mlpprof.cli.terminal import progress_bar
from mlpprof.process import Progress
from mlpprof.workshop.check import examine, race
from mlpprof.workshop.conditions import CLASSROOM
from mlpprof.workshop.exercises import MY_MLP, built_in
from mlpprof.workshop.solutions import solution_text
from reports.program import Program, markdown_table, out_option
from reports.studies.study import Study
from reports.workshop.submissions import FOLDER

PARTS = ("before the race", "race", "after the race")
"""The parts of a check in their order."""
IN_RACE = "process "
"""The progress of a race begins with this word: 'process 2 of 3: racing'."""


@dataclass
class Watch:
    """A progress that measures the seconds of the parts of a check. show: a progress that gets all of it."""

    show: Progress
    clock: Callable[[], float] = time.monotonic
    ends_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._begun_s = self.clock()

    def __call__(self, what: str, share: float) -> None:
        is_in_race, ended = what.startswith(IN_RACE), len(self.ends_s)
        if (ended == 0 and is_in_race) or (ended == 1 and not is_in_race):
            self.ends_s.append(self.clock())
        self.show(what, share)

    def seconds(self) -> list[float]:
        """Return the seconds of each part until now; 0 for those that did not come."""
        ends = [self._begun_s, *self.ends_s, self.clock()]
        found = [later - earlier for earlier, later in pairwise(ends)]
        return found + [0.0] * (len(PARTS) - len(found))


@dataclass(frozen=True)
class Checked:
    """One check: how it ended, after how many processes, and the seconds of its parts."""

    exercise: int
    outcome: str
    processes: int
    seconds: list[float]


def checked(number: int, progress: Progress, as_used: bool) -> Checked:
    """Check the solution of an exercise."""
    course = built_in()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MY_MLP).write_text(solution_text(course, number), encoding="utf-8")
        watch = Watch(progress)
        exercise = course.numbered(number)
        found = examine(Path(folder), course, exercise, "", CLASSROOM, watch)
        result = race(found, None, watch, as_used) if found.result.outcome == "pass" else found.result
        processes = 0 if result.speed is None else result.speed.processes
        return Checked(number, result.outcome, processes, watch.seconds())


def table(results: Sequence[Checked]) -> str:
    """The figures as Markdown, a row for each exercise."""
    header = ("exercise", "outcome", "processes", *(f"{part}, s" for part in PARTS), "all, s")
    rows = [
        (
            str(one.exercise),
            one.outcome,
            str(one.processes),
            *(f"{seconds:.1f}" for seconds in (*one.seconds, sum(one.seconds))),
        )
        for one in results
    ]
    return "\n".join(markdown_table(header, rows, words=2)) + "\n"


@click.command(cls=Program)
@click.argument("exercises", type=click.IntRange(0), nargs=-1)
@click.option("--as-used", is_flag=True, help="Also train in a fresh process, as check --as-used does.")
@out_option(FOLDER, "seconds.md and seconds.json")
def main(exercises: tuple[int, ...], as_used: bool, out: Path) -> None:
    """Measure the seconds of a check of EXERCISES (default: all)."""
    study, results = Study.begin("seconds", out), list[Checked]()
    with progress_bar() as progress:
        for number in exercises or range(len(built_in().exercises)):
            results.append(checked(number, progress, as_used))
            document = {"schema": 1, "checks": [asdict(one) for one in results]}
            text, _ = study.keep(table(results), document, "reports.workshop")
    click.echo(text, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m reports.workshop.seconds")
