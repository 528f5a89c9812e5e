"""The time in which the training loop gets its next item, such as a batch from a generator.

A generator runs between two steps and not in one, but its work is a part of what every step costs. Therefore the time
is added to that of the step that gets the item, and shown apart from it. The condition of a `while` loop may get an
item, too, as in ``while (batch := batches.get()) is not None``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from mlpprof.instrument.rewriting import Site, call
from mlpprof.programs.record.hooks import FED, TESTED

READY = (range, list, tuple)
"""These hold or count their items, so that getting one takes no time."""


class Fed(NamedTuple):
    """What it took to get an item. site: that of what the loop runs over; -1 if no loop has got an item."""

    seconds: float = 0.0
    site: int = -1


class Feed:
    """Takes the times. is_in_step: whether a step runs; the loops inside it do not feed it. before: called when a loop
    between two steps is about to begin.
    """

    def __init__(
        self, clock: Callable[[], float], is_in_step: Callable[[], bool], before: Callable[[], None] = lambda: None
    ) -> None:
        self.clock = clock
        self._is_in_step, self._before = is_in_step, before
        self.last = Fed()
        """What the item took that no step has got yet."""
        self.is_feeding = False
        """Whether a loop gets an item now."""
        self.hooks: dict[str, Any] = {FED: self._begin, TESTED: self._test}

    def _begin(self, site: int) -> Callable[[Any], Any]:
        """A loop is about to begin. The result is called with what it runs over."""
        if self._is_in_step():
            return itself
        self._before()
        return lambda iterable: iterable if type(iterable) in READY else _Timed(self, site, iterable)

    def _test(self, site: int) -> Callable[[Any], Any]:
        """The condition of a loop is about to be evaluated. The result is called with its value."""
        if self._is_in_step():
            return itself
        begun_s = self.clock()

        def note(value: Any) -> Any:
            self.last = Fed(self.clock() - begun_s, site)
            return value

        return note

    def taken(self) -> Fed:
        """What it took to get the item of the step that begins."""
        last, self.last = self.last, Fed()
        return last


def itself(value: Any) -> Any:
    """The value, of which nothing is noted."""
    return value


class _Timed:
    """An iterator that notes how long each item takes. It keeps no item, as a generator would."""

    def __init__(self, feed: Feed, site: int, iterable: Iterable[Any]) -> None:
        self._feed, self._site, self._items = feed, site, iter(iterable)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        feed = self._feed
        begun_s = feed.clock()
        feed.is_feeding = True
        try:
            item = next(self._items)
        finally:
            feed.is_feeding = False
        feed.last = Fed(feed.clock() - begun_s, self._site)
        return item


def add_feed(loop: ast.For | ast.While, sites: list[Site], path: str) -> None:
    """Let a loop call a hook: ``for x in fed(site)(iterable)``, or ``while tested(site)(condition)``."""
    items = loop.iter if isinstance(loop, ast.For) else loop.test
    if isinstance(loop, ast.While) and not any(isinstance(part, ast.Call) for part in ast.walk(items)):
        return  # a comparison gets no item
    sites.append(Site.of(path, items))
    hook = ast.Call(call(FED if isinstance(loop, ast.For) else TESTED, ast.Constant(len(sites) - 1)), [items], [])
    for part in ast.walk(hook):  # an exception of `iter` has the place of what the loop runs over
        if not hasattr(part, "lineno"):
            ast.copy_location(part, items)
    if isinstance(loop, ast.For):
        loop.iter = hook
    else:
        loop.test = hook
