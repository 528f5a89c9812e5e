"""`mlpprof autotune` finds the fastest variant and settings for a network on this machine, and saves it as a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import scheduler_from, scheduler_options, workload_from, workload_options
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.compare.autotune import CACHE, Kept, autotune, tuned_key
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.machine.facts import machine_class
from mlpprof.profile.request import Request
from mlpprof.report.files.formats import TUNING
from mlpprof.report.json_documents import tuning_json
from mlpprof.report.terminal.autotune import print_tuning, three_lines
from mlpprof.results.peers import INDIRECT
from mlpprof.sweep.cluster import DaskPool, remote_client
from mlpprof.sweep.measure import class_of_node, machine_of_node
from mlpprof.sweep.tune import one_machine, tune_cell, tune_on_node

BUDGET_S = 110.0


@click.command("autotune")
@workload_options
@click.option("--batch", type=click.IntRange(1), help="Batch size, instead of the workload's.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True, help="Precision."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed for weights and shuffling."
)
@click.option(
    "--budget",
    type=click.FloatRange(5),
    default=BUDGET_S,
    show_default=True,
    metavar="SECONDS",
    help="Time for the search. The first one may take half a minute more, because it compiles.",
)
@scheduler_options
@click.option("--again", is_flag=True, help="Measure again, even if a result for this machine is stored.")
@click.option(
    "-o",
    "--out",
    type=WrittenPath(dir_okay=False),
    metavar="FILE.py",
    help="Save the fastest variant as a Python file. It needs NumPy (SciPy, numba), but not mlpprof.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the text.")
def command(out: Path | None, batch: int | None, budget: float, again: bool, as_json: bool, **options: Any) -> None:
    """Find the fastest variant and setting for a network on this machine.

    mlpprof measures variants, chunk sizes, numbers of BLAS threads and memory layouts alternately. After each round the
    slower half is left out; the last two are compared in new processes. The result is stored for this machine, network,
    batch, precision and data. Environment variables that fix the BLAS kernel are ignored.

    With --scheduler a node of that cluster is measured instead, and the result is for machines of its class.
    """
    if out is not None:
        TUNING.choose(out)
        require_writable(out)
    workload = workload_from({**options, "batch": None if batch is None else (batch,)})
    request = Request("sliced", workload.network, workload.source, options["dtype"], options["seed"])
    saving = Saving()
    with progress_bar() as progress, _pool(scheduler_from(options), budget) as pool:
        machine = (
            machine_of_node(native_blas=True) if pool is None else one_machine(pool.ask(partial(machine_of_node, True)))
        )
        key = tuned_key(machine, workload.network, workload.batch, options["dtype"], workload.source)
        known = None if again else CACHE.read(key, complain)
        kept = known is not None
        if known is not None:
            tuning = known.tuning
        else:
            if pool is None:
                tuning = autotune(request, workload.name, workload.batch, budget, progress)
            else:
                tuning = tune_on_node(pool, machine_class(machine), request, workload, budget, progress, complain)
            try:
                CACHE.write(key, Kept(tuning))
            except UsageError as error:  # only a warning: the user did not ask for this file
                complain(f"the result is not stored for the next time: {error}")
    if out is not None:
        with saving.attempt():
            TUNING.write(tuning, out)
    with saving.report_first():
        if as_json:
            print_json(tuning_json(tuning, kept, three_lines(tuning)))
            return
        console = output_console()
        print_tuning(tuning, console)
        notes = []
        if tuning.variant in INDIRECT:
            notes.append(
                f"What {tuning.variant} gains depends on the data, and this is for {workload.source.text}; --data FILE "
                "measures with yours."
            )
        if kept:
            notes.append(f"Measured on {tuning.created[:10]} and stored for this machine; --again measures it again.")
        if pool is not None:
            notes.append(f"It is for machines of this class: {machine_class(machine)}.")
        if out is not None and not saving.failures:
            notes.append(f"Written: {out}. Try it: mlpprof check {out}")
        for note in notes:
            print_sentence(console, note, "dim")


@contextlib.contextmanager
def _pool(scheduler: tuple[str | None, Path | None] | None, budget: float) -> Iterator[DaskPool | None]:
    """The nodes of a scheduler, None without one."""
    if scheduler is None:
        yield None
        return
    with remote_client(*scheduler) as client:
        yield DaskPool(client, partial(tune_cell, budget), class_of_node, complain)
