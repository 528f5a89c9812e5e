"""The part of a page about one variant at one batch size: its statements, its roofline and its source."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlpprof.report.distance import Distance, distance
from mlpprof.report.html import Picture
from mlpprof.report.page.pictures import Pictures
from mlpprof.report.program_rows import ProgramView, program_view
from mlpprof.report.rows import Table, roofline_table, statement_table
from mlpprof.report.sentences import slowest_part
from mlpprof.report.story import Story
from mlpprof.report.terminal.profile import at_batch, by_file
from mlpprof.results import BatchResult, LineProfile, Run

# A variant's source with the time of every line beside it.


@dataclass(frozen=True)
class SourceLine:
    """One line; calls and time_s are per step; share: of the wall time, None for a line that did not run."""

    number: int
    text: str
    calls: float | None = None
    time_s: float | None = None
    share: float | None = None

    @property
    def heat(self) -> float:
        """How strongly the line is shaded, 0 to 1: a tenth of the step is visible, a half stands out."""
        return 0.0 if self.share is None or self.share < 0.01 else min(1.0, 2.0 * self.share)


@dataclass(frozen=True)
class SourceFile:
    """A file with its lines; name: empty for the file of a variant."""

    name: str
    lines: tuple[SourceLine, ...]


def source_files(run: Run) -> list[SourceFile]:
    """The files of a run. Of a program, only those with an expression of the step or a line that was timed."""
    timed = {} if run.lines is None else dict(by_file(run.lines))
    if run.program is None:
        return [SourceFile("", tuple(source_lines(run.variant.source, timed.get(""))))]
    shown = {*timed, *(expression.place.source for expression in run.program.expressions)}
    return [
        SourceFile(file, tuple(source_lines(text, timed.get(file))))
        for file, text in run.program.sources.items()
        if file in shown
    ]


def source_lines(source: str, profile: LineProfile | None) -> list[SourceLine]:
    """All lines of a file; without times where there is no line view of it."""
    texts = re.split(r"\r\n?|\n", source.rstrip().expandtabs(4))
    timed = {} if profile is None else {line.line: line for line in profile.lines}
    lines = []
    for number, text in enumerate(texts, start=1):
        line = timed.get(number)
        if line is None or profile is None or line.hits == 0:
            lines.append(SourceLine(number, text))
            continue
        lines.append(SourceLine(number, text, profile.calls(line), profile.line_s(line), profile.share(line)))
    return lines


@dataclass(frozen=True)
class VariantView:
    """One variant at one batch size; number: its place among the names of the story.

    is_main: the variant that the story is about, which is shown open. source: empty where another batch size of the
    same run shows it; a program may have several files. lines_at: at which batch size lines were timed, such as
    ' at batch 500'; None if they were not. program: where the time of the whole program goes.
    """

    name: str
    number: int
    batch: int
    is_main: bool
    verdict: str
    layers: Picture | None
    statements: Table | None
    distance: Distance | None
    roofline: Picture | None
    limits: Table | None
    uncounted: tuple[str, ...]
    source: tuple[SourceFile, ...]
    lines_at: str | None
    is_program: bool
    program: ProgramView | None

    @property
    def title(self) -> str:
        """'cached, batch 500'."""
        return f"{self.name}, batch {self.batch:,}" if self.batch else self.name


def variant_views(story: Story, pictures: Pictures) -> list[VariantView]:
    """Every variant at every batch size, in the order of the story."""
    main = _main(story)
    views = []
    for one in story.measured:
        run, result = one.run, one.result
        is_main = (one.name, result.batch) == main
        sourced = run.results[-1] if run.lines is None else _at(run.lines.batch, run.results)
        views.append(
            VariantView(
                name=one.name,
                number=one.number,
                batch=result.batch,
                is_main=is_main,
                verdict=slowest_part(result),
                layers=pictures.about("layers", one, twice=is_main),
                statements=statement_table([one], verbose=run.program is None) if result.labels else None,
                distance=distance(run, result),
                roofline=pictures.about("roofline", one, twice=is_main),
                limits=roofline_table([one], verbose=run.program is None) if result.operations else None,
                uncounted=result.uncounted,
                source=tuple(source_files(run)) if result is sourced else (),
                lines_at=None if run.lines is None else at_batch(run.lines),
                is_program=run.program is not None,
                program=None if run.program is None else program_view(run.program.time, run.program.step),
            )
        )
    return views


def _at(batch: int, results: tuple[BatchResult, ...]) -> BatchResult:
    return next((result for result in results if result.batch == batch), results[-1])


def _main(story: Story) -> tuple[str, int]:
    """The fastest rung of a ladder, else the fastest variant at the batch size with most measurements."""
    if story.ladders:
        return story.ladders[-1].fastest.name, story.ladders[-1].batch
    if not story.measured:
        return "", 0
    batch = max(story.batches, key=lambda m: (len(story.at(m)), m))
    best = min(story.at(batch), key=lambda one: one.result.step_s.median)
    return best.name, batch
