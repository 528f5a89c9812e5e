"""`python -m mlpprof.testing.simulation`: run the benchmark, or record the noise of this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mlpprof.errors import EXIT_FAILED, MlpprofError
from mlpprof.testing.simulation.benchmark import (
    GUARANTEED_CV,
    GUARANTEED_SD,
    Row,
    by_end,
    by_kind,
    by_process,
    by_size,
    by_trace,
)
from mlpprof.testing.simulation.recorded import RECORDED, load
from mlpprof.testing.simulation.recorder import record
from mlpprof.testing.simulation.tables import as_json, markdown_table, rich_table

TRIALS, QUICK_TRIALS = 100_000, 20_000
PROCESSES, QUICK_PROCESSES = 20_000, 5_000
WIDTH = 200

LEGEND = """\
false FAIL: the speedup is exactly at_least, and the run is biased against it by the full 3 %; budget 0.1 %.
missed 10 %: it is exactly at_least / 1.10, and the run is biased in its favour by 3 %; budget 1 %.
Both with their upper 95 % bound, and as the worst of the kinds of noise where a row covers several.
Everything else is an average over runs biased by anything within 3 %. Marked *: beyond the guarantee.
Naive alternatives: a bare threshold half way between at_least and at_least / 1.10; how often wrong at either end."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--trials", type=click.IntRange(100), help=f"Simulated assertions a cell [default: {TRIALS}].")
@click.option("--quick", is_flag=True, help=f"{QUICK_TRIALS} trials a cell: a look in less than a minute.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same table.")
@click.option("--json", "to_json", is_flag=True, help="All counts as JSON on standard output.")
@click.option("--markdown", is_flag=True, help="The tables as Markdown on standard output.")
@click.option("--noise", type=click.Path(path_type=Path), default=RECORDED, help="A recording other than the built-in.")
@click.option("--record", "recording", type=click.Path(path_type=Path), help="Record this machine's noise into a file.")
@click.pass_context
def main(
    ctx: click.Context,
    trials: int | None,
    quick: bool,
    seed: int,
    to_json: bool,
    markdown: bool,
    noise: Path,
    recording: Path | None,
) -> None:
    """Error rates of the verdicts of mlpprof over modelled and recorded noise.

    Exit codes: 0 the guarantee is kept; 1 a cell that it covers exceeds its budget; 2 bad usage or input.
    """
    trials = trials or (QUICK_TRIALS if quick else TRIALS)
    processes = QUICK_PROCESSES if quick else PROCESSES
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=1.0)

            def report(what: str, share: float) -> None:
                bar.update(task, description=what, completed=share)

            if recording is not None:
                record(recording, report)
                return
            traces = load(noise)
            tables = {
                "By size, over all kinds of modelled noise": by_size(processes, trials, seed, report),
                "By kind, at the largest noise that is guaranteed for": by_kind(
                    GUARANTEED_CV, GUARANTEED_SD, processes, trials, seed
                ),
                "Recorded noise": by_trace(traces, processes, trials, seed),
                "Callables measured in one process": by_process(trials, seed),
                "Runs that a spent budget ends": by_end(processes, trials, seed),
            }
    except MlpprofError as error:
        click.echo(f"mlpprof: {error}", err=True)
        ctx.exit(error.exit_code)
    _show(tables, trials, seed, to_json, markdown)
    if any(row.guaranteed and not row.kept for rows in tables.values() for row in rows):
        ctx.exit(EXIT_FAILED)


def _show(tables: dict[str, list[Row]], trials: int, seed: int, to_json: bool, markdown: bool) -> None:
    if to_json:
        plain = {title: [as_json(row) for row in rows] for title, rows in tables.items()}
        document = {"schema": 1, "trials": trials, "seed": seed, "tables": plain}
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    elif markdown:
        click.echo("\n".join(markdown_table(title, rows) for title, rows in tables.items()))
        click.echo(LEGEND)
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=WIDTH)
        for title, rows in tables.items():
            console.print(rich_table(title, rows))
        console.print(LEGEND, markup=False)


if __name__ == "__main__":
    sys.exit(main(prog_name="python -m mlpprof.testing.simulation"))
