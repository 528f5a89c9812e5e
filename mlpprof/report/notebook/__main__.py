"""`python -m mlpprof.report.notebook SOURCE.md TARGET.ipynb`: build a notebook, run it, write it."""

from __future__ import annotations

from pathlib import Path

import click

from mlpprof.errors import MlpprofError
from mlpprof.report.notebook.build import write_notebook


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def main(source: Path, target: Path) -> None:
    """Build TARGET from SOURCE and run it."""
    try:
        write_notebook(source, target)
    except MlpprofError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
