"""`python -m reports.studies.shapes`: the share of the peak that a product reaches, by the size of its layer.

The three products of a layer (forward, back, gradient) are measured for layers of n neurons with n inputs and for
batches of m samples: with NumPy's BLAS, the tiles of `blocked`, and each framework that is installed, on one thread.
The peak is the rate of large square products of NumPy's BLAS. `shapes_worker` says what a measured call contains.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import click
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from mlpprof.cli.terminal import progress_bar
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker, part_of
from mlpprof.report.numbers import digits
from reports.program import Program, markdown_table, out_option
from reports.studies.shapes_worker import MOST_LAYERS, PRODUCTS
from reports.studies.study import FOLDER, Study, write_figure

WORKER = "reports.studies.shapes_worker"
WIDTHS, QUICK_WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024), (8, 64, 256)
BATCHES, QUICK_BATCHES = (16, 64, 256, 1024, 4096), (16, 256)
ROUNDS, QUICK_ROUNDS = 7, 3
NARROW = 64
"""The summary counts layers of up to this many neurons as narrow."""


@dataclass(frozen=True)
class Row:
    """A product of a shape. gflops: library -> 1e9 floating-point operations per second."""

    product: str
    width: int
    batch: int
    gflops: Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """peak: GFLOP/s of large square products. versions: of the libraries. absent: library -> why it took no part."""

    peak: float
    rows: tuple[Row, ...]
    versions: Mapping[str, str]
    absent: Mapping[str, str]

    def shares(self, library: str) -> dict[tuple[str, int, int], float]:
        """(product, width, batch) -> the share of the peak that the library reached."""
        return {(row.product, row.width, row.batch): row.gflops[library] / self.peak for row in self.rows}


def measure(widths: Sequence[int], batches: Sequence[int], rounds: int, progress: Progress) -> Measured:
    """All shapes; the peak is the best of one measurement beside each width."""
    peaks: list[float] = []
    rows: list[Row] = []
    with Worker(WORKER, worker_environment(os.environ, 1, native_blas=True)) as worker:
        loaded = worker.call("load", part_of(progress, 0, 0.1))
        for i, width in enumerate(widths):
            part = part_of(progress, 0.1 + 0.9 * i / len(widths), 0.9 / len(widths))
            found = worker.call("measure", part, width=width, batches=batches, rounds=rounds)
            peaks.append(found["peak"])
            rows += [Row(**row) for row in found["rows"]]
    return Measured(max(peaks), tuple(rows), loaded["versions"], loaded["absent"])


def shapes_text(measured: Measured) -> str:
    """A summary, and a table of shares for each library, in Markdown."""
    lines = [
        "",
        f"Each figure is a share of the peak, {digits(measured.peak)} GFLOP/s: the rate of large square products of "
        "NumPy's BLAS, in float32. Layers have n neurons and n inputs, everything runs on one thread, and the best of "
        "several turns counts. The figures contain the time of calling the library: one call per product, and for JAX "
        f"one call for up to {MOST_LAYERS} products. `blocked` repeats a product within compiled code, from matrices "
        "that lie in its panels. A share above 100 % is faster than large squares.",
        "",
        *_summary(measured),
        *(f"\n{name} took no part: {why}" for name, why in measured.absent.items()),
    ]
    for library, version in measured.versions.items():
        lines += ["", f"## {library} ({version})", "", f"Percent of the peak: {' / '.join(PRODUCTS)}.", ""]
        lines += _table(measured, library)
    return "\n".join(lines) + "\n"


def _summary(measured: Measured) -> Iterator[str]:
    best = [max(row.gflops, key=lambda name: row.gflops[name]) for row in measured.rows]
    rows = []
    for library in measured.versions:
        shares = measured.shares(library)
        narrow, wide = (
            [share for (_, width, _), share in shares.items() if (width <= NARROW) == is_narrow]
            for is_narrow in (True, False)
        )
        means = [f"{100 * geometric_mean(part):.0f} %" if part else "" for part in (narrow, wide)]
        rows.append([library, *means, f"{best.count(library)} of {len(best)}"])
    header = ["", f"mean share, up to {NARROW} neurons", "mean share, wider layers", "fastest at so many shapes"]
    yield from markdown_table(header, rows)


def _table(measured: Measured, library: str) -> Iterator[str]:
    shares = measured.shares(library)
    widths, batches = _sizes(measured)
    rows = []
    for n in widths:
        cells = (" / ".join(f"{100 * shares[kind, n, m]:.0f}" for kind in PRODUCTS) for m in batches)
        rows.append([f"{n:,}", *cells])
    yield from markdown_table(["neurons", *(f"batch {m:,}" for m in batches)], rows)


def _sizes(measured: Measured) -> tuple[list[int], list[int]]:
    return sorted({row.width for row in measured.rows}), sorted({row.batch for row in measured.rows})


def shapes_figure(measured: Measured) -> Figure:
    """A field for each library and product: its share of the peak by width and batch, as a number and a colour."""
    widths, batches = _sizes(measured)
    with mpl.rc_context({"font.size": 7}):
        size = (0.9 + 2.1 * len(measured.versions), 0.6 + 2.0 * len(PRODUCTS))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(PRODUCTS), len(measured.versions), squeeze=False, sharex=True, sharey=True)
        for i, kind in enumerate(PRODUCTS):
            for j, library in enumerate(measured.versions):
                shares = measured.shares(library)
                values = np.array([[100 * shares[kind, n, m] for m in batches] for n in widths])
                field = axes[i, j]
                field.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto", origin="lower")
                for (y, x), value in np.ndenumerate(values):
                    color = "white" if value < 60 else "black"
                    field.text(x, y, f"{value:.0f}", ha="center", va="center", color=color)
                field.set_xticks(range(len(batches)), [f"{m:,}" for m in batches])
                field.set_yticks(range(len(widths)), [f"{n:,}" for n in widths])
                if i == 0:
                    field.set_title(library)
                if i == len(PRODUCTS) - 1:
                    field.set_xlabel("samples in the batch")
                if j == 0:
                    field.set_ylabel(f"{kind}: neurons of the layer")
        figure.suptitle(f"percent of the peak, {digits(measured.peak)} GFLOP/s, on one thread")
    return figure


@click.command(cls=Program)
@click.option("--quick", is_flag=True, help="Few shapes and rounds, which take less than a minute.")
@out_option(FOLDER, "shapes.md, .json, .png and .svg")
def main(quick: bool, out: Path) -> None:
    """Measure the share of the peak of a layer's products by its width and batch; write the tables and figures."""
    study = Study.begin("shapes", out)
    widths, batches, rounds = (QUICK_WIDTHS, QUICK_BATCHES, QUICK_ROUNDS) if quick else (WIDTHS, BATCHES, ROUNDS)
    with progress_bar() as progress:
        measured = measure(widths, batches, rounds, progress)
    document: dict[str, Any] = {
        "peak_gflops": measured.peak,
        "versions": measured.versions,
        "not_taking_part": measured.absent,
        "rows": measured.rows,
    }
    caption = "The share of the peak that each library reaches, by the width of the layer and the batch."
    write_figure(out, "shapes", shapes_figure(measured), caption)
    study.end(shapes_text(measured), document, "# The products of a layer, by its shape\n\n")


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.shapes")
