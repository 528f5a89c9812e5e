"""The second question of `persample`: how to run the loop over the batch in parallel.

Two answers, as plain code. Synchronous data parallelism splits every batch: each worker computes the gradient of its
rows, the gradients are added, one update follows, and the weights are the same as without workers. Model averaging
splits the data instead: each worker runs SGD on its own shard and its own copy of the weights, and only the weights at
the end are averaged (Zinkevich, Weimer, Smola and Li 2010). Where workers get through different amounts of data, Cheng,
Li and Zhang 2017 weight the average by how far each has got: a worker that is T steps behind the fastest one counts
(1 - rate * lambda) ** T as much. lambda is the strong convexity of their objective, which a network does not have.

Workers are threads or processes. Processes share one block of memory, in which each has a slot for its gradient or its
weights; BLAS has one thread each, so that nothing is parallel twice. The pools are context managers: an error or
Ctrl-C ends the processes and releases the memory.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from scipy.special import expit
from threadpoolctl import threadpool_limits

from mlpprof.errors import WorkerDied
from mlpprof.model import Array, Network, Parameters
from mlpprof.process import Progress

FLOAT = np.dtype(np.float64)
STRONG_CONVEXITY = 1.0
"""lambda in Cheng's weights: a choice, since a network's loss has none. With rate 0.1 a step behind costs 10 %."""
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
    """What one worker has before it: the data, the common parameters, and a slot of its own; all flat vectors."""

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


class Pool(Protocol):
    """Workers with a slot each, (workers, P), and the common parameters (P,)."""

    parameters: Array
    slots: Array

    def map(self, jobs: Sequence[Job]) -> list[float]:
        """Have the first len(jobs) workers do one job each, at once; their losses."""


class Threads:
    """Workers as threads: they share everything, and run at once while NumPy has let go of the interpreter's lock."""

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
        """The jobs at once, in the first desks."""
        return list(self._executor.map(Desk.do, self._desks[: len(jobs)], jobs))


class Processes:
    """Workers as processes over one block of shared memory: row 0 holds the parameters, the others are slots."""

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
    """Of one process: do what comes through the pipe until it closes."""
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


def averaging_weights(steps: Sequence[int], rate: float) -> Array:
    """Cheng's weights of workers that have made so many steps: all equal if all have made as many."""
    behind = max(steps) - np.array(steps)
    weights = (1 - rate * STRONG_CONVEXITY) ** behind
    normalized: Array = weights / weights.sum()
    return normalized


# What the parallel forms of `persample_parallel` are worth: seconds a step, and the loss reached by the second.
#
# All pools stay open and every form takes a turn in every round, so that a drift of the machine falls on all of them.


SLOW_SHARE = 0.5
"""In the unequal runs every second worker gets through this share of the others' data, as on a slower machine."""


@dataclass
class Training:
    """One way to train with so many workers. weights: its current state; loss: by the way it is averaged."""

    method: str
    workers: int
    weights: Array
    epoch_s: list[float] = field(default_factory=list)
    loss: dict[str, list[float]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)


