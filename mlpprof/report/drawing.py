"""A figure before it is drawn: its name, what it shows in words, and how to draw it at any width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlpprof.report.figures.canvas import WIDE, Sheet, style
from mlpprof.report.story import Measured


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn at any width; description: what it shows, for who cannot see it.

    subject: the variant and batch size that it is about, where it is about one.
    """

    name: str
    title: str
    description: str
    draw: Callable[[float], Sheet]
    subject: Measured | None = None

    def sheet(self, width: float = WIDE) -> Sheet:
        """Drawn; width in inches."""
        with style():
            return self.draw(width)
