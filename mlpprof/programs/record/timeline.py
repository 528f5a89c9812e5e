"""When the steps of a program, and the statements around them, began: a log that `program_time` reads afterwards."""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import CodeType
from typing import Any, NamedTuple

from mlpprof.programs.record import hooks
from mlpprof.programs.record.recorder import length_of

MOST_ENTRIES = 300_000
"""No more entries are kept; an entry takes 16 bytes."""

TRIALS = 64
"""The time of an entry is the least of so many."""

(BEGUN, TURN, LOOP_END, FUNCTION, FUNCTION_END, STEP, STEP_END, PAUSE, FORM, RECORDED, SPARED, FILE, FILE_END) = range(
    13
)
"""Kinds of entries. BEGUN: a statement begins, or a loop gets its next item. FILE: one begins to run, which another one
imports. PAUSE: an instrument is busy until the
entry that follows. FORM: from now on the program's functions have the form of the entry's number. RECORDED: the
statement that has just begun is recorded. SPARED: of its time, so many microseconds were those of the recorder."""

KINDS = 16


class Entry(NamedTuple):
    """What happened at a time in seconds. number: of a statement's site, of a form, or 0."""

    at_s: float
    kind: int
    number: int


class Wait(NamedTuple):
    """What a program has still to show: turns of loops to their ends, executions of statements; about how long that is.

    loops, statements: sites.
    """

    loops: frozenset[int] = frozenset()
    statements: frozenset[int] = frozenset()
    seconds: float = 0.0


NOTHING = Wait()


class Timeline:
    """The log of one thread, the one that makes it. clock: seconds, monotonic.

    most: entries that are kept. lengths: site of a loop -> the length of what it runs over, -1 if unknown.
    """

    def __init__(self, clock: Callable[[], float], most: int = MOST_ENTRIES) -> None:
        self._clock, self.thread, self._most = clock, threading.get_ident(), most
        self._at_s, self._codes = array("d"), array("q")
        self._in_step = 0
        self._is_over = False
        self.awaited = NOTHING
        self.lengths: dict[int, int] = {}
        self.in_turns: set[int] = set()
        """Statements in the turns around the step: they are noted only in turns without instruments."""
        self.inside: set[CodeType] = set()
        """The code of functions that ran within a step: nothing in them is to be reported."""
        self.reached: Callable[[], None] = lambda: None
        """Is called when an awaited loop has ended or begins another turn, or an awaited statement was recorded."""
        self.entry_s = 0.0
        """The seconds that an entry takes: they are in the time until the next one."""
        self.is_elsewhere = False
        """The step runs in another thread, of which nothing else is known."""
        self.hooks: dict[str, Any] = {
            hooks.AT: self._noting(BEGUN),
            hooks.TURNED: self._turned,
            hooks.ENDED: self._ended,
            hooks.ENTERED: self._entered,
            hooks.LEFT: self._leaving(FUNCTION_END),
            hooks.OPENED: lambda: self._note(FILE, 0),
            hooks.CLOSED: self._leaving(FILE_END),
            hooks.SPANS: self._spans,
        }

    @property
    def is_full(self) -> bool:
        """Whether entries were left out."""
        return len(self._codes) >= self._most

    def entries(self) -> Iterator[Entry]:
        """All entries in their order."""
        for at_s, code in zip(self._at_s, self._codes, strict=True):
            yield Entry(at_s, code % KINDS, code // KINDS)

    def _noting(self, kind: int) -> Callable[[int], None]:
        """A hook that notes an entry; it runs around every step."""
        clock, thread, of_thread = self._clock, self.thread, threading.get_ident
        append_time, append_code = self._at_s.append, self._codes.append

        def note(number: int) -> None:
            if not self._in_step and of_thread() == thread and len(self._codes) < self._most and not self._is_over:
                append_code(number * KINDS + kind)
                append_time(clock())

        return note

    def _note(self, kind: int, number: int) -> None:
        if not (self._in_step or self.is_full or self._is_over) and threading.get_ident() == self.thread:
            self._codes.append(number * KINDS + kind)
            self._at_s.append(self._clock())

    def _turned(self, number: int) -> None:
        self._note(TURN, number)
        self._end_if_awaited(number)

    def _ended(self, number: int) -> None:
        self._note(LOOP_END, number)
        self._end_if_awaited(number)

    def _end_if_awaited(self, number: int) -> None:
        if number in self.awaited.loops and threading.get_ident() == self.thread:
            self.shown()

    def _entered(self) -> None:
        if self._in_step and threading.get_ident() == self.thread:
            self.inside.add(sys._getframe(1).f_code)
        self._note(FUNCTION, 0)

    def _leaving(self, entry: int) -> Callable[[], None]:
        """A hook that notes that a function or a file has ended."""

        def left() -> None:
            kind = sys.exc_info()[0]
            if kind is not None and not issubclass(kind, Exception):
                self.end()  # the program is ended: what its functions and files do now is no part of its course
            self._note(entry, 0)

        return left

    def _spans(self, number: int, iterable: Any) -> Any:
        if not self._in_step:
            self.lengths[number] = length_of(iterable)
        return iterable

    def shown(self) -> None:
        """What was awaited has been seen."""
        self._note(PAUSE, 0)
        self.reached()
        self._note(FORM, 0)

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the log, outside a step."""
        return not self._in_step and not self._is_over and threading.get_ident() == self.thread

    @property
    def now(self) -> int:
        """The number of the last entry."""
        return len(self._codes) - 1

    def lasted_s(self, number: int) -> float:
        """Seconds from an entry to the next one."""
        return self._at_s[number + 1] - self._at_s[number] if number < self.now else 0.0

    def _least_between_entries(self) -> float:
        other = Timeline(self._clock, TRIALS)
        for _ in range(TRIALS):
            other.hooks[hooks.AT](0)
        return min(after - before for before, after in pairwise(other._at_s))

    def begin(self) -> None:
        """The program begins."""
        self.entry_s = self._least_between_entries()
        self._note(FORM, 0)

    def begin_step(self) -> None:
        """A step begins, or one within it."""
        self.is_elsewhere |= threading.get_ident() != self.thread
        self._note(STEP, 0)
        self._in_step += 1

    def end_step(self) -> None:
        """It ends."""
        self._in_step -= 1
        self._note(STEP_END, 0)

    def pause(self) -> None:
        """An instrument is busy, until `go_on` or the next entry."""
        self._note(PAUSE, 0)

    def go_on(self, form: int) -> None:
        """The program goes on, with functions of a form."""
        self._note(FORM, form)

    def recorded(self) -> None:
        """The statement that has begun is recorded."""
        self._note(RECORDED, 0)

    def spare(self, seconds: float) -> None:
        """So many seconds of the time of the recorded statement are not its own."""
        self._note(SPARED, round(1e6 * seconds))

    def end(self) -> None:
        """The program has ended, or was ended."""
        self._in_step = 0
        self._note(PAUSE, 0)
        self._is_over = True
