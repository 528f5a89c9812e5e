"""The worker of the study of scaling that times the exchange alone: until all have the sum of all gradients.

For a team (`processes`, `threaded`) these are two meetings, and between them the sum, of which each member adds up a
piece, as in the variants' steps. All kinds take turns in one process, which is rank 0 if MPI takes part.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from mlpprof.engines.mpi import Ranks
from mlpprof.engines.team import ProcessTeam, ThreadTeam, shared_zeros
from mlpprof.model import Array, Network
from mlpprof.process import Progress, serve
from mlpprof.profile.passes import paused_garbage_collection

TURN_S = 0.02
MOST_REPEATS = 1000
RESTING_S = 0.003
"""After this time the workers of the last turn sleep."""
TEAMS = {"processes": ProcessTeam, "threaded": ThreadTeam}


class TeamSum:
    """The sum of the rows of an array (workers, most), each of which a member has written."""

    def __init__(self, team_class: Any, workers: int, most: int) -> None:
        self._rows = shared_zeros((workers, most), np.float32)
        self._sum = shared_zeros(most, np.float32)
        self._workers = workers
        self.team = team_class(workers, self._work)

    def _work(self, member: int, size: int) -> None:
        start, end = size * member // self._workers, size * (member + 1) // self._workers
        for row in self._rows[:, start:end]:
            self._sum[start:end] += row

    def exchange(self, size: int, repeats: int) -> list[float]:
        seconds = []
        for _ in range(repeats):
            start = perf_counter()
            for numbers in (0, size):
                self.team.go(numbers)
                self._work(0, numbers)
                self.team.wait()
            seconds.append(perf_counter() - start)
        return seconds


def communicate(
    report: Progress, kinds: Sequence[str], workers: int, sizes: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Median seconds of an exchange, by kind, size and round. sizes: numbers of 4 bytes."""
    exchanges: dict[str, Any] = {}
    teams = []
    for kind in kinds:
        if kind in TEAMS:
            team_sum = TeamSum(TEAMS[kind], workers, max(sizes))
            teams.append(team_sum.team)
            exchanges[kind] = team_sum.exchange
        else:
            exchanges[kind] = _mpi()
    found = []
    try:
        for i in range(rounds):
            for size in sizes:
                report("exchanging", i / rounds)
                for kind in kinds if i % 2 == 0 else reversed(kinds):
                    once_s = min(exchanges[kind](size, 3))
                    repeats = int(min(MOST_REPEATS, max(5, TURN_S / once_s)))
                    with paused_garbage_collection():
                        seconds = exchanges[kind](size, repeats)
                    found.append({"kind": kind, "workers": workers, "size": size, "seconds": float(np.median(seconds))})
                    time.sleep(RESTING_S)
    finally:
        for team in teams:
            team.close()
    return found


def _mpi() -> Any:
    nothing = np.zeros((1, 1), np.float32)
    reduction = AllReduce(Network((1, 1)))
    return partial(_step, reduction, nothing)


def _step(reduction: Any, nothing: Any, size: int, repeats: int) -> Any:
    return reduction.train_step(nothing, nothing, [size, repeats])


class AllReduce:
    """The sum of a block of float32 over all ranks, which is what `mpi` exchanges in a step.

    Every rank makes an instance and its "steps", as it does with a variant: see `mlpprof.engines.mpi`. parameters: none
    are needed.
    """

    def __init__(self, network: Network, parameters: Any = ()) -> None:
        self.ranks = Ranks(self, __file__, network, (np.zeros(1, np.float32),))

    def train_step(self, X: Array, Y: Array, index: Sequence[int]) -> list[float]:
        """Seconds of every exchange; index: numbers in the block, and how often."""
        size, repeats = index
        self.ranks.begin(X, Y, np.array(index))
        block = np.ones(size, np.float32)
        seconds = []
        for _ in range(repeats):
            self.ranks.comm.Barrier()
            start = perf_counter()
            self.ranks.all_reduce(block)
            seconds.append(perf_counter() - start)
            block[:] = 1
        self.ranks.end()
        return seconds


def main() -> None:
    """Serve until the parent is done."""
    serve({"communicate": communicate})
