"""`mlpprof compare OLD NEW [NEW ...]` measures how much faster NEW is, and where the difference lies."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.catalog import Entry, find_all, module_meant
from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import (
    ProgramCommand,
    allow_writes_option,
    budget_option,
    figure_option,
    given_options,
    measuring_options,
    modules_options,
    program_request,
    require_options_of_programs,
    resolution_option,
    stream_option,
    workload_from,
    workload_options,
)
from mlpprof.cli.review import print_format
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import procedure_for
from mlpprof.compare.programs import ProgramComparer, TrainsDifferently, Wanted, announcement
from mlpprof.compare.same_code import require_different_variants
from mlpprof.compare.variant_comparison import compare, need_own_processes
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, CheckFailed, UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress, part_of
from mlpprof.profile.program import profile_step
from mlpprof.profile.request import Request
from mlpprof.programs.name import EXPECTED, ProgramName, is_program
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.step_place import StepPlace
from mlpprof.report.files.formats import CLAIMS, COMPARISONS
from mlpprof.report.json_documents import comparison_json, different_training_json, unmeasured_json
from mlpprof.report.terminal.compare import print_comparisons, print_stored
from mlpprof.results import Comparison
from mlpprof.results.on_disk import load_run
from mlpprof.workloads import Workload

STEP_HELP = (
    "The training step of your programs: Class.method, a function, or LINE of the training loop (default: mlpprof "
    "finds it). Can be repeated with the file, if the programs have different ones: old.py:Net.fit new.py:Net.fit_fast."
)

IN_REVIEW = ("github", "markdown")
"""The formats that also show that two programs or variants do not compute the same, so that nothing was timed."""

ARGUMENTS = "mlpprof.arguments"
"""Where the words after -- are kept, which are arguments of the programs."""

OF_PROGRAMS = (
    *("old", "new", "steps", "include", "exclude", "allow_writes", "threads", "native_blas", "at_least"),
    *("resolution", "budget", "no_check", "no_waterfall", "out", "figure", "file_format", "as_json"),
)
"""The parameters that can be used with programs; the others are for variants."""


class PairCommand(ProgramCommand):
    """A command that takes several programs, and their arguments after --."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows -- apart, because OLD and NEW take all other words."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[ARGUMENTS] = tuple(args[end + 1 :])
        return super().parse_args(ctx, args[:end])


step_option = click.option("--step", "steps", multiple=True, metavar="NAME", help=STEP_HELP)
"""The steps of several programs."""


@click.command("compare", cls=PairCommand)
@click.argument("old")
@click.argument("new", nargs=-1, required=True)
@step_option
@modules_options
@allow_writes_option
@workload_options
@stream_option
@measuring_options
@click.option(
    "--at-least",
    type=click.FloatRange(0, min_open=True),
    metavar="R",
    help="Fail (exit code 1) unless NEW is at least R times as fast as OLD.",
)
@resolution_option
@budget_option
@click.option("--no-check", is_flag=True, help="Do not check first that all variants compute the same.")
@click.option("--no-waterfall", is_flag=True, help="Do not measure which phases got faster.")
@click.option(
    "-o",
    "--out",
    type=WrittenPath(dir_okay=False),
    is_eager=True,
    metavar="FILE",
    help="Write the report to FILE. The extension selects the format: .html .h5 .json .csv .png .svg .md; others: "
    "--format.",
)
@figure_option
@click.option(
    "--format",
    "file_format",
    metavar="NAME",
    help="Print this format, or write it to FILE: github (annotations), markdown, json, csv, pytest-benchmark or "
    "github-action-benchmark.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the tables.")
