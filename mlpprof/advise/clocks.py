"""Seconds by expression: what the hooks of the clocked form do."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Any

from mlpprof.advise.hooks import CLOSE, OPEN, POST, PRE

SAMPLES, EXECUTIONS = 9, 200
"""For the time of the hooks themselves."""


class Clocks:
    """Own seconds (without the expressions inside) and executions by site; `take` reads and clears them.

    clock: seconds, monotonic. An expression that ends in an exception is left out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._own: dict[int, list[Any]] = {}  # [seconds, times]
        self._open: list[list[Any]] = []  # [site, start, seconds inside]
        pre, post = self._hooks(clock)
        self.hooks: dict[str, Any] = {PRE: pre, POST: post, OPEN: pre, CLOSE: lambda site: post(site, None)}

    def _hooks(self, clock: Callable[[], float]) -> tuple[Callable[[int], int], Callable[[int, Any], Any]]:
        """As closures: they run around every expression, and attribute look-ups add up."""
        own, opened = self._own, self._open

        def pre(site: int) -> int:
            opened.append([site, clock(), 0.0])
            return site

        def post(site: int, value: Any) -> Any:
            now = clock()
            passed_on = 0.0  # of expressions that an exception has ended
            while opened:
                number, start, inside = opened.pop()
                inside += passed_on
                passed_on = inside
                if number == site:
                    elapsed = now - start
                    if opened:
                        opened[-1][2] += elapsed
                    cell = own.get(site)
                    if cell is None:
                        own[site] = [elapsed - inside, 1]
                    else:
                        cell[0] += elapsed - inside
                        cell[1] += 1
                    break
            return value

        return pre, post

    def take(self) -> dict[int, tuple[float, int]]:
        """Own seconds and executions by site since the last take."""
        taken = {site: (seconds, times) for site, (seconds, times) in self._own.items()}
        self._own.clear()
        self._open.clear()
        return taken


@cache
def seconds_of_clock() -> float:
    """What the hooks take around one expression here, the median of a few."""
    clocks = Clocks(time.perf_counter)
    pre, post = clocks.hooks[PRE], clocks.hooks[POST]
    found = []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        for _ in range(EXECUTIONS):
            post(pre(0), None)
        found.append((time.perf_counter() - start) / EXECUTIONS)
    return median(found)
