"""Where output goes: reports to standard output, progress and warnings to standard error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mlpprof.process import Progress as ReportProgress
from mlpprof.results.json import json_text

PIPED_WIDTH = 100
"""Columns where there is no terminal: wide enough for the tables, narrow enough for a log."""


def output_console() -> Console:
    """A console on standard output; rich honours NO_COLOR and a missing terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        return Console(highlight=False, width=max(PIPED_WIDTH, shutil.get_terminal_size((PIPED_WIDTH, 25)).columns))
    return console


@contextmanager
def progress_bar() -> Iterator[ReportProgress]:
    """A bar on standard error that vanishes at the end; where that is no terminal, nothing."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        yield report


def print_json(value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """A JSON document on standard output."""
    click.echo(json_text(value), nl=False)
