"""`python -m reports.studies.scaling`: what more workers give, for `threaded`, `processes` and `mpi` on S1.

For strong scaling, 1, 2 or 4 workers share one batch; for weak scaling, each worker has the same number of rows. All of
them take turns in one race; the reference is `chunked`, their parent, in one process. The study also times the exchange
alone, and fits a latency and a bandwidth to it. With these, a model computes what many ranks would do. Every table and
figure says whether it was measured or modelled.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import nnls

from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.decide import block_log_ratios, replicate_log_ratio
from mlpprof.compare.entrants import Entrant, Environment, VariantSubject, all_threads, refusals, worker_for
from mlpprof.compare.race import Turns
from mlpprof.compare.replicate import Replicate, StartWorker
from mlpprof.data import DataSource
from mlpprof.engines.members import RANKS_VARIABLE, WORKERS_VARIABLE
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker, part_of
from mlpprof.profile.request import Request
from mlpprof.profile.variant import start_worker
from mlpprof.report.numbers import digits, format_time
from mlpprof.workloads import Workload, resolve
from reports.program import Program, markdown_table, out_option
from reports.studies.study import FOLDER, Study, write_figure

# The model of a step of m samples that p ranks share:
#
#   step(p, m) = c0 + c1 * m / p + sum(p, n)
#   sum(p, n) = 2 ceil(log2 p) * alpha + 2 (p - 1) / p * n * beta
#
# c0 + c1 * r is the step of one process on r rows. sum(p, n) is an all-reduce of n bytes with recursive halving and
# doubling: it sends 2 ceil(log2 p) messages, each with the latency alpha, and moves 2 (p - 1) / p * n bytes through
# every rank, each in beta seconds (Thakur, Rabenseifner, Gropp: Optimization of collective communication operations in
# MPICH, 2005).


@dataclass(frozen=True)
class Exchange:
    """The cost of a sum over ranks.

    alpha_s: seconds per message. beta_s: seconds per byte. error: the mean error of the fit, as a share of the measured
    times.
    """

    alpha_s: float
    beta_s: float
    error: float = math.nan

    def sum_s(self, ranks: int, n_bytes: float) -> float:
        """Seconds until all ranks have the sum."""
        messages, share = _terms(ranks)
        return messages * self.alpha_s + share * n_bytes * self.beta_s


@dataclass(frozen=True)
class Compute:
    """The step of one process: fixed_s seconds for every step and row_s seconds per row; error is as in Exchange."""

    fixed_s: float
    row_s: float
    error: float = math.nan

    def step_s(self, rows: float) -> float:
        return self.fixed_s + self.row_s * rows


@dataclass(frozen=True)
class Model:
    """The step of many ranks: computing, exchanging, and the bytes of a gradient."""

    compute: Compute
    exchange: Exchange
    gradient_bytes: int

    def step_s(self, ranks: int, batch: float) -> float:
        return self.compute.step_s(batch / ranks) + self.exchange.sum_s(ranks, self.gradient_bytes)

    def speedup(self, ranks: int, batch: float) -> float:
        """The speedup compared with one process on the same batch."""
        return self.compute.step_s(batch) / self.step_s(ranks, batch)

    def efficiency(self, ranks: int, batch: float) -> float:
        """The speedup as a share of the ranks."""
        return self.speedup(ranks, batch) / ranks

    def least_batch(self, ranks: int, efficiency: float = 0.5) -> float:
        """The batch below which the ranks are less efficient than this; 0 if they never are.

        It solves c0 + c1 p r = e p (c0 + c1 r + sum) for r, the rows per rank.
        """
        fixed, row = self.compute.fixed_s, self.compute.row_s
        sum_s = self.exchange.sum_s(ranks, self.gradient_bytes)
        rows = (efficiency * (fixed + sum_s) - fixed / ranks) / (row * (1 - efficiency))
        return max(0.0, ranks * rows)


def fit_exchange(measured: Sequence[tuple[int, int, float]]) -> Exchange:
    """Fit (ranks, bytes, seconds) by least squares of the relative errors, with no negative parameter."""
    rows = [[messages, share * n] for messages, share, n in ((*_terms(p), n) for p, n, _ in measured)]
    (alpha, beta), error = _fit_model(rows, [seconds for *_, seconds in measured])
    return Exchange(alpha, beta, error)


def fit_compute(step_s: Mapping[int, float]) -> Compute:
    """Fit rows -> seconds per step of one process in the same way."""
    (fixed, row), error = _fit_model([[1, rows] for rows in step_s], list(step_s.values()))
    return Compute(fixed, row, error)


def _terms(ranks: int) -> tuple[int, float]:
    return 2 * math.ceil(math.log2(ranks)), 2 * (ranks - 1) / ranks


def _fit_model(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> tuple[tuple[float, float], float]:
    wanted = np.array(seconds)
    relative = np.array(rows) / wanted[:, None]
    scale = np.abs(relative).max(axis=0)  # the costs of a message and of a byte differ by orders of magnitude
    found, _ = nnls(relative / scale, np.ones(len(wanted)))
    error = float(np.mean(np.abs(relative / scale @ found - 1)))
    first, second = (found / scale).tolist()
    return (first, second), error


BASE = "chunked"
RANKS = (2, 4, 10, 30, 100, 300, 1000)
BATCHES = (500, 20_000, 60_000)
LEAST_EFFICIENCY = 0.5


@dataclass(frozen=True, order=True)
class Cell:
    """A variant whose workers share one batch."""

    variant: str
    workers: int
    batch: int


@dataclass(frozen=True)
class Exchanged:
    """Seconds until all workers have the sum of `size` numbers of 4 bytes from each of them."""

    kind: str
    workers: int
    size: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What the race measured.

    step_s: seconds per step. strong: speedup compared with one process on the same batch. weak: efficiency compared
    with one process on the rows of one worker.
    """

    step_s: Mapping[Cell, float]
    strong: Mapping[Cell, float]
    weak: Mapping[Cell, float]


