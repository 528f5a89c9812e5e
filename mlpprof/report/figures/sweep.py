"""The figure of `mlpprof sweep`: a heat map with the fastest target of every setting, for each class of machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.colors import LogNorm

from mlpprof.report.figures.canvas import INK, ON_DARK, WIDE, Sheet, png_bytes, short, standalone_svg, style, text_width
from mlpprof.report.numbers import digits, format_time
from mlpprof.report.terminal.sweep import setting_words
from mlpprof.results.sweep import Sweep, Winner

ROW = 0.42
ABOVE, BELOW = 0.35, 0.45
"""The heights of a row of the map, of its title and of its axis, in inches."""
MOST = 4.0
"""Colours show ratios from 1 / MOST to MOST."""
DARK = 0.5
"""The text is light on a colour of less luminance than this."""


def sweep_pictures(sweep: Sweep) -> dict[str, bytes]:
    """File name -> content of sweep.png and sweep.svg; nothing if no cell is done."""
    found = {machine: winners for machine in sweep.machines if (winners := sweep.winners(machine))}
    if not found:
        return {}
    with style():
        heights = [ABOVE + BELOW + ROW * len(_rows(winners)) for winners in found.values()]
        sheet = Sheet(WIDE, sum(heights))
        top = 0.0
        for (machine, winners), height in zip(found.items(), heights, strict=True):
            _map(sheet, machine, winners, top, sum(heights) - top - height, sweep.over)
            top += height
        title = "The fastest of every setting" + ("" if sweep.over is None else f", and its speedup over {sweep.over}")
        texts = (
            f"{setting_words(*one.setting)} on {machine}: {one.name}, {_figure(one)}"
            for machine, winners in found.items()
            for one in winners
        )
        description = "Heat map with a field for each setting: " + "; ".join(texts)
        return {"sweep.png": png_bytes(sheet), "sweep.svg": standalone_svg(sheet, title, description).encode()}


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
    axes.imshow(grid, cmap=colors, norm=norm, aspect="auto")
    for one in winners:
        i, j = rows.index(_row(one)), columns.index(one.setting[1])
        red, green, blue, _ = colors(norm(grid[i][j]))
        is_dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < DARK
        color = ON_DARK if is_dark else INK
        text = axes.text(j, i, f"{short(one.name, 20)}\n{_figure(one)}", ha="center", va="center", size=7, color=color)
        sheet.tag(text, f"{setting_words(*one.setting)}: {one.name}, {_figure(one)}")
    axes.set_xticks(range(len(columns)), ["" if batch is None else f"{batch:,}" for batch in columns])
    axes.set_yticks(range(len(rows)), rows)
    if any(batch is not None for batch in columns):
        axes.set_xlabel("batch")
    axes.set_title(short(machine, 90), size=8, loc="left")


def _row(one: Winner) -> str:
    layers, _, dtype, threads = one.setting
    words = [layers, dtype, None if threads is None else f"{threads} thread{'s' * (threads != 1)}"]
    return ", ".join(word for word in words if word is not None) or "own settings"


def _rows(winners: Sequence[Winner]) -> list[str]:
    return list(dict.fromkeys(map(_row, winners)))


def _figure(one: Winner) -> str:
    return format_time(one.step_s) if one.ratio is None else f"{digits(one.ratio)} x"
