"""Plots of named rows: a name is to the left of its row, or above it on a phone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from mlpprof.report.figures.canvas import ACCENT, INK, MUTED, POINTS, WIDE, Sheet, phase_color, short, text_width
from mlpprof.report.numbers import digits, format_payoff, format_shares

ROW = 0.36
"""The height of a row in inches; on a phone the height of the name is added."""
LONGEST = 34
"""A longer name is cut to this many letters."""
LONGEST_OF_FINDING = 46
"""A finding shows no more letters of its place and title."""
NAME = 0.2
LEGEND = 0.2
"""The heights of a name on a phone and of a line of the legend, in inches."""
LEGEND_SIZE = 7.5


@dataclass(frozen=True)
class RowPlot:
    """A sheet with rows 0, 1, 2 ... from the top; row: height of a row, below: room under its bar, both in inches."""

    sheet: Sheet
    axes: Axes
    row: float
    below: float

    @property
    def half(self) -> float:
        return 0.3 * ROW / self.row

    def beside_name(self, i: int, text: str, x: float, *, ha: Literal["left", "right"], size: float = 8.5) -> Text:
        """On a phone: write a text above the bar, at a share x of the plot's width."""
        y = self.y(i) - self.half - 0.03 / self.row
        artist = self.axes.text(x, y, text, ha=ha, va="bottom", color=INK, size=size)
        artist.set_transform(self.axes.get_yaxis_transform())
        return artist

    def after_bar(self, i: int, x: float, text: str, size: float = 8.5) -> Text:
        """Write a text beside the end x of a bar; the gap is a distance, because browsers drop blanks."""
        y = self.y(i)
        return self.axes.annotate(
            text,
            (x, y),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            size=size,
            annotation_clip=False,
        )

    def figure(self, i: int, x: float, text: str, size: float = 8.5) -> Text:
        """Write the figure of a row: beside the end x of its bar, on a phone above its right end."""
        if self.sheet.is_narrow:
            return self.beside_name(i, text, 1.0, ha="right", size=size)
        return self.after_bar(i, x, text, size)

    def y(self, i: int) -> float:
        """The middle of the bar of a row, which is above the middle of the row if there is room under the bar."""
        return i + 0.5 * ((NAME if self.sheet.is_narrow else 0.0) - self.below) / self.row


def row_plot(
    names: Sequence[str],
    width: float,
    *,
    right: float,
    xlabel: str,
    row: float = ROW,
    below: float = 0.0,
    narrow_right: float = 0.2,
    phases: Sequence[str] = (),
    tags: Sequence[Mapping[str, str | int]] = (),
    longest: int = LONGEST,
) -> RowPlot:
    """Rows for the names, room at the right for a figure each, and a labelled horizontal axis.

    names: cut where too long. right, row, below: inches; below: room under every bar; narrow_right: right on a phone.
    phases: shown in a legend on top. tags: the data attributes of each name, for scripts.
    """
    is_narrow = width < WIDE
    shown = [short(name, longest) for name in names]
    widest = max((text_width(name) for name in shown), default=0) / POINTS
    left = 0.12 if is_narrow else min(max(widest + 0.2, 0.6), 2.7 * longest / LONGEST)
    right = narrow_right if is_narrow else right
    row += below + (NAME if is_narrow else 0.0)
    legend = _legend_layout(phases, width - left) if phases else []
    top = 0.1 + (LEGEND * (1 + legend[-1][2]) + 0.05 if legend else 0.0)
    sheet = Sheet(width, top + 0.5 + row * len(shown))
    axes = sheet.axes(left, right, top, 0.5)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.set_xlabel(xlabel)
    plot = RowPlot(sheet, axes, row, below)
    for i, name in enumerate(shown):
        if is_narrow:
            text = plot.beside_name(i, name, 0.0, ha="left")
        else:
            text = axes.text(-0.1 / (width - left - right), plot.y(i), name, va="center", ha="right", color=INK)
            text.set_transform(axes.get_yaxis_transform())
        if tags:
            sheet.tag(text, "", part="name", **tags[i])
    for phase, x, line in legend:
        _legend_entry(sheet, phase, left * POINTS + x, sheet.height - 0.15 - line * LEGEND)
    return plot


