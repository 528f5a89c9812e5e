"""Operations performed again on their own operands, beside their cure: what of the time is saved.

The two are timed in turns, so that a change of the machine's speed meets both. The saved share is applied to the time
that the operation took in the step, since caches and the allocator are in another state here.

All measuring of a program has one budget, so that large operations do not make it endless: those of a tenth of a
second are performed once, and when the budget is spent nothing more is said to be saved.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

Action = Callable[[], object]

PAIRS, LONGEST_S, SHORTEST_S = 15, 0.25, 2e-4

LARGEST_SHARE = 0.05
"""Of the budget, for the pairs of one operation."""

SINGLE_S, UNSURE = 0.1, 0.05
"""An operation that takes so long is performed once; of what a single pair says so much is left to chance."""


@dataclass
class Budget:
    """Seconds that may still be spent on measuring; as good as no end at first. left_out: how often there were none."""

    left_s: float = 1e9
    left_out: int = 0

    @contextmanager
    def part(self, share: float) -> Iterator[None]:
        """For the time being no more than a share of them."""
        kept_s = self.left_s * (1 - share)
        self.left_s -= kept_s
        try:
            yield
        finally:
            self.left_s += kept_s


BUDGET = Budget()
"""Of this process, which looks at one program."""


def saved_share(
    slow: Action, fast: Action, clock: Callable[[], float] = time.perf_counter, before_slow: Action | None = None
) -> tuple[float, float]:
    """The share of `slow`'s time that `fast` saves, as the quartiles of interleaved pairs; (0, 0) if either fails.

    before_slow: done before `slow` each time, untimed; it then runs once in a pair.
    """
    if BUDGET.left_s <= 0:
        BUDGET.left_out += 1
        return 0.0, 0.0
    start_s = clock()
    try:
        with np.errstate(all="ignore"):
            return _share_of_pairs(slow, fast, clock, before_slow)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError):
        return 0.0, 0.0
    finally:
        BUDGET.left_s -= clock() - start_s


def _share_of_pairs(
    slow: Action, fast: Action, clock: Callable[[], float], before_slow: Action | None
) -> tuple[float, float]:
    fast_s = _timed(fast, 1, clock)
    if before_slow is not None:
        before_slow()
    slow_s = _timed(slow, 1, clock)
    if max(fast_s, slow_s) >= SINGLE_S:
        share = 1 - fast_s / slow_s
        return share - UNSURE, share
    once = max(_timed(slow, 1, clock), 1e-9)
    repeats = max(1, int(SHORTEST_S / once)) if before_slow is None else 1
    longest_s = min(LONGEST_S, BUDGET.left_s * LARGEST_SHARE)
    pairs = max(3, min(PAIRS, int(longest_s / (2 * once * repeats))))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        found = []
        for _ in range(pairs):
            fast_s = _timed(fast, repeats, clock)
            if before_slow is not None:
                before_slow()
            found.append(1 - fast_s / _timed(slow, repeats, clock))
    finally:
        if was_enabled:
            gc.enable()
    low, high = np.quantile(found, (0.25, 0.75))
    return float(low), float(high)


def seconds_of(action: Action, clock: Callable[[], float] = time.perf_counter) -> float:
    """The time of something once, the median of a few."""
    start_s = clock()
    with np.errstate(all="ignore"):
        first_s = _timed(action, 1, clock)
        if first_s >= SINGLE_S or BUDGET.left_s <= 0:
            BUDGET.left_s -= first_s
            return first_s
        once = max(_timed(action, 1, clock), 1e-9)
        repeats = max(1, int(SHORTEST_S / once))
        times = max(3, min(9, int(0.1 / (once * repeats))))
        found = float(np.median([_timed(action, repeats, clock) for _ in range(times)]))
    BUDGET.left_s -= clock() - start_s
    return found


def of_time(share: tuple[float, float], seconds: float) -> tuple[float, float]:
    """A saved share of some seconds; nothing is saved where the share is negative."""
    return max(0.0, share[0]) * seconds, max(0.0, share[1]) * seconds


def _timed(action: Action, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        action()
    return (clock() - start) / repeats
