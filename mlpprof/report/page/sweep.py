"""The page of `mlpprof sweep`: for each class of machine the fastest targets, how they scale, and every cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlpprof.report.figures.sweep import map_drawing, scaling_drawings
from mlpprof.report.html import Picture, picture_of
from mlpprof.report.json_documents import sweep_json
from mlpprof.report.numbers import plain
from mlpprof.report.page.headline import Tile
from mlpprof.report.page.page import render, script_text
from mlpprof.report.rows import Table
from mlpprof.report.sweep_rows import counts_text, not_done_table, sweep_table
from mlpprof.results.json import plain_object
from mlpprof.results.sweep import DONE, Sweep

MOST_ROWS = 1_000
"""A table of the page has at most this many rows; sweep.csv has all cells."""

LONGEST_DATA = 1_000_000
"""If the data would be longer than this many characters, they are left out of the page."""


@dataclass(frozen=True)
class MachineView:
    """What the page shows of a class of machines. left_out: rows of its table that only sweep.csv has."""

    name: str
    sentence: str
    map: Picture | None
    scaling: list[Picture]
    table: Table
    left_out: int


def sweep_html(sweep: Sweep) -> str:
    """The whole page as text."""
    rest = not_done_table(sweep)
    return render(
        "sweep.html",
        f"sweep {plain(sweep.workload or 'of programs')}",
        _data(sweep),
        "This file contains all cells as JSON, as mlpprof sweep --json prints them. Times are in seconds.",
        headline=_headline(sweep),
        command=plain(sweep.command),
        tiles=_tiles(sweep),
        machines=list(_machines(sweep)),
        rest=None if rest is None else replace(rest, rows=rest.rows[:MOST_ROWS]),
        over=None if sweep.over is None else plain(sweep.over),
    )


def _data(sweep: Sweep) -> str:
    text = script_text(plain_object(sweep_json(sweep)))
    return text if len(text) <= LONGEST_DATA else script_text({"left_out": "sweep.json has the cells of this sweep"})


def _headline(sweep: Sweep) -> str:
    raced = "" if sweep.over is None else f", raced with {plain(sweep.over)}"
    return f"{plain(sweep.workload or 'Programs')}{raced}: {counts_text(sweep)}"


def _tiles(sweep: Sweep) -> list[Tile]:
    settings = len({cell.setting for cell in sweep.cells})
    classes = len(sweep.machines)
    return [
        Tile(f"{sweep.count(DONE):,}", "cells are done", f"of {len(sweep.cells):,}"),
        Tile(f"{settings:,}", "setting" if settings == 1 else "settings"),
        Tile(str(classes), "class of machines" if classes == 1 else "classes of machines"),
    ]


def _machines(sweep: Sweep) -> Iterator[MachineView]:
    for number, machine in enumerate(sweep.machines):
        wins = Counter(plain(one.name) for one in sweep.winners(machine))
        count = sum(wins.values())
        firsts = ", ".join(f"{name} at {n:,} of {count:,} settings" for name, n in wins.most_common())
        drawn = map_drawing(sweep, machine)
        table = sweep_table(sweep, machine)
        yield MachineView(
            plain(machine),
            f"The fastest: {firsts}." if firsts else "No cell is done here.",
            # a map has as many columns as batch sizes, so that a phone scrolls it
            None if drawn is None else picture_of(drawn, f"map{number}", twice=False),
            [
                picture_of(one, f"scaling{number}_{i}", twice=True)
                for i, one in enumerate(scaling_drawings(sweep, machine))
            ],
            replace(table, rows=table.rows[:MOST_ROWS]),
            max(0, len(table.rows) - MOST_ROWS),
        )
