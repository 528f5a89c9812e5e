"""The page as one file: figures, style, script and data within it, and nothing that is loaded from elsewhere.

The story's order: the verdict, where the time goes, what limits it, what each rung changed, how it scales, how sure we
are, the machine, the raw data. jinja2 escapes every text; what is not escaped is made here: SVG from matplotlib, our
own style and script, and JSON in which no tag can begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlpprof.files import write_atomically
from mlpprof.model import PHASES
from mlpprof.report.page.changes import rung_changes
from mlpprof.report.page.embedded import embedded
from mlpprof.report.page.facts import machine_facts, warnings_of, work_facts
from mlpprof.report.page.frame import render
from mlpprof.report.page.headline import headline
from mlpprof.report.page.pictures import Pictures
from mlpprof.report.page.tables import agreement_table, memory_table, race_table, time_table
from mlpprof.report.page.variant_views import variant_views
from mlpprof.report.story import Story
from mlpprof.results import Comparison, Ladder, Run


def write_page(
    path: Path, *, runs: Sequence[Run] = (), comparisons: Sequence[Comparison] = (), ladders: Sequence[Ladder] = ()
) -> Path:
    """Write the page of any records, replacing what is there; returns the path.

    Raises ValueError if there is nothing to tell, and UsageError where the file cannot be written.
    """
    text = page_html(Story.of(runs, comparisons, ladders))
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def page_html(story: Story) -> str:
    """The whole page as text."""
    pictures = Pictures(story)
    told = headline(story)
    return render(
        "page.html",
        told.title,
        embedded(story),
        "All figures and samples lie in this file as JSON, times in seconds, raw samples in nanoseconds.",
        headline=told,
        warnings=warnings_of(story),
        names=story.names,
        phases=[*PHASES, "rest"],
        pictures=pictures,
        times=time_table(story),
        races=[race_table(ladder) for ladder in story.ladders],
        memory=memory_table(story),
        variants=variant_views(story, pictures),
        changes=rung_changes(story),
        agreement=agreement_table(story),
        work=work_facts(story),
        machine=machine_facts(story),
        slow=sorted({name for ladder in story.ladders for name in ladder.race.slow}),
        skipped={name: why for ladder in story.ladders for name, why in ladder.skipped.items()},
    )
