"""Seconds by expression: what the hooks of the clocked form do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from mlpprof.advise.hooks import CLOSE, OPEN, POST, PRE
from mlpprof.advise.trace import OwnTime

SAMPLES, EXECUTIONS = 50, 100
"""For the time of the hooks themselves."""


@dataclass(frozen=True)
class HookTime:
    """Seconds that the hooks take around one expression: between the two looks at the clock, and before and after."""

    inside_s: float
    outside_s: float


class Clocks:
    """What expressions take, without those inside, by site; `take` reads and clears it.

    clock: seconds, monotonic. An expression that ends in an exception is left out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._own: dict[int, list[Any]] = {}  # as OwnTime
        self._open: list[list[Any]] = []  # [site, start, seconds inside, expressions inside]
        pre, post = self._hooks(clock)
        self.hooks: dict[str, Any] = {PRE: pre, POST: post, OPEN: pre, CLOSE: lambda site: post(site, None)}

    def _hooks(self, clock: Callable[[], float]) -> tuple[Callable[[int], int], Callable[[int, Any], Any]]:
        """As closures: they run around every expression, and attribute look-ups add up."""
        own, opened = self._own, self._open

        def pre(site: int) -> int:
            opened.append([site, clock(), 0.0, 0])
            return site

        def post(site: int, value: Any) -> Any:
            now = clock()
            passed_on, passed = 0.0, 0  # of expressions that an exception has ended
            while opened:
                number, start, inside, inner = opened.pop()
                inside += passed_on
                inner += passed
                passed_on, passed = inside, inner
                if number == site:
                    elapsed = now - start
                    if opened:
                        around = opened[-1]
                        around[2] += elapsed
                        around[3] += 1
                    cell = own.get(site)
                    if cell is None:
                        own[site] = [elapsed - inside, 1, inner]
                    else:
                        cell[0] += elapsed - inside
                        cell[1] += 1
                        cell[2] += inner
                    break
            return value

        return pre, post

    @property
    def executions(self) -> int:
        """Of all expressions since the last take."""
        return sum(cell[1] for cell in self._own.values())

    def take(self) -> dict[int, OwnTime]:
        """By site, since the last take."""
        taken = {site: OwnTime(*cell) for site, cell in self._own.items()}
        self._own.clear()
        self._open.clear()
        return taken


@cache
def hook_time() -> HookTime:
    """What the hooks take here, the least of many samples: a machine that is busy makes it seem more, never less."""
    clocks = Clocks(time.perf_counter)
    pre, post = clocks.hooks[PRE], clocks.hooks[POST]
    inside, whole = [], []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        for _ in range(EXECUTIONS):
            post(pre(0), None)
        whole.append((time.perf_counter() - start) / EXECUTIONS)
        inside.append(clocks.take()[0].seconds / EXECUTIONS)
    return HookTime(min(inside), max(0.0, min(whole) - min(inside)))
