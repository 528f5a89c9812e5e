"""How reports look on a console: headings, facts below each other, tables that keep every digit, clean line ends."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mlpprof.report import rows
from mlpprof.report.numbers import NO_BREAK, encodable, plain, span_bar

INDENT = 2
GAP = 2
GROUP_GAP = 3
"""The number of blanks before a table, between its columns, and between its groups of columns."""

NAME_WIDTH = 24
"""A long name in the last text column on the left is folded to this width before a group moves to a further table."""

WIDEST_BAR, WIDEST_OF_SEVERAL, NARROWEST_BAR = 36, 10, 4
"""Bars take the room that the figures leave, up to this many characters; where less is left there are no bars."""

STYLES = {
    "strong": "bold",
    "slowest": "bold",
    "good": "bold",
    "bad": "bold red",
    "quiet": "dim",
    "warning": "yellow",
    "pass": "bold green",
    "fail": "bold red",
    "inconclusive": "bold yellow",
}
"""The mark of a cell, the style of a row or of a fact -> how it looks on the terminal."""


@dataclass(frozen=True)
class _Column:
    """One column as text with its styles, a cell per row; title and cells on the side where the digits line up."""

    title: str
    cells: tuple[tuple[str, str], ...]
    is_text: bool

    @property
    def width(self) -> int:
        return max(len(self.title), *(len(text) for text, _ in self.cells), 0)

    def padded(self, text: str, style: str) -> Text:
        return Text(text.ljust(self.width) if self.is_text else text.rjust(self.width), style)


def table_lines(table: rows.Table, width: int) -> Iterator[Padding]:
    """A table of at most `width` characters, or several below each other where not all of its columns fit.

    Each of them has the columns on the left: all words, or all that belong to no group.
    """
    bar_width = _bar_width(table, width)
    has_groups = any(title for title, _ in table.groups)
    words = [i for i, column in enumerate(table.columns) if column.is_text]
    count = table.groups[0][1] if has_groups else 1 + max(words, default=-1)
    left = _columns(table, range(count), bar_width)
    left_width = INDENT + sum((min(c.width, NAME_WIDTH) if c is _names(left) else c.width) + GAP for c in left)
    groups: list[tuple[str, list[_Column]]] = []
    place = count
    for title, size in table.groups[1:] if has_groups else [("", len(table.columns) - count)]:
        columns = _columns(table, range(place, place + size), bar_width)
        groups += [(title, part) for part in _parts(columns, width - left_width)]
        place += size
    group_width = max(_group_width(title, columns) for title, columns in groups)
    per_table = max(1, (width - left_width + GROUP_GAP) // (group_width + GROUP_GAP))
    styles = [STYLES.get(row.style, "") for row in table.rows]
    for start in range(0, len(groups), per_table):
        lines = _rich(left, groups[start : start + per_table], styles)
        yield Padding(lines, (1 if start else 0, 0, 0, INDENT))


def _parts(columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """The columns of a group, in as many parts as it takes for each to fit."""
    part: list[_Column] = []
    for column in columns:
        if part and _group_width("", [*part, column]) > width:
            yield part
            part = []
        part.append(column)
    yield part


def _columns(table: rows.Table, places: Iterable[int], bar_width: int) -> list[_Column]:
    columns = []
    for i in places:
        column = table.columns[i]
        cells = [(_mark(cell) + cell.text, STYLES.get(cell.mark, "")) for cell in (row.cells[i] for row in table.rows)]
        if column.is_outline:
            words = [row.cells[i].text for row in table.rows]
            cells = [("" if n and words[n - 1] == words[n] else text, s) for n, (text, s) in enumerate(cells)]
        columns.append(_Column(column.title, tuple(cells), column.is_text))
        if bar_width and table.has_bars(i):
            columns.append(_Column("", tuple(_bars(table, i, bar_width)), is_text=True))
    return columns


def _mark(cell: rows.Cell) -> str:
    """A mark that also shows without colours."""
    return "*" if cell.mark == "slowest" and cell.span else ""


def _bars(table: rows.Table, column: int, width: int) -> Iterator[tuple[str, str]]:
    for i, row in enumerate(table.rows):
        cell, ends = row.cells[column], table.bar(i, column)
        if cell.span is None or ends is None:
            yield "", ""
        else:
            is_backward = cell.span[1] < cell.span[0]
            yield span_bar(*ends, width, hatched=is_backward), "red" if cell.mark == "bad" else "cyan"


def _bar_width(table: rows.Table, width: int) -> int:
    """Characters of a bar where all groups stand side by side; 0 where that leaves too few."""
    count = sum(table.has_bars(i) for i in range(len(table.columns)))
    if not count:
        return 0
    columns = _columns(table, range(len(table.columns)), 0)
    names = _names([c for c, column in zip(columns, table.columns, strict=True) if not column.group])
    used = sum((min(c.width, NAME_WIDTH) if c is names else c.width) + GAP for c in columns)
    groups = sum(1 for title, _ in table.groups if title)
    left = width - INDENT - used - max(0, groups - 1) * (GROUP_GAP - GAP)
    found = min(left // count - (GAP if count > 1 else 0), WIDEST_BAR if count == 1 else WIDEST_OF_SEVERAL)
    return found if found >= NARROWEST_BAR else 0


def _group_width(title: str, columns: Sequence[_Column]) -> int:
    return max(len(title), sum(column.width for column in columns) + GAP * (len(columns) - 1))


def _names(left: Sequence[_Column]) -> _Column | None:
    """The widest column of words on the left, which is the one to fold."""
    return max((column for column in left if column.is_text), key=lambda column: column.width, default=None)


def _rich(left: Sequence[_Column], groups: Sequence[tuple[str, Sequence[_Column]]], styles: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="")
    has_names = any(name for name, _ in groups)
    has_titles = any(column.title for _, columns in groups for column in columns)
    top = "\n" if has_names and has_titles else ""
    for column in left:
        side: Literal["left", "right"] = "left" if column.is_text else "right"
        title = Text(top + column.title, style="dim")
        table.add_column(title, justify=side, no_wrap=column is not _names(left), overflow="fold")
    lines = [[Text(*column.cells[row]) for column in left] for row in range(len(styles))]
    for i, (name, columns) in enumerate(groups):
        between = " " * (GROUP_GAP - GAP if i else 0)
        shown_name = name if has_titles else name.rjust(_group_width("", columns))
        titles = Text(" " * GAP).join(column.padded(column.title, "dim") for column in columns)
        second_line = (top, between, titles) if has_titles else ()
        table.add_column(Text.assemble(between if name else "", (shown_name, "bold"), *second_line), no_wrap=True)
        for row, line in enumerate(lines):
            cells = Text(" " * GAP).join(column.padded(*column.cells[row]) for column in columns)
            line.append(Text(between) + cells)
    for line, style in zip(lines, styles, strict=True):
        table.add_row(*line, style=style)
    return table


MIN_WIDTH = 72
"""A narrower terminal wraps the lines of a report, so that no digit is lost."""


def print_trimmed(console: Console, sections: Callable[[int], Iterable[RenderableType]]) -> None:
    """Print what `sections` gives for a width, in characters that the console's encoding has."""
    console.print(_Trimmed(sections), crop=False)