@click.pass_context
def command(ctx: click.Context, /, old: str, new: tuple[str, ...], **options: Any) -> None:
    """Measure how much faster each NEW is than OLD: your own programs, or variants (mlpprof list).

    A program is a script, a notebook or a module, perhaps as it was at a git ref (train.py@main). It runs unchanged in
    a process of its own. First mlpprof checks that both train the same from the same random seeds. Then their training
    steps take turns, and this is repeated in several new processes. What the training loop needs to get its next item,
    as from a generator of batches, is a part of the step. The report shows which expressions make the difference. Three
    or more versions take turns in one race, and are shown in their order. The arguments of the programs follow after
    --.

    Variants run alternately in the same process, and this is repeated in several new processes. If one of them is a
    framework (peers/...), each runs in a process of its own, and a framework runs with 1 thread or with all threads,
    whichever is faster. The options from --workload to --batch, --dtype and --seed are for variants only.

    With --at-least R the exit code is 0 if NEW is at least R times as fast, 1 if it is not or if it does not train the
    same, and 3 if the machine was too noisy for an answer. Without it, with a --resolution finer than 10%, processes
    run until the interval is no wider than that. Stored runs (RUN.h5) are only shown side by side.

    \b
    mlpprof compare old.py new.py
    mlpprof compare train.py@main train.py --at-least 1.2 -- --epochs 3
    mlpprof compare train.py@v1 train.py@v2 train.py -o history.png
    mlpprof compare naive cached --batch 500,20000
    """
    _require_format(options)
    if any(name.endswith(".h5") for name in (old, *new)):
        _stored(old, new, options)
        return
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    saving = Saving()
    try:
        comparisons = subjects_as_asked(ctx, old, new, options, typed, progress_bar, saving)
    except CheckFailed as error:
        if options["as_json"] and isinstance(error, TrainsDifferently):
            print_json([different_training_json(error.different)])
        elif options["file_format"] in IN_REVIEW and options["out"] is None:
            failed = unmeasured_json(", ".join(new), old, options["at_least"], "fail", str(error))
            print_format(CLAIMS, [{"test": "", **failed}], options["file_format"])
        raise
    with saving.report_first():
        if options["as_json"]:
            print_json([comparison_json(comparison) for comparison in comparisons])
        elif options["file_format"] is not None and options["out"] is None:
            print_format(COMPARISONS, comparisons, options["file_format"])
        else:
            print_comparisons(comparisons, output_console())
    outcomes = {comparison.verdict.outcome for comparison in comparisons}
    ctx.exit(EXIT_FAILED if "fail" in outcomes else EXIT_INCONCLUSIVE if "inconclusive" in outcomes else EXIT_OK)


def subjects_as_asked(
    ctx: click.Context,
    old: str,
    new: Sequence[str],
    options: dict[str, Any],
    typed: str,
    bar: Callable[[], AbstractContextManager[Progress]],
    saving: Saving,
    say: Callable[[str], None] = complain,
) -> list[Comparison]:
    """Compare programs or variants, as `programs_as_asked` or `compare_as_asked`.

    Raises UsageError if programs and variants are mixed, or if an option is not for what is compared.
    """
    options["arguments"] = ctx.meta.get(ARGUMENTS, ())
    if not any(is_program(name) for name in (old, *new)):
        require_no_program_options(options)
        return compare_as_asked(old, new, options, typed, bar, saving)
    require_programs((old, *new), options)
    require_options_of_programs(ctx, OF_PROGRAMS)
    if not given_options(ctx, ["threads"]):
        options["threads"] = None  # the programs' own
    return programs_as_asked(old, new, options, typed, bar, saving, say)


def compare_as_asked(
    old: str,
    new: Sequence[str],
    options: Mapping[str, Any],
    typed: str,
    bar: Callable[[], AbstractContextManager[Progress]],
    saving: Saving,
) -> list[Comparison]:
    """Race each new variant with the old one at every batch size, and write the file; do everything but print.

    typed: the command line, for the reports. bar: a context that shows progress. saving: contains afterwards what could
    not be written. Raises any MlpprofError that occurs before that.
    """
    out = options["out"]
    require_writable(out)
    _require_format(options)
    workload = workload_from(options)
    first, *others = find_all((old, *new))
    for other in others:
        require_different_variants(first, other)
    batches = options["batch"] or (workload.batch,)
    comparisons: list[Comparison] = []
    with bar() as progress:
        for batch in batches:
            # With a framework, all race in one race between processes; otherwise each new one with the old one.
            together = need_own_processes([entry.reference for entry in (first, *others)])
            for newer in [others] if together else [[other] for other in others]:
                done, total = len(comparisons) // len(newer), len(batches) * len(others) // len(newer)
                comparisons += compare(
                    [_request(entry, workload, options) for entry in (first, *newer)],
                    workload.name,
                    batch,
                    Environment(options["threads"] or None, options["native_blas"]),
                    at_least=options["at_least"],
                    budget_s=options["budget"],
                    check=not options["no_check"],
                    with_waterfall=not options["no_waterfall"],
                    typed=typed,
                    progress=part_of(progress, done / total, 1 / total),
                    procedure=procedure_for(options["resolution"]),
                )
    if out is not None:
        with saving.attempt():
            COMPARISONS.write(comparisons, out, options["file_format"], options["figure"])
    return comparisons


