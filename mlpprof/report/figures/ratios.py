"""Speedups of rungs and comparisons with their intervals, and where a difference lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from matplotlib.artist import Artist
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from mlpprof.compare.history import Version
from mlpprof.compare.variant_difference import REST as REST_PHASE
from mlpprof.report.figures.canvas import ACCENT, BAD, INK, MUTED, PAPER, WIDE, Sheet, phase_color, short
from mlpprof.report.figures.rows import RowPlot, ratio_text, round_ticks, row_plot, time_axis
from mlpprof.report.numbers import digits, format_percent, format_time, signed_time
from mlpprof.results import Comparison

ROUND_FACTORS = ((1, 1.2, 1.5, 2, 3, 5, 7), (1, 1.5, 2, 3, 5), (1, 2, 5), (1, 3), (1,))


@dataclass(frozen=True)
class Ratio:
    """A speedup to draw: at 1, both are equally fast. The baseline has low and high equal to its ratio."""

    name: str
    number: int
    ratio: float
    low: float
    high: float
    at_least: float | None = None


def ratio_rows(ratios: Sequence[Ratio], width: float, *, baseline: str) -> Sheet:
    """A row each: a bar from 1 to the ratio and its 95 % interval; baseline: what all are compared with, in words.

    The axis is logarithmic, so that twice as fast is the same length everywhere.
    """
    names, tags = [one.name for one in ratios], [{"rung": one.number} for one in ratios]
    plot = row_plot(names, width, right=1.75, xlabel=_axis_words(ratios, baseline, width), tags=tags)
    axes = plot.axes
    values = [x for one in ratios for x in (one.ratio, one.low, one.high, one.at_least or 1.0, 1.0) if x > 0]
    low, high = min(values), max(values)
    pad = (high / low) ** 0.06 * 1.04
    axes.set_xscale("log")
    axes.set_xlim(low / pad, high * pad)
    ticks = round_ticks(low / pad, high * pad, 5 if plot.sheet.is_narrow else 8, ROUND_FACTORS)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.3g} ×")
    axes.axvline(1.0, color=MUTED, lw=1.0)
    for i, one in enumerate(ratios):
        _ratio(plot, i, one)
    return plot.sheet


def _axis_words(ratios: Sequence[Ratio], baseline: str, width: float) -> str:
    """What the axis shows; on a phone in two lines."""
    claimed = "; dashed: claimed" if any(one.at_least is not None for one in ratios) else ""
    between = "\n" if width < WIDE else ", "
    return f"times as fast as {short(baseline, 30)}{between}95 % interval, logarithmic axis{claimed}"


def _ratio(plot: RowPlot, i: int, one: Ratio) -> None:
    axes, y, half = plot.axes, plot.y(i), plot.half
    is_root = one.low == one.high
    color = BAD if one.high < 1 else MUTED if is_root else ACCENT
    interval = "" if is_root else f"{digits(one.low)}–{digits(one.high)}"
    title = f"{one.name}: {ratio_text(one.ratio)}" + (f", 95 % interval {interval}" if interval else "")
    bar = Rectangle((1.0, y - 0.45 * half), one.ratio - 1.0, 0.9 * half, facecolor=color, alpha=0.35, lw=0)
    axes.add_patch(bar)
    dot = axes.plot((one.ratio,), (y,), marker="o", color=color, markersize=5.5, markeredgecolor=PAPER, zorder=3)[0]
    parts: list[Artist] = [bar, dot]
    if interval:
        ends = ((one.low, one.low), (one.high, one.high))
        parts += [axes.plot(end, (y - 0.7 * half, y + 0.7 * half), color=color, lw=1.2)[0] for end in ends]
        parts += axes.plot((one.low, one.high), (y, y), color=color, lw=1.6)
    if one.at_least is not None:
        gate = axes.plot((one.at_least,) * 2, (y - 1.5 * half, y + 1.5 * half), color=INK, lw=1.4, ls=(0, (2, 1)))[0]
        plot.sheet.tag(gate, f"claimed: at least {one.at_least:g} times as fast", rung=one.number)
    if plot.sheet.is_narrow:
        parts.append(plot.beside_name(i, ratio_text(one.ratio), 1.0, ha="right"))
    else:
        end = axes.get_yaxis_transform()
        for points, text, ink, size in ((6, ratio_text(one.ratio), INK, 8.5), (56, interval, MUTED, 7.5)):
            beside = axes.annotate(
                text, (1.0, y), (points, 0), xycoords=end, textcoords="offset points", va="center", color=ink, size=size
            )
            parts.append(beside)
    for part in parts:
        plot.sheet.tag(part, title, rung=one.number)


def history_rows(versions: Sequence[Version], width: float) -> Sheet:
    """A row per version, in their order: a dot at the time of its step, red if it is slower than the one before.

    The line beside a dot is the 95 % interval of its ratio to the first version.
    """
    tags = [{"rung": number} for number in range(len(versions))]
    plot = row_plot([one.name for one in versions], width, right=1.75, xlabel="time of a step", tags=tags)
    first_s = versions[0].step_s
    ends = [_interval_s(one, first_s) for one in versions]
    time_axis(plot.axes, 1.04 * max(high for _, high in ends))
    path = [one.step_s for one in versions]
    plot.axes.plot(path, [plot.y(i) for i in range(len(path))], color=MUTED, lw=0.9, zorder=1)
    for i, (one, (low, high)) in enumerate(zip(versions, ends, strict=True)):
        before = one.over_previous
        color = BAD if before is not None and before.is_slower else ACCENT
        y = plot.y(i)
        text = format_time(one.step_s)
        more = "" if before is None else f"{digits(before.ratio)} × the one before"
        line = plot.axes.plot((low, high), (y, y), color=color, lw=1.6, zorder=2)[0]
        dot = plot.axes.plot(
            (one.step_s,), (y,), marker="o", color=color, markersize=5.5, markeredgecolor=PAPER, zorder=3
        )[0]
        for part in (line, dot, plot.figure(i, high, f"{text}  {more}".rstrip(), size=7.5)):
            plot.sheet.tag(part, f"{one.name}: {text}{', ' if more else ''}{more}", rung=i)
    return plot.sheet


def _interval_s(version: Version, first_s: float) -> tuple[float, float]:
    """The interval of the step of a version, in seconds, and around the median of its own turns."""
    over = version.over_first
    if over is None:
        return version.step_s, version.step_s
    low, high = sorted(first_s / ratio for ratio in (over.low, over.high))
    return min(low, version.step_s), max(high, version.step_s)


@dataclass(frozen=True)
class Difference:
    """The time of an expression, a statement or a phase before and after; 0 where it does not exist."""

    name: str
    old_s: float
    new_s: float
    low_s: float | None = None
    high_s: float | None = None


def difference_rows(differences: Sequence[Difference], width: float) -> Sheet:
    """Two bars per row, old above new; red if it takes longer than before. The line is the 95 % interval of the change.

    The interval begins at the time of the old one, so that it ends at the time that the new one may have.
    """
    plot = row_plot([one.name for one in differences], width, right=1.75, xlabel="time in one step: grey is before")
    time_axis(plot.axes, 1.04 * max(max(one.old_s, one.new_s, one.old_s + (one.high_s or 0.0)) for one in differences))
    for i, one in enumerate(differences):
        y, lost_s = plot.y(i), one.new_s - one.old_s
        color = BAD if lost_s > 0 else ACCENT
        title = f"{one.name}: {format_time(one.old_s)} before, {format_time(one.new_s)} after"
        parts: list[Artist] = []
        for top, seconds, fill in ((y - plot.half, one.old_s, MUTED), (y, one.new_s, color)):
            bar = Rectangle((0.0, top), seconds, 0.92 * plot.half, facecolor=fill, lw=0)
            plot.axes.add_patch(bar)
            parts.append(bar)
        end = max(one.old_s, one.new_s)
        if one.low_s is not None and one.high_s is not None:
            middle = y + 0.46 * plot.half
            ends = (max(0.0, one.old_s + one.low_s), one.old_s + one.high_s)
            parts += plot.axes.plot(ends, (middle, middle), color=INK, lw=1.2)
            end = max(end, ends[1])
        parts.append(plot.figure(i, end, signed_time(lost_s).replace("-", "−"), size=7.5))
        for part in parts:
            plot.sheet.tag(part, title)
    return plot.sheet


def waterfall_rows(comparison: Comparison, width: float) -> Sheet:
    """The time that each phase saved, one bar after the other, and all together; lost time goes to the left."""
    phases = [change for change in comparison.waterfall if not change.label]
    rows = [("rest" if c.phase == REST_PHASE else c.phase, c.old_s, c.new_s) for c in phases]
    plot = row_plot([*(name for name, _, _ in rows), "all"], width, right=1.55, xlabel="time saved in one step")
    levels = [0.0, *accumulate(old_s - new_s for _, old_s, new_s in rows)]
    low, high = min(levels), max(levels)
    time_axis(plot.axes, max(high, 0.02 * (high - low)), low * 1.05)
    plot.axes.axvline(0.0, color=MUTED, lw=1.0)
    whole_s = levels[-1]
    for i, (name, old_s, new_s) in enumerate(rows):
        title = f"{name}: {format_time(old_s)} before, {format_time(new_s)} after"
        _saved(plot, i, (levels[i], levels[i + 1]), name, title, phases[i].share)
        if not plot.sheet.is_narrow:  # there, texts stand between the bars
            x = (levels[i + 1],) * 2
            plot.axes.plot(x, (plot.y(i) + plot.half, plot.y(i + 1) - plot.half), color=MUTED, lw=0.7)
    old_s, new_s = comparison.race.step_s(0), comparison.race.step_s(1)
    _saved(plot, len(rows), (0.0, whole_s), "all", f"{format_time(old_s)} before, {format_time(new_s)} after", 1.0)
    return plot.sheet


def _saved(plot: RowPlot, i: int, ends: tuple[float, float], name: str, title: str, share_of_all: float) -> None:
    y, saved_s = plot.y(i), ends[1] - ends[0]
    share = format_percent(round(share_of_all, 3) + 0.0)
    color = MUTED if name == "all" else phase_color(name)
    bar = Rectangle((ends[0], y - plot.half), saved_s, 2 * plot.half, facecolor=color, edgecolor="none")
    plot.axes.add_patch(bar)
    time = f"{format_time(abs(saved_s))} {'lost' if saved_s < 0 else 'saved'}"
    text = f"{time}, {share}".replace("-", "−")
    for part in (bar, plot.figure(i, max(*ends, 0.0), text, size=7.5)):
        plot.sheet.tag(part, title, phase=name)
