"""`mlpprof autotune`: the fastest variant and setting for a network on this machine, and a file to take it home."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from mlpprof.cli.options import workload_from, workload_options
from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.compare.autotune import autotune, keep_tuned, read_tuned, tuned_key
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Worker
from mlpprof.profile.profile import WORKER
from mlpprof.profile.request import Request
from mlpprof.report.files.tuned_file import require_python_file, write_tuned_file
from mlpprof.report.terminal.autotune import print_tuning, three_lines
from mlpprof.results.json import without_nan

BUDGET_S = 110.0


@click.command("autotune")
@workload_options
@click.option("--batch", type=click.IntRange(1), help="Batch size, instead of the workload's.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True, help="Precision."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights and shuffling.")
@click.option(
    "--budget", type=click.FloatRange(5), default=BUDGET_S, show_default=True, metavar="SECONDS", help="For the search."
)
@click.option("--again", is_flag=True, help="Measure anew, also where a result for this machine is kept.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.py",
    help="Write the winner as a Python file that needs NumPy (SciPy, numba) and not mlpprof.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the text.")
def command(out: Path | None, batch: int | None, budget: float, again: bool, as_json: bool, **options: Any) -> None:
    """Find the fastest variant and setting for a network on this machine.

    Rungs, chunk sizes, BLAS threads and memory layouts race in interleaved blocks; round by round the slower half
    drops out, and the last two decide it in fresh processes. The result is kept for this machine, network, batch and
    precision; kernel pins of the BLAS are cleared.
    """
    if out is not None:
        require_python_file(out)
        require_writable(out)
    workload = workload_from({**options, "batch": None if batch is None else (batch,)})
    request = Request("sliced", workload.network, workload.source, options["dtype"], options["seed"])
    saving = Saving()
    with progress_bar() as progress:
        with Worker(WORKER, worker_environment(os.environ, 1, True)) as worker:
            machine = worker.call("machine", progress)
        key = tuned_key(machine, workload.network, workload.batch, options["dtype"])
        tuning = None if again else read_tuned(key)
        kept = tuning is not None
        if tuning is None:
            tuning = autotune(request, workload.name, workload.batch, budget, progress)
            try:
                keep_tuned(key, tuning)
            except UsageError as error:  # nobody named that place, and the search was not for it
                click.echo(f"mlpprof: the result is not kept for the next time: {error}", err=True)
    if out is not None:
        with saving.attempt():
            write_tuned_file(tuning, out)
    with saving.report_first():
        if as_json:
            print_json(without_nan({"schema": 1, "kept": kept, "lines": three_lines(tuning), **asdict(tuning)}))
            return
        console = output_console()
        print_tuning(tuning, console)
        notes = []
        if kept:
            notes.append(f"Measured on {tuning.created[:10]} and kept for this machine; --again measures anew.")
        if out is not None and not saving.failures:
            notes.append(f"Written: {out}. Try it: mlpprof check {out}")
        for note in notes:
            console.print(Text(note, "dim"), soft_wrap=True)