def scaling_text(
    measured: Measured,
    exchanged: Sequence[Exchanged],
    models: Mapping[str, Model],
    projected: str | None,
    projection: Model | None,
    given: bool,
    refused: Mapping[str, str],
    gradient: int,
) -> str:
    """All tables. projected: the kind whose exchange the projection uses. given: the user described a network."""
    lines = [
        "",
        "Ratios are paired within blocks of one race, in which all take turns; the reference is one process of "
        f"`{BASE}`. There was one set of processes, so the ratios are accurate to about 5 %.",
        *(f"`{name}` did not take part: {why}" for name, why in refused.items()),
        "",
        *_strong(measured, models),
        *_weak(measured),
        *_exchange(exchanged, gradient),
    ]
    if projection is not None and projected is not None:
        lines += [*_fit(models), *_projection(projection, projected, given)]
    return "\n".join(lines).rstrip() + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from (*markdown_table(header, rows, words=0), "")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _variants(cells: Mapping[Cell, float]) -> list[str]:
    return list(dict.fromkeys(cell.variant for cell in cells))


def _strong(measured: Measured, models: Mapping[str, Model]) -> Iterator[str]:
    yield f"## Strong scaling, measured: one batch, times as fast as `{BASE}` (efficiency)"
    yield ""
    names = _variants(measured.strong)
    rows = []
    for batch, workers in sorted({(cell.batch, cell.workers) for cell in measured.strong}):
        row = [f"{batch:,}", str(workers)]
        for name in names:
            speedup = measured.strong[Cell(name, workers, batch)]
            modelled = models[name].speedup(workers, batch) if workers > 1 and name in models else None
            row.append(f"{speedup:.2f} ({_percent(speedup / workers)})")
            row.append("" if modelled is None else f"{modelled:.2f}")
        rows.append(row)
    yield from _table(["batch", "workers", *(word for name in names for word in (name, "modelled"))], rows)


