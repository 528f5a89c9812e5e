"""`python -m mlpprof.studies.goals`: every fast rung on every workload that a goal was set for, in paired ratios.

All rungs of a workload take turns in one process, several processes one after the other; the limits that make the
bound are measured between them. A rung of one process is held against the bound of one core, one that works on several
against the bound of all of them.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import psutil

from mlpprof.catalog import ladder
from mlpprof.data import DataSource
from mlpprof.errors import MlpprofError
from mlpprof.measure.racers import Environment, VariantRacer, refusals
from mlpprof.measure.relay import SHARING
from mlpprof.measure.request import Request
from mlpprof.process import Progress
from mlpprof.studies.goal_works import RUNGS, WORKS, Result, Work, as_json
from mlpprof.studies.goals_table import goals_text
from mlpprof.studies.machine_bound import Rates, best_of, bound_s, measure_rates
from mlpprof.studies.output import (
    FOLDER,
    circumstances,
    circumstances_text,
    part_of,
    prepare_folder,
    progress_bar,
    write_document,
)
from mlpprof.workloads import resolve

PROCESSES, QUICK_PROCESSES = 3, 1


def measure(
    works: Sequence[Work], data: Path | None, processes: int, cores: int, progress: Progress
) -> tuple[list[Result], list[Rates], list[Rates]]:
    """All works, and the rates of one core and of all, as often as they were measured."""
    one: list[Rates] = []
    all_: list[Rates] = []
    raced: list[tuple[Work, Request, VariantRacer, dict[str, str]]] = []
    dtypes = ("float32", "float64")
    for i, work in enumerate(works):
        part = part_of(progress, i / len(works), 1 / len(works), work.name)
        racer, request, refused = _racer(work, data, part)
        for process in range(processes):
            one.append(measure_rates(dtypes, 1, part_of(part, process / processes, 0.1 / processes)))
            all_.append(measure_rates(dtypes, cores, part_of(part, (process + 0.1) / processes, 0.1 / processes)))
            racer.run(part_of(part, (process + 0.2) / processes, 0.8 / processes))
        raced.append((work, request, racer, refused))
    results = []
    for work, request, racer, refused in raced:
        race = racer.race()
        samples = racer.described["data"]["samples"]
        bound, bound_all = (
            bound_s(request.network, work.batch, race.dtypes[0], best_of(rates), work.batch == samples)
            for rates in (one, all_)
        )
        results.append(Result(work, request.network.text, race.dtypes[0], race, bound, bound_all, refused))
    return results, one, all_


def _racer(work: Work, data: Path | None, progress: Progress) -> tuple[VariantRacer, Request, dict[str, str]]:
    source = DataSource(path=str(data)) if data is not None and work.workload == "digits" else None
    workload = resolve(work.workload, source=source, batch=work.batch)
    known = ladder()
    names = [name for name in (*RUNGS, *SHARING, *work.rungs) if name in known]
    requests = [Request(name, workload.network, workload.source, work.dtype) for name in names]
    environment = Environment(threads=1, native_blas=True)
    refused = refusals(requests, environment, progress)
    requests = [request for request in requests if request.variant not in refused]
    return VariantRacer(requests, work.batch, environment), requests[0], refused


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="MNIST for S1 [default: embedded digits].")
@click.option("--processes", type=click.IntRange(1, 50), help=f"Replicates a workload [default: {PROCESSES}].")
@click.option("--quick", is_flag=True, help="One process a workload: a look in about two minutes.")
@click.option("--work", "chosen", multiple=True, help="Only works whose name begins so; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True)
@click.pass_context
def main(
    ctx: click.Context, data: Path | None, processes: int | None, quick: bool, chosen: tuple[str, ...], out: Path
) -> None:
    """Measure the goals of the fast rungs; writes goals.txt and goals.json."""
    begun, load = datetime.now(UTC), psutil.getloadavg()[0]
    works = [work for work in WORKS if not chosen or work.name.startswith(chosen)]
    cores = psutil.cpu_count(logical=False) or 1
    try:
        folder = prepare_folder(out)
        with progress_bar() as progress:
            count = processes or (QUICK_PROCESSES if quick else PROCESSES)
            results, one, all_ = measure(works, data, count, cores, progress)
    except MlpprofError as error:
        click.echo(f"mlpprof: {error}", err=True)
        ctx.exit(error.exit_code)
    typed = shlex.join(["python", "-m", "mlpprof.studies.goals", *sys.argv[1:]])
    found = circumstances(typed, begun, load)
    text = circumstances_text(found) + goals_text(results, best_of(one), best_of(all_), cores)
    write_document(
        folder,
        "goals",
        text,
        {
            "schema": 1,
            **found,
            "cores": cores,
            "rates_one_core": one,
            "rates_all_cores": all_,
            "works": as_json(results),
        },
    )
    click.echo(text)


if __name__ == "__main__":
    main(prog_name="python -m mlpprof.studies.goals")
