"""`mlpprof check [VARIANT ...]` checks that variants compute the right gradients."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from mlpprof.catalog import find, ladder
from mlpprof.cli.options import rank_options, time_limit_option
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from mlpprof.profile.check import CHECK_CASES
from mlpprof.profile.variant import check
from mlpprof.report.json_documents import check_json
from mlpprof.results import CheckResult


@click.command("check")
@click.argument("variants", nargs=-1)
@click.option(
    "--cases",
    type=click.IntRange(1, 100_000),
    default=CHECK_CASES,
    show_default=True,
    help="Number of random networks.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random networks.")
@rank_options
@time_limit_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.pass_context
def command(ctx: click.Context, variants: tuple[str, ...], cases: int, seed: int, as_json: bool) -> None:
    """Check that variants (default: all) compute the right gradients, on random networks of every kind.

    Each variant is compared with finite differences, with its parent and with itself in float32, and its losses are
    compared over 20 training steps. Your own variant (./mine.py) is compared with naive. If a variant refuses a network
    (UnsupportedNetwork), another network is tried. The exit code is 1 if a variant is wrong.
    """
    references = [find(name).reference for name in variants] or list(ladder())
    with progress_bar() as progress:
        results = check(references, cases, seed, progress)
    if as_json:
        print_json(check_json(results))
    else:
        _print(results)
    is_wrong = any(result.ok is False for result in results)
    is_cut_short = any(result.ok is None and result.message for result in results)
    ctx.exit(EXIT_FAILED if is_wrong else EXIT_USAGE if is_cut_short else EXIT_OK)


def _print(results: list[CheckResult]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("variant")
    table.add_column("result")
    table.add_column("worst deviation", justify="right")
    table.add_column("allowed", justify="right")
    table.add_column("layer", justify="right")
    table.add_column("of")
    words = {True: Text("right", "green"), False: Text("WRONG", "bold red"), None: Text("skipped", "yellow")}
    for result in results:
        table.add_row(
            Text(result.variant),
            words[result.ok],
            "" if result.deviation is None else f"{result.deviation:.1e}",
            "" if result.tolerance is None else f"{result.tolerance:.0e}",
            "" if result.layer is None else str(result.layer),
            Text(result.skipped or result.what),
        )
    console = output_console()
    console.print(table)
    for result in results:
        if result.message:
            print_sentence(console, result.message, "red")