class Study:
    """The network in float64 on its data; a context manager, since it holds processes and shared memory.

    plan: workers (numbers of them), rounds (timed steps of every form; 0 leaves them out), epochs, batch.
    """

    def __init__(self, network: Network, X: Array, Y: Array, parameters: Parameters, plan: Mapping[str, Any]) -> None:
        self._network = network
        self._X, self._Y = X.astype(np.float64), Y.astype(np.float64)
        self._plan = plan
        self._start = np.empty(parameter_count(network.layers))
        for (W, b), (W_0, b_0) in zip(views(self._start, network.layers), parameters, strict=True):
            W[:], b[:] = W_0, b_0
        self._rng = np.random.default_rng(0)
        self._stack = ExitStack()
        self._pools: dict[str, Pool] = {}

    def __enter__(self) -> Study:
        most = max(self._plan["workers"])
        layers = self._network.layers
        with ExitStack() as stack:
            stack.enter_context(threadpool_limits(1, user_api="blas"))
            self._pools["threads"] = stack.enter_context(Threads(most, layers, self._X, self._Y))
            self._pools["processes"] = stack.enter_context(Processes(most, layers, self._X, self._Y))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._pools.clear()
        self._stack.close()

    def run(self, report: Progress) -> dict[str, Any]:
        """Both parts, as plain JSON."""
        steps = self._time_steps(report) if self._plan["rounds"] else []
        return {"steps": steps, "trainings": self._train(report)}

    def _time_steps(self, report: Progress) -> list[dict[str, Any]]:
        """Seconds of single synchronous steps on one batch: loop and matrices; threads, processes, BLAS's threads."""
        batch = self._rng.permutation(len(self._X))[: self._plan["batch"]]
        forms: list[tuple[str, str, int, Callable[[], object]]] = []
        for workers in self._plan["workers"]:
            for kind in self._pools:
                for form in ("loop", "batched"):
                    forms.append((form, kind, workers, self._step_of(kind, form, workers, batch)))
            forms.append(("batched", "BLAS threads", workers, self._step_in_blas(workers, batch)))
        seconds: list[list[float]] = [[] for _ in forms]
        for kind in self._pools:
            self._pools[kind].parameters[:] = self._start
        rounds = self._plan["rounds"]
        for turn in range(rounds + 1):  # the first one warms up
            report("steps in parallel", 0.4 * turn / (rounds + 1))
            for i in range(len(forms)) if turn % 2 else reversed(range(len(forms))):
                start = perf_counter()
                forms[i][3]()
                seconds[i].append(perf_counter() - start)
        return [
            {"form": form, "kind": kind, "workers": workers, "step_s": seconds[i][1:]}
            for i, (form, kind, workers, _) in enumerate(forms)
        ]

    def _step_of(self, kind: str, form: str, workers: int, batch: Array) -> Callable[[], object]:
        return lambda: self._synchronous_step(self._pools[kind], form, workers, batch)

    def _step_in_blas(self, threads: int, batch: Array) -> Callable[[], object]:
        parameters, gradient = self._start.copy(), np.empty_like(self._start)
        layers, rate = self._network.layers, self._network.rate

        def step() -> None:
            with threadpool_limits(threads, user_api="blas"):
                own, slot = views(parameters, layers), views(gradient, layers)
                batched_gradient(own, self._X[batch], self._Y[batch], len(batch), slot)
            np.subtract(parameters, rate * gradient, out=parameters)

        return step

    def _synchronous_step(self, pool: Pool, form: str, workers: int, batch: Array) -> None:
        """One step: the batch split among the workers, their gradients added, one update."""
        jobs: list[Job] = [("gradient", (rows, len(batch), form)) for rows in np.array_split(batch, workers)]
        pool.map(jobs)
        pool.parameters -= self._network.rate * pool.slots[:workers].sum(axis=0)

    def _train(self, report: Progress) -> list[dict[str, Any]]:
        trainings = list(self._trainings())
        for training in trainings:
            self._note_loss(training)
        epochs = self._plan["epochs"]
        for epoch in range(epochs):
            report(f"parallel epoch {epoch + 1} of {epochs}", 0.4 + 0.6 * epoch / epochs)
            order = self._rng.permutation(len(self._X))
            for training in trainings if epoch % 2 == 0 else reversed(trainings):
                if training.method.startswith("synchronous"):
                    self._synchronous_epoch(training, order)
                else:
                    self._local_epoch(training)
                self._note_loss(training)
        return [
            {"method": t.method, "workers": t.workers, "average": average, "epoch_s": t.epoch_s, "loss": loss}
            for t in trainings
            for average, loss in t.loss.items()
        ]

    def _trainings(self) -> Iterator[Training]:
        for workers in self._plan["workers"]:
            for kind in self._pools:
                yield Training(f"synchronous, {kind}", workers, self._start.copy())
            copies = np.tile(self._start, (workers, 1))
            yield Training("averaged at the end", workers, copies, steps=[0] * workers)
            if workers > 1:
                yield Training("averaged, unequal workers", workers, copies.copy(), steps=[0] * workers)

    def _synchronous_epoch(self, training: Training, order: Array) -> None:
        pool = self._pools[training.method.removeprefix("synchronous, ")]
        pool.parameters[:] = training.weights
        m = self._plan["batch"]
        start = perf_counter()
        for first in range(0, len(order), m):
            self._synchronous_step(pool, "batched", training.workers, order[first : first + m])
        training.epoch_s.append(perf_counter() - start)
        training.weights[:] = pool.parameters

    def _local_epoch(self, training: Training) -> None:
        """Each worker goes once through its own shard, or through half of it, and tells nobody."""
        pool = self._pools["processes"]
        pool.slots[: training.workers] = training.weights
        m, rate = self._plan["batch"], self._network.rate
        jobs: list[Job] = []
        for k, shard in enumerate(np.array_split(np.arange(len(self._X)), training.workers)):
            rows = self._rng.permutation(shard)
            if training.method.endswith("unequal workers") and k % 2 == 1:
                rows = rows[: int(SLOW_SHARE * len(rows))]
            indices = [rows[first : first + m] for first in range(0, len(rows), m)]
            training.steps[k] += len(indices)
            jobs.append(("train", (indices, rate)))
        start = perf_counter()
        pool.map(jobs)
        pool.slots[: training.workers].mean(axis=0)  # each point of the curve pays for its average
        training.epoch_s.append(perf_counter() - start)
        training.weights[:] = pool.slots[: training.workers]

    def _note_loss(self, training: Training) -> None:
        """The loss over all data with the weights that would be handed out now; no clock runs."""
        if training.weights.ndim == 1:
            ways = {"": training.weights}
        else:
            equal = training.weights.mean(axis=0)
            ways = {"equal weights": equal}
            if training.method.endswith("unequal workers"):
                ways["Cheng's weights"] = averaging_weights(training.steps, self._network.rate) @ training.weights
        for way, weights in ways.items():
            training.loss.setdefault(way, []).append(self._loss(weights))

    def _loss(self, weights: Array) -> float:
        A = self._X
        for W, b in views(weights, self._network.layers):
            A = expit(A @ W.T + b)
        return float(0.5 * np.square(A - self._Y).sum() / len(A))
