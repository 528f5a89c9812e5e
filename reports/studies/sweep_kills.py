"""`python -m reports.studies.sweep_kills`: a sweep loses no cell while workers are killed, and what a cell costs.

The cells are trivial: a worker sleeps for a moment and sends back a run that was measured before. The same grid is
swept undisturbed, and then while workers are killed by SIGKILL at random moments and one is stopped for some seconds.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.cli.terminal import progress_bar
from mlpprof.machine.facts import machine_class
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.profile.variant import Settings, profile
from mlpprof.results.on_disk import run_bytes
from mlpprof.results.sweep import DONE, SweepCell
from mlpprof.sweep.cluster import DaskPool, local_client
from mlpprof.sweep.grid import Cell, variant_cells
from mlpprof.sweep.measure import Answer
from mlpprof.sweep.run import Sweeping
from mlpprof.workloads import resolve
from reports.program import Program, out_option
from reports.studies.study import FOLDER, Study

STOPPED_S = 3.0
"""One worker is stopped for so many seconds."""
LATEST_S = 0.05
"""A worker is killed at a random moment up to so many seconds after the loop has handed out cells."""


def trivial(content: bytes, machine: str, sleep_s: float, cell: Cell) -> Answer:
    """What a worker runs in place of a measurement."""
    time.sleep(sleep_s)
    return Answer(content, machine)


def same(machine: str) -> str:
    return machine


@dataclass
class Killer:
    """Kills a random worker of a client's cluster after each of these shares of the sweep, and stops one in between."""

    client: Any
    shares: list[float]
    rng: random.Random
    stop_at: float = 0.5
    killed: list[int] = field(default_factory=list)

    def look(self, what: str, share: float) -> None:
        if share >= self.stop_at:
            self.stop_at = 2.0
            self._stop()
        while self.shares and share >= self.shares[0]:
            self.shares.pop(0)
            threading.Timer(self.rng.uniform(0.0, LATEST_S), self._kill).start()

    def _pids(self) -> list[int]:
        return [nanny.pid for nanny in self.client.cluster.workers.values() if nanny.pid not in (None, *self.killed)]

    def _kill(self) -> None:
        if pids := self._pids():
            pid = self.rng.choice(pids)
            self.killed.append(pid)
            os.kill(pid, signal.SIGKILL)
        else:  # all are being replaced
            threading.Timer(LATEST_S, self._kill).start()

    def _stop(self) -> None:
        pid = self.rng.choice(self._pids())
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(STOPPED_S, self._go_on, [pid]).start()

    def _go_on(self, pid: int) -> None:
        if pid not in self.killed:
            os.kill(pid, signal.SIGCONT)


def swept(
    cells: Sequence[Cell],
    folder: Path,
    workers: int,
    answer: Any,
    machine: str,
    look: Progress,
    shares: Sequence[float],
) -> tuple[list[SweepCell], float, int]:
    """The cells after a sweep, its seconds without the start of the cluster, and how many workers were killed."""
    with local_client(workers) as client:
        killer = Killer(client, sorted(shares), random.Random(0))
        sweeping = Sweeping(cells, folder, DaskPool(client, answer, partial(same, machine), click.echo))
        begun_s = time.perf_counter()

        def both(what: str, share: float) -> None:
            look(what, share)
            if shares:
                killer.look(what, share)

        sweeping.run(both)
        return sweeping.shown, time.perf_counter() - begun_s, len(killer.killed)


@click.command(cls=Program)
@click.option("--cells", "count", type=click.IntRange(1), default=1000, show_default=True, help="Number of cells.")
@click.option("--workers", type=click.IntRange(1), default=4, show_default=True, help="Number of worker processes.")
@click.option("--kills", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Kills per cell.")
@click.option(
    "--sleep", "sleep_s", type=click.FloatRange(0), default=0.02, show_default=True, help="Seconds of a cell."
)
@out_option(FOLDER, "sweep_kills.txt and sweep_kills.json")
def main(count: int, workers: int, kills: float, sleep_s: float, out: Path) -> None:
    """Sweep trivial cells with and without kills; write sweep_kills.txt and .json."""
    study = Study.begin("sweep_kills", out)
    workload = resolve("digits")
    common = Cell(SweepCell("", None, None, None, None, None), str(Path.cwd()), "")
    cells = list(variant_cells(["cached"], None, [workload], range(1, count + 1), [None], [1], 0, common))
    with progress_bar() as progress, tempfile.TemporaryDirectory(prefix="mlpprof-study-") as temporary:
        tiny = resolve("tiny")
        request = Request("cached", tiny.network, tiny.source)
        run = profile(request, tiny.name, Settings([30], 2, limits=False), "", progress)
        machine = machine_class(run.machine)
        answer = partial(trivial, run_bytes(run), machine, sleep_s)
        begun_s = time.perf_counter()
        for cell in cells:
            answer(cell)
        direct_s = time.perf_counter() - begun_s
        calm, disturbed = Path(temporary, "calm"), Path(temporary, "disturbed")
        undisturbed, calm_s, _ = swept(cells, calm, workers, answer, machine, progress, ())
        rng = random.Random(1)
        shares = [rng.random() for _ in range(round(kills * count))]
        shown, disturbed_s, killed = swept(cells, disturbed, workers, answer, machine, progress, shares)
        failed = sum(one.state != DONE for one in shown)
        again, _, _ = swept(cells, disturbed, workers, answer, machine, progress, ())
        files = [sorted(path.name for path in folder.iterdir()) for folder in (calm, disturbed)]
        same_keys = [one.file for one in undisturbed] == [one.file for one in again] and files[0] == files[1]
    figures = {
        "cells": count,
        "workers": workers,
        "killed": killed,
        "cells_of_killed_workers": sum(one.tries > 1 for one in shown),
        "failed_after_two_kills": failed,
        "done_after_the_same_command_again": sum(one.state == DONE for one in again),
        "measured_again_then": sum(one.tries > 0 for one in again),
        "files": len(files[1]),
        "keys_equal_those_of_the_undisturbed_sweep": same_keys,
        "undisturbed_s": calm_s,
        "disturbed_s": disturbed_s,
        "direct_s": direct_s,
        "overhead_s_per_cell": calm_s / count - direct_s / count / workers,
    }
    study.end("\n" + "".join(f"  {name.replace('_', ' ')}: {value}\n" for name, value in figures.items()), figures)


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.sweep_kills")
