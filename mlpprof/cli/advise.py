"""`mlpprof advise TARGET`: what to fix in somebody's own program, where, and what it will give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlpprof.advise import find
from mlpprof.cli.options import (
    allow_writes_option,
    announce,
    arguments_argument,
    modules_options,
    subject_from,
    trained_on,
    variant_options,
)
from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.files import require_writable
from mlpprof.report.files.formats import require_advice_ending, write_advice
from mlpprof.report.json_documents import advice_json
from mlpprof.report.terminal.advise import print_advice


@click.command("advise")
@click.argument("target")
@arguments_argument
@click.option(
    "--step",
    metavar="NAME",
    help="The training step: Class.method, a function, or FILE.py:LINE of the loop whose body it is; else it is found.",
)
@modules_options
@allow_writes_option
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="BLAS threads; by default those that a script gets when it runs by itself, and one for a variant.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it: .html .json .txt"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@variant_options
@click.pass_context
def command(
    ctx: click.Context, /, target: str, out: Path | None, as_json: bool, threads: int | None, **options: Any
) -> None:
    """Find what to fix in the training step of TARGET: a script as it stands, or a variant (mlpprof list).

    The script runs with its own arguments until a few training steps are recorded; then it is stopped, and what was
    recorded is searched for work that need not be done or could be done faster. Each finding has its place, the
    reason, the cure in words or as a small diff to read, and its payoff, measured on the values of the step. The file
    is not changed.

    The script is run once if you name the step with --step, and else up to two times. It is ended before it writes a
    file, a checkpoint for instance, unless you add --allow-writes.

    The options from --workload on say what a variant trains on.

    \b
    mlpprof advise train.py
    mlpprof advise train.py --step Net.update_mini_batch
    mlpprof advise train.py -o page.html -- --epochs 3
    mlpprof advise naive --batch 2000
    """
    require_writable(out)
    if out is not None:
        require_advice_ending(out)
    subject = trained_on(subject_from(target, options, threads), options, ctx)
    announce(subject)
    with progress_bar() as progress:
        advice = find(subject, progress=progress)
    saving = Saving()
    if out is not None:
        with saving.attempt():
            write_advice(out, advice)
    with saving.report_first():
        if as_json:
            print_json(advice_json(advice))
        else:
            print_advice(advice, output_console())
