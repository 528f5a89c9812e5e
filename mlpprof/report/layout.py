"""Reports on a console: headings, facts below each other, no narrower than their digits, no blanks at line ends."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mlpprof.report.format import NO_BREAK, encodable, plain
from mlpprof.report.grid import GAP, INDENT

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
