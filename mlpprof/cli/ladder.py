"""`mlpprof ladder` measures all variants of the ladder alternately, in one race."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from mlpprof.catalog import Entry, find, find_all, ladder
from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import (
    figure_option,
    measuring_options,
    resolution_option,
    stream_option,
    workload_from,
    workload_options,
)
from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.compare.entrants import Environment, refusals
from mlpprof.compare.error_bounds import procedure_for
from mlpprof.compare.ladder import main_line, race_ladder, rungs_of
from mlpprof.compare.live_race import variant_race
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress, part_of
from mlpprof.profile.request import Request
from mlpprof.profile.variant import Settings, profile
from mlpprof.report.files.formats import LADDERS, PICTURES
from mlpprof.report.json_documents import ladder_json
from mlpprof.report.terminal.compare import print_ladder
from mlpprof.results import DataRecord, Ladder, Run
from mlpprof.results.on_disk import save_new_run
from mlpprof.workloads import Workload

PROCESSES = 5


@click.command("ladder")
@click.argument("variants", nargs=-1)
@workload_options
@stream_option
@measuring_options
@click.option(
    "--root", default="naive", show_default=True, help="Variant to start from; the others are compared with it."
)
@click.option(
    "--processes", type=click.IntRange(2, 100), default=PROCESSES, show_default=True, help="Number of processes."
)
@resolution_option
@click.option("--no-check", is_flag=True, help="Do not check first that all variants compute the same.")
@click.option(
    "-o",
    "--out",
    multiple=True,
    type=WrittenPath(dir_okay=False),
    is_eager=True,
    metavar="FILE",
    help="Write the report to FILE. The extension selects the format: .html .h5 .json .csv .png .svg. Can be repeated.",
)
@figure_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def command(variants: tuple[str, ...], **options: Any) -> None:
    """Measure all variants of the ladder (or VARIANTS) in one run, and compare each with its parent and with the root.

    All run alternately. If a step takes more than half a second, only part of the work is timed, and the report marks
    this. With a --resolution finer than 10%, further processes run until no interval between neighbours is wider than
    that. A page (-o FILE.html) also shows where the time of every variant goes: each is profiled after the race, and
    these runs are kept under reports/.
    """
    formats = {path: LADDERS.choose(path).name for path in options["out"]}
    pictures = [path for path, name in formats.items() if name in PICTURES]
    figures = {path: options["figure"] if path in pictures or not pictures else None for path in options["out"]}
    for path, figure in figures.items():
        require_writable(path)
        LADDERS.choose(path, figure=figure)
    workload = workload_from(options)
    entries = _entries(variants, options["root"])
    batches = options["batch"] or (workload.batch,)
    with_runs = "html" in formats.values()
    saving = Saving()
    if with_runs:
        saving.try_folder()
    ladders = []
    with progress_bar() as progress:
        for i, batch in enumerate(batches):
            part = part_of(progress, i / len(batches), 1 / len(batches), f"batch {batch}")
            ladders.append(_race(entries, workload, batch, options, part, saving if with_runs else None))
    for path, figure in figures.items():
        with saving.attempt():
            LADDERS.write(ladders, path, figure=figure)
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
            f"--root {root} is not a variant of the ladder; type the variants to race: mlpprof ladder {root} ..."
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
    """Race the variants at one batch size. saving: if given, each variant is profiled too and the runs are kept."""
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
        raise UsageError(f"the root '{entries[0].name}' cannot take part: {reason}; choose another one with --root")
    procedure = procedure_for(options["resolution"])
    live = variant_race(requests, batch, environment, check=not options["no_check"], is_fine=procedure.is_fine)
    race = race_ladder(live, taking_part, options["processes"], procedure, progress)
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
        data=DataRecord(**live.described["data"]),
        batch=batch,
        threads=environment.threads,
        race=race,
        rungs=rungs_of(race, taking_part, procedure),
        machine=live.described["machine"],
        skipped={entry.name: refused[entry.reference] for entry in entries if entry.reference in refused},
        runs=tuple(runs),
        checked=not options["no_check"],
    )
