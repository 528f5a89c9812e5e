"""A race: its entrants take turns in interleaved blocks, so that a drift of the machine affects all of them alike.

A block is a random order of the entrants followed by its reverse: ABBA or BAAB for two, ABCCBA and so on for more. A
drift that is linear within a block cancels in every pair. Each turn repeats the run until it has lasted long enough to
be timed. Each entrant has an instance of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlpprof.errors import ProgramEnded
from mlpprof.instrument.clocks import Clock
from mlpprof.process import PULSE, Progress
from mlpprof.profile.passes import paused_garbage_collection

TURN_S = 0.015
"""A turn lasts at least this long."""
SLOW_RUN_S = 0.5
SLOW_BLOCKS = 2
"""An entrant whose run takes longer than SLOW_RUN_S takes part in the first SLOW_BLOCKS blocks only."""

INSTANCE_S, FEWEST_BLOCKS = 0.3, 4
"""In a fine race, the blocks of one instance last about INSTANCE_S, but there are at least FEWEST_BLOCKS."""

TRIES = 3
"""In a fine race, a turn that another program has interrupted is made again, up to so many times in all.

Turns of 1 ms are shorter than the system's time slices of about 3 ms, so that a second or third one is undisturbed even
beside a program that keeps the CPU busy. That a turn is made again does not depend on how long it took.
"""

LOCKSTEP = 20
"""Programs make equally many steps in each turn, unless the turn of one would last more than so many times TURN_S."""

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
    left: Callable[[], float] | None = None,
    limit_s: float = math.inf,
    fewest: int = FEWEST_BLOCKS,
    rarely: Collection[int] = (),
) -> Turns:
    """Time all of them in interleaved blocks; NaN marks the turns that a slow one was left out of.

    turn_s: the least duration of a turn. left: for programs, how many more steps each can make after its warm-up. Their
    steps are numbered, so they make them in lockstep, and the race is as long as the steps allow. limit_s: there are
    fewer blocks, if they would last longer, but not less than `fewest`. rarely: entrants that take part in the first
    SLOW_BLOCKS blocks only, as slow ones do. Raises ProgramEnded if a program ends before there is a block.
    """
    rng = np.random.default_rng(seed)
    report("warming up", 0.0)
    with paused_garbage_collection():
        fastest_s = [stepper.warm_up(clock) for stepper in steppers]
    runs = [max(1, math.ceil(turn_s / seconds)) for seconds in fastest_s]
    if math.isfinite(limit_s):
        block_s = 2 * sum(count * seconds for count, seconds in zip(runs, fastest_s, strict=True))
        blocks = min(blocks, max(fewest, int(limit_s / block_s)))
    if left is not None:
        runs, blocks = lockstep(runs, fastest_s, blocks, left(), turn_s)
    turns = np.full((blocks, len(steppers), 2), np.nan)
    for block in range(blocks):
        report("racing", (block + 0.5) / (blocks + 0.5))
        racing = [i for i, s in enumerate(fastest_s) if block < SLOW_BLOCKS or (s < SLOW_RUN_S and i not in rarely)]
        order = rng.permutation(racing)
        with paused_garbage_collection():
            try:
                for way, places in enumerate((order, order[::-1])):
                    for i in places:
                        turns[block, i, way] = steppers[i].turn(runs[i], clock)
                        PULSE.beat()
            except ProgramEnded:
                if block == 0:
                    raise
                return turns[:block]
    return turns


def lockstep(
    runs: Sequence[int], fastest_s: Sequence[float], blocks: int, left: float, turn_s: float
) -> tuple[list[int], int]:
    """The steps of each program in a turn, and the number of blocks, so that `left` steps are enough.

    Raises ProgramEnded if they are not enough for one block.
    """
    if left < 2:
        raise ProgramEnded(f"{left:.0f} steps are left after the warm-up, and a comparison needs two")
    most = max(runs)
    steps = [most if most * run_s <= LOCKSTEP * turn_s else own for own, run_s in zip(runs, fastest_s, strict=True)]
    if math.isinf(left):
        return steps, blocks
    blocks = int(min(blocks, left // 2))
    return [int(min(one, left // (2 * blocks))) for one in steps], blocks
