"""The second question of `persample`: how to run the loop over the batch in parallel, and what that gains.

There are two answers. Synchronous data parallelism splits every batch: each worker computes the gradient of its
rows, the gradients are added, one update follows, and the weights are the same as without workers. Model averaging
splits the data instead: each worker runs SGD on its own shard and its own copy of the weights, and only the weights at
the end are averaged (Zinkevich, Weimer, Smola and Li 2010). Where workers get through different amounts of data, Cheng,
Li and Zhang 2017 weight the average by how far each has got: a worker that is T steps behind the fastest one counts
(1 - rate * lambda) ** T as much. lambda is the strong convexity of their objective, which a network does not have.

The steps race in one process. For the loss by the second, the trainings take turns of an epoch each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from scipy.special import expit
from threadpoolctl import threadpool_limits

from mlpprof.compare.race import race
from mlpprof.compare.steppers import FunctionStepper, no_arguments
from mlpprof.model import Array, Network, Parameters
from mlpprof.process import Progress
from mlpprof.reproduce.persample_pools import Job, Processes, Threads, batched_gradient, parameter_count, views

STRONG_CONVEXITY = 1.0
"""lambda in Cheng's weights is a choice, since a network's loss has none. With rate 0.1, a step behind costs 10 %."""
SLOW_SHARE = 0.5
"""In the unequal trainings every second worker gets through this share of the others' data, as if it were slower."""


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

    plan: workers (numbers of them), blocks (of the race of all forms; 0 leaves it out), epochs, batch.
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
        self._pools: dict[str, Threads | Processes] = {}

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
        steps = self._race(report) if self._plan["blocks"] else []
        return {"steps": steps, "trainings": self._train(report)}

    def _race(self, report: Progress) -> list[dict[str, Any]]:
        """Seconds of single synchronous steps on one batch: loop and matrices; threads, processes, BLAS's threads."""
        batch = self._rng.permutation(len(self._X))[: self._plan["batch"]]
        forms: list[tuple[str, str, int, Callable[[], object]]] = []
        for workers in self._plan["workers"]:
            for kind in self._pools:
                for form in ("loop", "batched"):
                    forms.append((form, kind, workers, self._step_of(kind, form, workers, batch)))
            forms.append(("batched", "BLAS threads", workers, self._step_in_blas(workers, batch)))
        for pool in self._pools.values():
            pool.parameters[:] = self._start
        steppers = [FunctionStepper(step, no_arguments) for *_, step in forms]
        turns = race(steppers, self._plan["blocks"], 0, lambda what, share: report(f"in parallel: {what}", 0.4 * share))
        return [
            {"form": form, "kind": kind, "workers": workers, "step_s": turns[:, i][~np.isnan(turns[:, i])].tolist()}
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

    def _synchronous_step(self, pool: Threads | Processes, form: str, workers: int, batch: Array) -> None:
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
        """Each worker goes once through its own shard, or through a part of it, and exchanges nothing."""
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
        pool.slots[: training.workers].mean(axis=0)  # the time of every point includes its average
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


def averaging_weights(steps: Sequence[int], rate: float) -> Array:
    """Cheng's weights of workers that have made so many steps: all equal if all have made as many."""
    behind = max(steps) - np.array(steps)
    weights = (1 - rate * STRONG_CONVEXITY) ** behind
    normalized: Array = weights / weights.sum()
    return normalized
