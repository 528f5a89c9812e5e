"""What is shown where changes are reviewed: annotations of GitHub, its step summary, and Markdown.

Texts of the user may hold anything, so each function here escapes what would end the line, the cell or the code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlpprof.errors import UsageError
from mlpprof.report.numbers import plain
from mlpprof.report.rows import Table

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
"""The variable in which GitHub names the file of a step's summary."""


def annotation(level: str, title: str, text: str, file: str = "", line: int = 0, end_line: int = 0) -> str:
    """A line that GitHub reads from the output of a step and shows at a line of a file.

    level: 'error', 'warning' or 'notice'. file: as seen from the root of the repository; "" for none. end_line: 0 if
    it is the same line.
    """
    place = f"file={_property(file)},line={line}," if file else ""
    end = f"endLine={end_line}," if file and end_line else ""
    return f"::{level} {place}{end}title={_property(title)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def add_to_step_summary(markdown: str) -> None:
    """Append Markdown to the summary of a step of a GitHub workflow, if this is one. It needs no token.

    Raises UsageError if the file of the summary cannot be written.
    """
    if path := os.environ.get(SUMMARY_VARIABLE):
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(markdown)
        except OSError as error:
            raise UsageError(f"cannot write the summary to {SUMMARY_VARIABLE}={path}: {error.strerror}") from error


def inline(text: str) -> str:
    """Text of the user in a line of Markdown: what is between backticks stays code, and nothing becomes HTML."""
    parts = plain(text).split("`")
    if len(parts) % 2 == 0:
        return _escaped(plain(text).replace("`", "'"))
    return "`".join(part if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\*_[]#":
        text = text.replace(character, "\\" + character)
    return text


def markdown_row(cells: Iterable[str]) -> str:
    """A row of a table of Markdown, from cells that are escaped."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def markdown_table(table: Table) -> Iterator[str]:
    """A table that all renderers show, as lines of Markdown."""
    yield markdown_row([column.title for column in table.columns])
    yield markdown_row(["---" if column.is_text else "---:" for column in table.columns])
    for row in table.rows:
        yield markdown_row([inline(cell.text) for cell in row.cells])
