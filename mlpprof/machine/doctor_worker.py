"""A process of the doctor: it prepares one task and runs it whenever its turn comes."""

from __future__ import annotations

import gc
import itertools
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
"""The network whose steps the settings are tried on: MNIST's shape."""
VARIANT = "sliced"
TURN_S = 0.03
SETTLE_S = 0.12
"""The task runs for this time, and at least twice, before its first turn."""
SLOW_S = 0.3
"""A task that takes longer than this runs only once before its first turn."""
IDLE_S = 0.03
"""After a turn the process pauses, so that its BLAS threads fall asleep and do not disturb the other process."""
ROWS_AT_LEAST = 4000
PRODUCT_SIZE = 768

Run = Callable[[], object]


class PreparedTask:
    """The handlers of the worker: `prepare` is called once, then `turn` again and again."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._runs = 1
        self._pause_s = 0.0

    def prepare(self, report: Progress, kind: str, batch: int, pause: bool) -> dict[str, float]:
        """Make the task and run it until it has settled; returns the seconds of the fastest run."""
        report(f"preparing {kind}", 0.0)
        makers = {"step": _step, "product": _product, "two_pools": _two_pools}
        self._run = makers[kind](batch)
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
        if self._run is None:
            raise UsageError("turn before prepare")
        start = perf_counter()
        for _ in range(self._runs):
            self._run()
        seconds = (perf_counter() - start) / self._runs
        time.sleep(self._pause_s)
        return {"seconds": seconds}


def _step(batch: int) -> Run:
    """The training step of VARIANT on random samples, each time on other rows."""
    cls = catalog.load(catalog.find(VARIANT))
    rng = np.random.default_rng(0)
    rows = max(ROWS_AT_LEAST, batch)
    X = rng.random((rows, NETWORK.layers[0]), np.float32).astype(cls.DTYPE, copy=False)
    Y = np.eye(NETWORK.layers[-1], dtype=cls.DTYPE)[rng.integers(NETWORK.layers[-1], size=rows)]
    instance = cls(NETWORK, NETWORK.initial_parameters(0, cls.DTYPE))
    indices = itertools.cycle([rng.permutation(rows)[:batch] for _ in range(8)])
    return lambda: instance.train_step(X, Y, next(indices))


def _product(size: int) -> Run:
    A = np.random.default_rng(0).random((size, size), np.float32)
    out = np.empty_like(A)
    return lambda: np.matmul(A, A, out=out)


def _two_pools(batch: int) -> Run:
    """A product by NumPy's BLAS and one by SciPy's, in turn, as in a step that calls scipy.linalg.blas."""
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
    task = PreparedTask()
    serve({"prepare": task.prepare, "turn": task.turn})
