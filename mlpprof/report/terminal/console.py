"""Reports on a console: headings, facts below each other, no narrower than their digits, no blanks at line ends."""

from __future__ import annotations

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

from mlpprof.report.numbers import NO_BREAK, encodable, plain

# Tables with a group of columns for every batch size, split over several tables where one would be too wide.


INDENT = 2
GAP = 2
GROUP_GAP = 3
"""Blanks before a table, between columns, and between groups of columns."""

NAME_WIDTH = 24
"""What long names, in the last text column on the left, are folded to before a batch moves to a further table."""


@dataclass(frozen=True)
class Column:
    """One column, a cell a row: numbers end at the right, words and bars begin at the left."""

    title: str
    cells: Sequence[str]
    is_text: bool = False
    style: str = ""

    @property
    def width(self) -> int:
        """Characters of the widest cell."""
        return max(len(text) for text in (self.title, *self.cells))

    def padded(self, text: str, width: int) -> str:
        """The text at the column's side of `width` characters."""
        return text.ljust(width) if self.is_text else text.rjust(width)


@dataclass(frozen=True)
class Group:
    """The columns of one batch size under a common title, which may be empty; `strong` rows are emphasised."""

    title: str
    columns: Sequence[Column]
    strong: frozenset[int] = frozenset()


def group_tables(
    left: Sequence[Column], groups: Sequence[Group], styles: Sequence[str], width: int
) -> Iterator[Padding]:
    """Tables of at most `width` characters: the left columns, then as many of the groups as fit.

    styles: one a row, for the whole row.
    """
    widths = [max(column.width for column in same) for same in zip(*(group.columns for group in groups), strict=True)]
    gaps = GAP * (sum(w > 0 for w in widths) - 1)
    group_width = max([sum(widths) + gaps, *(len(group.title) for group in groups)])
    left_width = INDENT + sum((min(c.width, NAME_WIDTH) if c is _names(left) else c.width) + GAP for c in left)
    per_table = max(1, (width - left_width + GROUP_GAP) // (group_width + GROUP_GAP))
    for start in range(0, len(groups), per_table):
        table = _table(left, groups[start : start + per_table], widths, styles)
        yield Padding(table, (1 if start else 0, 0, 0, INDENT))


def _names(left: Sequence[Column]) -> Column:
    return [column for column in left if column.is_text][-1]


def _table(left: Sequence[Column], groups: Sequence[Group], widths: Sequence[int], styles: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="")
    top = "\n" if any(group.title for group in groups) else ""
    for column in left:
        side: Literal["left", "right"] = "left" if column.is_text else "right"
        title = Text(top + column.title, style="dim")
        table.add_column(title, justify=side, no_wrap=column is not _names(left), overflow="fold")
    rows = [[Text(column.cells[row]) for column in left] for row in range(len(styles))]
    for i, group in enumerate(groups):
        between = " " * (GROUP_GAP - GAP if i else 0)
        titles = _joined([(column.title, "dim") for column in group.columns], group.columns, widths)
        table.add_column(Text.assemble(between, (group.title, "bold"), top, between, titles), no_wrap=True)
        for row, cells in enumerate(rows):
            strong = "bold " if row in group.strong else ""
            texts = [(column.cells[row], strong + column.style) for column in group.columns]
            cells.append(Text(between) + _joined(texts, group.columns, widths))
    for cells, style in zip(rows, styles, strict=True):
        table.add_row(*cells, style=style)
    return table


def _joined(texts: Sequence[tuple[str, str]], columns: Sequence[Column], widths: Sequence[int]) -> Text:
    """A group's (text, style) cells of one row side by side; a column without a character takes no room."""
    padded = [
        Text(column.padded(text, width), style)
        for (text, style), column, width in zip(texts, columns, widths, strict=True)
        if width > 0
    ]
    return Text(" " * GAP).join(padded)


MIN_WIDTH = 72
"""Narrower terminals wrap our lines, which is better than losing digits."""


def print_trimmed(console: Console, sections: Callable[[int], Iterable[RenderableType]]) -> None:
    """Print what `sections` gives for a width, in characters that the console's encoding has."""
    console.print(_Trimmed(sections), crop=False)


def pairs(rows: Sequence[tuple[str, str, str]], width: int) -> Table:
    """(name, style of the text, text) below each other, long texts folded beside their names."""
    table = Table.grid(padding=(0, GAP, 0, 0))
    left_width = INDENT + max(len(name) for name, _, _ in rows) + GAP
    for name, style, text in rows:
        # a number stays with its sign or unit; rich itself would break at any kind of blank
        bound = re.sub(r"(?<=\d) (?=[^\W\d]|%)", NO_BREAK, plain(text))
        folded = "\n".join(textwrap.wrap(bound, width - left_width, break_on_hyphens=False))
        table.add_row(Text(name, style="dim"), Text(folded.replace(NO_BREAK, " "), style=style))
    return table


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
