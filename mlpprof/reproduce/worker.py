"""The worker of the reproductions: it races whole steps and parts of them, trains by the epoch, checks gradients."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np

from mlpprof import catalog
from mlpprof.compare.entrants import VariantSubject
from mlpprof.compare.race import Stepper
from mlpprof.compare.steppers import FunctionStepper, no_arguments
from mlpprof.compare.worker import Session as RaceSession
from mlpprof.compare.worker import handlers_of
from mlpprof.model import Array, Variant, loss_of
from mlpprof.model.gradcheck import (
    FINITE_DIFFERENCE_TOLERANCE,
    close,
    finite_difference_gradients,
    first_gradients,
    layer_deviations,
    random_cases,
)
from mlpprof.process import Progress, serve
from mlpprof.profile.passes import batches, paused_garbage_collection
from mlpprof.profile.prepare import Prepared, check_agreement
from mlpprof.reproduce.persample_study import Study
from mlpprof.results.json import Message

WHOLE = slice(None)
"""An index that takes all rows as a view: a source that trains on its whole data at once has nothing to gather."""
CHECK_CASES = 6


class Session(RaceSession):
    """The handlers of one worker: those of a race, and what only the reproductions run."""

    def stepper(self, it: Prepared, subject: VariantSubject) -> Stepper:
        """What an entrant runs: a step, or a part of one.

        The parts are "whole step" (on all rows, nothing is gathered), "forward", and "slope" (one weight of `numeric`).
        """
        if subject.part == "step":
            return super().stepper(it, subject)
        instance: Any = it.subject.make()
        X, Y = it.subject.X, it.subject.Y
        if subject.part == "whole step":
            function: Callable[[], object] = lambda: instance.train_step(X, Y, WHOLE)  # noqa: E731 - one of three forms
        else:
            instance.fetch_batch(X, Y, next(it.subject.walk(subject.batch)))
            layers = it.request.network.layers
            function = instance.forward if subject.part == "forward" else _next_slope(instance, layers)
        return FunctionStepper(function, no_arguments, release=lambda: close(instance))

    def steps(self, report: Progress, key: str, batch: int, count: int) -> float:
        """Seconds that a series of training steps takes as a whole, drawing its batches included."""
        it = self._prepared[key]
        it.require_batch(batch)
        instance = it.subject.make()
        indices = it.subject.walk(batch)
        report(f"{count:,} steps of {it.entry.name}", 0.0)
        with catalog.variant_code(it.entry), paused_garbage_collection():
            start = perf_counter()
            for _ in range(count):
                instance.train_step(it.subject.X, it.subject.Y, next(indices))
            seconds = perf_counter() - start
        close(instance)
        return seconds

    def train(
        self, report: Progress, keys: list[str], batch: int, epochs: int, each_epoch: bool
    ) -> dict[str, dict[str, Any]]:
        """Train several variants side by side, an epoch of each in turn, the order reversed from epoch to epoch.

        The clock runs for the steps alone. Answers for each with epoch_s, loss (mean over the batches of an epoch,
        before their updates), final_loss and accuracies after the last epoch; with each_epoch also with the test
        accuracy after every epoch.
        """
        learners = {key: _Learner(self._prepared[key], batch) for key in keys}
        try:
            for epoch in range(epochs):
                report(f"epoch {epoch + 1} of {epochs}", epoch / epochs)
                for key in keys if epoch % 2 == 0 else reversed(keys):
                    learners[key].epoch(each_epoch)
            return {key: learner.result() for key, learner in learners.items()}
        finally:
            for learner in learners.values():
                close(learner.instance)

    def train_standardized(
        self, report: Progress, key: str, batch: int, epochs: int, ranges: list[float]
    ) -> dict[str, Any]:
        """Train one variant on samples of which every feature has mean 0 and deviation 1; answers as `train` for one.

        ranges: for each layer, the weights and biases are uniform between -r and r at first.
        """
        it = self._prepared[key]
        mean, deviation = it.subject.X.mean(axis=0), it.subject.X.std(axis=0)
        deviation[deviation == 0] = 1  # a pixel that is 0 in all samples stays 0
        rng = np.random.default_rng(it.request.seed)
        parameters = [
            (rng.uniform(-r, r, (n_out, n_in)).astype(it.dtype), rng.uniform(-r, r, n_out).astype(it.dtype))
            for r, (n_in, n_out) in zip(ranges, pairwise(it.request.network.layers), strict=True)
        ]
        instance = it.cls(it.request.network, parameters)
        learner = _Learner(it, batch, instance, lambda X: (X - mean) / deviation)
        with np.errstate(over="ignore"):  # where exp overflows, the sigmoid is 0
            for epoch in range(epochs):
                report(f"epoch {epoch + 1} of {epochs} from other weights", epoch / epochs)
                learner.epoch(evaluate=False)
            found = learner.result()
        close(instance)
        return found

    def gradient_check(self, report: Progress, key: str, doubled: bool) -> Message:
        """The worst deviation from finite differences over random networks, and its tolerance.

        doubled: with the defect of the source, the output layer's gradient added twice.
        """
        it = self._prepared[key]
        cls = _with_doubled_output_gradient(it.cls) if doubled else it.cls
        found = []
        for case in random_cases(CHECK_CASES, it.request.seed):
            # the source has no penalties, and doubling must not double one
            case = replace(case, network=replace(case.network, l1=0.0, l2=0.0))
            X, Y = case.X[case.index], case.Y[case.index]
            expected = finite_difference_gradients(case.network, case.parameters, X, Y)
            ours = first_gradients(cls, case)[1]
            found += layer_deviations("gradients", ours, expected, FINITE_DIFFERENCE_TOLERANCE)
        worst = max(found, key=lambda deviation: deviation.severity)
        return {"deviation": worst.size, "tolerance": worst.tolerance, "layer": worst.layer}

    def compare_gradients(self, report: Progress, key: str, other: str) -> float:
        """The largest normwise deviation of a layer between two variants on this network and the data's first rows."""
        ours, theirs = self._prepared[key], self._prepared[other]
        report(f"comparing {ours.entry.name} with {theirs.entry.name}", 0.0)
        return check_agreement(ours, theirs).deviation or 0.0

    def parallel(self, report: Progress, key: str, plan: dict[str, Any]) -> Message:
        """The parallel forms of `persample_study` on a loaded network and the first rows of its data."""
        it = self._prepared[key]
        network = it.request.network
        X, Y = (values[: plan["rows"]] for values in (it.subject.X, it.subject.Y))
        with Study(network, X, Y, network.initial_parameters(it.request.seed), plan) as study:
            return study.run(report)


