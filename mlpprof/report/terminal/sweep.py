"""The report of `mlpprof sweep`: the cells of every class of machine, and the fastest of each setting."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from mlpprof.report.numbers import plain
from mlpprof.report.rows import Table
from mlpprof.report.sweep_rows import counts_text, not_done_table, sweep_table
from mlpprof.report.terminal.console import FIGURE, NAME, WORDS, heading, indented, listing, print_trimmed
from mlpprof.results.sweep import Sweep

LONG_TITLES = ("why", "")
"""The titles of columns whose words may fill several lines."""


def print_sweep(sweep: Sweep, console: Console) -> None:
    """Print a table for each class of machine, and then what was not measured."""
    print_trimmed(console, lambda width: _sections(sweep))


def _sections(sweep: Sweep) -> Iterator[RenderableType]:
    over = "" if sweep.over is None else f", raced with {plain(sweep.over)}"
    yield Text.assemble(("sweep", "bold"), f"  {plain(sweep.workload or 'programs')}{over}; {counts_text(sweep)}")
    for machine in sweep.machines:
        yield heading(plain(machine))
        yield _listed(sweep_table(sweep, machine))
    if (rest := not_done_table(sweep)) is not None:
        yield heading("not done")
        yield _listed(rest)


def _listed(made: Table) -> RenderableType:
    kinds = [WORDS if one.title in LONG_TITLES else NAME if one.is_text else FIGURE for one in made.columns]
    table = listing((one.title, kind) for one, kind in zip(made.columns, kinds, strict=True))
    for row in made.rows:
        table.add_row(*(Text(cell.text) for cell in row.cells), style="bold" if row.style == "strong" else "")
    return indented(table)
