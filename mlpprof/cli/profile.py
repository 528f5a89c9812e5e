"""`mlpprof profile TARGET` shows where the time of a training step goes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.catalog import find
from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import (
    ProgramCommand,
    allow_writes_option,
    announcement,
    arguments_argument,
    file_options,
    given_options,
    measuring_options,
    modules_options,
    program_request,
    require_options_of_programs,
    step_option,
    stream_option,
    workload_from,
    workload_options,
)
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.errors import ProgramEnded, UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.profile.program import ProgramSettings, profile_program
from mlpprof.profile.request import Request
from mlpprof.profile.variant import Settings, profile
from mlpprof.programs.name import class_of_a_variant, is_program
from mlpprof.programs.request import ProgramRequest
from mlpprof.report.files.formats import CALL_VIEW, RUNS
from mlpprof.report.json_documents import profile_json
from mlpprof.report.terminal.profile import print_run
from mlpprof.results import Run
from mlpprof.results.on_disk import save_new_run, save_run

Bar = Callable[[], AbstractContextManager[Progress]]
"""A context that shows progress."""

OF_PROGRAMS = (
    *("variant", "arguments", "step", "include", "exclude", "allow_writes", "threads", "native_blas"),
    *("lines", "stacks", "stacks_file", "no_limits", "out", "file_format", "figure", "as_json", "verbose"),
)
"""The parameters of `mlpprof profile` that can be used with a program; the others are for variants."""


def program_as_asked(
    ctx: click.Context, target: str, options: Mapping[str, Any], typed: str, saving: Saving
) -> tuple[Run, Path | None]:
    """Profile a program, keep the run and write the files; return the run and its path.

    typed, saving: as for `profile_as_asked`. Raises UsageError for options that are for variants only, and any
    MlpprofError that occurs before the files are written.
    """
    request = program_request(target, options)
    return request_as_asked(ctx, request, options, typed, progress_bar, saving, complain)


def request_as_asked(
    ctx: click.Context,
    request: ProgramRequest,
    options: Mapping[str, Any],
    typed: str,
    bar: Bar,
    saving: Saving,
    say: Callable[[str], None],
) -> tuple[Run, Path | None]:
    """Profile a program as `program_as_asked`. bar: a context that shows progress; say: prints a sentence."""
    require_options_of_programs(ctx, OF_PROGRAMS)
    files = Files(options)
    settings = ProgramSettings(
        threads=options["threads"] or None if given_options(ctx, ["threads"]) else None,
        native_blas=options["native_blas"],
        lines=files.want_lines,
        stacks=files.want_stacks,
        limits=not options["no_limits"],
    )
    say(announcement(request.name, settings.how_often(request)))
    try:
        return files.kept(lambda progress: profile_program(request, settings, typed, progress), bar, saving)
    except (UsageError, ProgramEnded) as error:
        likely = class_of_a_variant(Path(request.name.target)) if request.name.kind == "script" else None
        if likely is None:
            raise
        check = f"mlpprof check {request.name.target}:{likely}"
        raise type(error)(f"{error}. If {likely} is meant as a variant, {check} shows what is missing") from error


def require_no_step_options(options: dict[str, Any]) -> None:
    """Raise UsageError if options are given for a variant that are for programs only."""
    if options["step"] is not None:
        raise UsageError(
            f"--step {options['step']} names the step of a program; the step of a variant is always train_step, so "
            "leave it out"
        )
    if options["arguments"]:
        raise UsageError(
            f"unexpected argument '{options['arguments'][0]}'; a variant takes none. A program (train.py, work.ipynb, "
            "-m package.module) gets the arguments after --"
        )
    for name in ("include", "exclude"):
        if options[name]:
            raise UsageError(f"--{name} {options[name][0]} selects modules of a program; leave it out for a variant")


@click.command("profile", cls=ProgramCommand)
@click.argument("variant", metavar="TARGET")
@arguments_argument
@step_option
@modules_options
@allow_writes_option
@workload_options
@stream_option
@measuring_options
@click.option(
    "--steps",
    type=click.IntRange(1, 1_000_000),
    help="Timed steps per pass (default: it depends on the time of a step).",
)
@click.option("--lines", is_flag=True, help="Add the time of every line of your files (line_profiler).")
@click.option("--stacks", is_flag=True, help="Add the call view (pyinstrument).")
@click.option(
    "--stacks-file",
    type=WrittenPath(dir_okay=False),
    help="Write the call view to a file (.html, .speedscope.json or .pyisession), and measure it.",
)
@click.option("--no-check", is_flag=True, help="Do not check the gradients first; the report says so.")
@click.option("--no-limits", is_flag=True, help="Do not compare the step with the speed limits of this machine.")
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.option("-v", "--verbose", is_flag=True, help="Also show labels that take little time.")
@click.pass_context
def command(ctx: click.Context, /, variant: str, **options: Any) -> None:
    """Show where the time of a training step goes. TARGET is your own program, or a variant (mlpprof list).

    A program is a script, a notebook or a module, and runs unchanged until some of its training steps are recorded;
    then it is stopped. mlpprof finds the step, and --step chooses another one. The program is run once if you name the
    step, and up to two times if you do not; --lines and --stacks add one run each. Its arguments follow after --.
    A step contains what the training loop needs to get its next item, as from a generator of batches.

    A variant is one of the networks of mlpprof, or your own class with the same methods: ./mine.py:Class. Without
    options, it trains a 784-70-30-10 network on the embedded digits. The options from --workload to --seed, --steps
    and --no-check are for variants only.

    The run is kept under reports/, with every single measurement.

    \b
    mlpprof profile train.py
    mlpprof profile train.py --step Net.update -o page.html -- --epochs 3
    mlpprof profile work.ipynb
    mlpprof profile -m package.train
    mlpprof profile train.py@v1.0
    mlpprof profile cached --batch 500,20000
    """
    saving = Saving()
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    if is_program(variant) or (options["step"] is not None and is_python_file(variant)):
        run, kept = program_as_asked(ctx, variant, options, typed, saving)
    else:
        require_no_step_options(options)
        run, kept = profile_as_asked(variant, options, typed, progress_bar, saving)
    with saving.report_first():
        if options["as_json"]:
            print_json(profile_json(run))
            return
        console = output_console()
        print_run(run, console, verbose=options["verbose"])
        if kept is not None:
            print_sentence(console, f"kept in {kept} (mlpprof report {kept} shows it again)", "dim")


def is_python_file(target: str) -> bool:
    """Whether the target is a Python file by its name: with --step, its classes do not matter."""
    return target.endswith(".py")


class Files:
    """The files that the user wants of a profile, and what they need to be measured.

    Raises UsageError if one of them cannot be written, or has an unknown format.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._out, self._stacks_file = options["out"], options["stacks_file"]
        require_writable(self._out, self._stacks_file)
        chosen = None
        if self._out is not None:
            chosen = RUNS.choose(self._out, options["file_format"], options["figure"])
        if self._stacks_file is not None:
            CALL_VIEW.choose(self._stacks_file)
        self._is_run_file = chosen is not None and chosen.name == "h5"
        shows = "" if chosen is None else chosen.shows
        self.want_lines = options["lines"] or shows == "lines"
        self.want_stacks = options["stacks"] or self._stacks_file is not None or shows == "stacks"

    def kept(self, measure: Callable[[Progress], Run], bar: Bar, saving: Saving) -> tuple[Run, Path | None]:
        """Measure, keep the run and write the files; return the run and its path, None if it cannot be saved."""
        if not self._is_run_file:
            saving.try_folder()
        with bar() as progress:
            run = measure(progress)
        kept = _keep(run, self._out if self._is_run_file else None, saving)
        if self._out is not None and not self._is_run_file:
            with saving.attempt():
                RUNS.write([run], self._out, self._options["file_format"], self._options["figure"])
        if self._stacks_file is not None:
            with saving.attempt():
                CALL_VIEW.write(run, self._stacks_file)
        return run, kept


