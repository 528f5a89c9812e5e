"""`python -m reports.advise.calibration`: how often the saving that `mlpprof advise` states is the one that comes.

The flawed programs are those of the wild corpus and of the styles. Each finding's cure is applied alone, and the
processor time of a step is measured with it and without it, in turns, in processes of their own. Processor time is
little changed by other programs on the machine, so the study can run beside them.
"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import click

from mlpprof.advise import Subject as Target
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.find import analyse
from mlpprof.advise.proof.prove import Version
from mlpprof.cli.terminal import progress_bar
from mlpprof.errors import MlpprofError
from mlpprof.process import Progress, part_of
from mlpprof.programs.request import request_for
from mlpprof.results.advice import Finding
from reports.advise.forked import Failure
from reports.advise.subjects import Subject, with_twins
from reports.program import Program, json_option, minutes_option, out_option, over_after, seed_option, show
from reports.studies.study import Study

FOLDER = Path("reports") / "advise"

NOISE = 0.01
"""Two measurements of the same step differ by this share of it: an interval holds what lies so near to its ends."""

HELD = 0.9
"""An interval is wide enough if it holds this share of the measured savings."""

RUNS = 4
"""Each version of a program runs so many times, in turns with the others; the shortest time counts."""


@dataclass(frozen=True)
class Stated:
    """The saving of a finding: as stated, and as measured, as shares of the step."""

    category: str
    title: str
    low: float
    high: float
    realised: float
    program: str = ""

    @property
    def holds(self) -> bool:
        """Whether the measured saving is in the stated interval."""
        return self.low - NOISE <= self.realised <= self.high + NOISE


def calibrated(flawed: Subject, progress: Progress) -> Iterator[Stated]:
    """The findings of a program that have a cure, each with what the cure saves. Raises as `mlpprof.advise.find`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        request = request_for(flawed.write(folder), step=flawed.truth().step)
        found = analyse(Target(request, request.step, threads=1), part_of(progress, 0.0, 0.5, flawed.name))
        version = Version(request, found.texts)
        cured = [
            (finding, _with(version, cures[0], flawed, folder))
            for finding, cures in zip(found.advice.findings, found.cures, strict=True)
            if cures
        ]
    seconds = measured([flawed, *(program for _, program in cured)], part_of(progress, 0.5, 0.5, flawed.name))
    for (finding, _), cured_s in zip(cured, seconds[1:], strict=True):
        if seconds[0] is not None and cured_s is not None:
            yield stated(finding, 1 - cured_s / seconds[0], flawed.name)


def stated(finding: Finding, realised: float, program: str) -> Stated:
    """A finding with what its cure has saved."""
    return Stated(finding.category, finding.title, *finding.payoff_share, realised, program)


def _with(version: Version, cure: Cure, flawed: Subject, folder: Path) -> Subject:
    texts = version.cured([cure]).texts
    return replace(flawed, files={name: texts.get(str(folder / name), text) for name, text in flawed.files.items()})


def measured(programs: Sequence[Subject], progress: Progress, runs: int = RUNS) -> list[float | None]:
    """The processor time of a step of each program, in turns; None for those that do not run."""
    found: list[list[float]] = [[] for _ in programs]
    for run in range(runs):
        progress("measuring the cures", run / runs)
        for seconds, program in zip(found, programs, strict=True):
            try:
                seconds.append(program.step_s())
            except Failure:
                continue
    return [min(seconds) if len(seconds) == runs else None for seconds in found]


def table(found: Sequence[Stated]) -> str:
    """How often the stated interval holds the measured saving, by category, as Markdown."""
    by_category: dict[str, list[Stated]] = defaultdict(list)
    for one in found:
        by_category[one.category].append(one)
    lines = [
        "| category | findings | interval holds | saves less | saves more | median of measured minus stated |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for category, some in [*sorted(by_category.items()), ("all", list(found))]:
        if some:
            off = median(one.realised - (one.low + one.high) / 2 for one in some)
            counts = [sum(one.holds for one in some), sum(not one.holds and one.realised < one.low for one in some)]
            counts.append(len(some) - sum(counts))
            lines.append(f"| {category} | {len(some)} | {' | '.join(map(str, counts))} | {100 * off:+.1f} points |")
    needed = sorted(map(_width_needed, found))
    if needed:
        width = needed[ceil(HELD * len(needed)) - 1]
        lines += ["", f"Bounds {width:.2f} times as wide as stated hold {HELD:.0%} of the measured savings."]
    return "\n".join(lines) + "\n"


def _width_needed(one: Stated) -> float:
    """How many times as wide the stated interval would have to be, around its middle, to hold what was measured."""
    middle, half = (one.low + one.high) / 2, (one.high - one.low) / 2
    return max(0.0, abs(one.realised - middle) - NOISE) / max(half, NOISE)


def run(
    sample: int, seed: int, minutes: float | None, progress: Progress, keep: Callable[[list[Stated]], object]
) -> list[Stated]:
    """Calibrate so many programs. keep: gets what there is after every program."""
    is_over, found = over_after(minutes), list[Stated]()
    programs = [flawed for flawed, _ in with_twins()]
    programs = random.Random(seed).sample(programs, min(sample, len(programs)))
    for number, flawed in enumerate(programs):
        if is_over():
            break
        try:
            found += calibrated(flawed, part_of(progress, number / len(programs), 1 / len(programs)))
        except MlpprofError as error:
            click.echo(f"{flawed.name}: {error}", err=True)
        keep(found)
    return found


@click.command(cls=Program)
@click.option("--sample", type=click.IntRange(1), default=100, show_default=True, help="Number of programs, at most.")
@seed_option("Seed of the choice of programs.")
@minutes_option("program")
@out_option(FOLDER, "calibration.md and calibration.json")
@json_option("Print JSON instead of the table.")
def main(sample: int, seed: int, minutes: float | None, out: Path, to_json: bool) -> None:
    """Compare the savings that `mlpprof advise` states with those that its cures give."""
    study = Study.begin("calibration", out)

    def written(found: list[Stated]) -> tuple[str, dict[str, Any]]:
        return study.keep(table(found), {"schema": 1, "findings": [asdict(one) for one in found]}, "reports.advise")

    with progress_bar() as progress:
        found = run(sample, seed, minutes, progress, written)
    text, document = written(found)
    show(text, document, to_json)


if __name__ == "__main__":
    main(prog_name="python -m reports.advise.calibration")
