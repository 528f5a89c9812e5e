"""The roofline as a picture, PNG or SVG: arithmetic intensity against GFLOP/s, both logarithmic.

Roofs are the limits of the run's machine at its threads and precision. A circle is a statement, its area the time; a
square is a phase; the bar above a product is the best that its shape can reach. The only module that loads matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlpprof.errors import UsageError
from mlpprof.instrument.semantics import PRODUCT
from mlpprof.machine.limits.names import SIZES
from mlpprof.report.format import format_percent, plain
from mlpprof.report.roofline import Ceiling, Point, label_points, phase_points
from mlpprof.report.tables import batch_text
from mlpprof.results import BatchResult, Run

COLORS = {
    "fetch_batch": "#7a6fac",
    "forward": "#2c7fb8",
    "loss": "#8c8c8c",
    "backward": "#d95f0e",
    "update": "#3d9a50",
}
OTHER_COLOR = "#555555"
NAMED = 6
"""So many of the dearest statements are named in the picture."""
LARGEST_AREA = 900.0
FORMATS = ("png", "svg")


def roofline_picture(run: Run, picture_format: str) -> bytes:
    """A panel for every batch size. Raises UsageError for a run without counts or limits."""
    ceiling = Ceiling.of(run)
    results = [result for result in run.results if result.operations]
    if ceiling is None or not results:
        missing = "its limits were not measured" if results else "its operations were not counted"
        raise UsageError(f"the run of {run.variant.name} has no roofline: {missing}; profile again without --no-limits")
    figure = Figure(figsize=(9, 5.5 * len(results)), layout="constrained")
    for result, axes in zip(results, np.atleast_1d(figure.subplots(len(results), 1)), strict=True):
        _draw(axes, run, result, ceiling)
    buffer = io.BytesIO()
    # no date: the same run gives the same picture
    metadata = {"Date": None} if picture_format == "svg" else {}
    figure.savefig(buffer, format=picture_format, dpi=150, metadata=metadata)
    return buffer.getvalue()


def roofline_text(run: Run, result: BatchResult) -> str:
    """What the picture shows, in words, for those who cannot see it."""
    points = [p for p in label_points(result, Ceiling.of(run)) if p.share_of_limit is not None]
    dearest = sorted(points, key=lambda p: p.time_s, reverse=True)[:NAMED]
    told = "; ".join(f"{_name(p)} at {format_percent(p.share_of_limit)} of its limit" for p in dearest)
    return f"Roofline of {run.variant.name} at {batch_text(result)}: {told}"


def _draw(axes: Axes, run: Run, result: BatchResult, ceiling: Ceiling) -> None:
    phases = [p for p in phase_points(result, ceiling) if p.flop and p.gflops]
    labels = [p for p in label_points(result, ceiling) if p.flop and p.gflops]
    x = [p.intensity for p in (*phases, *labels)] or [1.0]
    low, high = min(0.03, min(x) / 2), max(60.0, 2 * max(x))
    _draw_roofs(axes, run, ceiling, low, high)
    longest = max([p.time_s for p in labels], default=1.0)
    for p in labels:
        color = COLORS.get(p.phase, OTHER_COLOR)
        area = 12 + LARGEST_AREA * p.time_s / longest
        axes.scatter(p.intensity, p.gflops or 0.0, s=area, color=color, alpha=0.45, linewidths=0)
        _draw_shape_limit(axes, p, ceiling, color)
    for p in phases:
        color = COLORS.get(p.phase, OTHER_COLOR)
        axes.scatter(p.intensity, p.gflops or 0.0, s=46, marker="s", color=color, edgecolors="white", label=p.phase)
    _name_dearest(axes, labels)
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    axes.set_xlabel("arithmetic intensity, floating-point operations a byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"{plain(run.variant.name)} on {run.network.text}, {run.dtype}, {batch_text(result)}", loc="left")
    axes.grid(True, which="major", alpha=0.25)
    axes.legend(loc="lower right", frameon=False, title="phases (squares)")


def _draw_roofs(axes: Axes, run: Run, ceiling: Ceiling, low: float, high: float) -> None:
    peak = ceiling.value(f"gemm_{run.dtype}") or 1.0
    x = np.geomspace(low, high, 200)
    for name, style in zip(SIZES, ("-", "--", "-.", (0, (5, 1)), ":"), strict=True):
        bandwidth = ceiling.value(f"bandwidth_{name}")
        if bandwidth is not None:
            axes.plot(x, np.minimum(peak, bandwidth * x), linestyle=style, color="#333333", linewidth=0.9)
    axes.annotate(f"largest products {peak:.0f} GFLOP/s", (high, peak), ha="right", va="bottom", fontsize=8)
    largest = list(SIZES)[-1]
    memory = ceiling.value(f"bandwidth_{largest}")
    if memory is not None:
        axes.annotate(
            f"memory {memory:.0f} GB/s", (low * 1.3, memory * low * 1.3), fontsize=8, va="top", ha="left", rotation=0
        )


def _draw_shape_limit(axes: Axes, point: Point, ceiling: Ceiling, color: str) -> None:
    """A bar at the rate that the shape of a statement's largest product can reach."""
    products = [o for o in point.operations if o.kind == PRODUCT and len(o.shape) == 3]
    if not products:
        return
    largest = max(products, key=lambda o: o.flop)
    p, k, q = largest.shape
    rate = ceiling.product_gflops(largest.dtype, p, k, q)
    if rate is not None:
        x = point.intensity
        axes.plot([x / 1.15, x * 1.15], [rate, rate], color=color, linewidth=2, solid_capstyle="butt")


def _name_dearest(axes: Axes, points: Sequence[Point]) -> None:
    for p in sorted(points, key=lambda p: p.time_s, reverse=True)[:NAMED]:
        text = f"{_name(p)}, {format_percent(p.share_of_limit)}"
        axes.annotate(text, (p.intensity, p.gflops or 0.0), xytext=(7, 4), textcoords="offset points", fontsize=7)


def _name(point: Point) -> str:
    return f"{plain(point.label or point.phase)}" + ("" if point.layer is None else f" {point.layer}")
