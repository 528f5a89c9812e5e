"""`python -m reports.studies.sweep`: where each rung wins and loses against `sliced`, over shapes and batch sizes.

784 inputs, 1 to 4 hidden layers of 8 to 1,024 neurons, 10 outputs, batch 1 to 20,000. The rungs of a cell take turns in
one process; one process does all cells, shortly each: this is a map, and `mlpprof compare` measures a point of it.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
import psutil
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mlpprof.catalog import ladder
from mlpprof.compare import block_log_ratio, replicate_log_ratio
from mlpprof.compare.entrants import Environment, refusals
from mlpprof.errors import MlpprofError
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker
from mlpprof.profile.request import Request
from mlpprof.report.numbers import digits
from mlpprof.workloads import resolve
from reports.studies.study import (
    FOLDER,
    circumstances,
    circumstances_text,
    part_of,
    prepare_folder,
    progress_bar,
    write_document,
    write_figure,
)

# The sweep as small multiples: a column a rung, a row a batch size, each with depth and width of the hidden layers.


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


WORKER = "reports.studies.sweep_worker"
BASE = "sliced"
RUNGS = ("tanh_sigmoid", "buffered", "chunked", "fused_update", "compiled")
SUPPOSED_FLOP_PER_S = 5e10
"""Only for how many blocks a cell is worth."""


@dataclass(frozen=True)
class Grid:
    """What is crossed with what."""

    depths: tuple[int, ...] = (1, 2, 3, 4)
    widths: tuple[int, ...] = (8, 32, 128, 1024)
    batches: tuple[int, ...] = (1, 32, 500, 20_000)


QUICK = Grid((1, 3), (8, 128), (1, 500))


def blocks_for(parameters: int, batch: int) -> int:
    """Fewer blocks the longer a step is: 6 flop a weight and sample."""
    step_s = 6 * parameters * batch / SUPPOSED_FLOP_PER_S
    return 4 if step_s < 0.02 else 2 if step_s < 0.2 else 1


def measure(grid: Grid, rungs: Sequence[str], progress: Progress) -> tuple[dict[Cell, float], dict[str, float]]:
    """Speedup over the base of every rung in every cell, and the base's seconds a step by 'depth x width, batch'."""
    workload = resolve("digits")
    environment = worker_environment(os.environ, 1, native_blas=True)
    ratios: dict[Cell, float] = {}
    base_s: dict[str, float] = {}
    cells = [(depth, n, m) for m in grid.batches for n in grid.widths for depth in grid.depths]
    with Worker(WORKER, environment) as worker:
        for i, (depth, n, m) in enumerate(cells):
            network = replace(workload.network, layers=(784, *(depth * (n,)), 10), rate=0.01)
            requests = [Request(name, network, workload.source, "float32").to_json() for name in (BASE, *rungs)]
            answer = worker.call(
                "cell",
                part_of(progress, i / len(cells), 1 / len(cells), f"{network.text}, batch {m:,}"),
                requests=requests,
                batch=m,
                blocks=blocks_for(network.parameter_count, m),
                seed=i,
            )
            turns_s = np.array(answer)
            base_s[f"{depth} x {n}, {m}"] = float(np.nanmedian(turns_s[:, 0]))
            for j, rung in enumerate(rungs, start=1):
                raced = [block[[0, j]] for block in turns_s if not np.isnan(block[[0, j]]).any()]
                ratios[rung, depth, n, m] = float(np.exp(replicate_log_ratio([block_log_ratio(*b) for b in raced])))
    return ratios, base_s


def sweep_text(ratios: Mapping[Cell, float], base_s: Mapping[str, float], grid: Grid, rungs: Sequence[str]) -> str:
    """A row a cell, and for every rung where it wins most and loses most."""
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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="8 cells instead of 64: a look in less than a minute.")
@click.option("--variant", "variants", multiple=True, help="Rungs instead of the usual ones; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True)
@click.pass_context
def main(ctx: click.Context, quick: bool, variants: tuple[str, ...], out: Path) -> None:
    """Race the fast rungs over shapes and batch sizes; writes sweep.png, sweep.svg, sweep.txt and sweep.json."""
    begun, load = datetime.now(UTC), psutil.getloadavg()[0]
    grid = QUICK if quick else Grid()
    try:
        folder = prepare_folder(out)
        with progress_bar() as progress:
            network = resolve("digits")
            names = variants or tuple(name for name in RUNGS if name in ladder())
            requests = [Request(name, network.network, network.source, "float32") for name in names]
            refused = refusals(requests, Environment(1, native_blas=True), progress)
            rungs = [name for name in names if name not in refused]
            ratios, base_s = measure(grid, rungs, progress)
    except MlpprofError as error:
        click.echo(f"mlpprof: {error}", err=True)
        ctx.exit(error.exit_code)
    found = circumstances(shlex.join(["python", "-m", "reports.studies.sweep", *sys.argv[1:]]), begun, load)
    text = circumstances_text(found) + sweep_text(ratios, base_s, grid, rungs)
    text += "".join(f"  {name} did not take part: {why}\n" for name, why in refused.items())
    cells = [dict(zip(("rung", "layers", "neurons", "batch"), c, strict=True), ratio=r) for c, r in ratios.items()]
    write_document(folder, "sweep", text, {"schema": 1, **found, "base": BASE, "base_step_s": base_s, "cells": cells})
    caption = f"How many times as fast as {BASE} each rung is, by hidden layers, their neurons, and batch."
    figure = sweep_figure(ratios, rungs, grid.depths, grid.widths, grid.batches, BASE)
    write_figure(folder, "sweep", figure, caption)
    click.echo(text)


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.sweep")
