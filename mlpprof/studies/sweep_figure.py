"""The sweep as small multiples: a column a rung, a row a batch size, each with depth and width of the hidden layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

PANEL_INCHES = (2.1, 1.55)
MOST = 4.0
"""Ratios from 1 / MOST to MOST have colours of their own; orange loses, violet wins."""

Cell = tuple[str, int, int, int]
"""Rung, hidden layers, neurons, batch."""


def sweep_figure(
    ratios: Mapping[Cell, float],
    rungs: Sequence[str],
    depths: Sequence[int],
    widths: Sequence[int],
    batches: Sequence[int],
    base: str,
) -> Figure:
    """How many times as fast as the base each rung is; the number stands in every field."""
    with mpl.rc_context({"svg.hashsalt": "mlpprof", "font.size": 8}):
        width, height = PANEL_INCHES
        figure = Figure(figsize=(width * len(rungs) + 1, height * len(batches) + 0.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(batches), len(rungs), squeeze=False)
        image = None
        for row, batch in enumerate(batches):
            for column, rung in enumerate(rungs):
                panel = axes[row, column]
                grid = [[ratios.get((rung, depth, n, batch), math.nan) for n in widths] for depth in depths]
                image = panel.imshow(grid, cmap="PuOr", norm=LogNorm(1 / MOST, MOST), aspect="auto", origin="lower")
                for i, line in enumerate(grid):
                    for j, ratio in enumerate(line):
                        strong = math.isfinite(ratio) and abs(math.log(ratio)) > 0.75 * math.log(MOST)
                        text = "" if math.isnan(ratio) else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
                        panel.text(j, i, text, ha="center", va="center", size=7, color="white" if strong else "black")
                panel.set_xticks(range(len(widths)), [f"{n:,}" for n in widths] if row == len(batches) - 1 else [])
                panel.set_yticks(range(len(depths)), [str(depth) for depth in depths] if column == 0 else [])
                panel.tick_params(length=0)
                if row == 0:
                    panel.set_title(rung, size=9)
                if column == 0:
                    panel.set_ylabel(f"batch {batch:,}\nhidden layers")
        for panel in axes[-1]:
            panel.set_xlabel("neurons a hidden layer")
        if image is not None:
            ticks = [1 / MOST, 0.5, 1, 2, MOST]
            bar = figure.colorbar(image, ax=axes, shrink=0.5, ticks=ticks, format=lambda x, _: f"{x:g}")
            bar.set_label(f"times as fast as {base}: violet wins, orange loses")
            bar.minorticks_off()
    return figure