def profile_as_asked(
    variant: str,
    options: Mapping[str, Any],
    typed: str,
    bar: Bar,
    saving: Saving,
) -> tuple[Run, Path | None]:
    """Measure a variant, keep the run and write the files; return the run and its path. This does everything but print.

    typed: the command line, for the report. bar: a context that shows progress. saving: contains afterwards what could
    not be written. Raises any MlpprofError that occurs before that.
    """
    files = Files(options)
    workload = workload_from(options)
    request = Request(find(variant).reference, workload.network, workload.source, options["dtype"], options["seed"])
    settings = Settings(
        batches=options["batch"] or (workload.batch,),
        steps=options["steps"],
        threads=options["threads"] or None,
        native_blas=options["native_blas"],
        check=not options["no_check"],
        lines=files.want_lines,
        stacks=files.want_stacks,
        limits=not options["no_limits"],
    )
    return files.kept(lambda progress: profile(request, workload.name, settings, typed, progress), bar, saving)


def _keep(run: Run, path: Path | None, saving: Saving) -> Path | None:
    """Save the run at the path, or in the folder for runs; None if it cannot be saved anywhere."""
    refused = None
    if path is not None:
        try:
            return save_run(run, path)
        except UsageError as error:
            refused = error
    return saving.keep("the run", partial(save_new_run, run), refused)
