"""The loops that run while a step is recorded: which turn each is in, and whether it is still observed.

Of a long loop the first turns are observed; the rest runs as it was written.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any, TypeVar

from mlpprof.advise.trace import LoopRun, Turn

Item = TypeVar("Item")

FIRST_TURNS, FEW_TURNS = 4, 12
"""Observed of a loop that is known to have more than `FEW_TURNS`; of one of unknown length the latter."""

DEEPEST, HALF = 40, 20
"""Loops or calls within each other that are told of an event; of deeper ones the outer and the inner half."""


class Turns:
    """Keeps the executions of loops. begun: makes the record of one that begins, or None if nothing is recorded."""

    def __init__(self, begun: Callable[[int, int, tuple[Turn, ...]], LoopRun | None]) -> None:
        self._begun = begun
        self.running: list[LoopRun] = []
        self.finished_at: Callable[[], int] = lambda: 0
        self._executions: dict[int, int] = {}
        self._muted = 0
        self._key: tuple[int, int, int, int] | None = None
        self._held: tuple[Turn, ...] = ()
        self.singles: dict[int, int] = {}

    @property
    def is_muted(self) -> bool:
        """Whether a loop is past the turns that are observed."""
        return self._muted > 0

    def clear(self) -> None:
        """The step has ended."""
        self.running.clear()
        self._muted = 0
        self.singles = {}

    def begin(self, site: int, length: int = -1) -> None:
        """A loop begins; length as in `LoopRun`."""
        execution = self._executions.get(site, 0)
        run = self._begun(site, execution, self.now())
        if run is not None:
            self._executions[site] = execution + 1
            run.length = length
            self.running.append(run)

    def over(self, site: int, iterable: Any) -> None:
        """What the loop that has begun runs over."""
        if self.running and self.running[-1].site == site:
            self.running[-1].length = _length(iterable)

    def turn(self, site: int, is_recording: bool) -> bool:
        """A turn begins; whether it is observed."""
        if not self.running:
            return False
        run = self.running[-1]
        if run.site != site:
            return is_recording
        run.turns += 1
        most = FIRST_TURNS if run.length > FEW_TURNS else FEW_TURNS
        if run.turns == most + 1:
            self._muted += 1
        if self._muted:
            return False
        run.recorded += 1
        run.signatures.append(0)
        return True

    def leave(self, site: int) -> None:
        """A loop has ended, and with it those within that an exception has ended."""
        if not self.running or (self.running[-1].site != site and all(run.site != site for run in self.running)):
            return  # it has begun unseen, as one of a generator that goes on in another place
        while self.running:
            run = self.running.pop()
            run.end = self.finished_at()
            if run.is_cut and self._muted:
                self._muted -= 1
            if run.site == site:
                break

    def each(self, site: int, iterable: Iterable[Any]) -> Iterator[Any]:
        """The turns of a comprehension; what it runs over is asked for them at once, and is not closed with it."""
        return self._told(site, _length(iterable), iter(iterable))

    def _told(self, site: int, length: int, turns: Iterator[Any]) -> Iterator[Any]:
        self.begin(site, length)
        try:
            for turn in turns:  # noqa: UP028 - `yield from` would close a generator of the program's own
                yield turn
        finally:
            self.leave(site)

    def joined(self, before: dict[int, int]) -> dict[int, int]:
        """What `singles` has counted since it was set to an empty one in the place of `before`, which goes on."""
        since, self.singles = self.singles, before
        for site, times in since.items():
            before[site] = before.get(site, 0) + times
        return since

    def count_single(self, site: int, result: Any) -> None:
        """An execution without arrays; of an operation on single numbers also in the innermost loop."""
        self.singles[site] = self.singles.get(site, 0) + 1
        if isinstance(result, float) and self.running:  # np.float64 is one
            run = self.running[-1]
            run.scalars += 1
            if run.signatures:
                run.signatures[-1] = hash((run.signatures[-1], site))

    def now(self) -> tuple[Turn, ...]:
        """The turns that run, the outermost first."""
        if not self.running:
            return ()
        last = self.running[-1]
        key = (len(self.running), last.site, last.execution, last.turns)
        if key != self._key:  # deep recursion makes it long, and most events are in the same turn
            self._key = key
            self._held = outer_and_inner((*last.loops, Turn(last.site, last.execution, last.turns - 1)))
        return self._held


def outer_and_inner(nested: tuple[Item, ...]) -> tuple[Item, ...]:
    """What is told of loops or calls within each other: all, or of a deep recursion both ends."""
    return nested if len(nested) <= DEEPEST else nested[:HALF] + nested[-HALF:]


def _length(iterable: Any) -> int:
    """How many turns it has; -1 if it does not tell, or if the program's own code would have to be asked."""
    kind = type(iterable)
    if any(isinstance(getattr(kind, name, None), FunctionType) for name in ("__len__", "__length_hint__")):
        return -1
    return operator.length_hint(iterable, -1)
