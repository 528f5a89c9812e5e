"""The part of a page about one variant at one batch size: its statements, its roofline and its source."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlpprof.report.page.pictures import Picture, Pictures
from mlpprof.report.roofline import Distance, distance
from mlpprof.report.rows import Table, roofline_table, statement_table
from mlpprof.report.sentences import slowest_part
from mlpprof.report.story import Story
from mlpprof.results import BatchResult, Run

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


def source_lines(run: Run) -> list[SourceLine]:
    """All lines of the file; without times where the run has no line view."""
    texts = re.split(r"\r\n?|\n", run.variant.source.rstrip().expandtabs(4))
    timed = {} if run.lines is None else {line.line: line for line in run.lines.lines}
    lines = []
    for number, text in enumerate(texts, start=1):
        line = timed.get(number)
        if line is None or run.lines is None or line.hits == 0:
            lines.append(SourceLine(number, text))
            continue
        lines.append(SourceLine(number, text, run.lines.calls(line), run.lines.line_s(line), run.lines.share(line)))
    return lines


@dataclass(frozen=True)
class VariantView:
    """One variant at one batch size; number: its place among the names of the story.

    is_main: the variant that the story is about, which is shown open. source: empty where another batch size of the
    same run shows it.
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
    source: tuple[SourceLine, ...]
    lines_batch: int | None

    @property
    def title(self) -> str:
        """'cached, batch 500'."""
        return f"{self.name}, batch {self.batch:,}"


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
                statements=statement_table([one]) if result.labels else None,
                distance=distance(run, result),
                roofline=pictures.about("roofline", one, twice=is_main),
                limits=roofline_table([one]) if result.operations else None,
                uncounted=result.uncounted,
                source=tuple(source_lines(run)) if result is sourced else (),
                lines_batch=None if run.lines is None else run.lines.batch,
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
