"""What the programs of this folder share: how their errors end, their options, and the form of what they print."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mlpprof.errors import EXIT_INTERRUPTED, MlpprofError


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


Option = Callable[[Callable[..., Any]], Callable[..., Any]]
"""It adds an option to the function of a program."""


def seed_option(words: str, least: int | None = None, default: int = 0) -> Option:
    """`--seed`, with its sentence of help, the least number that it takes, and its default."""
    numbers = click.INT if least is None else click.IntRange(least)
    return click.option("--seed", type=numbers, default=default, show_default=True, help=words)


def minutes_option(begun: str) -> Option:
    """`--minutes`, after which a program begins nothing new. begun: what it would begin, such as 'program'."""
    words = f"Begin no {begun} after so many minutes."
    return click.option("--minutes", type=click.FloatRange(0, min_open=True), help=words)


def over_after(minutes: float | None) -> Callable[[], bool]:
    """Return a function that reports whether so many minutes have passed since this call; for None it is never."""
    end_s = math.inf if minutes is None else time.monotonic() + 60 * minutes
    return lambda: time.monotonic() > end_s


def out_option(folder: Path, contents: str) -> Option:
    """`--out`, the folder that a program writes into. contents: what it writes there."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option("--out", type=kind, default=folder, show_default=True, help=f"Folder for {contents}.")


def json_option(words: str) -> Option:
    """`--json`, with its sentence of help; the function gets it as `to_json`."""
    return click.option("--json", "to_json", is_flag=True, help=words)


def show(text: str, document: Mapping[str, Any], to_json: bool) -> None:
    """Print what a program has written: its tables, which end with a line break, or all of it as JSON."""
    click.echo(json.dumps(document, indent=1) if to_json else text, nl=to_json)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> Iterator[str]:
    """The lines of a table in Markdown; the first columns, so many as `words` says, begin at the left."""
    ends = ["---"] * words + ["---:"] * (len(header) - words)
    yield from (f"| {' | '.join(cells)} |" for cells in (header, ends, *rows))
