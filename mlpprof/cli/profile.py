"""`mlpprof profile VARIANT`: where the time of a training step goes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from mlpprof.catalog import find
from mlpprof.cli.options import file_options, measuring_options, require_folder, workload_from, workload_options
from mlpprof.cli.profile_step import profile_program_step, require_no_step_options
from mlpprof.cli.program import allow_writes_option, arguments_argument, modules_options
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.errors import UsageError
from mlpprof.measure.profile import Settings, profile
from mlpprof.measure.request import Request
from mlpprof.process import Progress
from mlpprof.report.export import (
    LINE_FORMATS,
    STACK_FORMATS,
    choose_format,
    require_known_stacks_ending,
    write_runs,
    write_stacks,
)
from mlpprof.report.export.profile_json import profile_json
from mlpprof.report.terminal import print_run
from mlpprof.results import Run
from mlpprof.store import save_new_run, save_run

REPORTS = Path("reports")


@click.command("profile")
@click.argument("variant")
@arguments_argument
@click.option(
    "--step", metavar="NAME", help="Profile this step of a script as it stands: Class.method, function or FILE.py:LINE."
)
@modules_options
@allow_writes_option
@workload_options
@measuring_options
@click.option("--steps", type=click.IntRange(1, 1_000_000), help="Timed steps a pass (default: as time allows).")
@click.option("--lines", is_flag=True, help="Add the time of every line of the variant's file (line_profiler).")
@click.option("--stacks", is_flag=True, help="Add the call view (pyinstrument).")
@click.option(
    "--stacks-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the call view: .html, .speedscope.json or .pyisession. Implies --stacks.",
)
@click.option("--no-check", is_flag=True, help="Do not check the gradients first; the report will say so.")
@click.option("--no-limits", is_flag=True, help="Do not hold the step against the limits of this machine.")
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.option("-v", "--verbose", is_flag=True, help="Show small labels too.")
@click.pass_context
def command(ctx: click.Context, /, variant: str, **options: Any) -> None:
    """Profile the training step of VARIANT: a name (mlpprof list), a file ./mine.py, or ./mine.py:Class.

    Without options it trains 784-70-30-10 on the embedded digits. Time is taken in worker processes, in passes that
    alternate: without instruments, with clocks on phases, with clocks on labelled statements. The run is kept, with
    every raw sample, under reports/.

    With --step NAME it is a script as it stands that runs, with the arguments behind --, and each array expression of
    that step is timed: mlpprof profile train.py --step Net.update -- --epochs 3
    """
    if options["step"] is not None:
        profile_program_step(ctx, variant, options)
        return
    require_no_step_options(options)
    run, kept = profile_as_asked(variant, options, shlex.join(["mlpprof", *sys.argv[1:]]), progress_bar)
    if options["as_json"]:
        print_json(profile_json(run))
        return
    console = output_console()
    print_run(run, console, verbose=options["verbose"])
    console.print(Text(f"kept in {kept} (mlpprof report {kept} shows it again)", "dim"), soft_wrap=True)


def profile_as_asked(
    variant: str, options: Mapping[str, Any], typed: str, bar: Callable[[], AbstractContextManager[Progress]]
) -> tuple[Run, Path]:
    """All but the printing: measure as the options say, keep the run, write the files; returns where it is kept.

    typed: what the user gave, as the run tells it. bar: shows progress while it is entered. Raises any MlpprofError.
    """
    out, stacks_file, figure = options["out"], options["stacks_file"], options["figure"]
    for path in (out, stacks_file):
        require_folder(path)
    file_format = None if out is None else choose_format(out, options["file_format"], figure)
    if stacks_file is not None:
        require_known_stacks_ending(stacks_file)
    workload = workload_from(options)
    request = Request(find(variant).reference, workload.network, workload.source, options["dtype"], options["seed"])
    settings = Settings(
        batches=options["batch"] or (workload.batch,),
        steps=options["steps"],
        threads=options["threads"] or None,
        native_blas=options["native_blas"],
        check=not options["no_check"],
        lines=options["lines"] or file_format in LINE_FORMATS,
        stacks=options["stacks"] or stacks_file is not None or file_format in STACK_FORMATS,
        limits=not options["no_limits"],
    )
    with bar() as progress:
        run = profile(request, workload.name, settings, typed, progress)
    kept = save_run(run, out) if out is not None and file_format == "h5" else save_new_run(run, REPORTS)
    try:
        if out is not None and file_format != "h5":
            write_runs([run], out, file_format, figure)
        if stacks_file is not None:
            write_stacks(run, stacks_file)
    except UsageError as error:
        raise UsageError(f"{error}; the run is kept in {kept}") from error
    return run, kept
