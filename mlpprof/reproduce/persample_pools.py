"""The workers of the parallel forms of `persample`, as threads and as processes, and the gradients that they compute.

Processes share one block of memory, in which each has a slot for its gradient or its weights; BLAS has one thread each,
so that nothing is parallel twice. The pools are context managers: an error or Ctrl-C ends the processes and releases
the memory.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
from scipy.special import expit
from threadpoolctl import threadpool_limits

from mlpprof.errors import WorkerDied
from mlpprof.model import Array

FLOAT = np.dtype(np.float64)
STOP_TIMEOUT_S = 2.0

Layers = list[tuple[Array, Array]]
Job = tuple[str, Any]
"""("gradient", (rows, m, form)) or ("train", (batches, rate)): what one worker does to its slot."""


def views(flat: Array, layers: Sequence[int]) -> Layers:
    """W (n_l, n_{l-1}) and b (n_l,) of every layer as views of one vector."""
    pairs, start = [], 0
    for n_in, n_out in pairwise(layers):
        stop = start + n_out * n_in
        pairs.append((flat[start:stop].reshape(n_out, n_in), flat[stop : stop + n_out]))
        start = stop + n_out
    return pairs


def batched_gradient(parameters: Layers, X: Array, Y: Array, m: int, gradient: Layers) -> float:
    """Gradient and loss of the rows, divided by the m samples of the whole batch: matrices, samples in rows."""
    A = [X]
    for W, b in parameters:
        A.append(expit(A[-1] @ W.T + b))
    error = A[-1] - Y
    delta = error * A[-1] * (1 - A[-1]) / m
    for l in reversed(range(len(parameters))):
        dW, db = gradient[l]
        np.matmul(delta.T, A[l], out=dW)
        db[:] = delta.sum(axis=0)
        if l > 0:
            delta = delta @ parameters[l][0] * A[l] * (1 - A[l])
    return float(0.5 * np.vdot(error, error) / m)


def looped_gradient(parameters: Layers, X: Array, Y: Array, m: int, gradient: Layers) -> float:
    """The same, one sample after the other, as the question has it."""
    loss = 0.0
    for dW, db in gradient:
        dW[:] = 0
        db[:] = 0
    for x, y in zip(X, Y, strict=True):
        a = [x]
        for W, b in parameters:
            a.append(expit(W @ a[-1] + b))
        error = a[-1] - y
        loss += 0.5 * float(error @ error) / m
        delta = error * a[-1] * (1 - a[-1]) / m
        for l in reversed(range(len(parameters))):
            dW, db = gradient[l]
            dW += np.outer(delta, a[l])
            db += delta
            if l > 0:
                delta = parameters[l][0].T @ delta * a[l] * (1 - a[l])
    return loss


FORMS: dict[str, Callable[[Layers, Array, Array, int, Layers], float]] = {
    "loop": looped_gradient,
    "batched": batched_gradient,
}


@dataclass
class Desk:
    """What one worker works on: the data, the common parameters, and a slot of its own; the last two are vectors."""

    layers: tuple[int, ...]
    X: Array
    Y: Array
    parameters: Array
    slot: Array
    scratch: Array = field(init=False)

    def __post_init__(self) -> None:
        self.scratch = np.empty_like(self.slot)

    def do(self, job: Job) -> float:
        """One job; its loss: of the rows, or the mean over the batches."""
        name, arguments = job
        if name == "gradient":
            rows, m, form = arguments
            common, own = views(self.parameters, self.layers), views(self.slot, self.layers)
            return FORMS[form](common, self.X[rows], self.Y[rows], m, own)
        indices, rate = arguments
        own, gradient = views(self.slot, self.layers), views(self.scratch, self.layers)
        losses = []
        for rows in indices:
            losses.append(batched_gradient(own, self.X[rows], self.Y[rows], len(rows), gradient))
            self.slot -= rate * self.scratch
        return float(np.mean(losses))


class Threads:
    """Workers as threads: they share everything, and run at once while NumPy has released the interpreter's lock.

    parameters: the common ones, (P,). slots: one for each worker, (workers, P). map: have the first workers do one job
    each, at once; returns their losses.
    """

    def __init__(self, workers: int, layers: tuple[int, ...], X: Array, Y: Array) -> None:
        count = parameter_count(layers)
        self.parameters = np.zeros(count, FLOAT)
        self.slots = np.zeros((workers, count), FLOAT)
        self._desks = [Desk(layers, X, Y, self.parameters, slot) for slot in self.slots]
        self._executor = ThreadPoolExecutor(workers)

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def map(self, jobs: Sequence[Job]) -> list[float]:
        return list(self._executor.map(Desk.do, self._desks[: len(jobs)], jobs))


class Processes:
    """The same with processes over one block of shared memory: row 0 holds the parameters, the others are slots."""

    def __init__(self, workers: int, layers: tuple[int, ...], X: Array, Y: Array) -> None:
        count = parameter_count(layers)
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._memory = SharedMemory(create=True, size=(workers + 1) * count * FLOAT.itemsize)
        try:
            rows = _rows(self._memory, workers, count)
            rows[:] = 0
            self.parameters, self.slots = rows[0], rows[1:]
            context = multiprocessing.get_context("spawn")  # a fork would copy BLAS's threads in an unknown state
            for k in range(workers):
                ours, theirs = context.Pipe()
                arguments = (theirs, self._memory.name, workers, k, layers, X, Y)
                process = context.Process(target=_process_main, args=arguments, daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._pipes.append(ours)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def map(self, jobs: Sequence[Job]) -> list[float]:
        """The jobs at once, in the first processes. Raises WorkerDied if one of them has ended."""
        pipes = self._pipes[: len(jobs)]
        try:
            for pipe, job in zip(pipes, jobs, strict=True):
                pipe.send(job)
            return [pipe.recv() for pipe in pipes]
        except (EOFError, OSError) as error:
            raise WorkerDied("a process of the parallel training ended before it answered; is memory short?") from error

    def close(self) -> None:
        """End the processes and release the memory; harmless a second time."""
        for pipe in self._pipes:
            pipe.close()  # which asks the process to end
        for process in self._processes:
            process.join(STOP_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes = [], []
        self.parameters = self.slots = np.empty(0)  # a view would keep the memory from being closed
        self._memory.close()
        with suppress(FileNotFoundError):  # the second time
            self._memory.unlink()


def _rows(memory: SharedMemory, workers: int, count: int) -> Array:
    return np.ndarray((workers + 1, count), FLOAT, buffer=memory.buf)


def _process_main(
    pipe: Connection, name: str, workers: int, k: int, layers: tuple[int, ...], X: Array, Y: Array
) -> None:
    """The main function of one process: do what comes through the pipe until it closes."""
    memory = SharedMemory(name=name)
    rows = _rows(memory, workers, parameter_count(layers))
    desk = Desk(layers, X, Y, rows[0], rows[k + 1])
    with threadpool_limits(1):
        while True:
            try:
                job = pipe.recv()
            except (EOFError, OSError, KeyboardInterrupt):
                break
            pipe.send(desk.do(job))
    del desk, rows
    memory.close()


def parameter_count(layers: Sequence[int]) -> int:
    """P, the number of weights and biases."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(layers))
