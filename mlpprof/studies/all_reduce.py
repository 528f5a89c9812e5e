"""The sum of a block over all ranks, timed: what `mpi` exchanges in a step, for the study of scaling.

Every rank makes an instance and its "steps", as it does with a variant: see `mlpprof.model.ranks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np

from mlpprof.model import Array, Network
from mlpprof.model.ranks import Ranks


class AllReduce:
    """A block of float32 in every rank. parameters: none are needed."""

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
