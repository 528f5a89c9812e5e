"""The study of scaling as a figure: points are measured, lines in the last panel are modelled."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlpprof.studies.scaling_model import Model
from mlpprof.studies.scaling_table import LEAST_EFFICIENCY, Cell, Measured

SIZE_INCHES = (11.5, 3.8)
COLOURS = {"threaded": "#b35806", "processes": "#542788", "mpi": "#1b7837"}
BATCHES = (500, 20_000, 1_000_000)
MOST_RANKS = 1000


def scaling_figure(
    measured: Measured, models: Mapping[str, Model], projected: str | None, projection: Model | None
) -> Figure:
    """Strong scaling, weak scaling, and the projection."""
    with mpl.rc_context({"svg.hashsalt": "mlpprof", "font.size": 8}):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        FigureCanvasAgg(figure)
        strong, weak, far = figure.subplots(1, 3)
        _points(strong, measured.strong, {cell: cell.batch for cell in measured.strong}, "batch")
        _modelled(strong, measured, models)
        most = max((cell.workers for cell in measured.strong), default=1)
        strong.plot([1, most], [1, most], color="0.7", linewidth=1, zorder=0)
        strong.set(title="strong scaling, measured (dotted: modelled)", xlabel="workers")
        strong.set_ylabel("times as fast as one process of chunked")
        _points(weak, measured.weak, {cell: cell.batch // cell.workers for cell in measured.weak}, "rows a worker")
        weak.axhline(1, color="0.7", linewidth=1, zorder=0)
        weak.set(title="weak scaling, measured", xlabel="workers", ylabel="efficiency")
        weak.set_ylim(bottom=0)
        far.set(title="modelled, not measured", xlabel="ranks", ylabel="efficiency", ylim=(0, 1.1), xscale="log")
        if projection is not None:
            ranks = np.unique(np.geomspace(2, MOST_RANKS, 60).astype(int)).tolist()
            for batch, style in zip(BATCHES, ("-", "--", "-."), strict=True):
                shares = [projection.efficiency(p, batch) for p in ranks]
                far.plot(ranks, shares, style, color=COLOURS.get(projected or "", "black"), label=f"batch {batch:,}")
            far.axhline(LEAST_EFFICIENCY, color="0.7", linewidth=1, zorder=0)
            far.legend(frameon=False, title=f"exchange of {projected}")
    return figure


def _points(axes: Axes, cells: Mapping[Cell, float], groups: Mapping[Cell, int], what: str) -> None:
    markers = dict(zip(sorted(set(groups.values())), "os^v", strict=False))
    for variant in dict.fromkeys(cell.variant for cell in cells):
        for group, marker in markers.items():
            own = sorted(cell for cell in cells if cell.variant == variant and groups[cell] == group)
            axes.plot(
                [cell.workers for cell in own],
                [cells[cell] for cell in own],
                marker=marker,
                color=COLOURS.get(variant, "black"),
                label=f"{variant}, {what} {group:,}",
            )
    axes.set_xticks(sorted({cell.workers for cell in cells}))
    axes.legend(frameon=False, fontsize=7)


def _modelled(axes: Axes, measured: Measured, models: Mapping[str, Model]) -> None:
    for variant, model in models.items():
        for batch in sorted({cell.batch for cell in measured.strong}):
            workers = sorted({cell.workers for cell in measured.strong if cell.workers > 1})
            shares = [model.speedup(p, batch) for p in workers]
            axes.plot(workers, shares, ":", color=COLOURS.get(variant, "black"), linewidth=1)