def _weak(measured: Measured) -> Iterator[str]:
    yield f"## Weak scaling, measured: efficiency compared with `{BASE}` on the rows of one worker"
    yield ""
    names = _variants(measured.weak)
    keys = sorted({(cell.batch // cell.workers, cell.workers) for cell in measured.weak})
    rows = [
        [f"{rows:,}", str(workers), *(_percent(measured.weak[Cell(name, workers, workers * rows)]) for name in names)]
        for rows, workers in keys
    ]
    yield from _table(["rows per worker", "workers", *names], rows)


def _exchange(exchanged: Sequence[Exchanged], gradient: int) -> Iterator[str]:
    if not exchanged:
        return
    yield "## The exchange alone, measured: the time until all have the sum, in the best of several rounds"
    yield ""
    kinds = list(dict.fromkeys(one.kind for one in exchanged))
    seconds = {(one.kind, one.workers, one.size): one.seconds for one in exchanged}
    both = "processes" in kinds and "mpi" in kinds
    rows = []
    for workers, size in dict.fromkeys((one.workers, one.size) for one in exchanged):
        row = [str(workers), f"{size:,}" + (" (the gradient)" if size == gradient else "")]
        row += [format_time(seconds[kind, workers, size]) for kind in kinds]
        if both:
            row.append(f"{seconds['processes', workers, size] / seconds['mpi', workers, size]:.2f}")
        rows.append(row)
    yield from _table(["workers", "numbers", *kinds, *(["mpi times as fast as processes"] if both else [])], rows)
    if both:
        most = max(one.workers for one in exchanged)
        ratio = seconds["processes", most, gradient] / seconds["mpi", most, gradient]
        faster, slower = ("mpi", "processes") if ratio > 1 else ("processes", "mpi")
        yield (
            f"On this machine, with {most} workers and this gradient, `{faster}` exchanges {max(ratio, 1 / ratio):.2f} "
            f"times as fast as `{slower}`."
        )
        yield ""


def _fit(models: Mapping[str, Model]) -> Iterator[str]:
    compute = next(iter(models.values())).compute
    yield "## The model, fitted to what was measured"
    yield ""
    yield (
        f"A step of one process on r rows: {format_time(compute.fixed_s)} + r x {format_time(compute.row_s)} "
        f"(mean error {_percent(compute.error)}). A sum over p ranks of n bytes: "
        "2 ceil(log2 p) x latency + 2 (p - 1) / p x n / bandwidth."
    )
    yield ""
    rows = [
        [
            kind,
            format_time(model.exchange.alpha_s),
            f"{1e-9 / model.exchange.beta_s:.1f} GB/s" if model.exchange.beta_s else "no limit seen",
            _percent(model.exchange.error),
        ]
        for kind, model in models.items()
    ]
    yield from _table(["exchange of", "latency", "bandwidth", "mean error"], rows)


def _projection(model: Model, projected: str, given: bool) -> Iterator[str]:
    exchange = model.exchange
    yield "## Up to 1,000 ranks: modelled, not measured"
    yield ""
    bandwidth = f"{1e-9 / exchange.beta_s:.1f} GB/s" if exchange.beta_s else "unlimited bandwidth"
    yield f"Latency {format_time(exchange.alpha_s)}, {bandwidth}, " + (
        "as given on the command line."
        if given
        else f"fitted to `{projected}` in the memory of this machine (--latency and --bandwidth take a network's)."
    )
    yield (
        "The model assumes that every rank computes as fast as one process that is alone on its machine. Workers on "
        "one machine share its memory bandwidth and slow down its clock, which is why measured strong scaling is below "
        f"the modelled one above. Sharing stops paying where the efficiency falls below {_percent(LEAST_EFFICIENCY)}."
    )
    yield ""
    rows = []
    for ranks in RANKS:
        row = [f"{ranks:,}", format_time(exchange.sum_s(ranks, model.gradient_bytes))]
        row += [
            f"{digits(model.speedup(ranks, batch))} ({_percent(model.efficiency(ranks, batch))})" for batch in BATCHES
        ]
        row.append(f"{model.least_batch(ranks, LEAST_EFFICIENCY):,.0f}")
        rows.append(row)
    header = ["ranks", "exchange", *(f"speedup, batch {batch:,}" for batch in BATCHES), "stops paying below batch"]
    yield from _table(header, rows)


SIZE_INCHES = (11.5, 3.8)
COLOURS = {"threaded": "#b35806", "processes": "#542788", "mpi": "#1b7837"}
FIGURE_BATCHES = (500, 20_000, 1_000_000)
MOST_RANKS = 1000


def scaling_figure(
    measured: Measured, models: Mapping[str, Model], projected: str | None, projection: Model | None
) -> Figure:
    """Strong scaling, weak scaling, and the projection; points are measured, lines of the last panel are modelled."""
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        strong, weak, far = figure.subplots(1, 3)
        _points(strong, measured.strong, {cell: cell.batch for cell in measured.strong}, "batch")
        _modelled(strong, measured, models)
        most = max((cell.workers for cell in measured.strong), default=1)
        strong.plot([1, most], [1, most], color="0.7", linewidth=1, zorder=0)
        strong.set(title="strong scaling, measured (dotted: modelled)", xlabel="workers")
        strong.set_ylabel("times as fast as one process of chunked")
        _points(weak, measured.weak, {cell: cell.batch // cell.workers for cell in measured.weak}, "rows per worker")
        weak.axhline(1, color="0.7", linewidth=1, zorder=0)
        weak.set(title="weak scaling, measured", xlabel="workers", ylabel="efficiency")
        weak.set_ylim(bottom=0)
        far.set(title="modelled, not measured", xlabel="ranks", ylabel="efficiency", ylim=(0, 1.1), xscale="log")
        if projection is not None:
            ranks = np.unique(np.geomspace(2, MOST_RANKS, 60).astype(int)).tolist()
            for batch, style in zip(FIGURE_BATCHES, ("-", "--", "-."), strict=True):
                shares = [projection.efficiency(p, batch) for p in ranks]
                far.plot(ranks, shares, style, color=COLOURS.get(projected or "", "black"), label=f"batch {batch:,}")
            far.axhline(LEAST_EFFICIENCY, color="0.7", linewidth=1, zorder=0)
            far.legend(frameon=False, title=f"exchange of {projected}")
    return figure


def _points(axes: Axes, cells: Mapping[Cell, float], groups: Mapping[Cell, int], what: str) -> None:
    markers = dict(zip(sorted(set(groups.values())), "os^v", strict=False))
    for variant in dict.fromkeys(cell.variant for cell in cells):
        for group, marker in markers.items():
            own = sorted(cell for cell in cells if cell.variant == variant and groups[cell] == group)
            axes.plot(
                [cell.workers for cell in own],
                [cells[cell] for cell in own],
                marker=marker,
                color=COLOURS.get(variant, "black"),
                label=f"{variant}, {what} {group:,}",
            )
    axes.set_xticks(sorted({cell.workers for cell in cells}))
    axes.legend(frameon=False, fontsize=7)


def _modelled(axes: Axes, measured: Measured, models: Mapping[str, Model]) -> None:
    for variant, model in models.items():
        for batch in sorted({cell.batch for cell in measured.strong}):
            workers = sorted({cell.workers for cell in measured.strong if cell.workers > 1})
            shares = [model.speedup(p, batch) for p in workers]
            axes.plot(workers, shares, ":", color=COLOURS.get(variant, "black"), linewidth=1)


WORKER = "reports.studies.scaling_worker"
VARIANTS = ("threaded", "processes", "mpi")
WORKERS = (1, 2, 4)
STRONG, WEAK = (500, 20_000), (500, 5_000)
"""The batches of strong scaling, and the rows per worker of weak scaling."""
ROWS = (32, 128, 500, 5_000, 20_000)
"""The model is fitted to one process with these batches."""
BLOCKS, QUICK_BLOCKS = 8, 2
ROUNDS, QUICK_ROUNDS = 6, 2


def cells_of(variants: Sequence[str], workers: Sequence[int]) -> list[Cell]:
    """What is raced: the reference at its batches, then every variant with every number of workers."""
    found = [Cell(BASE, 1, batch) for batch in ROWS]
    for count in workers:
        batches = sorted({*STRONG, *(count * rows for rows in WEAK)})
        found += [Cell(variant, count, batch) for variant in variants for batch in batches]
    return found


def measure_steps(
    workload: Workload, cells: Sequence[Cell], blocks: int, progress: Progress, start: StartWorker = worker_for
) -> Turns:
    """Seconds a step of all cells, (blocks, cells, 2), in turns. start: starts the workers."""
    entrants = []
    for cell in cells:
        request = Request(cell.variant, workload.network, workload.source, "float32")
        subject = VariantSubject(request, cell.batch)
        entrants.append(Entrant(subject, _environment(cell.workers), process=cell.variant))
    with (
        tempfile.TemporaryDirectory(prefix="mlpprof-scaling-") as shared,
        Replicate(entrants, shared, start) as replicate,
    ):
        replicate.open(part_of(progress, 0, 1 / 3))
        for why in replicate.absent.values():
            raise why
        return replicate.race(range(len(cells)), blocks, 0, part_of(progress, 1 / 3, 2 / 3))


def _environment(workers: int) -> Environment:
    """The environment for this number of workers or ranks, whatever the user's own environment says."""
    return Environment(1, True, tuple((name, str(workers)) for name in (WORKERS_VARIABLE, RANKS_VARIABLE)))


def measure_exchange(
    kinds: Sequence[str], workers: Sequence[int], sizes: Sequence[int], rounds: int, progress: Progress
) -> list[Exchanged]:
    """The best round of every kind of exchange, by workers and size; other programs can only slow a round down."""
    found: list[Exchanged] = []
    several = [count for count in workers if count > 1]
    for i, count in enumerate(several):
        environment = worker_environment(os.environ, 1, native_blas=True) | {RANKS_VARIABLE: str(count)}
        with start_worker(WORKER, environment, [kind for kind in kinds if kind == "mpi"]) as worker:
            part = part_of(progress, i / len(several), 1 / len(several), f"{count} workers")
            found += exchange_of(worker, kinds, count, sizes, rounds, part)
    return found


def exchange_of(
    worker: Worker, kinds: Sequence[str], count: int, sizes: Sequence[int], rounds: int, progress: Progress
) -> list[Exchanged]:
    """The best round in a worker that runs, of `count` workers or ranks, by kind and size."""
    answer = worker.call("communicate", progress, kinds=kinds, workers=count, sizes=sizes, rounds=rounds)

    def best(kind: str, size: int) -> float:
        return float(min(one["seconds"] for one in answer if (one["kind"], one["size"]) == (kind, size)))

    return [Exchanged(kind, count, size, best(kind, size)) for kind in kinds for size in sizes]


def ratios_of(cells: Sequence[Cell], turns_s: Turns) -> Measured:
    """The paired ratios and the median steps of a race."""
    step_s = {cell: float(np.nanmedian(turns_s[:, i])) for i, cell in enumerate(cells)}

    def over(old: Cell, new: Cell) -> float:
        return math.exp(replicate_log_ratio(block_log_ratios(turns_s, cells.index(old), cells.index(new))))

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
    """The model with the network that the user described."""
    exchange = model.exchange
    if latency_us is not None:
        exchange = replace(exchange, alpha_s=1e-6 * latency_us)
    if bandwidth is not None:
        exchange = replace(exchange, beta_s=1e-9 / bandwidth)
    return replace(model, exchange=exchange)


def _plain(cells: Mapping[Cell, float]) -> list[dict[str, Any]]:
    return [{**asdict(cell), "value": value} for cell, value in cells.items()]


@click.command(cls=Program)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="MNIST [default: embedded digits].")
@click.option("--quick", is_flag=True, help="Few blocks, which take less than a minute.")
@click.option("--latency", type=click.FloatRange(0), metavar="US", help="Latency of your network, for the projection.")
@click.option("--bandwidth", type=click.FloatRange(0, min_open=True), metavar="GB/S", help="Bandwidth of your network.")
@out_option(FOLDER, "scaling.md, .json, .png and .svg")
def main(data: Path | None, quick: bool, latency: float | None, bandwidth: float | None, out: Path) -> None:
    """Measure strong and weak scaling, and model 1,000 ranks; write scaling.md, .json, .png and .svg."""
    workers = [count for count in WORKERS if count == 1 or count <= all_threads()]
    study = Study.begin("scaling", out)
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
    measured = ratios_of(cells, turns_s)
    models = models_of(measured, exchanged, 4 * gradient)
    projected = next((kind for kind in ("mpi", "processes", "threaded") if kind in models), None)
    projection = None if projected is None else _elsewhere(models[projected], latency, bandwidth)
    given = latency is not None or bandwidth is not None
    text = scaling_text(measured, exchanged, models, projected, projection, given, refused, gradient)
    document = {
        "step_s": _plain(measured.step_s),
        "strong_speedup": _plain(measured.strong),
        "weak_efficiency": _plain(measured.weak),
        "exchange": exchanged,
        "models": models,
        "projection_of": projected,
        "projection": projection,
        "not_taking_part": refused,
    }
    caption = "Measured strong and weak scaling by workers, and the modelled efficiency of up to 1,000 ranks."
    write_figure(out, "scaling", scaling_figure(measured, models, projected, projection), caption)
    study.end(text, document, f"# Scaling of {workload.network.text}\n\n")


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.scaling")