def pairs(facts: Sequence[tuple[str, str, str]], width: int) -> Table:
    """(name, style of the text, text) below each other, long texts folded beside their names."""
    table = Table.grid(padding=(0, GAP, 0, 0))
    left_width = INDENT + max(len(name) for name, _, _ in facts) + GAP
    for name, style, text in facts:
        # a number stays with its sign or unit; rich itself would break at any kind of blank
        bound = re.sub(r"(?<=\d) (?=[^\W\d]|%)", NO_BREAK, plain(text))
        folded = "\n".join(textwrap.wrap(bound, width - left_width, break_on_hyphens=False))
        table.add_row(Text(name, style="dim"), Text(folded.replace(NO_BREAK, " "), style=STYLES.get(style, style)))
    return table


NAME, WORDS, FIGURE = "name", "words", "figure"
"""The kinds of columns of a listing: names stay whole, words are folded, and figures line up at the right."""


def listing(columns: Iterable[tuple[str, str]]) -> Table:
    """An empty table without lines; columns: (title, kind) from left to right."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for title, kind in columns:
        side: Literal["left", "right"] = "right" if kind == FIGURE else "left"
        table.add_column(Text(title), justify=side, no_wrap=kind != WORDS, overflow="fold")
    return table


TEXT_WIDTH = 100
"""The width of a report as a text file, in characters."""


def text_of(show: Callable[[Console], None], width: int = TEXT_WIDTH) -> str:
    """What is shown on a console, as text without colours, whatever the environment says."""
    buffer = io.StringIO()
    show(Console(file=buffer, width=width, color_system=None, force_terminal=False, force_jupyter=False))
    return buffer.getvalue()


def heading(title: str, caption: str = "") -> Text:
    """A heading after a blank line, with a caption beside it."""
    return Text.assemble("\n", (title, "bold"), "  " if caption else "", (caption, "dim"))


def indented(renderable: RenderableType) -> Padding:
    """The renderable, moved in as tables are."""
    return Padding(renderable, (0, 0, 0, INDENT))


@dataclass(frozen=True)
class _Trimmed:
    sections: Callable[[int], Iterable[RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        options = options.update(width=max(options.max_width, MIN_WIDTH))
        for renderable in self.sections(options.max_width):
            for line in Segment.split_lines(console.render(renderable, options)):
                yield from _trim(line, options.encoding)
                yield Segment.line()


def _trim(line: Sequence[Segment], encoding: str) -> list[Segment]:
    """A line without the blanks that tables end in, so that it can be copied or piped."""
    segments = [Segment(encodable(text, encoding), style, control) for text, style, control in line]
    while segments and not segments[-1].text.strip():
        segments.pop()
    if segments:
        text, style, control = segments.pop()
        segments.append(Segment(text.rstrip(), style, control))
    return segments
