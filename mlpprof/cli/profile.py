"""`mlpprof profile VARIANT`: where the time of a training step goes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from mlpprof.catalog import find
from mlpprof.cli.options import measuring_options, require_folder, workload_from, workload_options
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.measure.profile import Settings, profile
from mlpprof.measure.request import Request
from mlpprof.report.export import (
    require_known_extension,
    require_known_stacks_extension,
    write_run,
    write_stacks,
)
from mlpprof.report.export.profile_json import profile_json
from mlpprof.report.terminal import print_run
from mlpprof.store import save_new_run, save_run

REPORTS = Path("reports")
RUN_EXTENSION = ".h5"


@click.command("profile")
@click.argument("variant")
@workload_options
@measuring_options
@click.option("--steps", type=click.IntRange(1, 1_000_000), help="Timed steps a pass (default: as time allows).")
@click.option("--lines", is_flag=True, help="Add the time of every line of the variant's file (line_profiler).")
@click.option("--stacks", is_flag=True, help="Add the call view (pyinstrument).")
@click.option(
    "--stacks-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the call view: .html, or .speedscope.json for speedscope. Implies --stacks.",
)
@click.option("--no-check", is_flag=True, help="Do not check the gradients first; the report will say so.")
@click.option("--no-limits", is_flag=True, help="Do not hold the step against the limits of this machine.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the run: .h5 .json .csv .txt")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.option("-v", "--verbose", is_flag=True, help="Show small labels too.")
def command(variant: str, **options: Any) -> None:
    """Profile the training step of VARIANT: a name (mlpprof list), a file ./mine.py, or ./mine.py:Class.

    Without options it trains 784-70-30-10 on the embedded digits. Time is taken in worker processes, in passes that
    alternate: without instruments, with clocks on phases, with clocks on labelled statements. The run is kept, with
    every raw sample, under reports/.
    """
    out, stacks_file = options["out"], options["stacks_file"]
    for path in (out, stacks_file):
        require_folder(path)
    format_of = None if out is None else require_known_extension(out)
    if stacks_file is not None:
        require_known_stacks_extension(stacks_file)
    workload = workload_from(options)
    request = Request(find(variant).reference, workload.network, workload.source, options["dtype"], options["seed"])
    settings = Settings(
        batches=options["batch"] or (workload.batch,),
        steps=options["steps"],
        threads=options["threads"] or None,
        native_blas=options["native_blas"],
        check=not options["no_check"],
        lines=options["lines"],
        stacks=options["stacks"] or stacks_file is not None,
        limits=not options["no_limits"],
    )
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    with progress_bar() as progress:
        run = profile(request, workload.name, settings, typed, progress)
    kept = save_run(run, out) if out is not None and format_of == RUN_EXTENSION else save_new_run(run, REPORTS)
    if out is not None and format_of != RUN_EXTENSION:
        write_run(run, out)
    if stacks_file is not None:
        write_stacks(run, stacks_file)
    if options["as_json"]:
        print_json(profile_json(run))
        return
    console = output_console()
    print_run(run, console, verbose=options["verbose"])
    console.print(Text(f"kept in {kept} (mlpprof report {kept} shows it again)", "dim"), soft_wrap=True)
