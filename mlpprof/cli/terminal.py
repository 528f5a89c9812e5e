"""The terminal: reports go to standard output, progress goes to standard error."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from mlpprof.cli.streams import wrapped
from mlpprof.process import Progress as ReportProgress
from mlpprof.report.numbers import printable
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


LINE_EVERY_S = 10.0
"""Without a terminal, there is at most one line of progress in this many seconds."""


class ProgressLines:
    """Progress as plain lines on standard error, for what takes long and is watched in a log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._printed_s = -math.inf
        self._printed = ""

    def __call__(self, what: str, share: float) -> None:
        """Print what is done, unless it was printed just now, or is the same as before."""
        now_s = self._clock()
        if what != self._printed and now_s - self._printed_s >= LINE_EVERY_S:
            self._printed_s, self._printed = now_s, what
            click.echo(printable(what), err=True)


@contextmanager
def progress_bar(*, with_lines: bool = False) -> Iterator[ReportProgress]:
    """A progress bar on standard error, which disappears at the end.

    with_lines: without a terminal, print lines instead; else there is nothing.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    if with_lines and not console.is_terminal:
        yield ProgressLines()
        return
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
