"""`python -m mlpprof.studies.scaling`: what workers are worth, for `threaded`, `processes` and `mpi` on S1.

Strong scaling shares one batch among 1, 2, 4 workers, weak scaling gives each worker the same rows. All of them are
ready at once, each in processes of its own, and take turns; the reference is `chunked`, their parent, in one process.
The exchange alone is timed as well, a latency and a bandwidth are fitted to it, and with them a model says what many
ranks would do. What is modelled says so everywhere.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from mlpprof.data import DataSource
from mlpprof.errors import MlpprofError
from mlpprof.instrument.phases import Clock
from mlpprof.machine.blas import WORKERS_VARIABLE, worker_environment
from mlpprof.measure.race import race
from mlpprof.measure.racers import Environment, Turns, refusals
from mlpprof.measure.ranks import start_worker
from mlpprof.measure.relay import RESIDENT, all_threads
from mlpprof.measure.request import Request
from mlpprof.mpiexec import RANKS_VARIABLE
from mlpprof.process import Progress, Worker
from mlpprof.stats import block_log_ratio, replicate_log_ratio
from mlpprof.studies.output import (
    FOLDER,
    circumstances,
    circumstances_text,
    part_of,
    prepare_folder,
    progress_bar,
    write_document,
    write_figure,
)
from mlpprof.studies.scaling_figure import scaling_figure
from mlpprof.studies.scaling_model import Model, fit_compute, fit_exchange
from mlpprof.studies.scaling_table import BASE, Cell, Exchanged, Measured, scaling_text
from mlpprof.workloads import Workload, resolve

WORKER = "mlpprof.studies.scaling_worker"
VARIANTS = ("threaded", "processes", "mpi")
WORKERS = (1, 2, 4)
STRONG, WEAK = (500, 20_000), (500, 5_000)
"""Batch of all workers, and rows of each."""
ROWS = (32, 128, 500, 5_000, 20_000)
"""Batches of one process, for the model."""
BLOCKS, QUICK_BLOCKS = 8, 2
ROUNDS, QUICK_ROUNDS = 6, 2


class Runner:
    """An entrant of the race: one batch of one variant, in a worker that keeps several."""

    def __init__(self, worker: Worker, place: int) -> None:
        self._worker = worker
        self._place = place

    def warm_up(self, clock: Clock) -> float:
        """Run until the time settles."""
        return float(self._worker.call("warm", place=self._place))

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a step, while all others sleep."""
        return float(self._worker.call("turn", place=self._place, runs=runs))


def cells_of(variants: Sequence[str], workers: Sequence[int]) -> list[Cell]:
    """What is raced: the reference at its batches, then every variant with every number of workers."""
    found = [Cell(BASE, 1, batch) for batch in ROWS]
    for count in workers:
        batches = sorted({*STRONG, *(count * rows for rows in WEAK)})
        found += [Cell(variant, count, batch) for variant in variants for batch in batches]
    return found


def measure_steps(workload: Workload, cells: Sequence[Cell], blocks: int, progress: Progress) -> Turns:
    """Seconds a step of all cells, (blocks, cells, 2), in turns."""
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="mlpprof-scaling-"))
        workers: dict[tuple[str, int], Worker] = {}
        runners = []
        for i, cell in enumerate(cells):
            progress(f"starting {cell.variant}, {cell.workers} workers", i / len(cells) / 3)
            key = cell.variant, cell.workers
            if key not in workers:
                environment = _environment(cell.workers)
                workers[key] = opened.enter_context(environment.worker([cell.variant], RESIDENT))
            request = Request(cell.variant, workload.network, workload.source, "float32").to_json()
            workers[key].call("load", place=i, request=request, constants={}, shared=folder)
            workers[key].call("enter", place=i, batch=cell.batch, steps=None)
            runners.append(Runner(workers[key], i))
        return race(runners, blocks, 0, part_of(progress, 1 / 3, 2 / 3))


def _environment(workers: int) -> Environment:
    """For so many workers or ranks, whatever the user's own environment says."""
    return Environment(1, True, tuple((name, str(workers)) for name in (WORKERS_VARIABLE, RANKS_VARIABLE)))


def measure_exchange(
    kinds: Sequence[str], workers: Sequence[int], sizes: Sequence[int], rounds: int, progress: Progress
) -> list[Exchanged]:
    """Every kind of exchange, by workers and size: of the best round, since what else runs can only take away."""
    found: list[Exchanged] = []
    several = [count for count in workers if count > 1]
    for i, count in enumerate(several):
        environment = worker_environment(os.environ, 1, native_blas=True) | {RANKS_VARIABLE: str(count)}
        with start_worker(WORKER, environment, [kind for kind in kinds if kind == "mpi"]) as worker:
            answer = worker.call(
                "communicate",
                part_of(progress, i / len(several), 1 / len(several), f"{count} workers"),
                kinds=kinds,
                workers=count,
                sizes=sizes,
                rounds=rounds,
            )
        for kind in kinds:
            for size in sizes:
                seconds = [one["seconds"] for one in answer if (one["kind"], one["size"]) == (kind, size)]
                found.append(Exchanged(kind, count, size, min(seconds)))
    return found


