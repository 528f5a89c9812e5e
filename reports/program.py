"""What the programs of this folder share: how their errors end, and how they show their progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from mlpprof.errors import EXIT_INTERRUPTED, MlpprofError
from mlpprof.process import Progress


class Program(click.Command):
    """A command that ends as `mlpprof` does: errors are one line on standard error, and the exit code says the kind."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["context_settings"] = {"help_option_names": ["-h", "--help"]}
        super().__init__(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MlpprofError as error:
            click.echo(f"mlpprof: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("mlpprof: interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error, which disappears when the work is done; there is none where nobody looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        yield report
