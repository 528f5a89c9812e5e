"""`python -m reports.studies.sweep`: on which networks and batch sizes each rung is faster than `sliced`.

The networks have 784 inputs, 1 to 4 hidden layers of 8 to 1,024 neurons, and 10 outputs; batches have 1 to 20,000
samples. All rungs take turns in one process, for a short time per network and batch size. The result is a map; use
`mlpprof compare` to measure one point of it well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mlpprof.catalog import ladder
from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.decide import block_log_ratios, replicate_log_ratio
from mlpprof.compare.entrants import Environment, VariantSubject, refusals
from mlpprof.compare.race import TURN_S
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.numbers import digits
from mlpprof.workloads import resolve
from reports.program import Program
from reports.studies.study import FOLDER, Study, part_of, write_figure

PANEL_INCHES = (2.1, 1.55)
MOST = 4.0
"""Colours show ratios from 1 / MOST to MOST: orange where a rung loses, violet where it wins."""

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
    """How many times as fast as the base each rung is: one column per rung, one row per batch size.

    Each panel shows the depths and the widths of the hidden layers, with the ratio in every field.
    """
    with mpl.rc_context({"font.size": 8}):
        width, height = PANEL_INCHES
        figure = Figure(figsize=(width * len(rungs) + 1, height * len(batches) + 0.8), layout="constrained")
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


BASE = "sliced"
RUNGS = ("tanh_sigmoid", "buffered", "chunked", "fused_update", "compiled")
SUPPOSED_FLOP_PER_S = 5e10
"""The number of blocks per cell is chosen as if the machine computed this fast."""


@dataclass(frozen=True)
class Grid:
    """The depths, widths and batch sizes that are combined."""

    depths: tuple[int, ...] = (1, 2, 3, 4)
    widths: tuple[int, ...] = (8, 32, 128, 1024)
    batches: tuple[int, ...] = (1, 32, 500, 20_000)


QUICK = Grid((1, 3), (8, 128), (1, 500))


def blocks_for(parameters: int, batch: int) -> int:
    """The number of blocks of a cell, fewer for longer steps, which take 6 operations per weight and sample."""
    step_s = 6 * parameters * batch / SUPPOSED_FLOP_PER_S
    return 4 if step_s < 0.02 else 2 if step_s < 0.2 else 1


def measure(grid: Grid, rungs: Sequence[str], progress: Progress) -> tuple[dict[Cell, float], dict[str, float]]:
    """Speedup of every rung compared with the base in every cell, and the base's seconds per step.

    The keys of the latter read 'depth x width, batch'.
    """
    workload = resolve("digits")
    ratios: dict[Cell, float] = {}
    base_s: dict[str, float] = {}
    cells = [(depth, n, m) for m in grid.batches for n in grid.widths for depth in grid.depths]
    with Environment(1, native_blas=True).worker() as worker:
        for i, (depth, n, m) in enumerate(cells):
            part = part_of(progress, i / len(cells), 1 / len(cells), f"{depth} x {n}, batch {m:,}")
            network = replace(workload.network, layers=(784, *(depth * (n,)), 10), rate=0.01)
            for key, name in enumerate((BASE, *rungs)):
                subject = VariantSubject(Request(name, network, workload.source, "float32"), m)
                worker.call("load", part, key=key, subject=subject.to_json())
            blocks = blocks_for(network.parameter_count, m)
            keys = list(range(len(rungs) + 1))
            answer = worker.call("race", part, keys=keys, blocks=blocks, seed=i, turn_s=TURN_S)
            turns_s = np.array(answer["turns_s"])
            base_s[f"{depth} x {n}, {m}"] = float(np.nanmedian(turns_s[:, 0]))
            for j, rung in enumerate(rungs, start=1):
                ratios[rung, depth, n, m] = math.exp(replicate_log_ratio(block_log_ratios(turns_s, 0, j)))
    return ratios, base_s


def sweep_text(ratios: Mapping[Cell, float], base_s: Mapping[str, float], grid: Grid, rungs: Sequence[str]) -> str:
    """One row per cell, and for every rung the cells with its highest and its lowest ratio."""
    lines = [f"\ntimes as fast as {BASE}:", "  batch  layers  neurons " + "".join(f"{rung:>14}" for rung in rungs)]
    for m in grid.batches:
        for n in grid.widths:
            for depth in grid.depths:
                cells = (ratios[rung, depth, n, m] for rung in rungs)
                lines.append(f"{m:>7,} {depth:>7} {n:>8,} " + "".join(f"{digits(ratio):>14}" for ratio in cells))
    lines.append("")
    for rung in rungs:
        own = {cell: ratio for cell, ratio in ratios.items() if cell[0] == rung}
        (_, d, n, m), (_, e, k, b) = max(own, key=lambda c: own[c]), min(own, key=lambda c: own[c])
        wins = sum(ratio > 1 for ratio in own.values())
        lines.append(
            f"  {rung}: faster in {wins} of {len(own)}; {digits(max(own.values()))} x at {d} x {n:,}, batch {m:,}; "
            f"{digits(min(own.values()))} x at {e} x {k:,}, batch {b:,}"
        )
    return "\n".join(lines) + "\n"


@click.command(cls=Program)
@click.option("--quick", is_flag=True, help="8 cells instead of 64, which takes less than a minute.")
@click.option("--variant", "variants", multiple=True, help="Race this rung instead of the usual ones; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True)
def main(quick: bool, variants: tuple[str, ...], out: Path) -> None:
    """Race the fast rungs on many networks and batch sizes; write sweep.png, .svg, .txt and .json."""
    grid = QUICK if quick else Grid()
    study = Study.begin("sweep", out)
    with progress_bar() as progress:
        network = resolve("digits")
        names = variants or tuple(name for name in RUNGS if name in ladder())
        requests = [Request(name, network.network, network.source, "float32") for name in names]
        refused = refusals(requests, Environment(1, native_blas=True), progress)
        rungs = [name for name in names if name not in refused]
        ratios, base_s = measure(grid, rungs, progress)
    text = sweep_text(ratios, base_s, grid, rungs)
    text += "".join(f"  {name} did not take part: {why}\n" for name, why in refused.items())
    cells = [dict(zip(("rung", "layers", "neurons", "batch"), c, strict=True), ratio=r) for c, r in ratios.items()]
    caption = f"How many times as fast as {BASE} each rung is, by hidden layers, their neurons, and batch."
    figure = sweep_figure(ratios, rungs, grid.depths, grid.widths, grid.batches, BASE)
    write_figure(out, "sweep", figure, caption)
    study.end(text, {"base": BASE, "base_step_s": base_s, "cells": cells})


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.sweep")
