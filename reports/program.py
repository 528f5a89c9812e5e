"""What the programs of this folder share: how their errors end, and the form of their tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> Iterator[str]:
    """The lines of a table in Markdown; the first columns, so many as `words` says, begin at the left."""
    ends = ["---"] * words + ["---:"] * (len(header) - words)
    yield from (f"| {' | '.join(cells)} |" for cells in (header, ends, *rows))
