"""`python -m reports.verdicts.bias`: where it comes from that one process finds another ratio than the next.

A and B are two instances of the same variant, so their ratio is 1. In every process they are made several times, and
alternate step by step. One thing at a time is left to chance, and everything else is the same in every process. The
ratio is that of the fast steps in processor time, which other programs disturb least. The noise of the timing itself,
known from two halves of the steps, is subtracted.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import thread_time_ns

import click
import numpy as np
from threadpoolctl import threadpool_limits

from mlpprof import catalog
from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.placement import LONGEST_PADDING, PADDING_VARIABLE, ballast
from mlpprof.model import Array, Network
from reports.program import Program, markdown_table, out_option
from reports.studies.study import Study

FOLDER = Path("reports") / "verdicts"
VARIANT = "sliced"
NETWORKS = ((Network((20, 8, 5, 3)), 30), (Network((128, 64, 32, 10)), 100))
"""Networks with their batches: one whose arrays all lie in a few pages, and one with arrays of 50 KB."""
PROCESSES, INSTANCES, STEPS, WARM_UP_STEPS = 24, 4, 300, 20
FAST = 0.2
"""The time of an instance is this quantile of its steps, because nothing has disturbed the fast ones."""
Step = Callable[..., float]
CAUSES = ("place of the arrays", "order of allocation", "hash seed", "size of the environment")
COLUMNS = (
    "left to chance",
    "network",
    "between instances",
    "between processes",
    "mean of all",
    "noise of the timing",
    "processes",
)


@dataclass(frozen=True)
class Scatter:
    """The parts of the scatter of ratios, in logarithms; instances, processes: deviations without the timing's noise.

    mean: of all processes, with its standard error. noise: the deviation of one instance by the timing alone.
    """

    instances: float
    processes: float
    mean: float
    error: float
    noise: float


def scatter_of(ratios: Array) -> Scatter:
    """The parts of the scatter of log ratios (processes, instances, 2), from two halves of each instance's steps."""
    noise = float(np.var(ratios[:, :, 0] - ratios[:, :, 1])) / 4
    instances = ratios.mean(axis=2)
    within = float(instances.var(axis=1, ddof=1).mean())
    means = instances.mean(axis=1)
    between = float(means.var(ddof=1)) - within / instances.shape[1]
    error = float(means.std(ddof=1)) / math.sqrt(len(means))
    return Scatter(_root(within - noise), _root(between), float(means.mean()), error, math.sqrt(noise))


def _root(variance: float) -> float:
    """The deviation; a difference of estimates may be negative."""
    return math.sqrt(max(0.0, variance))


def measured(causes: Sequence[str], network: Network, batch: int, seed: int) -> Array:
    """In this process, the log ratios of A and B, (instances, 2); causes: what is left to chance."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    cls = catalog.load(catalog.find(VARIANT))
    X = fixed.random((2000, network.layers[0]), dtype=np.float32)
    Y = np.eye(network.layers[-1], dtype=np.float32)[fixed.integers(network.layers[-1], size=2000)]
    index = fixed.permutation(2000)[:batch]
    ratios = np.empty((INSTANCES, 2))
    with threadpool_limits(1):
        for instance in range(INSTANCES):
            kept = ballast(rng) if CAUSES[0] in causes else []
            order = rng.permutation([0, 1]) if CAUSES[1] in causes else (0, 1)
            pair = {int(place): cls(network, network.initial_parameters(0)) for place in order}
            seconds = _step_s([pair[place].train_step for place in (0, 1)], (X, Y, index), rng)
            halves = np.quantile(seconds.reshape(2, 2, -1), FAST, axis=2)
            ratios[instance] = np.log(halves[0] / halves[1])
            del pair, kept
    return ratios


def _step_s(steps: Sequence[Step], arguments: tuple[Array, Array, Array], rng: np.random.Generator) -> Array:
    """Processor seconds of the steps of both, (2, steps), that alternate in a random order."""
    for _ in range(WARM_UP_STEPS):
        for step in steps:
            step(*arguments)
    seconds = np.empty((2, STEPS))
    gc.collect()
    gc.disable()
    for place in range(STEPS):
        for one in rng.permutation(2):
            start = thread_time_ns()
            steps[one](*arguments)
            seconds[one, place] = 1e-9 * (thread_time_ns() - start)
    gc.enable()
    return seconds


@contextmanager
def _environment(causes: Sequence[str], rng: np.random.Generator) -> Iterator[None]:
    """What a process that is started meanwhile inherits."""
    size = int(rng.integers(LONGEST_PADDING)) if CAUSES[3] in causes else 0
    seed = int(rng.integers(1, 2**32)) if CAUSES[2] in causes else 0
    before = os.environ.copy()
    os.environ.update({PADDING_VARIABLE: "x" * size, "PYTHONHASHSEED": str(seed)})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def rounds(count: int, report: Callable[[str, float], None]) -> Iterator[list[list[str]]]:
    """The rows of the table after each round, in which every condition has one more process."""
    conditions = [(), *((cause,) for cause in CAUSES), CAUSES]
    cells = [(causes, *one) for one in NETWORKS for causes in conditions]
    ratios: list[list[Array]] = [[] for _ in cells]
    context = multiprocessing.get_context("spawn")
    rng = np.random.default_rng()
    for process in range(count):
        for done, place in enumerate(rng.permutation(len(cells))):
            causes, network, batch = cells[place]
            report(f"process {process + 1} of {count}", (process + done / len(cells)) / count)
            with _environment(causes, rng), ProcessPoolExecutor(1, mp_context=context) as pool:
                seed = int(rng.integers(2**32))
                ratios[place].append(pool.submit(measured, causes, network, batch, seed).result())
        if process > 0:
            yield [_row(*cell, np.array(found)) for cell, found in zip(cells, ratios, strict=True)]


def _row(causes: Sequence[str], network: Network, batch: int, ratios: Array) -> list[str]:
    parts = scatter_of(ratios)
    name = "everything" if len(causes) > 1 else causes[0] if causes else "nothing"
    percent = [f"{100 * one:.2f} %" for one in (parts.instances, parts.processes)]
    mean = f"{100 * parts.mean:+.2f} ± {200 * parts.error:.2f} %"
    return [name, f"{network.text}, batch {batch}", *percent, mean, f"{100 * parts.noise:.2f} %", str(len(ratios))]


@click.command(cls=Program)
@click.option("--processes", type=click.IntRange(2), default=PROCESSES, show_default=True, help="Processes of a row.")
@out_option(FOLDER, "bias.md and bias.json")
def main(processes: int, out: Path) -> None:
    """Measure where the bias of processes comes from, and write the table after every round of processes."""
    study = Study.begin("bias", out)
    text = ""
    with progress_bar() as report:
        for rows in rounds(processes, report):
            lines = [
                "# Where the bias of a process comes from",
                "",
                *markdown_table(COLUMNS, rows, words=2),
                "",
                *str(__doc__).strip().splitlines()[2:],
                "",
                f"A process has {INSTANCES} pairs of instances, and times {STEPS} steps of each. The mean is followed "
                "by twice its standard error.",
            ]
            document = {"schema": 1, "columns": COLUMNS, "rows": rows}
            text, _ = study.keep("\n".join(lines), document, "reports.verdicts")
    click.echo(text)


if __name__ == "__main__":
    main(prog_name="python -m reports.verdicts.bias")
