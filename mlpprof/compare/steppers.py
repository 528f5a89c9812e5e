"""What takes turns in a race: the step of a variant, whole epochs of it, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from mlpprof import catalog
from mlpprof.instrument.clocks import Clock
from mlpprof.model import Array
from mlpprof.model.gradcheck import close
from mlpprof.profile.passes import Subject, TimedPass, warm_up

EPOCHS_WARM_UP_S = 0.2
"""Epochs are run for at least this long before they are timed."""
MOST_ARGUMENTS = 16
"""At most this many sets of arguments exist at a time, so that they fit into caches and memory."""
CALLS_WARM_UP_S = 0.5
FEWEST_CALLS, MOST_CALLS = 3, 20
"""A function is called for CALLS_WARM_UP_S before it is timed, but at least and at most this often."""


class VariantStepper:
    """The training step of a variant; each turn goes on with the next batches."""

    def __init__(self, entry: catalog.Entry, subject: Subject, batch: int) -> None:
        self._entry = entry
        self._subject = subject
        self._instance = subject.make()
        self._indices = subject.walk(batch)
        self._prepared_for: set[int] = set()

    def warm_up(self, clock: Clock) -> float:
        """Train until the time of a step settles."""
        with catalog.variant_code(self._entry):
            timed = TimedPass(self._subject, self._instance, self._indices, lambda: None, clock)
            return warm_up(timed, clock)[1]

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a step, through `train` where the variant spans steps; the indices are drawn before the clock.

        If they come from a stream, the time for which they had to wait counts.
        """
        X, Y, train_step = self._subject.X, self._subject.Y, self._instance.train_step
        train = getattr(self._instance, "train", None)
        before_s, seconds = self._subject.waited_s, 0.0
        for indices in self._subject.drawn(self._indices, runs):
            with catalog.variant_code(self._entry):
                if train is not None and len(indices) not in self._prepared_for:
                    train(X, Y, indices)  # a compiler may have to learn the new number
                    self._prepared_for.add(len(indices))
                start = clock()
                if train is not None:
                    train(X, Y, indices)
                else:
                    for index in indices:
                        train_step(X, Y, index)
                seconds += clock() - start
        return (seconds + self._subject.waited_s - before_s) / runs

    def close(self) -> None:
        """Release the instance."""
        with catalog.own_modules(self._entry):
            close(self._instance)


class EpochStepper:
    """Whole epochs as a user runs them: shuffle, then batch after batch, each gathered by the variant.

    steps: of one run. They are fewer than those of an epoch where an epoch would take too long; then samples are drawn
    at random. The rest at the end of an epoch that makes no whole batch is left out. A full batch is not shuffled.
    """

    def __init__(self, entry: catalog.Entry, subject: Subject, batch: int, steps: int) -> None:
        self._entry = entry
        self._subject = subject
        self._batch = batch
        self._steps = steps
        self._rng = np.random.default_rng(subject.seed)
        self._instance = subject.make()

    def warm_up(self, clock: Clock) -> float:
        """Two epochs at least; seconds of the fastest."""
        begun = clock()
        seconds = [self.turn(1, clock), self.turn(1, clock)]
        while clock() - begun < EPOCHS_WARM_UP_S:
            seconds.append(self.turn(1, clock))
        return min(seconds)

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds an epoch, shuffling included."""
        X, Y, instance = self._subject.X, self._subject.Y, self._instance
        train = getattr(instance, "train", None)
        with catalog.variant_code(self._entry):
            start = clock()
            for _ in range(runs):
                indices = self._indices()
                if train is not None:
                    train(X, Y, indices)
                else:
                    for index in indices:
                        instance.train_step(X, Y, index)
            return (clock() - start) / runs

    def close(self) -> None:
        """Release the instance."""
        with catalog.own_modules(self._entry):
            close(self._instance)

    def _indices(self) -> list[Array]:
        samples, m = len(self._subject.X), self._batch
        if m == samples:
            order = np.arange(samples)
        elif self._steps < samples // m:  # to shuffle all samples would be expensive compared with so few steps
            order = self._rng.integers(samples, size=m * self._steps)
        else:
            order = self._rng.permutation(samples)
        return [order[start : start + m] for start in range(0, m * self._steps, m)]


class FunctionStepper:
    """A function, called with fresh arguments that are made outside the clock.

    running, making: context managers around the calls of the function and of make_arguments, outside the clock too.
    release: called when the function is not needed any more.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        make_arguments: Callable[[], Sequence[Any]],
        running: Callable[[], AbstractContextManager[None]] = nullcontext,
        making: Callable[[], AbstractContextManager[None]] = nullcontext,
        release: Callable[[], object] = lambda: None,
    ) -> None:
        self._function = function
        self._make_arguments = make_arguments
        self._running = running
        self._making = making
        self.close = release

    def warm_up(self, clock: Clock) -> float:
        """Call it a few times; seconds of the fastest call."""
        begun = clock()
        seconds: list[float] = []
        while len(seconds) < FEWEST_CALLS or (len(seconds) < MOST_CALLS and clock() - begun < CALLS_WARM_UP_S):
            seconds.append(self.turn(1, clock))
        return min(seconds)

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a call."""
        function = self._function
        seconds = 0.0
        for done in range(0, runs, MOST_ARGUMENTS):
            with self._making():
                arguments = [tuple(self._make_arguments()) for _ in range(min(MOST_ARGUMENTS, runs - done))]
            with self._running():
                start = clock()
                for values in arguments:
                    function(*values)
                seconds += clock() - start
        return seconds / runs


def no_arguments() -> tuple[()]:
    """The arguments of a function that takes none."""
    return ()
