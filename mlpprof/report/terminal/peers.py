"""The table of `mlpprof peers`: in the terminal, as plain text, and as the short table of a README."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import machine_line
from mlpprof.report.numbers import format_time, plain
from mlpprof.report.terminal.console import GAP, heading, indented, pairs, print_trimmed
from mlpprof.results import Verdict
from mlpprof.results.peers import Competitor, PeersRow, PeersTable

TEXT_WIDTH = 140


def print_peers(table: PeersTable, console: Console) -> None:
    """Row by row, the fastest entrant first; then who was absent, and why."""
    print_trimmed(console, lambda width: _sections(table, width))


def peers_text(table: PeersTable) -> str:
    """The same in plain text."""
    console = Console(file=io.StringIO(), width=TEXT_WIDTH, color_system=None, highlight=False)
    print_peers(table, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def how_measured(table: PeersTable) -> str:
    """What a reader has to know about how it was measured."""
    sets = "1 set of processes" if table.replicates == 1 else f"{table.replicates} sets of fresh processes"
    return (
        "Seconds an epoch, shuffling and gathering included, all entrants interleaved, each in a process of its own "
        f"that sleeps while others run; {sets}, ratios paired, with 95 % intervals. Kernel pins of BLAS are cleared. "
        "Frameworks, and chunked, run on 1 thread or on all, whichever is faster; everything else on 1 BLAS thread. "
        "Compilation is not in it. The losses of all entrants over 20 steps were compared before anything was timed."
    )


def _sections(table: PeersTable, width: int) -> Iterator[RenderableType]:
    yield Text.assemble(("peers", "bold"), "  the variants against the frameworks", "  (quick)" if table.quick else "")
    yield Text()
    rows = [("date", "", table.created), ("machine", "", machine_line(table.machine)), ("how", "", how_measured(table))]
    yield indented(pairs(rows, width))
    for row in table.rows:
        yield heading(row.title, _of_run(row))
        yield indented(_table(row))
        for line in _notes(row):
            yield indented(Text(line, "dim"))


def _of_run(row: PeersRow) -> str:
    if row.is_whole_epoch:
        return f"an epoch: {row.steps:,} {'step' if row.steps == 1 else 'steps'}"
    return f"{row.steps:,} of an epoch's {row.samples // row.batch:,} steps, on samples drawn at random"


def _table(row: PeersRow) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for title, is_text in (("entrant", True), ("run", False), ("over the best framework", False), ("first run", False)):
        table.add_column(Text(title), justify="left" if is_text else "right", no_wrap=True)
    table.add_column(Text("losses"), justify="right", no_wrap=True)
    table.add_column(Text("engine"), overflow="fold")
    for one in sorted(row.competitors, key=lambda one: one.epoch_s):
        table.add_row(
            Text(plain(one.name), "" if one.is_peer else "bold"),
            format_time(one.epoch_s),
            _over(one, row),
            f"+{format_time(one.compile_s)}" if one.compile_s >= 0.1 else "",
            "" if one.deviation is None else f"{one.deviation:.0e}",
            Text(plain(one.engine), "dim"),
        )
    return table


def _over(one: Competitor, row: PeersRow) -> Text:
    if one.over_best_peer is None:
        return Text("best framework" if one is row.best_peer else "", "dim")
    verdict = one.over_best_peer
    style = "" if one.is_peer else "bold green" if verdict.low > 1 else "bold red" if verdict.high < 1 else ""
    return Text(ratio_cell(verdict), style)


def ratio_cell(verdict: Verdict) -> str:
    """'2.31 (2.28–2.35)'."""
    return f"{verdict.ratio:.2f} ({verdict.low:.2f}–{verdict.high:.2f})"


def _notes(row: PeersRow) -> Iterator[str]:
    if row.race.slow:
        yield f"Timed in the first blocks of each process only, being slow: {', '.join(map(plain, row.race.slow))}."
    for name, why in row.absent.items():
        yield f"absent: {plain(name)}: {plain(why)}"


def peers_markdown(table: PeersTable) -> str:
    """The short table: a line a row, with the best of ours and the best framework."""
    lines = [
        "| network | best of ours | best framework | ratio (95 %) | also |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in table.rows:
        cells = [
            row.title,
            _named(row.best_ours),
            _named(row.best_peer),
            _ratio(row.best_ours),
            _also(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            f"`{table.command}`, {table.created[:10]}: {machine_line(table.machine)}.",
            how_measured(table),
            "A ratio below 1 means that the framework wins.",
            "",
            *lines,
            "",
        ]
    )


def _also(row: PeersRow) -> str:
    """The best in a single process, and the best without the Gram matrix, where another one won."""
    others = {"single process": row.best_single, "without the Gram matrix": row.best_direct}
    return "; ".join(
        f"{what}: {_named(one)}, {_ratio(one)}" for what, one in others.items() if one is not row.best_ours
    )


def _named(one: Competitor | None) -> str:
    return "none" if one is None else f"`{one.name}` {format_time(one.epoch_s)}"


def _ratio(one: Competitor | None) -> str:
    return "" if one is None or one.over_best_peer is None else ratio_cell(one.over_best_peer)
