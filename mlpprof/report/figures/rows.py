"""Plots with one named row below the other: names stand at the left, or on a phone above each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mlpprof.report.figures.canvas import POINTS, Sheet, short, text_width
from mlpprof.report.figures.palette import INK, MUTED, phase_color
from mlpprof.report.format import digits

ROW = 0.36
"""Inches of a row; on a phone the name above it comes on top."""
NAME = 0.2
LEGEND = 0.3


@dataclass(frozen=True)
class RowPlot:
    """A sheet with rows 0, 1, 2 ... from the top; `y(i)` is the middle of a row, `half` half its thickness."""

    sheet: Sheet
    axes: Axes
    names: tuple[str, ...]
    row: float

    @property
    def half(self) -> float:
        """Half the thickness of a bar, in rows."""
        return 0.3 * ROW / self.row

    def y(self, i: int) -> float:
        """The middle of the bar of a row; on a phone it is below the middle of the row."""
        return i + (0.5 * NAME / self.row if self.sheet.is_narrow else 0.0)


def row_plot(
    names: Sequence[str], width: float, *, row: float = ROW, right: float = 0.75, legend: bool = False, xlabel: str = ""
) -> RowPlot:
    """Rows for the names, room at the right for a figure each, and a labelled horizontal axis below.

    names: shown as they are, cut where too long. right: inches. legend: leave room for a line above.
    """
    shown = tuple(short(name, 30) for name in names)
    widest = max((text_width(name) for name in shown), default=0) / POINTS
    left = 0.12 if width < 5 else min(max(widest + 0.2, 0.6), 2.3)
    row += NAME if width < 5 else 0.0
    top, bottom = (LEGEND if legend else 0.08), (0.5 if xlabel else 0.3)
    sheet = Sheet(width, top + bottom + row * len(shown))
    axes = sheet.axes(left, min(right, 0.62) if sheet.is_narrow else right, top, bottom)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.set_xlabel(xlabel)
    plot = RowPlot(sheet, axes, shown, row)
    for i, name in enumerate(shown):
        if sheet.is_narrow:
            text = axes.text(0, plot.y(i) - plot.half - 0.03 / row, name, va="bottom", color=INK, clip_on=False)
            text.set_transform(axes.get_yaxis_transform())
        else:
            text = axes.text(-0.1 / (width - left - right), plot.y(i), name, va="center", ha="right", color=INK)
            text.set_transform(axes.get_yaxis_transform())
    return plot


def time_axis(axes: Axes, high_s: float) -> None:
    """Ticks from 0 in the unit that fits, each with its unit: '2 ms'."""
    scale, unit = next(((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if high_s >= s), (1e-9, "ns"))
    axes.set_xlim(0, high_s)
    axes.xaxis.set_major_locator(_ScaledLocator(scale, 5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / scale:.6g} {unit}" if x else "0"))


class _ScaledLocator(MaxNLocator):
    """Round ticks in a unit."""

    def __init__(self, scale: float, n: int) -> None:
        super().__init__(n, steps=[1, 2, 2.5, 5, 10])
        self._unit_s = scale

    def __call__(self) -> list[float]:
        low, high = self.axis.get_view_interval()
        return [x * self._unit_s for x in self.tick_values(low / self._unit_s, high / self._unit_s)]


def phase_legend(sheet: Sheet, phases: Sequence[str], left: float) -> None:
    """A line above the plot that says which colour is which phase; left: inches."""
    size = 7.5
    x = left * POINTS
    step = 8.0 if sheet.is_narrow else 16.0
    y = sheet.height * POINTS - 10
    for phase in phases:
        for text, color, dx in (("■", phase_color(phase), 0.0), (short(phase), MUTED, 10.0)):
            artist = sheet.figure.text(
                (x + dx) / (sheet.width * POINTS), y / (sheet.height * POINTS), text, size=size, color=color, va="center"
            )
            sheet.tag(artist, phase=phase)
        x += 10 + 0.56 * size * len(phase) + step


def ratio_text(ratio: float) -> str:
    """'9.83 ×'."""
    return f"{digits(ratio)} ×"
