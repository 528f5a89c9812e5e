"""Operations performed again on their own operands, beside their cure: what of the time is saved.

The two are timed in turns, so that a change of the machine's speed meets both. The saved share is applied to the time
that the operation took in the step, since caches and the allocator are in another state here.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import numpy as np

Action = Callable[[], object]

PAIRS, LONGEST_S, SHORTEST_S = 15, 0.25, 2e-4


def saved_share(
    slow: Action, fast: Action, clock: Callable[[], float] = time.perf_counter, before_slow: Action | None = None
) -> tuple[float, float]:
    """The share of `slow`'s time that `fast` saves, as the quartiles of interleaved pairs; (0, 0) if either fails.

    before_slow: done before `slow` each time, untimed; it then runs once in a pair.
    """
    try:
        with np.errstate(all="ignore"):
            fast(), slow()
            once = max(_timed(slow, 1, clock), 1e-9)
            repeats = max(1, int(SHORTEST_S / once)) if before_slow is None else 1
            pairs = max(3, min(PAIRS, int(LONGEST_S / (2 * once * repeats))))
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
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError):
        return 0.0, 0.0
    low, high = np.quantile(found, (0.25, 0.75))
    return float(low), float(high)


def seconds_of(action: Action, clock: Callable[[], float] = time.perf_counter) -> float:
    """The time of something once, the median of a few."""
    with np.errstate(all="ignore"):
        action()
        once = max(_timed(action, 1, clock), 1e-9)
        repeats = max(1, int(SHORTEST_S / once))
        times = max(3, min(9, int(0.1 / (once * repeats))))
        return float(np.median([_timed(action, repeats, clock) for _ in range(times)]))


def of_time(share: tuple[float, float], seconds: float) -> tuple[float, float]:
    """A saved share of some seconds; nothing is saved where the share is negative."""
    return max(0.0, share[0]) * seconds, max(0.0, share[1]) * seconds


def _timed(action: Action, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        action()
    return (clock() - start) / repeats