def require_programs(names: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UsageError if one of the names is not a program's, although another one is."""
    for name in names:
        if not is_program(name):
            program = next(one for one in names if is_program(one))
            raise UsageError(
                f"'{program.strip()}' is a program, but '{name.strip()}' is not; a program can be compared "
                f"with another program only: {module_meant(name) or EXPECTED}"
            )


def require_no_program_options(options: Mapping[str, Any]) -> None:
    """Raise UsageError for options and arguments that are for programs only."""
    if options["arguments"]:
        raise UsageError(f"'{options['arguments'][0]}' is for a program, but variants are compared; {EXPECTED}")
    for name, flag in (("steps", "--step"), ("include", "--include"), ("exclude", "--exclude")):
        if options.get(name):
            raise UsageError(f"{flag} {options[name][0]} is for programs; leave it out for variants")


def requests_for(names: Sequence[str], options: Mapping[str, Any]) -> list[ProgramRequest]:
    """The requests for programs, with the steps that the user named. Raises UsageError as `request_for`."""
    requests = [program_request(name, options) for name in names]
    known = [request.name for request in requests]
    return [replace(one, step=step_of(one.name, options["steps"], known)) for one in requests]


def step_of(program: ProgramName, steps: Sequence[str], all_programs: Sequence[ProgramName]) -> str | None:
    """The named step that is for this program: one with its file, or else one with the file of none of them.

    'train.py@main:Net.fit' is for that version only.
    """

    def is_in(step: str, name: ProgramName) -> bool:
        place = StepPlace.parse(step)
        return place.file is not None and place.concerns(_path(name))

    others = [step for step in steps if not any(step.startswith(f"{name.text}:") for name in all_programs)]
    named = [step.removeprefix(f"{program.text}:") for step in steps if step.startswith(f"{program.text}:")]
    own = [step for step in others if is_in(step, program)]
    general = [step for step in others if not any(is_in(step, name) for name in all_programs)]
    chosen = named or own or general
    if len(chosen) > 1:
        raise UsageError(f"{program.short} has two steps: {' and '.join(chosen)}; name one for each program")
    if not chosen:
        return None
    has_file = program.kind == "module" or not named or StepPlace.parse(named[0]).file is not None
    return chosen[0] if has_file else f"{program.target}:{chosen[0]}"


def _path(name: ProgramName) -> str:
    return str(Path(name.target).resolve())


def programs_as_asked(
    old: str,
    new: Sequence[str],
    options: Mapping[str, Any],
    typed: str,
    bar: Callable[[], AbstractContextManager[Progress]],
    saving: Saving,
    say: Callable[[str], None] = complain,
) -> list[Comparison]:
    """Compare programs, the oldest first, and write the file; as `compare_as_asked`. say: shows how often they run."""
    out, threads = options["out"], options["threads"] or None
    require_writable(out)
    _require_format(options)
    wanted = Wanted(
        options["at_least"],
        options["budget"],
        check=not options["no_check"],
        profile_step=None if options["no_waterfall"] else partial(profile_step, threads=threads),
        procedure=procedure_for(options["resolution"]),
    )
    requests = requests_for((old, *new), options)
    comparer = ProgramComparer(requests, Environment(threads, options["native_blas"]), wanted, say)
    for sentence in announcement(requests, wanted):
        say(sentence)
    with bar() as progress:
        comparisons = comparer.compare(typed, progress)
    if out is not None:
        with saving.attempt():
            COMPARISONS.write(comparisons, out, options["file_format"], options["figure"])
    return comparisons


def _require_format(options: Mapping[str, Any]) -> None:
    out, named = options["out"], options["file_format"]
    if out is None and named is not None:
        COMPARISONS.require_text(named)
    if out is not None:
        COMPARISONS.choose(out, named, options["figure"])


def _request(entry: Entry, workload: Workload, options: Mapping[str, Any]) -> Request:
    dtype, seed = options["dtype"], options["seed"]
    return Request(entry.reference, workload.network, workload.source, dtype, seed, entry.name)


def _stored(old: str, new: Sequence[str], options: Mapping[str, Any]) -> None:
    """Show stored runs. They ran at different times, so their ratio is only a hint."""
    if options["at_least"] is not None:
        raise UsageError(
            f"--at-least {options['at_least']:g} needs a new measurement, but '{old}' is a stored run; "
            "type the names of the variants instead"
        )
    if options["as_json"] or options["out"] is not None:
        raise UsageError("a comparison of stored runs cannot be written; use mlpprof report RUN.h5 --json")
    print_stored([load_run(Path(name)) for name in (old, *new)], output_console())
