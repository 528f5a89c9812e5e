"""`mlpprof profile VARIANT` shows where the time of a training step goes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.advise import profile_step
from mlpprof.catalog import find
from mlpprof.cli.options import (
    ProgramCommand,
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
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.profile.profile import Settings, profile
from mlpprof.profile.request import Request
from mlpprof.report.files.formats import CALL_VIEW, RUNS, STEP_PROFILE
from mlpprof.report.json_documents import profile_json, step_profile_json
from mlpprof.report.terminal.advise import print_step_profile
from mlpprof.report.terminal.profile import print_run
from mlpprof.results import Run
from mlpprof.results.on_disk import save_new_run, save_run

# `mlpprof profile FILE.py --step NAME` profiles the phases and expressions of a step of an unchanged script.

STEP_PARAMETERS = (
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
"""The parameters of `mlpprof profile` that can be used together with --step."""


def profile_program_step(ctx: click.Context, target: str, options: dict[str, Any]) -> None:
    """Profile the step and print or write the result; raises UsageError for options that are for variants only."""
    others = [name for name in ctx.params if name not in STEP_PARAMETERS]
    meaningless = given_options(ctx, others)
    if meaningless:
        raise UsageError(
            f"--step {options['step']} profiles your unchanged program, so {', '.join(meaningless)} cannot be used; "
            "leave it out"
        )
    out = options["out"]
    require_writable(out)
    if out is not None:
        STEP_PROFILE.choose(out)
    threads = options["threads"] or None if given_options(ctx, ["threads"]) else None
    subject = subject_from(target, options, threads)
    announce(subject)
    with progress_bar() as progress:
        profile = profile_step(subject, progress=progress)
    saving = Saving()
    if out is not None:
        with saving.attempt():
            STEP_PROFILE.write(profile, out)
    with saving.report_first():
        if options["as_json"]:
            print_json(step_profile_json(profile))
        else:
            print_step_profile(profile, output_console(), verbose=options["verbose"])


def require_no_step_options(options: dict[str, Any]) -> None:
    """Raise UsageError if options are given that need --step."""
    if options["arguments"]:
        raise UsageError(
            f"unexpected argument '{options['arguments'][0]}'; profile takes one variant. With --step NAME it takes a "
            "script, and passes the arguments after -- to it"
        )
    for name in ("include", "exclude"):
        if options[name]:
            raise UsageError(f"--{name} {options[name][0]} selects modules of a script; add --step NAME")


@click.command("profile", cls=ProgramCommand)
@click.argument("variant")
@arguments_argument
@click.option(
    "--step", metavar="NAME", help="Profile this step of your unchanged script: Class.method, a function or LINE."
)
@modules_options
@allow_writes_option
@workload_options
@measuring_options
@click.option(
    "--steps",
    type=click.IntRange(1, 1_000_000),
    help="Timed steps per pass (default: it depends on the time of a step).",
)
@click.option("--lines", is_flag=True, help="Add the time of every line of the file (line_profiler).")
@click.option("--stacks", is_flag=True, help="Add the call view (pyinstrument).")
@click.option(
    "--stacks-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the call view to a file (.html, .speedscope.json or .pyisession), and measure it.",
)
@click.option("--no-check", is_flag=True, help="Do not check the gradients first; the report says so.")
@click.option("--no-limits", is_flag=True, help="Do not compare the step with the speed limits of this machine.")
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.option("-v", "--verbose", is_flag=True, help="Also show labels that take little time.")
@click.pass_context
def command(ctx: click.Context, /, variant: str, **options: Any) -> None:
    """Show where the time of a training step goes. VARIANT is a name (mlpprof list), or your class: ./mine.py:Class.

    Without options, mlpprof trains a 784-70-30-10 network on the embedded digits. Three kinds of measurement alternate
    in worker processes: the step alone, its phases, and its labelled statements. The run is kept under reports/, with
    every single measurement.

    With --step NAME, mlpprof runs your unchanged script and times each array expression in that function. Put the
    arguments of the script after --: mlpprof profile train.py --step Net.update -- --epochs 3
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
            print_sentence(console, f"kept in {kept} (mlpprof report {kept} shows it again)", "dim")


def profile_as_asked(
    variant: str,
    options: Mapping[str, Any],
    typed: str,
    bar: Callable[[], AbstractContextManager[Progress]],
    saving: Saving,
) -> tuple[Run, Path | None]:
    """Measure, keep the run and write the files; return the run and its path. This does everything but print.

    typed: the command line, for the report. bar: a context that shows progress. saving: contains afterwards what could
    not be written. Raises any MlpprofError that occurs before that.
    """
    out, stacks_file, figure = options["out"], options["stacks_file"], options["figure"]
    require_writable(out, stacks_file)
    file_format = None if out is None else RUNS.choose(out, options["file_format"], figure)
    shows = "" if file_format is None else file_format.shows
    if stacks_file is not None:
        CALL_VIEW.choose(stacks_file)
    workload = workload_from(options)
    request = Request(find(variant).reference, workload.network, workload.source, options["dtype"], options["seed"])
    settings = Settings(
        batches=options["batch"] or (workload.batch,),
        steps=options["steps"],
        threads=options["threads"] or None,
        native_blas=options["native_blas"],
        check=not options["no_check"],
        lines=options["lines"] or shows == "lines",
        stacks=options["stacks"] or stacks_file is not None or shows == "stacks",
        limits=not options["no_limits"],
    )
    is_run_file = file_format is not None and file_format.name == "h5"
    if not is_run_file:
        saving.try_folder()
    with bar() as progress:
        run = profile(request, workload.name, settings, typed, progress)
    kept = _keep(run, out if is_run_file else None, saving)
    if out is not None and not is_run_file:
        with saving.attempt():
            RUNS.write([run], out, options["file_format"], figure)
    if stacks_file is not None:
        with saving.attempt():
            CALL_VIEW.write(run, stacks_file)
    return run, kept


def _keep(run: Run, path: Path | None, saving: Saving) -> Path | None:
    """Save the run at the path, or in the folder for runs; None if it cannot be saved anywhere."""
    refused = None
    if path is not None:
        try:
            return save_run(run, path)
        except UsageError as error:
            refused = error
    return saving.keep("the run", partial(save_new_run, run), refused)