def time_axis(axes: Axes, high_s: float, low_s: float = 0.0) -> None:
    """Write ticks in a fitting unit, each with its unit: '2 ms'."""
    units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
    longest_s = max(high_s, -low_s)
    scale, unit = next((one for one in units if longest_s >= one[0]), units[-1])
    axes.set_xlim(low_s, high_s)
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low_s / scale, high_s / scale)
    shown = [float(tick) for tick in ticks if low_s <= tick * scale <= high_s]
    texts = [f"{tick:.6g} {unit}".replace("-", "−") if tick else "0" for tick in shown]
    axes.set_xticks([tick * scale for tick in shown], texts)


def round_ticks(low: float, high: float, most: int, choices: Sequence[Sequence[float]]) -> list[float]:
    """Round numbers on a logarithmic axis, at most so many: those of the first choice of factors that is few enough."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for choice in choices:
        every = [factor * 10.0**decade for decade in decades for factor in choice]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return [10.0**decade for decade in decades][:: math.ceil(len(decades) / most)]


def _legend_layout(phases: Sequence[str], width: float) -> list[tuple[str, float, int]]:
    """(phase, place in points, line) for every phase, in as many lines as the width (inches) needs."""
    places: list[tuple[str, float, int]] = []
    x, line = 0.0, 0
    for phase in phases:
        size = 10 + 0.56 * LEGEND_SIZE * len(phase)
        if places and x + size > width * POINTS - 4:
            x, line = 0.0, line + 1
        places.append((phase, x, line))
        x += size + (9 if width < WIDE / 2 else 16)
    return places


def _legend_entry(sheet: Sheet, phase: str, x: float, y: float) -> None:
    """Draw a square in the phase's colour and its name; x: points from the left, y: inches from below."""
    for text, color, dx in (("■", phase_color(phase), 0.0), (short(phase), MUTED, 10.0)):
        artist = sheet.figure.text(
            (x + dx) / (sheet.width * POINTS), y / sheet.height, text, size=LEGEND_SIZE, color=color, va="center"
        )
        sheet.tag(artist, phase=phase)


def ratio_text(ratio: float) -> str:
    """'9.83 ×'."""
    return f"{digits(ratio)} ×"


# The savings of cures: a bar to the smallest measured saving, paler to the largest.


@dataclass(frozen=True)
class Payoff:
    """A saving to draw: (low, high) in seconds per step and as a share of the step. `short_name` is for a phone."""

    name: str
    short_name: str
    seconds: tuple[float, float]
    share: tuple[float, float]


def payoff_rows(payoffs: Sequence[Payoff], width: float) -> Sheet:
    """A row per change; the axis ends at the largest payoff."""
    names = [one.short_name if width < WIDE else one.name for one in payoffs]
    xlabel = "saved per step by each change alone"
    plot = row_plot(names, width, right=1.9, xlabel=xlabel, longest=LONGEST_OF_FINDING)
    low_s = min(0.0, *(one.seconds[0] for one in payoffs))
    time_axis(plot.axes, max(one.seconds[1] for one in payoffs) * 1.02 or 1e-9, low_s * 1.05)
    plot.axes.axvline(0.0, color=MUTED, lw=1.0)
    for i, one in enumerate(payoffs):
        _payoff(plot, i, one)
    return plot.sheet


def _payoff(plot: RowPlot, i: int, one: Payoff) -> None:
    low, high = one.seconds
    y, half = plot.y(i), 0.75 * plot.half
    parts: list[Artist] = []
    for begin, end, alpha in ((0.0, low, 1.0), (low, high, 0.4)):
        bar = Rectangle((begin, y - half), end - begin, 2 * half, facecolor=ACCENT, alpha=alpha, lw=0)
        plot.axes.add_patch(bar)
        parts.append(bar)
    time, share = format_payoff(low, high), format_shares(*one.share)
    if plot.sheet.is_narrow:
        parts.append(plot.beside_name(i, time, 1.0, ha="right"))
    else:
        inches = plot.axes.get_position().width * plot.sheet.width
        for beside, text, ink, size in ((0.08, time, INK, 8.5), (1.1, share, MUTED, 7.5)):
            x, at_right = 1 + beside / inches, plot.axes.get_yaxis_transform()
            parts.append(plot.axes.text(x, y, text, va="center", color=ink, size=size, transform=at_right))
    for part in parts:
        plot.sheet.tag(part, f"{one.name}: {time}, {share} of the step")
