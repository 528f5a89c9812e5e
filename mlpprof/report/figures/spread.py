"""Raw samples as strips of dots, and the time per sample by batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from mlpprof.report.figures.canvas import ACCENT, INK, MUTED, WIDE, Sheet, series_style, short
from mlpprof.report.figures.rows import round_ticks, row_plot
from mlpprof.report.numbers import format_number, format_time

DRAWN = 160
"""A strip shows at most this many points, which have its quantiles."""
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Strip:
    """Raw samples of one kind of timing; reference_s: the time that counts as 100 %."""

    name: str
    number: int
    samples_s: NDArray[np.float64]
    reference_s: float


def strip_rows(strips: Sequence[Strip], width: float, xlabel: str) -> Sheet:
    """A row per strip: a dot is a sample, the bar is the median, and samples beyond the axis are counted at its end."""
    names, tags = [strip.name for strip in strips], [{"rung": strip.number} for strip in strips]
    plot = row_plot(names, width, row=0.3, right=0.6, narrow_right=0.45, xlabel=xlabel, tags=tags)
    ratios = [strip.samples_s[np.isfinite(strip.samples_s)] / strip.reference_s for strip in strips]
    low = min(float(np.quantile(ratio, 0.01)) for ratio in ratios)
    high = max(float(np.quantile(ratio, 0.95)) for ratio in ratios)
    low, high = min(low, 0.97) - 0.01, min(max(high, 1.03) + 0.02, 2.5)
    plot.axes.set_xlim(low, high)
    plot.axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    for i, (strip, ratio) in enumerate(zip(strips, ratios, strict=True)):
        y = plot.y(i)
        shown = thinned(ratio)
        shown = shown[(shown >= low) & (shown <= high)]
        jitter = (np.arange(len(shown)) * GOLDEN % 1.0 - 0.5) * 1.7 * plot.half
        dots = plot.axes.plot(
            shown, y + jitter, linestyle="none", marker="o", markersize=2.5, markeredgewidth=0, color=ACCENT, alpha=0.45
        )[0]
        title = f"{strip.name}: {len(ratio)} samples, median {format_time(float(np.median(strip.samples_s)))}"
        plot.sheet.tag(dots, title, rung=strip.number)
        median = float(np.median(ratio))
        bar = plot.axes.plot((median, median), (y - plot.half, y + plot.half), color=INK, lw=1.6)[0]
        plot.sheet.tag(bar, title, rung=strip.number)
        beyond = int(np.sum(ratio > high))
        if beyond:
            text = plot.axes.text(1.01, y, f"{format_number(beyond)} →", size=7, va="center", color=MUTED)
            text.set_transform(plot.axes.get_yaxis_transform())
            plot.sheet.tag(text, f"{beyond} samples beyond the axis", rung=strip.number)
    return plot.sheet


def thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `DRAWN` of the values, taken evenly from their order by size."""
    ordered = np.sort(values)
    if len(ordered) > DRAWN:
        ordered = ordered[np.linspace(0, len(ordered) - 1, DRAWN).round().astype(int)]
    return ordered


@dataclass(frozen=True)
class Curve:
    """A variant's time per sample; points: (batch, median, low, high), seconds per sample, by batch size.

    With other `Axes`, the points have their size in place of the batch, and seconds of their time.
    """

    name: str
    number: int
    points: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True)
class Axes:
    """The names of both axes. at: the word before the size of a point, as 'batch' in '200 µs at batch 30'."""

    time: str = "time per sample"
    size: str = "batch size"
    at: str = "batch"


BY_BATCH = Axes()


def scaling_curves(curves: Sequence[Curve], width: float, shown: Axes = BY_BATCH) -> Sheet:
    """A line per variant on two logarithmic axes: it is flat where twice the batch takes twice the time."""
    is_narrow = width < WIDE
    sheet = Sheet(width, (2.9 if is_narrow else 3.4) + (0.17 * len(curves) if is_narrow else 0))
    below = 0.5 + (0.17 * len(curves) if is_narrow else 0)
    axes = sheet.axes(0.75, 0.15 if is_narrow else 1.6, 0.3, below)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(axis="y")
    ends = []
    for i, curve in enumerate(curves):
        color, marker = series_style(i)
        batch, median, low, high = (np.array(column) for column in zip(*curve.points, strict=True))
        band = axes.fill_between(batch, low, high, color=color, alpha=0.15, lw=0)
        sheet.tag(band, rung=curve.number)
        line = axes.plot(batch, median, color=color, marker=marker, markersize=4.5, lw=1.6)[0]
        texts = ", ".join(f"{format_time(s)} at {shown.at} {int(m):,}" for m, s in zip(batch, median, strict=True))
        sheet.tag(line, f"{curve.name}, {shown.time}: {texts}", rung=curve.number)
        ends.append((float(median[-1]), float(batch[-1]), curve, color, marker))
    batches = sorted({point[0] for curve in curves for point in curve.points})
    axes.set_xticks(batches, [f"{m:,}" for m in batches])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda s, _: format_time(float(s))))
    low_s, high_s = axes.get_ylim()
    axes.set_yticks(round_ticks(low_s, high_s, 8, ((1, 2, 5), (1, 3), (1,))))
    axes.set_ylim(low_s, high_s)
    axes.set_xlabel(f"{shown.size} (both axes logarithmic)")
    axes.text(0.0, 1.03, shown.time, color=MUTED, size=8, va="bottom", transform=axes.transAxes)
    _name_ends(sheet, axes.get_ylim(), ends)
    return sheet


def _name_ends(sheet: Sheet, limits: tuple[float, float], ends: Sequence[tuple[float, float, Curve, str, str]]) -> None:
    """Write the name of each line beside its end, without overlap; on a phone, in a list below."""
    axes = sheet.figure.axes[0]
    if sheet.is_narrow:
        for i, (_, _, curve, color, marker) in enumerate(ends):
            y = (0.17 * (len(ends) - i) - 0.06) / sheet.height
            key = sheet.figure.text(0.06, y, _GLYPHS[marker], color=color, size=8, va="center")
            text = sheet.figure.text(0.12, y, short(curve.name), color=INK, size=8, va="center")
            sheet.tag(key, rung=curve.number)
            sheet.tag(text, rung=curve.number)
        return
    low, high = np.log(limits[0]), np.log(limits[1])
    gap, place = 0.055, 1.0
    for median, _, curve, color, marker in sorted(ends, key=lambda end: -end[0]):
        place = min((np.log(median) - low) / (high - low), place - gap if place < 1.0 else 1.0)
        text = axes.text(
            1.015, place, f"{_GLYPHS[marker]} ", color=color, size=8, va="center", transform=axes.transAxes
        )
        name = axes.text(1.055, place, short(curve.name, 20), color=INK, size=8, va="center", transform=axes.transAxes)
        sheet.tag(text, rung=curve.number)
        sheet.tag(name, rung=curve.number)


_GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖"}