class _Learner:
    """One variant in training, with its times, losses and accuracies. batch 0 is all rows as a view.

    instance: None makes the variant with its own initial weights. inputs: makes the inputs from the samples.
    """

    def __init__(
        self,
        it: Prepared,
        batch: int,
        instance: Variant | None = None,
        inputs: Callable[[Array], Array] = lambda X: X,
    ) -> None:
        self._it = it
        self._batch = batch
        self.instance = it.subject.make() if instance is None else instance
        self._X, self._Y = inputs(it.subject.X), it.subject.Y
        samples = len(self._X)
        if batch:
            it.require_batch(batch)
            self._indices = batches(samples, batch, it.request.seed)
        self._steps = samples // batch if batch else 1
        self._last: Any = WHOLE
        test = it.whole_data.test_arrays(it.request.network.layers[-1], it.dtype)
        self._test = None if test is None else (inputs(test[0]), test[1])
        self._epoch_s: list[float] = []
        self._loss: list[float] = []
        self._accuracy: list[float] = []

    def epoch(self, evaluate: bool) -> None:
        """One pass over the data."""
        X, Y, train_step = self._X, self._Y, self.instance.train_step
        indices: list[Any] = [next(self._indices) for _ in range(self._steps)] if self._batch else [WHOLE]
        gc.disable()
        try:
            with catalog.variant_code(self._it.entry):
                start = perf_counter()
                losses = [train_step(X, Y, index) for index in indices]
                self._epoch_s.append(perf_counter() - start)
        finally:
            gc.enable()
        self._loss.append(float(np.mean(losses)))
        self._last = indices[-1]
        if evaluate and self._test is not None:
            self._accuracy.append(accuracy(self.instance.predict(self._test[0]), self._test[1]))

    def result(self) -> dict[str, Any]:
        """The times and losses so far, and the accuracies and the loss after the last epoch."""
        X, Y = self._X, self._Y
        trained = self.instance.predict(X)
        test = None if self._test is None else accuracy(self.instance.predict(self._test[0]), self._test[1])
        return {
            "epoch_s": self._epoch_s,
            "loss": self._loss,
            "test_accuracies": self._accuracy,
            "final_loss": loss_of(self._it.request.network)(trained.T, Y.T),
            "train_accuracy": accuracy(trained, Y),
            "test_accuracy": test,
            "last_batch_accuracy": accuracy(trained[self._last], Y[self._last]),
        }


def accuracy(outputs: Array, Y: Array) -> float:
    """The share of samples whose largest output is the right one; of a single output, on the right side of 1/2."""
    if Y.shape[1] == 1:
        return float(np.mean((outputs > 0.5) == (Y > 0.5)))
    return float(np.mean(outputs.argmax(axis=1) == Y.argmax(axis=1)))


def _next_slope(instance: Any, layers: Sequence[int]) -> Callable[[], object]:
    """A function that differentiates by one weight after the other, each layer as often as it has weights."""
    rng = np.random.default_rng(0)
    sizes = np.array([(n_in + 1) * n_out for n_in, n_out in pairwise(layers)])

    def slope() -> object:
        l = int(rng.choice(len(sizes), p=sizes / sizes.sum())) + 1
        return instance.slope(l, int(rng.integers(layers[l])), int(rng.integers(layers[l - 1] + 1)))

    return slope


def _with_doubled_output_gradient(cls: type[Variant]) -> type[Variant]:
    """The variant with the source's defect: the gradient of the output layer is added twice."""

    class Doubled(cls):  # type: ignore[misc,valid-type] # the class is known only when it is loaded
        def backward(self) -> None:
            super().backward()
            self.dW[self.L][:, 1:] *= 2

    return Doubled


def main() -> None:
    """Serve until the parent is done."""
    session = Session()
    own = (
        *(session.steps, session.train, session.train_standardized),
        *(session.gradient_check, session.compare_gradients, session.parallel),
    )
    serve(handlers_of(session) | {handler.__name__: handler for handler in own})
