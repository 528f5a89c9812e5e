"""Tables with a group of columns for every batch size, split over several tables where one would be too wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

INDENT = 2
GAP = 2
GROUP_GAP = 4
"""Blanks before a table, between columns, and between groups of columns."""

NAME_WIDTH = 20
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
    group_width = max([sum(widths) + GAP * (len(widths) - 1), *(len(group.title) for group in groups)])
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
        title = Text(top + column.title, style="dim")
        side: Literal["left", "right"] = "left" if column.is_text else "right"
        table.add_column(title, justify=side, no_wrap=column is not _names(left), overflow="fold")
    for group in groups:
        between = " " * (GROUP_GAP - GAP if group is not groups[0] else 0)
        titles = [column.padded(column.title, w) for column, w in zip(group.columns, widths, strict=True)]
        header = Text.assemble((between + group.title, "bold"), top, (between + (" " * GAP).join(titles), "dim"))
        table.add_column(header, no_wrap=True)
    for row, style in enumerate(styles):
        cells = [Text(column.cells[row]) for column in left]
        cells += [_group_row(group, row, widths, " " * (GROUP_GAP - GAP if i else 0)) for i, group in enumerate(groups)]
        table.add_row(*cells, style=style)
    return table


def _group_row(group: Group, row: int, widths: Sequence[int], between: str) -> Text:
    line = Text(between)
    for i, (column, width) in enumerate(zip(group.columns, widths, strict=True)):
        strong = "bold" if row in group.strong else ""
        line.append(" " * (GAP if i else 0)).append(column.padded(column.cells[row], width), f"{strong} {column.style}")
    return line
