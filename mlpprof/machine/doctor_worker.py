"""A process of the doctor: prepares one task and runs it whenever it is its turn."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from time import perf_counter

import numpy as np

from mlpprof import catalog
from mlpprof.errors import UsageError
from mlpprof.model import Network
from mlpprof.process import Progress, serve

NETWORK = Network((784, 70, 30, 10), rate=0.1, momentum=0.9, l2=1e-4)
"""The network that perf figures are told for: MNIST's shape."""
TURN_S = 0.03
SETTLE_S = 0.12
"""Runs before the first turn: until this time is over, and at least 2."""
SLOW_S = 0.3
"""A run that takes longer is not repeated for warming up."""
IDLE_S = 0.03
"""Pause after a turn, in which this process's BLAS threads go to sleep, so that they do not disturb the other's."""
ROWS_AT_LEAST = 4000
PRODUCT_SIZE = 768

Run = Callable[[], object]


class Task:
    """The handlers: `prepare` once, then `turn` again and again."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._runs = 1
        self._pause_s = 0.0

    def prepare(self, report: Progress, kind: str, batch: int, variant: str, pause: bool) -> dict[str, float]:
        """Make the task and run it until it has settled; answers with seconds of the fastest run."""
        report(f"preparing {kind}", 0.0)
        makers = {"step": _step, "product": _product, "two_pools": _two_pools}
        self._run = makers[kind](batch, variant)
        self._pause_s = IDLE_S if pause else 0.0
        fastest, begun, done = math.inf, perf_counter(), 0
        while done < 1 or perf_counter() - begun < SETTLE_S or (done < 2 and fastest < SLOW_S):
            start = perf_counter()
            self._run()
            fastest = min(fastest, perf_counter() - start)
            done += 1
        self._runs = max(1, math.ceil(TURN_S / fastest))
        return {"fastest_s": fastest}

    def turn(self, report: Progress) -> dict[str, float]:
        """Seconds a run."""
        if self._run is None:
            raise UsageError("turn before prepare")
        start = perf_counter()
        for _ in range(self._runs):
            self._run()
        seconds = (perf_counter() - start) / self._runs
        time.sleep(self._pause_s)
        return {"seconds": seconds}


def _step(batch: int, variant: str) -> Run:
    """The training step of a variant on random samples, each time on other rows."""
    cls = catalog.load(catalog.find(variant))
    rng = np.random.default_rng(0)
    rows = max(ROWS_AT_LEAST, batch)
    X = rng.random((rows, NETWORK.layers[0]), np.float32).astype(cls.DTYPE, copy=False)
    Y = np.eye(NETWORK.layers[-1], dtype=cls.DTYPE)[rng.integers(NETWORK.layers[-1], size=rows)]
    instance = cls(NETWORK, NETWORK.initial_parameters(0, cls.DTYPE))
    indices = [rng.permutation(rows)[:batch] for _ in range(8)]
    turn = iter(range(1 << 62))
    return lambda: instance.train_step(X, Y, indices[next(turn) % len(indices)])


def _product(size: int, variant: str) -> Run:
    """A product of square matrices in float32."""
    A = np.random.default_rng(0).random((size, size), np.float32)
    out = np.empty_like(A)
    return lambda: np.matmul(A, A, out=out)


def _two_pools(batch: int, variant: str) -> Run:
    """A product by NumPy's BLAS and one by SciPy's, in turn, as a step that calls scipy.linalg.blas has them."""
    from scipy.linalg.blas import sgemm

    rng = np.random.default_rng(0)
    W = np.asfortranarray(rng.random((70, 784), np.float32))
    A = np.asfortranarray(rng.random((784, batch), np.float32))

    def both() -> None:
        np.matmul(W, A)
        sgemm(1.0, W, A)

    return both


def main() -> None:
    """Serve until the parent is done."""
    gc.disable()  # nothing here outlives its turn
    task = Task()
    serve({"prepare": task.prepare, "turn": task.turn})
