"""The figures of reproduced sources as PNG and SVG.

Colours are the eight of Okabe and Ito, which colour-blind readers can distinguish; a reference curve is also dashed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from mlpprof.files import write_atomically
from mlpprof.results.reproduction import Figure, Panel

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
PANEL_INCHES = (4.6, 3.6)
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "mlpprof",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
"""The salt makes the ids in an SVG the same each time, so that the same figure is the same file."""


def write_figure(figure: Figure, folder: Path) -> tuple[Path, Path]:
    """Write NAME.png and NAME.svg into the folder; returns both paths. Raises UsageError where that fails."""
    png, svg = folder / f"{figure.name}.png", folder / f"{figure.name}.svg"
    with mpl.rc_context(SETTINGS):
        canvas = figure_canvas(figure)
        with write_atomically(png) as temporary:
            canvas.savefig(temporary, format="png", metadata={"Description": figure.caption, "Software": None})
        with write_atomically(svg) as temporary:
            canvas.savefig(temporary, format="svg", metadata={"Description": figure.caption, "Date": None})
    return png, svg


def figure_canvas(figure: Figure) -> Canvas:
    """All panels of a figure, side by side."""
    width, height = PANEL_INCHES
    canvas = Canvas(figsize=(width * len(figure.panels), height), layout="constrained")
    for panel, axes in zip(figure.panels, canvas.subplots(1, len(figure.panels), squeeze=False)[0], strict=True):
        _draw(panel, axes)
    return canvas


def _draw(panel: Panel, axes: Axes) -> None:
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    for i, curve in enumerate(panel.curves):
        colour = COLOURS[i % len(COLOURS)]
        few = len(curve.x) <= 12
        axes.plot(
            curve.x,
            curve.y,
            color=colour,
            # a dashed reference is drawn on top, so that a curve that it covers shows between the dashes
            zorder=3 if curve.dashed else 2,
            marker="o" if few else "",
            markersize=3,
            dashes=(3, 3) if curve.dashed else (),
            linewidth=1.2 if curve.dashed else 1.8,
            label=curve.label,
        )
        if curve.low and curve.high:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    if panel.band:
        axes.fill_between([], [], [], color="#888888", alpha=0.3, linewidth=0, label=f"band: {panel.band}")
    if panel.y_limits is not None:
        values = [y for curve in panel.curves for y in curve.y if math.isfinite(y)]
        axes.set_ylim(min(panel.y_limits[0], *values), max(panel.y_limits[1], *values))
    axes.grid(alpha=0.25, linewidth=0.5)
    if len(panel.curves) > 1:
        axes.legend(frameon=False, fontsize=7)