def ratios_of(cells: Sequence[Cell], turns_s: Turns) -> Measured:
    """Paired ratios and median steps of a race."""
    step_s = {cell: float(np.nanmedian(turns_s[:, i])) for i, cell in enumerate(cells)}

    def over(old: Cell, new: Cell) -> float:
        blocks = turns_s[:, [cells.index(old), cells.index(new)]]
        logs = [block_log_ratio(*block) for block in blocks if not np.isnan(block).any()]
        return float(np.exp(replicate_log_ratio(logs)))

    several = [cell for cell in cells if cell.variant != BASE]
    return Measured(
        step_s=step_s,
        strong={cell: over(Cell(BASE, 1, cell.batch), cell) for cell in several if cell.batch in STRONG},
        weak={
            cell: over(Cell(BASE, 1, cell.batch // cell.workers), cell)
            for cell in several
            if cell.batch // cell.workers in WEAK and cell.batch % cell.workers == 0
        },
    )


def models_of(measured: Measured, exchanged: Sequence[Exchanged], gradient_bytes: int) -> dict[str, Model]:
    """A model for every kind of exchange that was timed."""
    compute = fit_compute({cell.batch: s for cell, s in measured.step_s.items() if cell.variant == BASE})
    found = {}
    for kind in dict.fromkeys(one.kind for one in exchanged):
        points = [(one.workers, 4 * one.size, one.seconds) for one in exchanged if one.kind == kind]
        found[kind] = Model(compute, fit_exchange(points), gradient_bytes)
    return found


def _elsewhere(model: Model, latency_us: float | None, bandwidth: float | None) -> Model:
    """The model with the network that the user tells of."""
    exchange = model.exchange
    if latency_us is not None:
        exchange = replace(exchange, alpha_s=1e-6 * latency_us)
    if bandwidth is not None:
        exchange = replace(exchange, beta_s=1e-9 / bandwidth)
    return replace(model, exchange=exchange)


def _plain(cells: Mapping[Cell, float]) -> list[dict[str, Any]]:
    return [{**asdict(cell), "value": value} for cell, value in cells.items()]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="MNIST [default: embedded digits].")
@click.option("--quick", is_flag=True, help="Few blocks: a look in less than a minute.")
@click.option("--latency", type=click.FloatRange(0), metavar="US", help="Of your network, for the projection.")
@click.option("--bandwidth", type=click.FloatRange(0, min_open=True), metavar="GB/S", help="Of your network.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True)
@click.pass_context
def main(
    ctx: click.Context, data: Path | None, quick: bool, latency: float | None, bandwidth: float | None, out: Path
) -> None:
    """Measure strong and weak scaling, and model 1,000 ranks; writes scaling.md, .json, .png and .svg."""
    begun, load = datetime.now(UTC), psutil.getloadavg()[0]
    workers = [count for count in WORKERS if count == 1 or count <= all_threads()]
    try:
        folder = prepare_folder(out)
        with progress_bar() as progress:
            workload = resolve("digits", source=None if data is None else DataSource(path=str(data)))
            requests = [Request(name, workload.network, workload.source, "float32") for name in VARIANTS]
            refused = refusals(requests, _environment(workers[-1]), part_of(progress, 0, 0.05))
            variants = [name for name in VARIANTS if name not in refused]
            cells = cells_of(variants, workers)
            blocks, rounds = (QUICK_BLOCKS, QUICK_ROUNDS) if quick else (BLOCKS, ROUNDS)
            gradient = workload.network.parameter_count + 1
            sizes = [1, 1024, 16_384, gradient, 262_144, 1_048_576]
            exchanged = measure_exchange(variants, workers, sizes, rounds, part_of(progress, 0.05, 0.15))
            turns_s = measure_steps(workload, cells, blocks, part_of(progress, 0.2, 0.8))
    except MlpprofError as error:
        click.echo(f"mlpprof: {error}", err=True)
        ctx.exit(error.exit_code)
    measured = ratios_of(cells, turns_s)
    models = models_of(measured, exchanged, 4 * gradient)
    projected = next((kind for kind in ("mpi", "processes", "threaded") if kind in models), None)
    projection = None if projected is None else _elsewhere(models[projected], latency, bandwidth)
    given = latency is not None or bandwidth is not None
    found = circumstances(shlex.join(["python", "-m", "mlpprof.studies.scaling", *sys.argv[1:]]), begun, load)
    heading = f"# Scaling of {workload.network.text}\n\n{circumstances_text(found)}"
    text = heading + scaling_text(measured, exchanged, models, projected, projection, given, refused, gradient)
    document = {
        "schema": 1,
        **found,
        "step_s": _plain(measured.step_s),
        "strong_speedup": _plain(measured.strong),
        "weak_efficiency": _plain(measured.weak),
        "exchange": [asdict(one) for one in exchanged],
        "models": {kind: asdict(model) for kind, model in models.items()},
        "projection_of": projected,
        "projection": None if projection is None else asdict(projection),
        "not_taking_part": refused,
    }
    write_document(folder, "scaling", text, document, text_suffix="md")
    caption = "Measured strong and weak scaling by workers, and the modelled efficiency of up to 1,000 ranks."
    write_figure(folder, "scaling", scaling_figure(measured, models, projected, projection), caption)
    click.echo(text)


if __name__ == "__main__":
    main(prog_name="python -m mlpprof.studies.scaling")
