"""The roofline as a picture: arithmetic intensity against GFLOP/s, both logarithmic.

The roofs are the limits of the run's machine at its threads and precision, with a diagonal for every working set from
cache to memory. A circle is a statement, and its area is the time; a square is a phase; a bar is the best rate of a
product's shape. Operations that compute nothing, such as a gather or a copy, are only in the tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.machine.limits import SIZES
from mlpprof.machine.roofline import Ceiling, Point, label_points, phase_points
from mlpprof.report.figures.canvas import INK, MUTED, PAPER, POINTS, WIDE, Sheet, phase_color, short, text_width
from mlpprof.report.numbers import digits, format_percent, format_time, of_layer
from mlpprof.report.sentences import batch_text
from mlpprof.results import BatchResult, Run

NAMED = 6
"""This many of the slowest statements are named; all statements show their figures under the pointer."""
NAME_GAP = 0.045
"""Two names are at least this far apart, as a share of the height of the picture."""
LARGEST_AREA = 420.0
SMALLEST_AREA = 8.0


def has_roofline(run: Run, result: BatchResult) -> bool:
    """Whether the operations of a batch were counted and its run has limits."""
    return Ceiling.of(run) is not None and any(operation.flop for operation in result.operations)


def roofline_title(run: Run, result: BatchResult) -> str:
    """'Roofline of cached, batch 500, float32'."""
    batch = f", {batch_text(result)}" if result.batch else ""
    return f"Roofline of {run.variant.name}{batch}, {run.dtype}"


def roofline_text(run: Run, result: BatchResult) -> str:
    """What the picture shows, in words, for readers who cannot see it."""
    points = label_points(result, Ceiling.of(run)) or phase_points(result, Ceiling.of(run))
    slowest = sorted((p for p in points if p.share_of_limit), key=lambda p: p.time_s, reverse=True)[:NAMED]
    return "Points under the roofs of this machine. The slowest: " + "; ".join(
        f"{_name(p)} in {p.phase} at {format_percent(p.share_of_limit)} of its limit" for p in slowest
    )


def roofline_sheet(run: Run, result: BatchResult, width: float) -> Sheet:
    """The picture of one batch size, for which `has_roofline` is true."""
    ceiling = Ceiling.of(run)
    assert ceiling is not None
    sheet = Sheet(width, 0.62 * width if width > WIDE / 2 else 1.05 * width)
    axes = sheet.axes(0.6, 0.2, 0.25, 0.5)
    axes.set(xscale="log", yscale="log")
    phases = [p for p in phase_points(result, ceiling) if p.flop and p.gflops]
    labels = [p for p in label_points(result, ceiling) if p.flop and p.gflops]
    shown = (*phases, *labels)
    low, high = min(0.03, *(p.intensity / 2 for p in shown)), max(60.0, *(2 * p.intensity for p in shown))
    _draw_roofs(axes, run, ceiling, low, high, sheet.is_narrow)
    _draw_statements(sheet, axes, labels, ceiling)
    for p in phases:
        square = axes.plot(
            p.intensity,
            p.gflops or 0.0,
            marker="s",
            markersize=6,
            color=phase_color(p.phase),
            markeredgecolor=PAPER,
            zorder=4,
        )[0]
        sheet.tag(square, _words(p), phase=p.phase)
    axes.set_xlim(low, high)
    bottom = min((p.gflops or 1.0) for p in shown) / 2
    axes.set_ylim(bottom, 2 * (ceiling.value(f"gemm_{run.dtype}") or 1.0))
    axes.grid(axis="y")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("floating-point operations per byte (both axes logarithmic)")
    axes.text(0.0, 1.02, "GFLOP/s", color=MUTED, size=8, va="bottom", transform=axes.transAxes)
    if not sheet.is_narrow:
        x = 1.0
        for p in reversed(phases):
            words = f"■ {short(p.phase, 16)}"
            axes.text(x, 1.02, words, size=7.5, ha="right", color=phase_color(p.phase)).set_transform(axes.transAxes)
            x -= max(0.13, (text_width(words, 7.5) + 8) / (POINTS * width))
        _name_slowest(axes, labels)
    return sheet


def _draw_roofs(axes: Axes, run: Run, ceiling: Ceiling, low: float, high: float, is_narrow: bool) -> None:
    peak = ceiling.value(f"gemm_{run.dtype}") or 1.0
    known = [(name, rate) for name in SIZES if (rate := ceiling.value(f"bandwidth_{name}")) is not None]
    for name, rate in known:
        is_memory = name == known[-1][0]
        x = np.array([low, min(max(peak / rate, low), high), high])
        axes.plot(x, np.minimum(peak, rate * x), color=INK if is_memory else MUTED, lw=1.2 if is_memory else 0.5)
    axes.text(high, peak * 1.08, f"largest products: {digits(peak)} GFLOP/s ", ha="right", va="bottom", size=7.5)
    if known and not is_narrow:
        rate = known[-1][1]
        axes.text(low * 1.1, rate * low * 0.75, f"memory: {digits(rate)} GB/s", va="top", size=7.5, color=MUTED)


def _draw_statements(sheet: Sheet, axes: Axes, points: Sequence[Point], ceiling: Ceiling) -> None:
    longest = max((p.time_s for p in points), default=1.0)
    for p in points:
        color, y = phase_color(p.phase), p.gflops or 0.0
        area = SMALLEST_AREA + LARGEST_AREA * p.time_s / longest
        circle = axes.scatter(p.intensity, y, s=area, color=color, alpha=0.5, linewidths=0, zorder=3)
        sheet.tag(circle, _words(p), phase=p.phase)
        products = [o for o in p.operations if o.kind == PRODUCT and len(o.shape) == 3]
        if products:
            largest = max(products, key=lambda o: o.flop)
            rate = ceiling.product_gflops(largest.dtype, *_sizes(largest.shape))
            if rate is not None:
                ends = (p.intensity / 1.12, p.intensity * 1.12)
                axes.plot(ends, (rate, rate), color=color, lw=2, solid_capstyle="butt", zorder=2)


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    p, k, q = shape
    return p, k, q


def _name_slowest(axes: Axes, points: Sequence[Point]) -> None:
    """Write names beside the slowest statements, towards the middle, and move them apart where they would overlap."""
    slowest = sorted(points, key=lambda p: p.time_s, reverse=True)[:NAMED]
    to_axes = axes.transData + axes.transAxes.inverted()
    places = {p: to_axes.transform((p.intensity, p.gflops or 0.0)) for p in slowest}
    for is_right in (False, True):
        side = [p for p in slowest if (places[p][0] > 0.5) == is_right]
        lowest = 2.0
        for p in sorted(side, key=lambda p: places[p][1], reverse=True):
            x, y = places[p]
            lowest = min(y - (0.24 if is_right else 0.02), lowest - NAME_GAP)
            axes.annotate(
                f"{short(_name(p), 26)}, {format_percent(p.share_of_limit)}",
                (p.intensity, p.gflops or 0.0),
                xytext=(x + (-0.06 if is_right else 0.06), lowest),
                textcoords="axes fraction",
                arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.4},
                size=7,
                color=INK,
                ha="right" if is_right else "left",
                va="center",
            )


def _words(point: Point) -> str:
    return (
        f"{_name(point)}, {point.phase}: {format_time(point.time_s)}, {digits(point.gflops or 0.0)} GFLOP/s, "
        f"{format_percent(point.share_of_limit)} of its limit"
    )


def _name(point: Point) -> str:
    return of_layer(point.label or point.phase, point.layer)
