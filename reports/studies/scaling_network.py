"""`python -m reports.studies.scaling_network`: does the model of `scaling` hold for `mpi` over a network?

The hosts are network namespaces of this machine, with one rank on each, and their network is as slow as `tc` makes it.
The exchange is measured over each network. Its model is not fitted there: it has the latency that a single number
takes over the same hosts without a limit, plus the delay that was set, and the bandwidth that was set.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np

from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.entrants import WORKER as RACER
from mlpprof.compare.entrants import Entrant, worker_for
from mlpprof.data import DataSource
from mlpprof.engines.mpiexec import HOSTFILE_VARIABLE, mpiexec_command
from mlpprof.errors import UsageError
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker, part_of
from mlpprof.report.numbers import format_time
from mlpprof.workloads import Workload, resolve
from reports.hosts import Host, hosts, missing_for_hosts
from reports.program import Program, markdown_table, out_option
from reports.studies.scaling import (
    BASE,
    ROWS,
    STRONG,
    WORKER,
    Cell,
    Compute,
    Exchange,
    Exchanged,
    Model,
    exchange_of,
    fit_compute,
    measure_steps,
    ratios_of,
)
from reports.studies.study import FOLDER, Study

DATA_SHARE = 1448 / 1514
"""The share of data in a full frame on Ethernet; the other bytes are the headers of Ethernet, IP and TCP."""


@dataclass(frozen=True)
class Network:
    """What was set: megabits per second of each host, and the delay of each packet; no limit if both are 0."""

    megabits: float = 0.0
    delay_ms: float = 0.0

    @property
    def text(self) -> str:
        delay = f", {self.delay_ms:g} ms" if self.delay_ms else ""
        return f"{self.megabits:,g} Mbit/s{delay}" if self.megabits else "no limit"

    def exchange(self, unlimited_alpha_s: float) -> Exchange:
        """Its model. unlimited_alpha_s: the latency between the hosts without a limit."""
        beta_s = 8 / (1e6 * self.megabits * DATA_SHARE) if self.megabits else 0.0
        return Exchange(unlimited_alpha_s + 1e-3 * self.delay_ms, beta_s)


UNLIMITED = Network()
NETWORKS = (Network(100, 1.0), Network(10, 1.0))
HOSTS = (2, 4)
SIZES = (1, 1024, 16_384)
ROUNDS, QUICK_ROUNDS = 5, 2
BLOCKS, QUICK_BLOCKS = 6, 2


@dataclass(frozen=True)
class Step:
    """The measured speedup of `mpi` compared with one process, on so many hosts and one batch."""

    network: Network
    ranks: int
    batch: int
    speedup: float


@contextmanager
def ranks_on(found: Sequence[Host], module: str) -> Iterator[Worker]:
    """A worker on the first host, as rank 0 of one rank on each host."""
    with tempfile.NamedTemporaryFile("w", prefix="mlpprof-hostfile-", suffix=".txt") as hostfile:
        hostfile.write("".join(f"{host.name}:1\n" for host in found))
        hostfile.flush()
        command = mpiexec_command(len(found), {HOSTFILE_VARIABLE: hostfile.name})
        environment = worker_environment(os.environ, 1, native_blas=True)
        with Worker(module, environment, found[0].command(command)) as worker:
            yield worker


def limit(found: Sequence[Host], network: Network) -> Network:
    """Set the network of these hosts; returns what could be set."""
    can_delay = [host.limit_network(network.megabits, network.delay_ms) for host in found]
    return network if all(can_delay) else replace(network, delay_ms=0.0)


def measure(
    workload: Workload, rounds: int, blocks: int, progress: Progress
) -> tuple[dict[Network, list[Exchanged]], dict[int, float], list[Step]]:
    """The exchanges over each network, the steps of one process by batch, and the steps over the first network."""
    exchanged: dict[Network, list[Exchanged]] = {}
    gradient = workload.network.parameter_count + 1
    sizes = sorted({*SIZES, gradient})
    for i, count in enumerate(HOSTS):
        with hosts(count) as found, ranks_on(found, WORKER) as worker:
            for j, wanted in enumerate((UNLIMITED, *NETWORKS)):
                network = limit(found, wanted) if wanted.megabits else wanted
                part = part_of(progress, 0.3 * (i + j / 3), 0.1, f"{count} hosts, {network.text}")
                exchanged.setdefault(network, []).extend(exchange_of(worker, ["mpi"], count, sizes, rounds, part))
    cells = [Cell(BASE, 1, batch) for batch in ROWS] + [Cell("mpi", 2, batch) for batch in STRONG]
    with hosts(2) as found, contextlib.ExitStack() as opened:
        network = limit(found, NETWORKS[0])

        def start(entrants: Sequence[Entrant]) -> Worker:
            if entrants[0].process != "mpi":
                return worker_for(entrants)
            return opened.enter_context(ranks_on(found, RACER))

        turns_s = measure_steps(workload, cells, blocks, part_of(progress, 0.6, 0.4, "steps"), start)
    measured = ratios_of(cells, turns_s)
    step_s = {cell.batch: seconds for cell, seconds in measured.step_s.items() if cell.variant == BASE}
    return exchanged, step_s, [Step(network, one.workers, one.batch, ratio) for one, ratio in measured.strong.items()]


def latencies(exchanged: Mapping[Network, Sequence[Exchanged]]) -> dict[int, float]:
    """Ranks -> seconds of a message, from the sum of a single number between hosts without a limit."""
    return {
        one.workers: one.seconds / Exchange(1.0, 0.0).sum_s(one.workers, 0)
        for one in exchanged[UNLIMITED]
        if one.size == 1
    }


def network_text(
    exchanged: Mapping[Network, Sequence[Exchanged]], compute: Compute, steps: Sequence[Step], gradient: int
) -> str:
    """The tables: each exchange and each step beside its model."""
    alphas = latencies(exchanged)
    text = " and ".join(f"{format_time(alpha)} with {ranks} ranks" for ranks, alpha in alphas.items())
    lines = ["", "The hosts are network namespaces of one machine, with one rank on each; they share its processors."]
    if not any(network.delay_ms for network in exchanged):
        lines += ["The kernel of this machine has no netem, so `tc tbf` limited the bandwidth, and no delay was set."]
    lines += [
        f"A message between them takes {text} without a limit, from the sum of a single number. The model has this "
        f"latency, and the bandwidth that was set, of which {100 * DATA_SHARE:.1f} % are data; nothing is fitted.",
        "",
        "## The exchange over a network, measured and modelled",
        "",
    ]
    rows: list[list[str]] = []
    errors: list[tuple[int, float]] = []
    for network, found in exchanged.items():
        for one in found:
            modelled_s = network.exchange(alphas[one.workers]).sum_s(one.workers, 4 * one.size)
            numbers = f"{one.size:,}" + (" (the gradient)" if one.size == gradient else "")
            row = [network.text, str(one.workers), numbers, format_time(one.seconds)]
            if network.megabits:
                row += [format_time(modelled_s), f"{one.seconds / modelled_s:.2f}"]
                errors.append((one.size, abs(math.log(one.seconds / modelled_s))))
            rows.append(row if network.megabits else [*row, "", ""])
    lines += markdown_table(["network", "ranks", "numbers", "measured", "modelled", "measured / modelled"], rows, 0)
    of_gradient = _median_deviation([error for size, error in errors if size == gradient])
    of_all = _median_deviation([error for _, error in errors])
    lines += [
        "",
        f"The median deviation is {of_gradient} for the gradient, and {of_all} for all sizes. On a busy machine, ranks "
        "wait for a processor, which is not in the model and matters most for small messages.",
        "",
    ]
    lines += [f"## Steps over a network: `mpi` compared with one process of `{BASE}`", ""]
    rows = []
    for step in steps:
        model = Model(compute, step.network.exchange(alphas[step.ranks]), 4 * gradient)
        modelled = model.speedup(step.ranks, step.batch)
        rows.append([step.network.text, str(step.ranks), f"{step.batch:,}", f"{step.speedup:.2f}", f"{modelled:.2f}"])
    lines += markdown_table(["network", "ranks", "batch", "speedup, measured", "modelled"], rows, 0)
    return "\n".join(lines) + "\n"


def _median_deviation(logs: Sequence[float]) -> str:
    return f"{100 * math.expm1(float(np.median(logs))):.0f} %"


@click.command(cls=Program)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="MNIST [default: embedded digits].")
@click.option("--quick", is_flag=True, help="Few rounds and blocks.")
@out_option(FOLDER, "scaling_network.md and scaling_network.json")
def main(data: Path | None, quick: bool, out: Path) -> None:
    """Measure `mpi` between hosts with a slow network, beside its model; write scaling_network.md and .json."""
    study = Study.begin("scaling_network", out)
    if (missing := missing_for_hosts()) is not None:
        raise UsageError(f"this machine cannot make hosts: {missing}")
    with progress_bar() as progress:
        workload = resolve("digits", source=None if data is None else DataSource(path=str(data)))
        rounds, blocks = (QUICK_ROUNDS, QUICK_BLOCKS) if quick else (ROUNDS, BLOCKS)
        exchanged, step_s, steps = measure(workload, rounds, blocks, progress)
    compute = fit_compute(step_s)
    text = network_text(exchanged, compute, steps, workload.network.parameter_count + 1)
    document = {
        "exchange": [{**asdict(network), **asdict(one)} for network, found in exchanged.items() for one in found],
        "compute": compute,
        "steps": steps,
    }
    study.end(text, document, f"# `mpi` over a network, {workload.network.text}\n\n")


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.scaling_network")
