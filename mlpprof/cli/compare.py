"""`mlpprof compare OLD NEW [NEW ...]`: is the new one faster, by how much, and where did the time go?"""

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
from mlpprof.compare import NullResult
from mlpprof.compare.entrants import Environment, VariantRacer
from mlpprof.compare.verdict import compare_apart, measure, measure_null, need_apart
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.files.formats import comparison_json, require_comparison_format, write_comparisons
from mlpprof.report.terminal.compare import print_comparison, print_stored
from mlpprof.results import Comparison
from mlpprof.results.on_disk import load_run
from mlpprof.workloads import Workload


@click.command("compare")
@click.argument("old")
@click.argument("new", nargs=-1, required=True)
@workload_options
@measuring_options
@click.option("--at-least", type=click.FloatRange(0, min_open=True), metavar="R", help="Claim: NEW is R times as fast.")
@click.option("--budget", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Limit for a comparison.")
@click.option("--no-check", is_flag=True, help="Do not check first that all compute the same.")
@click.option("--no-waterfall", is_flag=True, help="Do not measure where the difference lies.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    help="Write it: .html .json .csv .png .svg (--format for others).",
)
@figure_option
@click.option("--format", "file_format", help="Of the file: json, csv, pytest-benchmark, github-action-benchmark.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the tables.")
@click.pass_context
def command(ctx: click.Context, /, old: str, new: tuple[str, ...], **options: Any) -> None:
    """Compare each variant NEW with the variant OLD, the baseline, in interleaved blocks.

    Every replicate is a process of its own that races both. With --at-least R it is a gate: exit code 0 if the claim
    passes, 1 if it fails, 3 if the machine was too noisy to tell. Where a framework takes part (peers/...), each
    variant stays in a process of its own, a framework with 1 thread or all, whichever is faster. Stored runs (RUN.h5)
    are shown side by side, without a verdict.
    """
    _file_format(options)
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
    """All but the printing: race each new one with the old one at every batch size, and write the file.

    typed: what the user gave, as the comparisons tell it. bar: shows progress while it is entered. saving: has
    afterwards what could not be written. Raises any MlpprofError of what comes before that.
    """
    out = options["out"]
    require_writable(out)
    file_format = _file_format(options)
    workload = workload_from(options)
    first, *others = find_all((old, *new))
    batches = options["batch"] or (workload.batch,)
    comparisons: list[Comparison] = []
    with bar() as progress:
        for batch in batches:
            if need_apart([entry.reference for entry in (first, *others)]):
                part = partial(_part, progress, len(comparisons) // len(others), len(batches))
                comparisons += _compare_apart((first, *others), workload, batch, options, typed, part)
                continue
            for other in others:
                part = partial(_part, progress, len(comparisons), len(others) * len(batches))
                comparisons.append(_compare(first, other, workload, batch, options, typed, part))
    if out is not None and file_format is not None:
        with saving.attempt():
            write_comparisons(comparisons, out, file_format, options["figure"])
    return comparisons


def _file_format(options: Mapping[str, Any]) -> str | None:
    out, named = options["out"], options["file_format"]
    if out is None and named is not None:
        raise UsageError(f"--format {named} is of a file, but none is named; add -o FILE")
    return None if out is None else require_comparison_format(out, named, options["figure"])


def _compare(
    old: Entry, new: Entry, workload: Workload, batch: int, options: Mapping[str, Any], typed: str, progress: Progress
) -> Comparison:
    environment = Environment(options["threads"] or None, options["native_blas"])
    requests = [_request(entry, workload, options) for entry in (old, new)]
    racer = VariantRacer(requests, batch, environment, check=not options["no_check"])

    def null() -> NullResult:
        return measure_null(VariantRacer([requests[0], requests[0]], batch, environment), progress)

    verdict = measure(racer, progress, options["at_least"], null, options["budget"])
    race = racer.race()
    return Comparison(
        old=race.variants[0],
        new=race.variants[1],
        workload=workload.name,
        network=workload.network,
        batch=batch,
        race=race,
        verdict=verdict,
        equivalent=None if options["no_check"] else True,
        waterfall=() if options["no_waterfall"] else racer.waterfall(progress),
        machine=racer.described["machine"],
        command=typed,
    )


def _compare_apart(
    entries: Sequence[Entry], workload: Workload, batch: int, options: Mapping[str, Any], typed: str, part: Progress
) -> list[Comparison]:
    """Frameworks share no process: all variants in one race between processes."""
    return compare_apart(
        [_request(entry, workload, options) for entry in entries],
        workload.name,
        batch,
        options["threads"] or None,
        at_least=options["at_least"],
        budget_s=options["budget"],
        check=not options["no_check"],
        with_waterfall=not options["no_waterfall"],
        typed=typed,
        progress=part,
    )


def _request(entry: Entry, workload: Workload, options: Mapping[str, Any]) -> Request:
    dtype, seed = options["dtype"], options["seed"]
    return Request(entry.reference, workload.network, workload.source, dtype, seed, entry.name)


def _part(progress: Progress, done: int, total: int, what: str, share: float) -> None:
    progress(what, (done + share) / total)


def _stored(old: str, new: Sequence[str], options: Mapping[str, Any]) -> None:
    """Stored runs ran at different times, so their ratio is a hint and no verdict."""
    if options["at_least"] is not None:
        raise UsageError(
            f"--at-least {options['at_least']:g} needs a paired measurement, but '{old}' is a stored run; "
            "name the variants instead"
        )
    if options["as_json"] or options["out"] is not None:
        raise UsageError("stored runs give a hint and no comparison to write; use mlpprof report RUN.h5 --json")
    print_stored([load_run(Path(name)) for name in (old, *new)], output_console())
