"""`mlpprof ladder`: every rung in one interleaved race."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.catalog import Entry, find, find_all, ladder
from mlpprof.cli.options import figure_option, measuring_options, workload_from, workload_options
from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.compare.entrants import Environment, VariantRacer, refusals
from mlpprof.compare.ladder import main_line, rungs_of
from mlpprof.compare.verdict import add_replicates
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.profile.profile import Settings, profile
from mlpprof.profile.request import Request
from mlpprof.report.files.formats import ladder_json, require_ladder_extension, write_ladders
from mlpprof.report.terminal.compare import print_ladder
from mlpprof.results import DataRecord, Ladder, Run
from mlpprof.results.on_disk import save_new_run
from mlpprof.workloads import Workload

PROCESSES = 5


@click.command("ladder")
@click.argument("variants", nargs=-1)
@workload_options
@measuring_options
@click.option("--root", default="naive", show_default=True, help="Rung to start from, and to hold the others against.")
@click.option("--processes", type=click.IntRange(2, 100), default=PROCESSES, show_default=True, help="Replicates.")
@click.option("--no-check", is_flag=True, help="Do not check first that all compute the same.")
@click.option(
    "-o",
    "--out",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    help="Write it: .html .png .svg .json .csv; may be given several times.",
)
@figure_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def command(variants: tuple[str, ...], **options: Any) -> None:
    """Race all rungs of the ladder (or VARIANTS) at once, each against its parent and against the root.

    Rungs whose step takes over half a second are timed on part of the work, and marked so. A page (-o FILE.html) shows
    also where the time of every rung goes: each is profiled after the race, and these runs are kept under reports/.
    """
    pictures = [path for path in options["out"] if path.suffix.lower() in (".png", ".svg")]
    figures = {path: options["figure"] if path in pictures or not pictures else None for path in options["out"]}
    for path, figure in figures.items():
        require_writable(path)
        require_ladder_extension(path, figure)
    workload = workload_from(options)
    entries = _entries(variants, options["root"])
    batches = options["batch"] or (workload.batch,)
    with_runs = any(path.suffix.lower() == ".html" for path in figures)
    saving = Saving()
    if with_runs:
        saving.try_folder()
    ladders = []
    with progress_bar() as progress:
        for i, batch in enumerate(batches):

            def part(what: str, share: float, i: int = i, batch: int = batch) -> None:
                progress(f"batch {batch}: {what}", (i + share) / len(batches))

            ladders.append(_race(entries, workload, batch, options, part, saving if with_runs else None))
    for path, figure in figures.items():
        with saving.attempt():
            write_ladders(ladders, path, figure)
    with saving.report_first():
        if options["as_json"]:
            print_json([ladder_json(one) for one in ladders])
            return
        console = output_console()
        for one in ladders:
            print_ladder(one, console)


def _entries(variants: Sequence[str], root: str) -> list[Entry]:
    known = ladder()
    if variants:
        return find_all(variants)
    if root not in known:
        find(root)
        raise UsageError(
            f"--root {root} is no rung of the ladder; name the variants to race: mlpprof ladder {root} ..."
        )
    return main_line(known, root)


def _race(
    entries: Sequence[Entry],
    workload: Workload,
    batch: int,
    options: dict[str, Any],
    progress: Progress,
    saving: Saving | None,
) -> Ladder:
    """saving: keeps a profile of each rung, which is not made without it."""
    environment = Environment(options["threads"] or None, options["native_blas"])
    requests = [
        Request(entry.reference, workload.network, workload.source, options["dtype"], options["seed"], entry.name)
        for entry in entries
    ]
    refused = refusals(requests, environment, progress)
    requests = [request for request in requests if request.variant not in refused]
    taking_part = [entry for entry in entries if entry.reference not in refused]
    if not taking_part or taking_part[0] is not entries[0]:
        reason = refused[entries[0].reference]
        raise UsageError(f"the root '{entries[0].name}' cannot take part: {reason}; choose another with --root")
    racer = VariantRacer(requests, batch, environment, check=not options["no_check"])
    add_replicates(racer, options["processes"], progress)
    race = racer.race()
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    runs: list[Run] = []
    if saving is not None:
        settings = Settings([batch], None, environment.threads, environment.native_blas, check=False, lines=True)
        runs = [profile(request, workload.name, settings, typed, progress) for request in requests]
        for run in runs:
            saving.keep("the run", partial(save_new_run, run))
    return Ladder(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=typed,
        workload=workload.name,
        network=workload.network,
        data=DataRecord(**racer.described["data"]),
        batch=batch,
        threads=environment.threads,
        race=race,
        rungs=rungs_of(race, taking_part),
        machine=racer.described["machine"],
        skipped={entry.name: refused[entry.reference] for entry in entries if entry.reference in refused},
        runs=tuple(runs),
        checked=not options["no_check"],
    )
