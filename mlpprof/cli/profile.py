"""`mlpprof profile VARIANT`: where the time of a training step goes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from mlpprof.advise import profile_step
from mlpprof.catalog import find
from mlpprof.cli.options import (
    allow_writes_option,
    announce,
    arguments_argument,
    file_options,
    given_options,
    measuring_options,
    modules_options,
    subject_from,
    workload_from,
    workload_options,
)
from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.profile.profile import Settings, profile
from mlpprof.profile.request import Request
from mlpprof.report.files.formats import (
    LINE_FORMATS,
    STACK_FORMATS,
    choose_format,
    require_known_stacks_ending,
    require_step_ending,
    write_runs,
    write_stacks,
    write_step_profile,
)
from mlpprof.report.json_documents import profile_json, step_profile_json
from mlpprof.report.terminal.advise import print_step_profile
from mlpprof.report.terminal.profile import print_run
from mlpprof.results import Run
from mlpprof.results.on_disk import save_new_run, save_run

# `mlpprof profile FILE.py --step NAME`: the phases and expressions of somebody's own step.


MEANINGFUL = (
    "variant",
    "arguments",
    "step",
    "include",
    "exclude",
    "allow_writes",
    "threads",
    "out",
    "as_json",
    "verbose",
)
"""Parameters of `mlpprof profile` that mean something where --step is given."""


def profile_program_step(ctx: click.Context, target: str, options: dict[str, Any]) -> None:
    """Profile the step and show it as the options say; raises UsageError for options of a variant's profile."""
    others = [name for name in ctx.params if name not in MEANINGFUL]
    meaningless = given_options(ctx, others)
    if meaningless:
        raise UsageError(
            f"--step {options['step']} profiles a program as it stands, so {', '.join(meaningless)} cannot be used; "
            "leave it out"
        )
    out = options["out"]
    require_writable(out)
    if out is not None:
        require_step_ending(out)
    threads = options["threads"] or None if given_options(ctx, ["threads"]) else None
    subject = subject_from(target, options, threads)
    announce(subject)
    with progress_bar() as progress:
        profile = profile_step(subject, progress=progress)
    saving = Saving()
    if out is not None:
        with saving.attempt():
            write_step_profile(out, profile)
    with saving.report_first():
        if options["as_json"]:
            print_json(step_profile_json(profile))
        else:
            print_step_profile(profile, output_console(), verbose=options["verbose"])


def require_no_step_options(options: dict[str, Any]) -> None:
    """Raise UsageError where there is no --step, but something that only goes with it."""
    if options["arguments"]:
        raise UsageError(
            f"unexpected argument '{options['arguments'][0]}': profile takes one variant; with --step NAME it takes a "
            "script, to which goes what stands behind --"
        )
    for name in ("include", "exclude"):
        if options[name]:
            raise UsageError(f"--{name} {options[name][0]} is of a program's modules; add --step NAME")


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
    saving = Saving()
    run, kept = profile_as_asked(variant, options, shlex.join(["mlpprof", *sys.argv[1:]]), progress_bar, saving)
    with saving.report_first():
        if options["as_json"]:
            print_json(profile_json(run))
            return
        console = output_console()
        print_run(run, console, verbose=options["verbose"])
        if kept is not None:
            console.print(Text(f"kept in {kept} (mlpprof report {kept} shows it again)", "dim"), soft_wrap=True)


def profile_as_asked(
    variant: str,
    options: Mapping[str, Any],
    typed: str,
    bar: Callable[[], AbstractContextManager[Progress]],
    saving: Saving,
) -> tuple[Run, Path | None]:
    """All but the printing: measure as the options say, keep the run, write the files; returns where it is kept.

    typed: what the user gave, as the run tells it. bar: shows progress while it is entered. saving: has afterwards
    what could not be written. Raises any MlpprofError of what comes before that.
    """
    out, stacks_file, figure = options["out"], options["stacks_file"], options["figure"]
    require_writable(out, stacks_file)
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
    if file_format != "h5":
        saving.try_folder()
    with bar() as progress:
        run = profile(request, workload.name, settings, typed, progress)
    kept = _keep(run, out if file_format == "h5" else None, saving)
    if out is not None and file_format != "h5":
        with saving.attempt():
            write_runs([run], out, file_format, figure)
    if stacks_file is not None:
        with saving.attempt():
            write_stacks(run, stacks_file)
    return run, kept


def _keep(run: Run, path: Path | None, saving: Saving) -> Path | None:
    """Save the run at a path, else in the folder for runs; None where it is lost."""
    refused = None
    if path is not None:
        try:
            return save_run(run, path)
        except UsageError as error:
            refused = error
    return saving.keep("the run", partial(save_new_run, run), refused)
