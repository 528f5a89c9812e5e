"""`python -m reports.workshop.figures`: draw the figures of the workshop's pages.

The figures are written into the package, beside the pages that show them. Each has a text diagram in the page, for the
terminal. The roofline shows the solutions of the exercises: their operations, bytes and times are in `roofline.json`,
and `--measure` measures them again on this machine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from mlpprof.cli.terminal import progress_bar
from mlpprof.errors import DataError
from mlpprof.files import write_atomically
from mlpprof.machine.roofline import Ceiling, run_bounds
from mlpprof.process import Progress, part_of
from mlpprof.profile.request import Request
from mlpprof.profile.variant import Settings, profile
from mlpprof.report.figures.canvas import (
    BAD,
    GOOD,
    INK,
    MUTED,
    ON_DARK,
    ON_LIGHT,
    PAPER,
    PHASE_COLORS,
    REST,
    WIDE,
    Sheet,
    standalone_svg,
    style,
)
from mlpprof.report.numbers import digits, format_time
from mlpprof.workshop.conditions import CLASSROOM
from mlpprof.workshop.exercises import MY_MLP, built_in
from mlpprof.workshop.solutions import solution_text
from reports.program import Program, out_option
from reports.studies.study import Study

MEASURED = Path("reports") / "workshop"
PAGES = Path("mlpprof") / "workshop" / "texts" / "figures"

ROW_COLORS = (PHASE_COLORS["fetch_batch"], PHASE_COLORS["loss"], PHASE_COLORS["backward"])
"""The colours of the three rows of the small array, so that the strip of memory shows where each row lies."""
ROWS, COLUMNS = 3, 4
PEAK, MEMORY, CACHE = "gemm_float32", "bandwidth_256MiB", "bandwidth_1MiB"
"""The limits that the roofline shows; the bandwidths are those of arrays that are in memory and in a cache."""


def main_figures(roofline: dict[str, Any]) -> dict[str, str]:
    """Return the figures as SVG, by file name. roofline: what `measured` returns."""
    with style():
        return {
            "memory-order.svg": standalone_svg(
                memory_order_sheet(),
                "C order and F order",
                "An array of 3 rows and 4 columns. In C order, memory holds row after row: the neighbours of a row are "
                "neighbours in memory. In F order, memory holds column after column: from one element of a row to the "
                "next, memory is 3 elements further.",
            ),
            "bias-row.svg": standalone_svg(
                bias_row_sheet(),
                "A row of ones costs a copy",
                "Above: A with 784 rows is copied into a new array with 785 rows, only to add a row of ones. Below: W "
                "is cut into its column of biases and its weights, which are views, and A is used as it is.",
            ),
            "roofline.svg": standalone_svg(
                roofline_sheet(roofline), "The solutions of the exercises under the roofline", roofline_words(roofline)
            ),
        }


def memory_order_sheet() -> Sheet:
    """Draw a 3 x 4 array in both orders, with the order of its elements in memory."""
    sheet = Sheet(WIDE, 2.9)
    axes = _blank(sheet, 20.4, 8.2)
    for left, name, words, order in (
        (0.3, "C order", "row after row: X[index]", "C"),
        (10.9, "F order", "column after column: X[index].T", "F"),
    ):
        axes.text(left, 7.75, name, weight="bold", size=10, va="center")
        axes.text(left + 2.4, 7.75, words, size=8.5, va="center", color=MUTED)
        place = np.arange(ROWS * COLUMNS).reshape((ROWS, COLUMNS), order=order)  # type: ignore[call-overload]
        centres = {}
        for i in range(ROWS):
            for j in range(COLUMNS):
                x, y = left + 2.2 + 1.3 * j, 5.9 - 1.3 * i
                _cell(axes, x, y, 1.2, ROW_COLORS[i], str(place[i, j]))
                centres[int(place[i, j])] = (x + 0.6, y + 0.6)
        path = np.array([centres[k] for k in range(ROWS * COLUMNS)])
        axes.plot(path[:, 0], path[:, 1], color=INK, lw=0.9, alpha=0.3, zorder=3)
        for k in range(ROWS * COLUMNS):
            row = int(np.argwhere(place == k)[0][0])
            _cell(axes, left + 0.75 * k, 1.35, 0.72, ROW_COLORS[row], str(k), size=7)
        axes.text(left, 2.35, "in memory", size=8, color=MUTED)
        step = int(place[0, 1] - place[0, 0])
        walk = "the next element is the neighbour" if step == 1 else f"the next element is {step} places further"
        axes.text(left, 0.55, f"along a row, {walk}", size=8.5, va="center", color=GOOD if step == 1 else BAD)
    return sheet


def bias_row_sheet() -> Sheet:
    """Draw the copy that a row of ones costs, and the slices that avoid it."""
    sheet = Sheet(WIDE, 3.5)
    axes = _blank(sheet, 20.4, 9.9)
    ones, bias = PHASE_COLORS["loss"], PHASE_COLORS["loss"]
    data, weights = PHASE_COLORS["fetch_batch"], PHASE_COLORS["backward"]
    axes.text(0.3, 9.5, "With a row of ones", weight="bold", size=10, va="center")
    _box(axes, 0.4, 5.6, 3.2, 2.6, data, "A\n784 x 200")
    axes.add_patch(FancyArrowPatch((3.9, 6.9), (6.9, 6.9), arrowstyle="-|>", mutation_scale=11, color=BAD, lw=1.5))
    axes.text(5.4, 7.2, "copy", size=9, ha="center", color=BAD)
    _box(axes, 7.2, 5.6, 3.2, 2.6, data, "copy of A")
    _box(axes, 7.2, 8.25, 3.2, 0.5, ones, "ones", size=7.5)
    axes.text(11.4, 7.2, "W  @", size=10, ha="center", va="center")
    axes.text(12.4, 7.2, "the new array, 785 x 200", size=9, va="center")
    axes.text(
        12.4,
        6.3,
        "627 kB read and 628 kB written (float32),\nand nothing is computed",
        size=8.5,
        va="center",
        color=BAD,
    )
    axes.text(0.3, 4.5, "With slices of W", weight="bold", size=10, va="center")
    _box(axes, 0.4, 1.6, 0.5, 1.6, bias, "")
    _box(axes, 0.95, 1.6, 3.2, 1.6, weights, "weights\n40 x 784")
    axes.text(0.4, 3.55, "W: biases in column 0", size=8, color=MUTED)
    axes.text(4.7, 2.4, "@", size=10, ha="center", va="center")
    _box(axes, 5.3, 1.1, 3.2, 2.6, data, "A\n784 x 200")
    axes.text(9.2, 2.4, "+", size=11, ha="center", va="center")
    _box(axes, 9.8, 1.6, 0.5, 1.6, bias, "")
    axes.text(12.4, 2.8, "W[:, 1:] @ A, then += W[:, :1]", size=9, va="center")
    axes.text(12.4, 1.9, "a slice is a view, so no array is copied", size=8.5, va="center", color=GOOD)
    return sheet


def roofline_sheet(measured: dict[str, Any]) -> Sheet:
    """Draw the solutions of the exercises, from the first version to the last, below the limits of the machine."""
    sheet = Sheet(WIDE, 3.9)
    axes = sheet.axes(0.6, 0.25, 0.35, 0.5)
    axes.set(xscale="log", yscale="log")
    low, high = 0.08, 40.0
    peak = measured["limits"][PEAK]
    for name, where, color, below in ((CACHE, "cache", MUTED, False), (MEMORY, "memory", INK, True)):
        rate = measured["limits"][name]
        x = np.array([low, peak / rate, high])
        axes.plot(x, np.minimum(peak, rate * x), color=color, lw=1.4 if below else 0.8)
        axes.annotate(
            f"{where}: {digits(rate)} GB/s",
            (2.2 * low, 2.2 * low * rate),
            xytext=(6, -9) if below else (-4, 5),
            textcoords="offset points",
            size=8,
            color=color,
            ha="left" if below else "right",
        )
    axes.text(high, 1.1 * peak, f"largest products, float32: {digits(peak)} GFLOP/s", ha="right")
    points = [
        (one["flop"] / one["bytes_moved"], 1e-9 * one["flop"] / one["step_s"], str(one["exercise"]), one["step_s"])
        for one in measured["solutions"]
    ]
    axes.plot([p[0] for p in points], [p[1] for p in points], color=REST, lw=1.0, zorder=2)
    for i, (intensity, gflops, number, step_s) in enumerate(points):
        is_end = i in (0, len(points) - 1)
        axes.plot(
            intensity, gflops, "o", color=PHASE_COLORS["update" if is_end else "forward"], markersize=13, zorder=3
        )
        axes.text(intensity, gflops, number, color=ON_DARK, size=8, ha="center", va="center", weight="bold", zorder=4)
        if is_end:
            axes.annotate(
                f"{'the first version' if i == 0 else 'after exercise 6'}: {format_time(step_s)} per step",
                (intensity, gflops),
                xytext=(12, -3),
                textcoords="offset points",
                size=8.5,
            )
    axes.set_xlim(low, high)
    axes.set_ylim(min(p[1] for p in points) / 2, 2.2 * peak)
    axes.grid(axis="y")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("floating-point operations per byte (both axes logarithmic)")
    axes.text(0.0, 1.02, "GFLOP/s", color=MUTED, size=8, va="bottom", transform=axes.transAxes)
    return sheet


def roofline_words(measured: dict[str, Any]) -> str:
    """Return what the roofline shows, for readers who cannot see it."""
    limits = measured["limits"]
    points = "; ".join(
        f"{one['exercise']}: {digits(1e-9 * one['flop'] / one['step_s'])} GFLOP/s" for one in measured["solutions"]
    )
    return (
        f"A point for each solution, on {measured['cpu']}, below a roof of {digits(limits[PEAK])} GFLOP/s for "
        f"products and a slope of {digits(limits[MEMORY])} GB/s for memory. By exercise: {points}."
    )


def _blank(sheet: Sheet, width: float, height: float) -> Axes:
    axes = sheet.axes(0.05, 0.05, 0.05, 0.05)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def _cell(axes: Axes, x: float, y: float, size_: float, color: str, words: str, size: float = 9) -> None:
    axes.add_patch(Rectangle((x, y), size_, size_, facecolor=color, edgecolor=PAPER, lw=1))
    axes.text(x + size_ / 2, y + size_ / 2, words, size=size, ha="center", va="center", color=ON_LIGHT, zorder=4)


def _box(axes: Axes, x: float, y: float, width: float, height: float, color: str, words: str, size: float = 9) -> None:
    axes.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor=PAPER, lw=1))
    axes.text(x + width / 2, y + height / 2, words, size=size, ha="center", va="center", color=ON_LIGHT)


def measure(progress: Progress) -> dict[str, Any]:
    """Profile the solution of each exercise, and return what the roofline shows.

    Limits are the best that was measured, so a step counts with its fast end (the 2.5 % quantile) too.
    """
    solved: Sequence[int] = [exercise.number for exercise in built_in().exercises if not exercise.is_free]
    found: dict[str, Any] = {"schema": 1, "solutions": []}
    with tempfile.TemporaryDirectory() as folder:
        trained, file = CLASSROOM.trained(Path(folder)), Path(folder).resolve() / MY_MLP
        settings = Settings([trained.batch], None, CLASSROOM.environment.threads, CLASSROOM.environment.native_blas)
        for i, number in enumerate(solved):
            file.write_text(solution_text(built_in(), number), encoding="utf-8")
            request = Request(str(file), trained.network, trained.source)
            part = part_of(progress, i / len(solved), 1 / len(solved), f"exercise {number}")
            run = profile(request, trained.name, settings, "python -m reports.workshop.figures", part)
            result, ceiling = run.results[0], Ceiling.of(run)
            bounds = run_bounds(run, result)
            if ceiling is None or bounds is None:
                raise DataError("the limits of this machine were not measured; type mlpprof calibrate, then try again")
            found["solutions"].append(
                {
                    "exercise": number,
                    "dtype": run.dtype,
                    "flop": sum(o.flop for o in result.operations),
                    "bytes_moved": sum(o.bytes_moved for o in result.operations),
                    "operations": sum(o.times for o in result.operations),
                    "step_s": result.step_s.low,
                    "bound_s": bounds.blas_s,
                }
            )
            found["limits"] = {name: ceiling.value(name) for name in (PEAK, MEMORY, CACHE)}
            found["cpu"] = str(run.machine.get("cpu_model_name", ""))
    return found


@click.command(cls=Program)
@click.option(
    "--measure", "measures", is_flag=True, help="Profile the solutions again for the roofline, on this machine."
)
@out_option(PAGES, "the figures")
def main(measures: bool, out: Path) -> None:
    """Draw the figures of the workshop's pages, from reports/workshop/roofline.json."""
    file = MEASURED / "roofline.json"
    if measures:
        study = Study.begin("figures", MEASURED)
        with progress_bar() as progress:
            found = measure(progress)
        found["circumstances"] = study.circumstances("reports.workshop")
        with write_atomically(file) as part:
            part.write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
    Study.begin("figures", out)
    for name, content in main_figures(json.loads(file.read_text(encoding="utf-8"))).items():
        with write_atomically(out / name) as part:
            part.write_text(content, encoding="utf-8")
        click.echo(f"wrote {out / name}")


if __name__ == "__main__":
    main(prog_name="python -m reports.workshop.figures")
