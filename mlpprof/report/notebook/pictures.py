"""Figures of `report.gallery` as inline SVG."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from markupsafe import Markup

from mlpprof.report.drawing import Drawing
from mlpprof.report.figures.canvas import svg_element, svg_text
from mlpprof.report.format import plain
from mlpprof.report.gallery import drawings
from mlpprof.report.story import Story
from mlpprof.results import Comparison, Run


@dataclass(frozen=True)
class Picture:
    """An <svg> element and the title that stands beside it."""

    title: str
    svg: Markup


def run_pictures(run: Run) -> list[Picture]:
    """Where the time goes first, by phase and layer or by batch size; then how far, how it scales, how sure."""
    found = drawings(Story.of(runs=[run]))
    first = "phases" if len(run.results) > 1 else "layers"
    order = [first, *(kind for kind in ("layers", "phases", "roofline", "scaling", "samples") if kind != first)]
    chosen = [one for kind in order for name, one in found.items() if name.partition("-")[0] == kind]
    if len(run.results) == 1:
        # the bar of a single step says what the layers say
        chosen = [one for one in chosen if one.name != "phases" or "layers" not in found]
    return [_picture(one, run.created + run.command) for one in chosen]


def comparison_pictures(comparison: Comparison) -> list[Picture]:
    """Where the difference lies; nothing where that was not measured."""
    found = drawings(Story.of(comparisons=[comparison]))
    key = f"{comparison.command}{comparison.old}{comparison.new}{comparison.batch}"
    return [_picture(one, key) for name, one in found.items() if name.partition("-")[0] == "waterfall"]


def _picture(drawing: Drawing, key: str) -> Picture:
    # ids are of the whole page, which may hold many figures
    prefix = "mlpprof-" + hashlib.sha256(f"{key}{drawing.name}".encode()).hexdigest()[:8]
    element = svg_element(drawing.sheet(), prefix)
    element.set("role", "img")
    element.set("aria-label", plain(f"{drawing.title}. {drawing.description}"))
    # ElementTree has escaped what comes from users
    return Picture(plain(drawing.title), Markup(svg_text(element)))
