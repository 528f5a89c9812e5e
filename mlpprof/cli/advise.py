"""`mlpprof advise TARGET` finds slow operations in a training script, and shows how to fix them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from mlpprof.advise import Subject, find
from mlpprof.cli.options import (
    ProgramCommand,
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
from mlpprof.process import Progress
from mlpprof.report.files.formats import ADVICE
from mlpprof.report.json_documents import advice_json
from mlpprof.report.terminal.advise import print_advice
from mlpprof.results.advice import Advice


@click.command("advise", cls=ProgramCommand)
@click.argument("target")
@arguments_argument
@click.option(
    "--step",
    metavar="NAME",
    help="The training step: Class.method, a function, or LINE of the training loop (default: mlpprof finds it).",
)
@modules_options
@allow_writes_option
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Number of BLAS threads (default: unchanged for scripts, 1 for variants).",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report to FILE: .html, .json or .txt.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@variant_options
@click.pass_context
def command(
    ctx: click.Context, /, target: str, out: Path | None, as_json: bool, threads: int | None, **options: Any
) -> None:
    """Find the slow operations in the training step of TARGET: your unchanged script, or a variant (mlpprof list).

    The script runs with its own arguments until a few training steps are recorded; then it is stopped. mlpprof then
    looks in the recording for unnecessary and slow work. Each finding shows the line, the reason, a suggested change,
    and the time that it saves, measured with the values of your step. Your files are not changed.

    The script is run once if you name the step with --step, and up to two times if you do not. It is ended before it
    writes a file, a checkpoint for instance, unless you add --allow-writes.

    The options below, from --workload on, apply only to built-in variants.

    \b
    mlpprof advise train.py
    mlpprof advise train.py --step Net.update_mini_batch
    mlpprof advise train.py -o page.html -- --epochs 3
    mlpprof advise naive --batch 2000
    """
    require_format(out)
    subject = trained_on(subject_from(target, options, threads), options, ctx)
    announce(subject)
    saving = Saving()
    advice = advise_as_asked(subject, out, progress_bar, saving)
    with saving.report_first():
        if as_json:
            print_json(advice_json(advice))
        else:
            print_advice(advice, output_console())


def require_format(out: Path | None) -> None:
    """Raise UsageError if the file cannot be written, or if its ending is of no format."""
    require_writable(out)
    if out is not None:
        ADVICE.choose(out)


def advise_as_asked(
    subject: Subject, out: Path | None, bar: Callable[[], AbstractContextManager[Progress]], saving: Saving
) -> Advice:
    """Find the slow operations, and write the file; do everything but print. Raises as `find`.

    bar: a context that shows progress. saving: contains afterwards what could not be written.
    """
    require_format(out)
    with bar() as progress:
        advice = find(subject, progress=progress)
    if out is not None:
        with saving.attempt():
            ADVICE.write(advice, out)
    return advice
