"""A race: its entrants take turns in interleaved blocks, so that a drift of the machine affects all of them alike.

A block is a random order of the entrants followed by its reverse: ABBA or BAAB for two, ABCCBA and so on for more. A
drift that is linear within a block cancels in every pair. Each turn repeats the run until it has lasted long enough to
be timed. Each entrant has an instance of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlpprof.instrument.clocks import Clock
from mlpprof.process import Progress
from mlpprof.profile.passes import paused_garbage_collection

TURN_S = 0.015
"""A turn lasts at least this long."""
SLOW_RUN_S = 0.5
SLOW_BLOCKS = 2
"""An entrant whose run takes longer than SLOW_RUN_S takes part in the first SLOW_BLOCKS blocks only."""

Turns = NDArray[np.float64]
"""The times of a race, in seconds a run, (blocks, entrants, 2): each block has a way out and a way back."""


class Stepper(Protocol):
    """Something that can be run and timed again and again: a step, an epoch, or a call of a function."""

    def warm_up(self, clock: Clock) -> float:
        """Run until the time settles; seconds of the fastest run."""

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a run, averaged over `runs` of them."""

    def close(self) -> object:
        """Release what it holds."""


def race(
    steppers: Sequence[Stepper],
    blocks: int,
    seed: int,
    report: Progress,
    clock: Clock = perf_counter,
    turn_s: float = TURN_S,
) -> Turns:
    """Time all of them in interleaved blocks; NaN marks the turns that a slow one was left out of.

    turn_s: the least duration of a turn.
    """
    rng = np.random.default_rng(seed)
    report("warming up", 0.0)
    with paused_garbage_collection():
        fastest_s = [stepper.warm_up(clock) for stepper in steppers]
    runs = [max(1, math.ceil(turn_s / seconds)) for seconds in fastest_s]
    turns = np.full((blocks, len(steppers), 2), np.nan)
    for block in range(blocks):
        report("racing", (block + 0.5) / (blocks + 0.5))
        racing = [i for i, s in enumerate(fastest_s) if s < SLOW_RUN_S or block < SLOW_BLOCKS]
        order = rng.permutation(racing)
        with paused_garbage_collection():
            for way, places in enumerate((order, order[::-1])):
                for i in places:
                    turns[block, i, way] = steppers[i].turn(runs[i], clock)
    return turns
