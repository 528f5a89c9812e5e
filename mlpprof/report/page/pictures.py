"""The figures of a page as inline SVG; most are drawn twice, for a desk and for a phone."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from mlpprof.report.figures.canvas import NARROW, WIDE, svg_element, svg_text
from mlpprof.report.figures.gallery import Drawing, drawings
from mlpprof.report.numbers import plain
from mlpprof.report.story import Measured, Story


@dataclass(frozen=True)
class Picture:
    """A figure with its caption; narrow: for a phone, None where a phone shows the wide one in a box that scrolls."""

    title: str
    wide: Markup
    narrow: Markup | None


class Pictures:
    """The figures of a story, found by kind and by subject; each is drawn when it is needed."""

    def __init__(self, story: Story) -> None:
        self._drawings = tuple(drawings(story).values())

    def of(self, kind: str) -> list[Picture]:
        """All figures of a kind of `figures.gallery`."""
        return [self._picture(i, d) for i, d in enumerate(self._drawings) if d.name.partition("-")[0] == kind]

    def about(self, kind: str, subject: Measured, *, twice: bool) -> Picture | None:
        """The figure of a kind that shows one variant at one batch size; twice: also drawn for a phone."""
        for i, drawing in enumerate(self._drawings):
            shown = drawing.subject
            if shown is None or drawing.name.partition("-")[0] != kind:
                continue
            if (shown.name, shown.result.batch) == (subject.name, subject.result.batch):
                return self._picture(i, drawing, twice)
        return None

    def _picture(self, i: int, drawing: Drawing, twice: bool = True) -> Picture:
        return picture_of(drawing, f"f{i}", twice=twice)


def picture_of(drawing: Drawing, prefix: str, *, twice: bool = True) -> Picture:
    """A drawing as SVG whose ids begin with the prefix; twice: also drawn for a phone."""
    narrow = _svg(drawing, NARROW, f"{prefix}n") if twice else None
    return Picture(plain(drawing.title), _svg(drawing, WIDE, f"{prefix}w"), narrow)


def _svg(drawing: Drawing, width: float, prefix: str) -> Markup:
    element = svg_element(drawing.sheet(width), prefix)
    element.set("role", "img")
    element.set("aria-label", f"{plain(drawing.title)}. {plain(drawing.description)}")
    # ElementTree has escaped every text of a user
    return Markup(svg_text(element))
