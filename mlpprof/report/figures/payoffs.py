"""What every cure would save of a step: a bar to the least, paler to the most that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.patches import Rectangle

from mlpprof.report.figures.canvas import Sheet
from mlpprof.report.figures.palette import ACCENT, INK, MUTED
from mlpprof.report.figures.rows import RowPlot, row_plot, time_axis
from mlpprof.report.format import format_payoff, format_shares


@dataclass(frozen=True)
class Payoff:
    """A saving to draw: (low, high) in seconds a step and as share of the step."""

    name: str
    seconds: tuple[float, float]
    share: tuple[float, float]


def payoff_rows(payoffs: Sequence[Payoff], width: float) -> Sheet:
    """A row each, the axis from nothing to the largest payoff."""
    plot = row_plot([one.name for one in payoffs], width, right=1.9, xlabel="saved in one step by each cure alone")
    time_axis(plot.axes, max(one.seconds[1] for one in payoffs) * 1.02 or 1e-9, min(0.0, *_lows(payoffs)) * 1.05)
    plot.axes.axvline(0.0, color=MUTED, lw=1.0)
    for i, one in enumerate(payoffs):
        _payoff(plot, i, one)
    return plot.sheet


def _lows(payoffs: Sequence[Payoff]) -> list[float]:
    return [one.seconds[0] for one in payoffs]


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
