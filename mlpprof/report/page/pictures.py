"""The figures of a page as inline SVG; most are drawn twice, for a desk and for a phone."""

from __future__ import annotations

from mlpprof.report.figures.gallery import drawings
from mlpprof.report.html import Picture, picture_of
from mlpprof.report.story import Measured, Story


class Pictures:
    """The figures of a story, found by kind and by subject; each is drawn when it is needed."""

    def __init__(self, story: Story) -> None:
        self._drawings = tuple(drawings(story).values())

    def of(self, kind: str) -> list[Picture]:
        """All figures of a kind of `figures.gallery`."""
        shown = [(i, d) for i, d in enumerate(self._drawings) if d.name.partition("-")[0] == kind]
        return [picture_of(drawing, f"f{i}", twice=True) for i, drawing in shown]

    def about(self, kind: str, subject: Measured, *, twice: bool) -> Picture | None:
        """The figure of a kind that shows one variant at one batch size; twice: also drawn for a phone."""
        for i, drawing in enumerate(self._drawings):
            shown = drawing.subject
            if shown is None or drawing.name.partition("-")[0] != kind:
                continue
            if (shown.name, shown.result.batch) == (subject.name, subject.result.batch):
                return picture_of(drawing, f"f{i}", twice=twice)
        return None
