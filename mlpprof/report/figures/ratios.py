"""How much faster: rungs and comparisons with their intervals, and where a difference lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from mlpprof.measure.waterfall import REST as REST_PHASE
from mlpprof.report.figures.canvas import Sheet
from mlpprof.report.figures.palette import ACCENT, BAD, INK, MUTED, PAPER, REST, phase_color
from mlpprof.report.figures.rows import RowPlot, ratio_text, row_plot, time_axis
from mlpprof.report.format import format_percent, format_time
from mlpprof.results import Comparison

_ROUND = (1, 1.2, 1.5, 2, 3, 5, 7)


@dataclass(frozen=True)
class Ratio:
    """A speedup to draw: 1 is as fast. low and high equal ratio for what everything is compared with."""

    name: str
    number: int
    ratio: float
    low: float
    high: float
    at_least: float | None = None


def ratio_rows(ratios: Sequence[Ratio], width: float, xlabel: str, connected: bool) -> Sheet:
    """A row each: a dot at the ratio, a line over its 95 % interval; a logarithmic axis, so that factors are lengths.

    connected: the rows are steps of one ladder, and a line leads through them.
    """
    plot = row_plot([one.name for one in ratios], width, right=1.5, xlabel=xlabel)
    axes = plot.axes
    values = [x for one in ratios for x in (one.ratio, one.low, one.high, one.at_least or 1.0, 1.0) if x > 0]
    low, high = min(values), max(values)
    pad = (high / low) ** 0.06 * 1.04
    axes.set_xscale("log")
    axes.set_xlim(low / pad, high * pad)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low / pad, high * pad, 5 if plot.sheet.is_narrow else 8)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.3g} ×")
    axes.axvline(1.0, color=MUTED, lw=1.0)
    ys = [plot.y(i) for i in range(len(ratios))]
    if connected:
        axes.step([one.ratio for one in ratios], ys, where="post", color=REST, lw=1.0, zorder=1)
    for y, one in zip(ys, ratios, strict=True):
        _dot(plot, y, one)
    return plot.sheet


def _dot(plot: RowPlot, y: float, one: Ratio) -> None:
    axes = plot.axes
    color = ACCENT if one.high > 1 or one.low == one.high else BAD
    interval = "" if one.low == one.high else f"{one.low:.3g}–{one.high:.3g}"
    title = f"{one.name}: {ratio_text(one.ratio)}" + (f", 95 % interval {interval}" if interval else "")
    if interval:
        line = axes.plot((one.low, one.high), (y, y), color=color, lw=3.2, alpha=0.45, solid_capstyle="round")[0]
        plot.sheet.tag(line, title, rung=one.number)
    dot = axes.plot((one.ratio,), (y,), marker="o", color=color, markersize=5.5, markeredgecolor=PAPER, zorder=3)[0]
    plot.sheet.tag(dot, title, rung=one.number)
    if one.at_least is not None:
        gate = axes.plot((one.at_least,) * 2, (y - plot.half, y + plot.half), color=INK, lw=1.2)[0]
        plot.sheet.tag(gate, f"at least {one.at_least:g}", rung=one.number)
    if plot.sheet.is_narrow:
        text = axes.text(1.0, y - plot.half - 0.03 / plot.row, ratio_text(one.ratio), ha="right", va="bottom", color=INK)
        text.set_transform(axes.get_yaxis_transform())
    else:
        text = axes.text(1.02, y, ratio_text(one.ratio), va="center", color=INK, clip_on=False)
        text.set_transform(axes.get_yaxis_transform())
        if interval:
            beside = axes.text(1.16, y, interval, va="center", color=MUTED, size=7, clip_on=False)
            beside.set_transform(axes.get_yaxis_transform())
            plot.sheet.tag(beside, rung=one.number)
    plot.sheet.tag(text, rung=one.number)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round factors between the two, 1 among them, no more than can be read."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for choice in (_ROUND, (1, 1.5, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**decade for decade in decades for factor in choice if low <= factor * 10.0**decade <= high]
        if len(ticks) <= most:
            return ticks
    return [10.0**decade for decade in decades][:: math.ceil(len(decades) / most)]


def waterfall_rows(comparison: Comparison, width: float) -> Sheet:
    """From the old step, phase by phase, to the new one; what was gained goes left, what was lost goes right."""
    old_s, new_s = comparison.race.step_s(0), comparison.race.step_s(1)
    phases = [change for change in comparison.waterfall if not change.label]
    names = [comparison.old, *(change.phase for change in phases), comparison.new]
    plot = row_plot(names, width, right=1.25, xlabel="time of one step")
    levels = [old_s]
    for change in phases:
        levels.append(levels[-1] - change.old_s + change.new_s)
    time_axis(plot.axes, max(*levels, new_s) * 1.02)
    _waterfall_bar(plot, 0, 0.0, old_s, REST, format_time(old_s))
    for i, change in enumerate(phases, start=1):
        name = "rest" if change.phase == REST_PHASE else change.phase
        gain_s = change.old_s - change.new_s
        sign = "−" if gain_s >= 0 else "+"
        title = f"{name}: {format_time(change.old_s)} before, {format_time(change.new_s)} after"
        text = f"{sign}{format_time(abs(gain_s))}, {format_percent(change.share)}"
        bar = _waterfall_bar(plot, i, min(levels[i - 1], levels[i]), abs(gain_s), phase_color(name), text)
        plot.sheet.tag(bar, title, phase=name)
        y = plot.y(i)
        plot.axes.plot((levels[i - 1],) * 2, (plot.y(i - 1) + plot.half, y - plot.half), color=MUTED, lw=0.6)
    _waterfall_bar(plot, len(names) - 1, 0.0, new_s, REST, format_time(new_s))
    return plot.sheet


def _waterfall_bar(plot: RowPlot, i: int, begin: float, size: float, color: str, text: str) -> Rectangle:
    y = plot.y(i)
    bar = Rectangle((begin, y - plot.half), size, 2 * plot.half, facecolor=color, edgecolor="none")
    plot.axes.add_patch(bar)
    if plot.sheet.is_narrow:
        above = plot.axes.text(1.0, y - plot.half - 0.03 / plot.row, text, ha="right", va="bottom", color=INK, size=7.5)
        above.set_transform(plot.axes.get_yaxis_transform())
    else:
        plot.axes.text(begin + size, y, f"  {text}", va="center", color=INK, size=7.5, clip_on=False)
    return bar


