"""Interleaved blocks: contestants take turns in one process, so that drift of the machine falls on all alike.

A block is a random order of the contestants followed by its reverse: ABBA or BAAB for two, ABCCBA and so on for more.
What drifts linearly within a block cancels in every pair. Each turn repeats the step until it has lasted long enough
to be timed, and every contestant has an instance of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpprof import catalog
from mlpprof.instrument.phases import Clock
from mlpprof.measure.passes import Subject, TimedPass, paused_garbage_collection, warm_up
from mlpprof.model.gradcheck import close
from mlpprof.process import Progress

TURN_S = 0.015
"""Least duration of a turn."""
ARGUMENTS_ALIVE = 16
"""Sets of arguments that are made ahead: so many calls are clocked together, whatever a turn holds."""
SLOW_TURN_S = 0.5
SLOW_BLOCKS = 2
"""A contestant whose step is slower than SLOW_TURN_S takes part in the first blocks only; it is marked so."""


class Contestant(Protocol):
    """Something that can be run and timed again and again."""

    def warm_up(self, clock: Clock) -> float:
        """Run until the time settles; seconds of the fastest run."""

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a run, over `runs` of them."""


class VariantContestant:
    """The training step of a variant; each turn goes on with the next batches."""

    def __init__(self, entry: catalog.Entry, subject: Subject, batch: int) -> None:
        self._entry = entry
        self._subject = subject
        self._instance = subject.make()
        self._indices = subject.walk(batch)
        self._prepared_for = 0

    def warm_up(self, clock: Clock) -> float:
        """Train until the time of a step settles."""
        with catalog.variant_code(self._entry):
            timed = TimedPass(self._subject, self._instance, self._indices, lambda: None, clock)
            return warm_up(timed, clock)[1]

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a step, through `train` where the variant spans steps; the indices are drawn before the clock."""
        X, Y, train_step = self._subject.X, self._subject.Y, self._instance.train_step
        train = getattr(self._instance, "train", None)
        indices = [next(self._indices) for _ in range(runs)]
        with catalog.variant_code(self._entry):
            if train is not None and runs != self._prepared_for:
                train(X, Y, indices)  # a compiler may have to learn the new number
                self._prepared_for = runs
            start = clock()
            if train is not None:
                train(X, Y, indices)
                return (clock() - start) / runs
            for index in indices:
                train_step(X, Y, index)
            return (clock() - start) / runs

    def close(self) -> None:
        """Release the instance."""
        with catalog.own_modules(self._entry):
            close(self._instance)


class CallableContestant:
    """A function, called with fresh arguments that are made outside the clock.

    running, making: entered, outside the clock too, around the calls of the function and of make_arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        make_arguments: Callable[[], Sequence[Any]],
        running: Callable[[], AbstractContextManager[None]] = nullcontext,
        making: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._function = function
        self._make_arguments = make_arguments
        self._running = running
        self._making = making

    def warm_up(self, clock: Clock) -> float:
        """Call until half a second is over, at least 3 and at most 20 times."""
        begun = clock()
        seconds: list[float] = []
        while len(seconds) < 3 or (len(seconds) < 20 and clock() - begun < 0.5):
            seconds.append(self.turn(1, clock))
        return min(seconds)

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a call; a few sets of arguments are alive at a time, so that they fit into caches and memory."""
        function = self._function
        seconds = 0.0
        for done in range(0, runs, ARGUMENTS_ALIVE):
            with self._making():
                arguments = [tuple(self._make_arguments()) for _ in range(min(ARGUMENTS_ALIVE, runs - done))]
            with self._running():
                start = clock()
                for values in arguments:
                    function(*values)
                seconds += clock() - start
        return seconds / runs


def no_arguments() -> tuple[()]:
    """The arguments of a function that takes none."""
    return ()


def race(
    contestants: Sequence[Contestant],
    blocks: int,
    seed: int,
    report: Progress,
    clock: Clock = perf_counter,
    turn_s: float = TURN_S,
) -> NDArray[np.float64]:
    """Seconds a run in every turn, (blocks, contestants, 2): the turn on the way out and the one on the way back.

    turn_s: least duration of a turn. NaN where a slow contestant sat out.
    """
    rng = np.random.default_rng(seed)
    report("warming up", 0.0)
    with paused_garbage_collection():
        fastest_s = [contestant.warm_up(clock) for contestant in contestants]
    runs = [max(1, math.ceil(turn_s / seconds)) for seconds in fastest_s]
    seconds = np.full((blocks, len(contestants), 2), np.nan)
    for block in range(blocks):
        report("racing", (block + 0.5) / (blocks + 0.5))
        racing = [i for i, s in enumerate(fastest_s) if s < SLOW_TURN_S or block < SLOW_BLOCKS]
        order = rng.permutation(racing)
        with paused_garbage_collection():
            for way, turns in enumerate((order, order[::-1])):
                for i in turns:
                    seconds[block, i, way] = contestants[i].turn(runs[i], clock)
    return seconds
