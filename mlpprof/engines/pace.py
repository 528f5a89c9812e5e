"""The choice of who makes the next steps: a team, unless it was measured to be slower than a single worker.

A team is slow beside other programs, because all workers wait for the one that has no core. How slow it is depends on
those programs, and changes while they come and go. So the steps are made in blocks of about 20 milliseconds, whose
times are compared. The single worker makes some of the first blocks. The team goes on as long as its steps take less
time than those of the last block of the single worker. If they take more, the single worker makes a block, and then the
team gets another try. Each time that the team is slower again, the number of blocks until the next try doubles. So
tries take little time beside a program that stays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

BLOCK_S = 0.02
"""A block has as many steps as take about this time, so that a short disturbance decides little."""
GROWTH = 8
"""A block has at most this many times as many steps as the one before."""
LONGEST_PAUSE = 32
"""The single worker makes at most this many blocks before the team gets another try."""

Steps = Callable[[int, int], None]
"""steps(first, end): make these steps."""


class Pace:
    """The choice for steps of one kind, such as those of one batch size. clock: another clock, for tests."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._team, self._alone = _Worker(), _Worker()
        self._pause = self._left = 0

    def run(self, steps: int, team: Steps, alone: Steps) -> None:
        """Make steps 0..steps, each once and in order."""
        done = 0
        while done < steps:
            if self._left > 0:
                self._left -= 1
                done, _ = self._block(self._alone, alone, done, steps)
                continue
            done, counts = self._block(self._team, team, done, steps)
            if not counts:
                continue
            if math.isinf(self._alone.step_s):
                self._left = 1
            elif self._team.step_s < self._alone.step_s:
                self._pause = 0
            else:
                self._pause = self._left = min(LONGEST_PAUSE, 2 * self._pause or 1)

    def _block(self, worker: _Worker, make: Steps, done: int, steps: int) -> tuple[int, bool]:
        """Make a block of steps; returns the step after it, and whether its time counts."""
        end = min(steps, done + worker.count)
        begun = self._clock()
        make(done, end)
        return end, worker.took(end - done, self._clock() - begun, end - done == steps)


class _Worker:
    """The steps of the next block, and the seconds per step of the last block that counts."""

    def __init__(self) -> None:
        self.count, self.step_s = 1, math.inf
        self._begun = False

    def took(self, steps: int, block_s: float, is_all: bool) -> bool:
        """Keep the time of a block if it counts. is_all: whether it has all steps of a call of `run`.

        The first block does not count, because it may have been compiled. Another short block does not count either,
        because waking the team takes longer than some steps.
        """
        counts = self._begun and (is_all or block_s >= BLOCK_S / 4)
        if self._begun:
            step_s = max(block_s / steps, 1e-9)
            self.count = max(1, min(GROWTH * self.count, int(BLOCK_S / step_s)))
            if counts:
                self.step_s = step_s
        self._begun = True
        return counts
