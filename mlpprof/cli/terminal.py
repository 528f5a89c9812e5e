"""The terminal: reports go to standard output, progress goes to standard error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from mlpprof.cli.streams import wrapped
from mlpprof.process import Progress as ReportProgress
from mlpprof.results.json import json_text

PIPED_WIDTH = 100
"""The number of columns without a terminal: wide enough for the tables, narrow enough for a log."""


def output_console() -> Console:
    """A console on standard output; without a terminal, or with NO_COLOR, rich prints no colours."""
    console = Console(highlight=False)
    if not console.is_terminal:
        return Console(highlight=False, width=max(PIPED_WIDTH, shutil.get_terminal_size((PIPED_WIDTH, 25)).columns))
    return console


def print_sentence(console: Console, text: str, style: str = "") -> None:
    """Print a sentence, wrapped at spaces on a terminal, as one line elsewhere; words and paths are never broken."""
    lines = wrapped(text, console.width) if console.is_terminal else text
    console.print(Text(lines, style), soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[ReportProgress]:
    """A progress bar on standard error, which disappears at the end; without a terminal there is none."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        yield report


def print_json(value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print a JSON document to standard output."""
    click.echo(json_text(value), nl=False)


def print_text(text: str) -> None:
    """Print a text that is a document, such as Markdown, to standard output as it is."""
    click.echo(text, nl=False)
