"""`mlpprof verify FILE...` computes the figures of stored races and runs again from their raw samples."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from mlpprof.cli.terminal import output_console, print_json, print_sentence
from mlpprof.compare.verify import Figure, Statement, statements_of_race, statements_of_run
from mlpprof.errors import EXIT_FAILED, EXIT_OK
from mlpprof.report.json_documents import verify_json
from mlpprof.results.on_disk import OF_RACES, intact_schema, load_run
from mlpprof.results.races_on_disk import load_races


@click.command("verify")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Compute every ratio, interval and verdict of a stored FILE (.h5) again from its raw samples.

    mlpprof compare and ladder write such a file with -o RACE.h5, and mlpprof profile keeps one of every run. The exit
    code is 1 if a figure or a verdict differs from what the samples give, and 2 if a file is damaged or cannot be read.

    \b
    mlpprof compare old.py new.py --at-least 1.2 -o race.h5
    mlpprof verify race.h5
    """
    verified = {path: _statements(path) for path in files}
    if as_json:
        print_json(verify_json(verified))
    else:
        for path, statements in verified.items():
            _print(path, statements)
    confirmed = all(one.is_confirmed for statements in verified.values() for one in statements)
    ctx.exit(EXIT_OK if confirmed else EXIT_FAILED)


def _statements(path: Path) -> list[Statement]:
    if intact_schema(path) != OF_RACES:
        return statements_of_run(load_run(path))
    return [statement for stored in load_races(path) for statement in statements_of_race(stored)]


def _print(path: Path, statements: list[Statement]) -> None:
    console = output_console()
    differing = [one for one in statements if not one.is_confirmed]
    table = Table(box=None, pad_edge=False)
    table.add_column("figure")
    table.add_column("in the file", justify="right")
    table.add_column("from the samples", justify="right")
    table.add_column("")
    for one in statements:
        answer = Text("the same", "green") if one.is_confirmed else Text("DIFFERS", "bold red")
        table.add_row(Text(one.what), Text(_text(one.stored)), Text(_text(one.computed)), answer)
    console.print(table)
    if differing:
        what = f"{len(differing)} of {len(statements)} figures differ from what its samples give"
        print_sentence(console, f"{path}: {what}, the first one is {differing[0].what}", "red")
    else:
        print_sentence(console, f"{path}: its digest is right, and all {len(statements)} figures are confirmed")


def _text(figure: Figure) -> str:
    if figure is None:
        return "none"
    return f"{figure:.6g}" if isinstance(figure, float) else figure if len(figure) <= 24 else f"{figure[:21]}..."
