"""`python -m reports.studies.goals`: how near the fast rungs come to the limit of the machine, and to their goals.

All rungs of a workload take turns in one process, and several processes follow one another. The limits of the machine,
from which the bound is computed, are measured between the processes. A rung that works in one process is compared with
the bound of one core, and a rung that works on several cores with the bound of all cores.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import psutil

from mlpprof.catalog import ladder
from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.decide import log_ratios
from mlpprof.compare.entrants import SHARING, Environment, refusals
from mlpprof.compare.live_race import ProcessRace, variant_race
from mlpprof.data import DataSource
from mlpprof.errors import UsageError
from mlpprof.instrument.needed_work import needed_products
from mlpprof.machine.blas import worker_environment
from mlpprof.machine.limits import KERNELS, WORKER, Limits, product_name, tile_names
from mlpprof.model import Network
from mlpprof.process import Progress, Worker, part_of
from mlpprof.profile.request import Request
from mlpprof.report.numbers import digits, format_time
from mlpprof.results import Race
from mlpprof.results.json import plain
from mlpprof.results.peers import INDIRECT
from mlpprof.workloads import resolve
from reports.program import Program, out_option
from reports.studies.study import FOLDER, Study

BASE, BASE_DTYPE = "sliced", "float32"
"""All rungs are compared with this one, which has this number type if the workload names none."""
RUNGS = (BASE, "tanh_sigmoid", "buffered", "chunked", "fused_update", "compiled", "blocked", "sparse")


@dataclass(frozen=True)
class Work:
    """A workload and its goals.

    goal: the step may take at most this many times the bound; None if the workload has no such goal. goal_us: rung ->
    microseconds that its step may take on the machine on which the goals were set. rungs: rungs that race here in
    addition to the usual ones.
    """

    name: str
    workload: str
    batch: int
    goal: float | None
    goal_us: Mapping[str, float] = field(default_factory=dict)
    dtype: str | None = None
    rungs: tuple[str, ...] = ()


S1_GOALS = {32: 1.6, 128: 1.6, 500: 1.2, 20_000: 1.2}
WORKS = (
    *(Work(f"S1 batch {m:,}", "digits", m, goal) for m, goal in S1_GOALS.items()),
    Work("1000-900-900-900-10 batch 100", "persample", 100, 1.4),
    Work("39-39-39-1 full batch of 10,000", "forever", 10_000, 2.2),
    Work("cats 12288-20-7-5-1 full batch, float64", "optprop", 209, 3.0, dtype="float64", rungs=("gram",)),
    Work("784-16-16-10 single samples", "liu", 1, None, {"delayed": 7.9, "compiled": 1.3}, rungs=("delayed",)),
)
GRAM_OVER_DIRECT = 30.0


@dataclass(frozen=True)
class Result:
    """What was measured on one workload: the race, and the bounds in seconds on one core and on all cores.

    best_s, best_all_s: the same bounds with each product at the best rate measured at its shape. refused: rungs that
    did not take part, with the reason.
    """

    work: Work
    network: str
    dtype: str
    race: Race
    bound_s: float
    bound_all_s: float
    best_s: float
    best_all_s: float
    refused: Mapping[str, str]

    def over_base(self, name: str) -> tuple[float, float]:
        """Speedup compared with `sliced`, and its standard error as a factor; both are paired within processes."""
        logs = log_ratios(self.race, self.race.variants.index(BASE), self.race.variants.index(name))
        spread = float(np.std(logs, ddof=1) / math.sqrt(len(logs))) if len(logs) > 1 else math.nan
        return float(np.exp(np.mean(logs))), math.exp(spread)

    def step_s(self, name: str) -> float:
        return self.race.step_s(self.race.variants.index(name))

    def times_bound(self, name: str) -> float:
        """The step time divided by the bound of the cores that the rung works on."""
        return self.step_s(name) / (self.bound_all_s if name in SHARING else self.bound_s)

    def times_best(self, name: str) -> float:
        """The step time divided by the bound whose products run at the best rates measured at their shapes."""
        return self.step_s(name) / (self.best_all_s if name in SHARING else self.best_s)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """All figures, with every turn of every race, (blocks, 2); NaN where a slow rung did not race in a block."""
    found = [
        {
            "work": result.work.name,
            "network": result.network,
            "dtype": result.dtype,
            "batch": result.work.batch,
            "goal_times_bound": result.work.goal,
            "goal_us": result.work.goal_us,
            "bound_one_core_s": result.bound_s,
            "bound_all_cores_s": result.bound_all_s,
            "best_at_shapes_one_core_s": result.best_s,
            "best_at_shapes_all_cores_s": result.best_all_s,
            "not_taking_part": result.refused,
            "rungs": [
                {
                    "name": name,
                    "step_s": result.step_s(name),
                    "times_bound": result.times_bound(name),
                    "times_best_at_shapes": result.times_best(name),
                    "over_sliced": result.over_base(name)[0],
                    "turns_s": [turns_s[:, i] for turns_s in result.race.turns_s],
                }
                for i, name in enumerate(result.race.variants)
            ],
        }
        for result in results
    ]
    return cast(list[dict[str, Any]], plain(found))


# The lower bound of a step assumes that all products run at the rate of large square ones, that samples are gathered
# at the bandwidth of a copy through memory, that sigmoids are evaluated in their fastest form, and that calls and all
# other arithmetic cost nothing. The second bound, beside it, differs only in the products: each runs at the best rate
# that NumPy's BLAS or the tiles of `blocked` reached at its shape.

COPY = "bandwidth_256MiB"
FORMS = {"sigmoid": ("exp", "tanh", "expit"), "tanh": ("tanh",), "softmax": ("exp",)}
BYTES = {"float32": 4, "float64": 8}

Rates = dict[str, float]
"""Name of a limit -> its value: products and elements in 1e9 per second, bandwidth in GB/s."""


def rate_names(dtype: str) -> list[str]:
    """The limits that the bound needs."""
    return [f"gemm_{dtype}", COPY, *(f"{form}_{dtype}" for form in ("exp", "tanh", "expit"))]


def shape_names(network: Network, m: int, dtype: str) -> list[str]:
    """The limits of the products that a step needs, at their shapes."""
    blas = (product_name(dtype, *shape) for shape in needed_products(network, m))
    return [*dict.fromkeys(blas), *tile_names(network, dtype, (m,))]


def measure_rates(names: Sequence[str], cores: int, progress: Progress) -> Rates:
    """The rates of one process per core, added up; each process has one BLAS thread."""
    environment = worker_environment(os.environ, 1, native_blas=True)

    def quiet(what: str, share: float) -> None:
        pass

    def one(reports: Progress) -> Limits:
        with Worker(WORKER, environment) as worker:
            measured: Limits = worker.call("measure", reports, names=list(names))
            return measured

    with ThreadPoolExecutor(cores) as pool:
        found = list(pool.map(one, [progress, *[quiet] * (cores - 1)]))
    return {name: sum(limits[name]["value"] for limits in found) for name in names if name in found[0]}


def best_of(measured: Sequence[Rates]) -> Rates:
    """The highest measured value of every limit, since other programs on the machine can only lower it."""
    names = dict.fromkeys(name for rates in measured for name in rates)
    return {name: max(rates[name] for rates in measured if name in rates) for name in names}


def bound_s(
    network: Network, m: int, dtype: str, rates: Mapping[str, float], full_batch: bool, *, at_shapes: bool = False
) -> float:
    """The least seconds that a step can take. full_batch: the batch is the whole data set, so nothing is gathered.

    at_shapes: products run at the best rate measured at their shapes, and not at that of large squares.
    """
    n = network.layers
    products_s = 0.0
    for p, k, q in needed_products(network, m):
        kernels = [product_name(dtype, p, k, q, kernel) for kernel in KERNELS] if at_shapes else [f"gemm_{dtype}"]
        products_s += 2e-9 * p * k * q / max(rates.get(name, 0.0) for name in kernels)
    gather_s = 0.0 if full_batch else 2e-9 * m * (n[0] + n[-1]) * BYTES[dtype] / rates[COPY]
    functions_s = 0.0
    for l in range(1, len(n)):
        forms = FORMS.get(network.hidden if l < network.depth else network.output, ())
        if forms:
            functions_s += 1e-9 * m * n[l] / max(rates[f"{form}_{dtype}"] for form in forms)
    return products_s + gather_s + functions_s


WIDTH = max(len(name) for name in SHARING)
HEADER = f"  {'rung':<{WIDTH}} {'step':>9} {'x bound':>8} {'x best':>7} {'over ' + BASE:>12} {'+-':>6}"


def goals_text(results: Sequence[Result], one: Rates, all_: Rates, cores: int) -> str:
    """A table per workload with the goals that are reached, after the rates that the bounds come from."""
    lines = [
        "",
        f"limits on 1 core and on {cores} (one process a core), GFLOP/s, GB/s and Gelem/s:",
        *(f"  {name:<18} {digits(one[name]):>7} {digits(all_[name]):>7}" for name in one if not _is_of_shape(name)),
        "",
        "x bound: the step time divided by the lower bound on one core, or on all cores for rungs that work on all.",
        "All products of this bound run at the rate of large squares.",
        "Rungs that leave out the zeros of X may be below it, and do not count for the goals.",
        "x best: the same, but each product runs at the best rate that NumPy's BLAS or blocked reached at its shape.",
        f"over {BASE}: paired within processes; +- is the standard error of its mean in percent.",
    ]
    for result in results:
        lines += ["", *_work(result, cores)]
    return "\n".join(lines) + "\n"


def _is_of_shape(name: str) -> bool:
    return name.split("_")[0] in KERNELS


def _work(result: Result, cores: int) -> Iterator[str]:
    work = result.work
    yield f"{work.name} ({result.dtype}): bound {format_time(result.bound_s)} on 1 core, " + (
        f"{format_time(result.bound_all_s)} on {cores}; with the best kernels at its shapes "
        f"{format_time(result.best_s)} and {format_time(result.best_all_s)}"
    )
    yield HEADER
    for name in result.race.variants:
        ratio, error = result.over_base(name)
        spread = "" if name == BASE or error != error else f"{100 * (error - 1):.1f}"
        yield (
            f"  {name:<{WIDTH}} {format_time(result.step_s(name)):>9} {result.times_bound(name):8.2f} "
            f"{result.times_best(name):7.2f} "
            f"{'' if name == BASE else digits(ratio):>12} {spread:>6}"
        )
    for name, why in result.refused.items():
        yield f"  {name} did not take part: {why}"
    yield from _goals(result)


def _goals(result: Result) -> Iterator[str]:
    work, names = result.work, result.race.variants
    direct = [name for name in names if name not in INDIRECT]  # the bound counts products with every number
    for where, rungs in (
        ("one process", [name for name in direct if name not in SHARING]),
        ("all cores", [name for name in direct if name in SHARING]),
    ):
        if work.goal is not None and rungs:
            best = min(rungs, key=result.times_bound)
            yield f"  goal {work.goal:g} x bound, {where}: {_word(result.times_bound(best) <= work.goal)}, " + (
                f"{best} at {result.times_bound(best):.2f}"
            )
    for name, goal_us in work.goal_us.items():
        if name in names:
            step_us = 1e6 * result.step_s(name)
            yield f"  goal {goal_us:g} us with {name} on the goal's machine: {digits(step_us)} us here"
    if "gram" in names:
        best = min(direct, key=result.step_s)
        ratio = result.step_s(best) / result.step_s("gram")
        yield f"  goal: gram {GRAM_OVER_DIRECT:g} x as fast as the best direct form, {best}: " + (
            f"{_word(ratio >= GRAM_OVER_DIRECT)}, {digits(ratio)} x"
        )


def _word(reached: bool) -> str:
    return "reached" if reached else "not reached"


PROCESSES, QUICK_PROCESSES = 3, 1


def measure(
    works: Sequence[Work], data: Path | None, processes: int, cores: int, progress: Progress
) -> tuple[list[Result], list[Rates], list[Rates]]:
    """The results of all workloads, and every measurement of the rates of one core and of all cores."""
    one: list[Rates] = []
    all_: list[Rates] = []
    raced: list[tuple[Work, Request, ProcessRace, dict[str, str]]] = []
    common = dict.fromkeys(name for dtype in BYTES for name in rate_names(dtype))
    for i, work in enumerate(works):
        part = part_of(progress, i / len(works), 1 / len(works), work.name)
        live, request, refused = _race_of(work, data, part)
        names = [*common, *shape_names(request.network, work.batch, work.dtype or BASE_DTYPE)]
        for process in range(processes):
            one.append(measure_rates(names, 1, part_of(part, process / processes, 0.1 / processes)))
            all_.append(measure_rates(names, cores, part_of(part, (process + 0.1) / processes, 0.1 / processes)))
            live.run(part_of(part, (process + 0.2) / processes, 0.8 / processes))
        raced.append((work, request, live, refused))
    results = []
    for work, request, live, refused in raced:
        race = live.race()
        samples = live.described["data"]["samples"]
        dtype, full = race.dtypes[0], work.batch == samples
        bound, bound_all, best, best_all = (
            bound_s(request.network, work.batch, dtype, best_of(rates), full, at_shapes=at_shapes)
            for at_shapes in (False, True)
            for rates in (one, all_)
        )
        name = request.network.text
        results.append(Result(work, name, dtype, race, bound, bound_all, best, best_all, refused))
    return results, one, all_


def _race_of(work: Work, data: Path | None, progress: Progress) -> tuple[ProcessRace, Request, dict[str, str]]:
    source = DataSource(path=str(data)) if data is not None and work.workload == "digits" else None
    workload = resolve(work.workload, source=source, batch=work.batch)
    known = ladder()
    names = [name for name in (*RUNGS, *SHARING, *work.rungs) if name in known]
    requests = [Request(name, workload.network, workload.source, work.dtype) for name in names]
    environment = Environment(threads=1, native_blas=True)
    refused = refusals(requests, environment, progress)
    requests = [request for request in requests if request.variant not in refused]
    return variant_race(requests, work.batch, environment), requests[0], refused


@click.command(cls=Program)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="MNIST for S1 [default: embedded digits].")
@click.option("--processes", type=click.IntRange(1, 50), help=f"Replicates per workload [default: {PROCESSES}].")
@click.option("--quick", is_flag=True, help="One process per workload, which takes about two minutes.")
@click.option("--work", "chosen", multiple=True, help="Only workloads whose name begins like this; may be repeated.")
@out_option(FOLDER, "goals.txt and goals.json")
def main(data: Path | None, processes: int | None, quick: bool, chosen: tuple[str, ...], out: Path) -> None:
    """Measure how near the fast rungs come to their goals; write goals.txt and goals.json."""
    works = [work for work in WORKS if not chosen or work.name.startswith(chosen)]
    if not works:
        known = ", ".join(work.name for work in WORKS)
        raise UsageError(f"no workload begins with {' or '.join(chosen)}; the workloads are: {known}")
    cores = psutil.cpu_count(logical=False) or 1
    study = Study.begin("goals", out)
    with progress_bar() as progress:
        count = processes or (QUICK_PROCESSES if quick else PROCESSES)
        results, one, all_ = measure(works, data, count, cores, progress)
    document = {"cores": cores, "rates_one_core": one, "rates_all_cores": all_, "works": as_json(results)}
    study.end(goals_text(results, best_of(one), best_of(all_), cores), document)


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.goals")
