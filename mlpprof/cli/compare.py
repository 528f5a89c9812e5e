"""`mlpprof compare OLD NEW [NEW ...]` measures how much faster NEW is, and which phases got faster."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.catalog import Entry, find_all
from mlpprof.cli.options import figure_option, measuring_options, workload_from, workload_options
from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.compare.comparison import compare, need_own_processes
from mlpprof.compare.entrants import Environment
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.files.formats import COMPARISONS
from mlpprof.report.json_documents import comparison_json
from mlpprof.report.terminal.compare import print_comparison, print_stored
from mlpprof.results import Comparison
from mlpprof.results.on_disk import load_run
from mlpprof.workloads import Workload


@click.command("compare")
@click.argument("old")
@click.argument("new", nargs=-1, required=True)
@workload_options
@measuring_options
@click.option(
    "--at-least",
    type=click.FloatRange(0, min_open=True),
    metavar="R",
    help="Fail (exit code 1) unless NEW is at least R times as fast as OLD.",
)
@click.option("--budget", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Time limit per comparison.")
@click.option("--no-check", is_flag=True, help="Do not check first that all variants compute the same.")
@click.option("--no-waterfall", is_flag=True, help="Do not measure which phases got faster.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    metavar="FILE",
    help="Write the report to FILE. The extension selects the format: .html .json .csv .png .svg (others: --format).",
)
@figure_option
@click.option("--format", "file_format", help="Format of FILE: json, csv, pytest-benchmark, github-action-benchmark.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the tables.")
@click.pass_context
def command(ctx: click.Context, /, old: str, new: tuple[str, ...], **options: Any) -> None:
    """Measure how much faster each NEW is than OLD.

    Both run alternately in the same process, and this is repeated in several new processes. With --at-least R the exit
    code is 0 if NEW is at least R times as fast, 1 if it is not, and 3 if the machine was too noisy for an answer.
    If one of them is a framework (peers/...), each runs in a process of its own, and a framework runs with 1 thread or
    with all threads, whichever is faster. Stored runs (RUN.h5) are only shown side by side.
    """
    _require_format(options)
    if any(name.endswith(".h5") for name in (old, *new)):
        _stored(old, new, options)
        return
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    saving = Saving()
    comparisons = compare_as_asked(old, new, options, typed, progress_bar, saving)
    with saving.report_first():
        if options["as_json"]:
            print_json([comparison_json(comparison) for comparison in comparisons])
        else:
            console = output_console()
            for i, comparison in enumerate(comparisons):
                if i:
                    console.print()
                print_comparison(comparison, console)
    outcomes = {comparison.verdict.outcome for comparison in comparisons}
    ctx.exit(EXIT_FAILED if "fail" in outcomes else EXIT_INCONCLUSIVE if "inconclusive" in outcomes else EXIT_OK)


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
    batches = options["batch"] or (workload.batch,)
    comparisons: list[Comparison] = []
    with bar() as progress:
        for batch in batches:
            # With a framework, all race in one race between processes; otherwise each new one with the old one.
            together = need_own_processes([entry.reference for entry in (first, *others)])
            for newer in [others] if together else [[other] for other in others]:
                done = len(comparisons) // len(newer)
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
                    progress=partial(_part, progress, done, len(batches) * len(others) // len(newer)),
                )
    if out is not None:
        with saving.attempt():
            COMPARISONS.write(comparisons, out, options["file_format"], options["figure"])
    return comparisons


def _require_format(options: Mapping[str, Any]) -> None:
    out, named = options["out"], options["file_format"]
    if out is None and named is not None:
        raise UsageError(f"--format {named} needs a file; add -o FILE")
    if out is not None:
        COMPARISONS.choose(out, named, options["figure"])


def _request(entry: Entry, workload: Workload, options: Mapping[str, Any]) -> Request:
    dtype, seed = options["dtype"], options["seed"]
    return Request(entry.reference, workload.network, workload.source, dtype, seed, entry.name)


def _part(progress: Progress, done: int, total: int, what: str, share: float) -> None:
    progress(what, (done + share) / total)


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
