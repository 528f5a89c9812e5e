"""The report of `mlpprof sweep`: the cells of every class of machine, and the fastest of each setting."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from mlpprof.report.numbers import format_ratio, format_time, plain
from mlpprof.report.terminal.console import FIGURE, NAME, WORDS, heading, indented, listing, print_trimmed
from mlpprof.results.sweep import DONE, FAILED, INVALID, WAITING, Sweep, SweepCell


def print_sweep(sweep: Sweep, console: Console) -> None:
    """Print a table for each class of machine, and then what was not measured."""
    print_trimmed(console, lambda width: _sections(sweep))


def counts_text(sweep: Sweep) -> str:
    """'12 of 16 cells are done, 3 failed, 1 waiting'."""
    others = [f"{sweep.count(state)} {state}" for state in (FAILED, INVALID, WAITING) if sweep.count(state)]
    return ", ".join([f"{sweep.count(DONE)} of {len(sweep.cells)} cells are done", *others])


def setting_text(cell: SweepCell) -> str:
    """'784-70-30-10, batch 500, float32, 1 thread'; a program has only threads."""
    return setting_words(*cell.setting)


def setting_words(layers: str | None, batch: int | None, dtype: str | None, threads: int | None) -> str:
    """The setting of a cell in words."""
    words = [] if layers is None or batch is None else [layers, f"batch {batch:,}"]
    words += [] if dtype is None else [dtype]
    words += [] if threads is None else [f"{threads} thread{'s' * (threads != 1)}"]
    return ", ".join(words) or "its own settings"


def _sections(sweep: Sweep) -> Iterator[RenderableType]:
    over = "" if sweep.over is None else f", raced with {plain(sweep.over)}"
    yield Text.assemble(("sweep", "bold"), f"  {plain(sweep.workload or 'programs')}{over}; {counts_text(sweep)}")
    for machine in sweep.machines:
        yield heading(plain(machine))
        yield indented(_table(sweep, machine))
    rest = [cell for cell in sweep.cells if cell.error is not None]
    if rest:
        yield heading("not done")
        table = listing([("target", NAME), ("setting", NAME), ("state", NAME), ("why", WORDS)])
        for cell in rest:
            words = (plain(cell.target), setting_text(cell), cell.state, plain(cell.error or ""))
            table.add_row(*map(Text, words))
        yield indented(table)


def _table(sweep: Sweep, machine: str) -> RenderableType:
    winners = {id(one.cell) for one in sweep.winners(machine)}
    is_race = sweep.over is not None
    columns = [("setting", NAME), ("target", NAME), ("step", FIGURE)]
    columns += [("times as fast", FIGURE)] if is_race else []
    table = listing([*columns, ("", WORDS)])
    for cell in sorted(sweep.on(machine), key=lambda cell: [str(part) for part in cell.setting]):
        ratio = "" if cell.ratio is None else format_ratio(cell.ratio, cell.low or 0.0, cell.high or 0.0)
        note = "fastest" if id(cell) in winners else "the node was busy" if cell.state == INVALID else ""
        words = [setting_text(cell), plain(cell.target), format_time(cell.step_s), *([ratio] if is_race else []), note]
        table.add_row(*map(Text, words), style="bold" if note == "fastest" else "")
    return table
