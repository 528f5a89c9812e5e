"""The tables of a sweep, and its settings in words: made once for the terminal, the page and the figures."""

from __future__ import annotations

from mlpprof.report.numbers import format_ratio, format_time, plain
from mlpprof.report.rows import Cell, Column, Row, Table
from mlpprof.results.sweep import DONE, FAILED, INVALID, WAITING, Sweep, SweepCell


def counts_text(sweep: Sweep) -> str:
    """'12 of 16 cells are done, 3 failed, 1 waiting'."""
    others = [f"{sweep.count(state)} {state}" for state in (FAILED, INVALID, WAITING) if sweep.count(state)]
    return ", ".join([f"{sweep.count(DONE)} of {len(sweep.cells)} cells are done", *others])


def setting_text(cell: SweepCell) -> str:
    """'784-70-30-10, batch 500, float32, 1 thread'; a program has only threads."""
    return setting_words(*cell.setting)


def setting_words(layers: str | None, batch: int | None, dtype: str | None, threads: int | None) -> str:
    """The setting of a cell in words; what is None is left out."""
    words = [] if layers is None else [layers]
    words += [] if batch is None else [f"batch {batch:,}"]
    words += [] if dtype is None else [dtype]
    words += [] if threads is None else [f"{threads} thread{'s' * (threads != 1)}"]
    return ", ".join(words) or "its own settings"


def sweep_table(sweep: Sweep, machine: str) -> Table:
    """The cells that a class of machines measured, by setting; the fastest of each setting is marked."""
    winners = {id(one.cell) for one in sweep.winners(machine)}
    is_race = sweep.over is not None
    columns = [Column("setting", is_text=True, is_outline=True), Column("target", is_text=True), Column("step")]
    columns += [Column("times as fast")] if is_race else []
    rows = []
    for cell in sorted(sweep.on(machine), key=lambda cell: [_sortable(part) for part in cell.setting]):
        note = "fastest" if id(cell) in winners else "the node was busy" if cell.state == INVALID else ""
        mark = "strong" if note == "fastest" else ""
        ratio = "" if cell.ratio is None else format_ratio(cell.ratio, cell.low or 0.0, cell.high or 0.0)
        cells = [
            Cell(setting_text(cell), mark=mark),
            Cell(plain(cell.target), mark=mark),
            Cell(format_time(cell.step_s), cell.step_s, mark),
            *([Cell(ratio, cell.ratio, mark)] if is_race else []),
            Cell(note, mark=mark),
        ]
        rows.append(Row(tuple(cells), style=mark))
    return Table(plain(machine), (*columns, Column("", is_text=True)), tuple(rows))


def _sortable(part: str | int | None) -> tuple[int, str]:
    """Numbers by their size, and before words."""
    return (part, "") if isinstance(part, int) else (-1, str(part))


def not_done_table(sweep: Sweep) -> Table | None:
    """The cells that failed or were measured on busy nodes only, with the reason; None if there are none."""
    rest = [cell for cell in sweep.cells if cell.error is not None]
    columns = [Column(title, is_text=True) for title in ("target", "setting", "state", "why")]
    rows = [
        Row(tuple(Cell(plain(text)) for text in (cell.target, setting_text(cell), cell.state, cell.error or "")))
        for cell in rest
    ]
    return Table("cells that are not done", tuple(columns), tuple(rows)) if rest else None
