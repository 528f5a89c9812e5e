"""The table of `mlpprof peers`: in the terminal, as plain text, and as the short table of a README."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import machine_line
from mlpprof.report.numbers import format_ratio, format_time, plain
from mlpprof.report.terminal.console import (
    FIGURE,
    NAME,
    WORDS,
    heading,
    indented,
    listing,
    pairs,
    print_trimmed,
    text_of,
)
from mlpprof.results.peers import Competitor, PeersRow, PeersTable

TEXT_WIDTH = 140


def print_peers(table: PeersTable, console: Console) -> None:
    """Print a table per network, the fastest entrant first, and why an entrant is absent."""
    print_trimmed(console, lambda width: _sections(table, width))


def peers_text(table: PeersTable) -> str:
    """The same report as plain text."""
    return text_of(partial(print_peers, table), TEXT_WIDTH)


def how_measured(table: PeersTable) -> str:
    """How everything was measured, in sentences."""
    finals = (
        f" Those that were nearly as fast as the fastest of their kind raced again in {table.replicates - 1} further "
        "sets of fresh processes. Only these further sets count for their times and ratios."
    )
    return (
        "Times are seconds per epoch, with shuffling and gathering. All entrants take turns, each in its own process, "
        "which sleeps while the others run. All took part in one set of processes."
        f"{finals if table.replicates > 1 else ''} Ratios are paired, with 95 % intervals. Kernel pins of BLAS are "
        "cleared. Frameworks, and chunked, run on 1 thread or on all threads, whichever is faster; everything else "
        "runs on 1 BLAS thread. The time to compile is not included. The losses of all entrants over 20 steps were "
        "compared before anything was timed."
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
    figures = ("epoch" if row.is_whole_epoch else "run", "times the best framework", "first run", "losses")
    table = listing([("entrant", NAME), *((title, FIGURE) for title in figures), ("engine", WORDS)])
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
    style = "" if one.is_peer else "bold green" if verdict.is_faster else "bold red" if verdict.is_slower else ""
    return Text(format_ratio(verdict.ratio, verdict.low, verdict.high), style)


def _notes(row: PeersRow) -> Iterator[str]:
    if row.race.slow:
        slow = ", ".join(map(plain, row.race.slow))
        yield f"Slow, and therefore timed in the first blocks of each process only: {slow}."
    for name, why in row.absent.items():
        yield f"absent: {plain(name)}: {plain(why)}"


def peers_markdown(table: PeersTable) -> str:
    """The short table: a line per network, with the best of ours and the best framework."""
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
            "A ratio below 1 means that the framework is faster. A direct variant multiplies with every number of X. "
            "`gram` uses the products of the samples instead, and `sparse` leaves out the numbers that are 0, as most "
            "pixels of a digit are.",
            "",
            *lines,
            "",
        ]
    )


def _also(row: PeersRow) -> str:
    """The best in a single process and the best direct ones, where they are not named before."""
    shown, found = [row.best_ours], []
    others = {
        "single process": row.best_single,
        "direct": row.best_direct,
        "direct, single process": row.best_direct_single,
    }
    for what, one in others.items():
        if one not in shown:
            shown.append(one)
            found.append(f"{what}: {_named(one)}, {_ratio(one)}")
    return "; ".join(found)


def _named(one: Competitor | None) -> str:
    return "none" if one is None else f"`{one.name}` {format_time(one.epoch_s)}"


def _ratio(one: Competitor | None) -> str:
    verdict = None if one is None else one.over_best_peer
    return "" if verdict is None else format_ratio(verdict.ratio, verdict.low, verdict.high)
