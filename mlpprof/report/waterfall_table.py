"""The waterfall in the terminal: from the old step to the new one, phase by phase, statements beneath."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.measure.waterfall import REST
from mlpprof.report.format import UNKNOWN, format_percent, format_time, plain
from mlpprof.report.grid import GAP, INDENT
from mlpprof.report.layout import heading, indented
from mlpprof.results import Change, Comparison

SMALL_SHARE = 0.05
"""Statements that moved less than this share of all that phases moved are added up in one line of their phase."""
MOST_STATEMENTS = 6
"""Statements of one phase that are shown at most."""
WIDEST_BAR = 36
LABEL_WIDTH = 22


@dataclass(frozen=True)
class _Row:
    names: tuple[str, str, str]
    old_s: float
    new_s: float
    share: float
    ends: tuple[float, float] | None = None
    """Where the bar begins and ends, in shares of the difference; None for a statement."""


def waterfall_sections(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """The table, and what has to be known to read it."""
    old_s, new_s = comparison.race.step_s(0), comparison.race.step_s(1)
    word = "saved" if new_s <= old_s else "lost"
    yield heading(
        "Where the difference lies", f"{format_time(abs(old_s - new_s))} {word} in a step of {format_time(old_s)}"
    )
    yield indented(_table(_rows(comparison.waterfall, old_s, new_s), width))
    yield Text()
    notes = [
        "From passes with clocks, scaled to the steps without: the phases and the rest make up 100 %. "
        "What went the other way is negative, and its bar hatched."
    ]
    if comparison.verdict.low <= 1 <= comparison.verdict.high:
        notes.append("The whole difference is within the noise, so its shares say little.")
    for note in notes:
        yield indented(Text(note, "dim" if note is notes[0] else "yellow"))


def _rows(changes: Sequence[Change], old_s: float, new_s: float) -> list[_Row]:
    phases = [change for change in changes if not change.label]
    moved_s = sum(abs(change.old_s - change.new_s) for change in phases)
    rows = []
    level = 0.0
    for phase in phases:
        name = "rest" if phase.phase == REST else plain(phase.phase)
        ends = (level, level + phase.share)
        rows.append(_Row((name, "", ""), phase.old_s, phase.new_s, phase.share, ends))
        level += phase.share
        rows += _statements(phase, [c for c in changes if c.label and c.phase == phase.phase], moved_s)
    return [*rows, _Row(("step", "", ""), old_s, new_s, 1.0, (0.0, 1.0))]


def _statements(phase: Change, labels: Sequence[Change], moved_s: float) -> list[_Row]:
    """The statements that moved most, in the order of the code, and the rest of their phase in one line."""
    large = [change for change in labels if abs(change.old_s - change.new_s) >= SMALL_SHARE * moved_s]
    shown = sorted(large, key=lambda change: -abs(change.old_s - change.new_s))[:MOST_STATEMENTS]
    if not shown:
        return []
    rows = [
        _Row(("", "" if c.layer is None else str(c.layer), plain(c.label)), c.old_s, c.new_s, c.share)
        for c in labels
        if c in shown
    ]
    other_s = [phase.old_s - sum(c.old_s for c in shown), phase.new_s - sum(c.new_s for c in shown)]
    rest = phase.share - sum(c.share for c in shown)
    return [*rows, _Row(("", "", "(others)"), max(0.0, other_s[0]), max(0.0, other_s[1]), rest)]


def _table(rows: Sequence[_Row], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column("phase", no_wrap=True)
    table.add_column("layer", justify="right", no_wrap=True)
    table.add_column("statement", max_width=LABEL_WIDTH)
    for name in ("old", "new", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    label_width = min(LABEL_WIDTH, max(len("statement"), *(len(row.names[2]) for row in rows)))
    names_width = max(len(row.names[0]) for row in rows) + len("layer") + label_width
    bar_width = min(WIDEST_BAR, width - INDENT - names_width - 3 * len("-100.0 %") - 6 * GAP)
    levels = [level for row in rows if row.ends for level in row.ends]
    low, high = min(levels), max(levels)
    for row in rows:
        is_statement = row.ends is None
        table.add_row(
            *row.names,
            format_time(row.old_s) if row.old_s > 0 else UNKNOWN,
            format_time(row.new_s) if row.new_s > 0 else UNKNOWN,
            format_percent(round(row.share, 3) + 0.0),
            Text() if row.ends is None else _bar(row, low, high, bar_width),
            style="dim" if is_statement else "bold" if row.names[0] == "step" else "",
        )
    return table


def _bar(row: _Row, low: float, high: float, width: int) -> Text:
    """From where the phase before ended; hatched where the phase went against the whole."""
    assert row.ends is not None
    begin, end = (round((level - low) / (high - low) * width) for level in sorted(row.ends))
    text = "█" if row.share >= 0 else "▒"
    style = "cyan" if row.names[0] == "step" else "green" if row.new_s <= row.old_s else "red"
    if begin == end:
        return Text(" " * min(begin, width - 1) + ("▏" if abs(row.share) >= 0.001 else ""), style)
    return Text(" " * begin + text * (end - begin), style)
