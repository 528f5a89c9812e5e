"""The figures of `mlpprof sweep`, for each class of machine: the fastest target of every setting, and scaling.

Scaling has a line for each target, by batch size or by the size of the network, where all else is the same. Times of
different classes of machines are never in one figure of scaling.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from statistics import median

import matplotlib as mpl
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from mlpprof.report.figures.canvas import (
    ON_DARK,
    ON_LIGHT,
    WIDE,
    Sheet,
    png_bytes,
    short,
    standalone_svg,
    style,
    text_width,
)
from mlpprof.report.figures.gallery import MOST_CURVES, Drawing, slug
from mlpprof.report.figures.spread import BY_BATCH, Axes, Curve, scaling_curves
from mlpprof.report.numbers import digits, format_time
from mlpprof.report.sweep_rows import setting_words
from mlpprof.results.sweep import DONE, Sweep, SweepCell, Winner

ROW = 0.42
ABOVE, BELOW = 0.35, 0.45
"""The heights of a row of the map, of its title and of its axis, in inches."""
MOST = 4.0
"""Colours show ratios from 1 / MOST to MOST."""
DARK = 0.5
"""The text is light on a colour of less luminance than this."""

MOST_GROUPS = 6
"""A class of machines has at most this many figures of scaling by batch size, and as many by network size."""

BY_SIZE = Axes("time per step", "weights of the network", "weights")

Setting = tuple[str | None, int | None, str | None, int | None]


def sweep_pictures(sweep: Sweep) -> dict[str, bytes]:
    """File name -> content of sweep.png and sweep.svg, and of each figure of scaling; nothing if no cell is done."""
    found = {machine: winners for machine in sweep.machines if (winners := sweep.winners(machine))}
    if not found:
        return {}
    with style():
        heights = [_height(winners) for winners in found.values()]
        sheet = Sheet(WIDE, sum(heights))
        top = 0.0
        for (machine, winners), height in zip(found.items(), heights, strict=True):
            _map(sheet, machine, winners, top, sum(heights) - top - height, sweep.over)
            top += height
        title = _map_title(sweep)
        description = _map_text([(machine, one) for machine, winners in found.items() for one in winners])
        pictures = _files("sweep", sheet, title, description)
    for machine in found:
        for one in scaling_drawings(sweep, machine):
            pictures |= _files(one.name, one.sheet(), one.title, one.description)
    return pictures


def _files(name: str, sheet: Sheet, title: str, description: str) -> dict[str, bytes]:
    return {f"{name}.png": png_bytes(sheet), f"{name}.svg": standalone_svg(sheet, title, description).encode()}


def map_drawing(sweep: Sweep, machine: str) -> Drawing | None:
    """The heat map of a class of machines; None if no cell is done there."""
    winners = sweep.winners(machine)
    if not winners:
        return None

    def draw(width: float) -> Sheet:
        sheet = Sheet(width, _height(winners))
        _map(sheet, machine, winners, 0.0, 0.0, sweep.over)
        return sheet

    return Drawing(
        slug("map", _number(sweep, machine)), _map_title(sweep), _map_text([(machine, o) for o in winners]), draw
    )


def scaling_drawings(sweep: Sweep, machine: str) -> list[Drawing]:
    """The figures of scaling of a class of machines, by batch first."""
    return [*_scaling(sweep, machine, _by_batch, BY_BATCH), *_scaling(sweep, machine, _by_size, BY_SIZE)]


def _by_batch(cell: SweepCell) -> tuple[Setting, int, int] | None:
    """The setting without what the axis shows, the place on the axis, and what the time is divided by."""
    if cell.batch is None:
        return None
    return (cell.layers, None, cell.dtype, cell.threads), cell.batch, cell.batch


def _by_size(cell: SweepCell) -> tuple[Setting, int, int] | None:
    if cell.layers is None:
        return None
    return (None, cell.batch, cell.dtype, cell.threads), weights(cell.layers), 1


def weights(layers: str) -> int:
    """The number of weights of a network, without biases: '784-30-10' has 784 x 30 + 30 x 10."""
    return sum(n_in * n_out for n_in, n_out in pairwise(map(int, layers.split("-"))))


def _scaling(
    sweep: Sweep, machine: str, place_of: Callable[[SweepCell], tuple[Setting, int, int] | None], shown: Axes
) -> Iterator[Drawing]:
    names = list(dict.fromkeys([*([sweep.over] if sweep.over is not None else []), *(c.target for c in sweep.cells)]))
    groups: dict[Setting, dict[str, dict[int, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for cell in sweep.on(machine):
        place = place_of(cell) if cell.state == DONE else None
        if place is None:
            continue
        setting, size, share = place
        for name, step_s in ((cell.target, cell.step_s), (cell.over, cell.over_s)):
            if name is not None and step_s is not None:
                groups[setting][name][size].append(step_s / share)
    curves_of = {setting: _curves(names, targets)[:MOST_CURVES] for setting, targets in groups.items()}
    drawn = [(setting, curves) for setting, curves in curves_of.items() if curves][:MOST_GROUPS]
    for number, (setting, curves) in enumerate(drawn, start=1):
        texts = (
            f"{one.name} from {format_time(one.points[0][1])} at {one.points[0][0]:,} to "
            f"{format_time(one.points[-1][1])} at {one.points[-1][0]:,}"
            for one in curves
        )
        yield Drawing(
            slug("scaling", shown.at, _number(sweep, machine), number),
            f"{shown.time.capitalize()} by {shown.size}: {setting_words(*setting)}",
            f"Lines on logarithmic axes, {shown.time} on {machine}: {'; '.join(texts)}",
            partial(scaling_curves, curves, shown=shown),
        )


def _curves(names: Sequence[str], targets: Mapping[str, Mapping[int, Sequence[float]]]) -> list[Curve]:
    """The curves of those names that have two sizes or more. targets: name -> size -> seconds."""
    curves = []
    for number, name in enumerate(names):
        medians = {size: median(seconds) for size, seconds in sorted(targets.get(name, {}).items())}
        if len(medians) > 1:
            curves.append(Curve(name, number, tuple((size, *(middle,) * 3) for size, middle in medians.items())))
    return curves


def _number(sweep: Sweep, machine: str) -> int:
    """The number of a class of machines in the names of figures, from 1."""
    return sweep.machines.index(machine) + 1


def _map_title(sweep: Sweep) -> str:
    return "The fastest of every setting" + ("" if sweep.over is None else f", and its speedup over {sweep.over}")


def _map_text(winners: Sequence[tuple[str, Winner]]) -> str:
    texts = (f"{setting_words(*one.setting)} on {machine}: {one.name}, {_figure(one)}" for machine, one in winners)
    return "Heat map with a field for each setting: " + "; ".join(texts)


def _height(winners: Sequence[Winner]) -> float:
    return ABOVE + BELOW + ROW * len(_rows(winners))


def _map(sheet: Sheet, machine: str, winners: Sequence[Winner], top: float, bottom: float, over: str | None) -> None:
    rows, columns = _rows(winners), list(dict.fromkeys(one.setting[1] for one in winners))
    left = max(text_width(row, 7.5) for row in rows) / 72 + 0.15
    axes = sheet.axes(left, 0.1, top + ABOVE, bottom + BELOW)
    grid = [[math.nan for _ in columns] for _ in rows]
    for one in winners:
        value = one.step_s if one.ratio is None else one.ratio
        grid[rows.index(_row(one))][columns.index(one.setting[1])] = value
    values = [value for row in grid for value in row if not math.isnan(value)]
    # A map of one colour needs a range too.
    norm = LogNorm(1 / MOST, MOST) if over is not None else LogNorm(min(values) / 1.01, max(values) * 1.01)
    colors = mpl.colormaps["PuOr" if over is not None else "viridis_r"]
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for one in winners:
        i, j = rows.index(_row(one)), columns.index(one.setting[1])
        red, green, blue, _ = color = colors(norm(grid[i][j]))
        # rectangles, because a page loads no pictures, as imshow would make one
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, lw=0))
        is_dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < DARK
        ink = ON_DARK if is_dark else ON_LIGHT
        text = axes.text(j, i, f"{short(one.name, 20)}\n{_figure(one)}", ha="center", va="center", size=7, color=ink)
        sheet.tag(text, f"{setting_words(*one.setting)}: {one.name}, {_figure(one)}")
    axes.set_xticks(range(len(columns)), ["" if batch is None else f"{batch:,}" for batch in columns])
    axes.set_yticks(range(len(rows)), rows)
    if any(batch is not None for batch in columns):
        axes.set_xlabel("batch")
    axes.set_title(short(machine, 90), size=8, loc="left")


def _row(one: Winner) -> str:
    layers, _, dtype, threads = one.setting
    return setting_words(layers, None, dtype, threads)


def _rows(winners: Sequence[Winner]) -> list[str]:
    return list(dict.fromkeys(map(_row, winners)))


def _figure(one: Winner) -> str:
    return format_time(one.step_s) if one.ratio is None else f"{digits(one.ratio)} x"
