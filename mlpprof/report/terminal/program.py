"""Where a program's time goes, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from mlpprof.report.program_rows import TITLE, known_text, program_table, program_words
from mlpprof.report.terminal.console import heading, indented, pairs, table_lines
from mlpprof.results.program_time import ProgramTime


def program_section(time: ProgramTime, step: str, width: int) -> Iterator[RenderableType]:
    """The section of a report about the whole program. step: as in `Advice.step`."""
    yield heading(TITLE)
    yield indented(pairs([("", "", program_words(time))], width))
    yield from table_lines(program_table(time, step), width)
    if known := known_text(time):
        yield Text()
        yield indented(pairs([("!", "yellow", text) for text in known], width))
