"""What a page shows of each variant at each batch size: its statements, its roofline and its source."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.report.page.pictures import Picture, Pictures
from mlpprof.report.page.source_lines import SourceLine, source_lines
from mlpprof.report.page.tables import PageTable, roofline_table, statement_table
from mlpprof.report.roofline_reason import Distance, distance
from mlpprof.report.story import Story, fastest
from mlpprof.report.verdict import verdict
from mlpprof.results import BatchResult


@dataclass(frozen=True)
class VariantView:
    """One variant at one batch size; number: its place among the names of the story.

    is_main: the one that the story is about, which is shown open. source: empty where another batch size of the same
    run shows it.
    """

    name: str
    number: int
    batch: int
    is_main: bool
    verdict: str
    layers: Picture | None
    statements: PageTable | None
    distance: Distance | None
    roofline: Picture | None
    limits: PageTable | None
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
                number=story.names.index(one.name),
                batch=result.batch,
                is_main=is_main,
                verdict=verdict(result),
                layers=pictures.about("layers", one, twice=is_main),
                statements=statement_table(one) if result.labels else None,
                distance=distance(run, result),
                roofline=pictures.about("roofline", one, twice=is_main),
                limits=roofline_table(one) if result.operations else None,
                uncounted=result.uncounted,
                source=tuple(source_lines(run)) if result is sourced else (),
                lines_batch=None if run.lines is None else run.lines.batch,
            )
        )
    return views


def _at(batch: int, results: tuple[BatchResult, ...]) -> BatchResult:
    return next((result for result in results if result.batch == batch), results[-1])


def _main(story: Story) -> tuple[str, int]:
    """Of a ladder the fastest rung, else the fastest variant at the batch size that most were measured at."""
    if story.ladders:
        return fastest(story.ladders[-1]).name, story.ladders[-1].batch
    if not story.measured:
        return "", 0
    batch = max(story.batches, key=lambda m: (len(story.at(m)), m))
    best = min(story.at(batch), key=lambda one: one.result.step_s.median)
    return best.name, batch
