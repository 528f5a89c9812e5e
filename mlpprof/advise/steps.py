"""What happens at each step of the program: undisturbed, under clocks, observed; and when there is enough.

Undisturbed steps and steps under clocks alternate in blocks, so that the disturbance is a ratio of neighbours. The two
observed steps come last: the second tells what becomes of the first one's results.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from types import FrameType

try:
    import resource
except ImportError:  # Windows counts no faults here
    resource = None  # type: ignore[assignment]  # the name stays, and None says so

from mlpprof.advise.clocks import Clocks
from mlpprof.advise.forms import CLOCKED, OBSERVED, PLAIN
from mlpprof.advise.hooks import BEGIN, END, MODE
from mlpprof.advise.recorder import Recorder
from mlpprof.advise.switch import Switch
from mlpprof.advise.trace import OwnTime, Times

WARM_UP_S, MEASURING_S, LONGEST_S = 0.1, 1.5, 4.0
LONG_STEP_S, LONG_CLOCKED_S = 4.0, 8.0
"""Of a step that is longer one is put under clocks and one observed; clocks that take longer beside it are ended."""

BLOCK_S = 0.03
MOST_BLOCKS = 20
OBSERVED_STEPS = 2

LAST_STEPS = 3
"""Not observed if there are enough others: programs often do something of their own in the last step."""

LEFT_OUT = 0.3
"""Of the steps of an earlier run: a program may end sooner when it runs again, where chance has a say."""

STEP, TURN, IGNORED = "step", "turn of the loop around it", "within"


class Enough(BaseException):
    """The step has been recorded: the program may end. Not an Exception, which programs catch."""


class Steps:
    """Decides for every step in which form it runs, and takes its time.

    few: the program has only so many steps, as an earlier run of it showed; 0 if that is not known.
    """

    def __init__(
        self, switch: Switch, clocks: Clocks, recorder: Recorder, clock: Callable[[], float], few: int = 0
    ) -> None:
        self._switch, self._clocks, self._recorder, self._clock = switch, clocks, recorder, clock
        self.count = 0
        self._wanted = min(few, OBSERVED_STEPS) if few else OBSERVED_STEPS
        self._modes: Iterator[int] = self._plan(few)
        self._open: list[str] = []
        self._has_turns = True
        self._runs = 0
        self._mode = PLAIN
        self._form = PLAIN
        self._start = 0.0
        self._elapsed = 0.0
        self._faults = 0
        self._inside: dict[int, OwnTime] = {}
        self._early: dict[int, OwnTime] = {}
        self._around: list[dict[int, OwnTime]] = []
        self.times = Times()
        self.is_done = False
        self.is_long = False
        self._has_told = False
        self.hooks = {BEGIN: self._begin, MODE: lambda: self._mode, END: self._end}

    def _plan(self, few: int) -> Iterator[int]:
        """The form of each step; `_elapsed` is what the step before took."""

        def left() -> int:
            """Steps that can still be timed."""
            return (few or sys.maxsize) - OBSERVED_STEPS - spare - self.count

        spare = max(LAST_STEPS, int(LEFT_OUT * few)) if few > 6 * LAST_STEPS else 0

        most = max(1, left() // 6)  # of a block
        begun, warm = self._clock(), 0
        while left() > 0 and (warm < 1 or (self._clock() - begun < WARM_UP_S and warm < min(MOST_BLOCKS, most))):
            yield PLAIN
            warm += 1
        if self._elapsed > LONG_STEP_S:
            self.is_long = True
            self._wanted = 1
        begun = self._clock()
        for block in range(MOST_BLOCKS):
            for mode in (CLOCKED, PLAIN):
                spent, steps = 0.0, 0
                while left() > 0 and spent < BLOCK_S and steps < most and not (self.is_long and mode == PLAIN):
                    yield mode
                    steps += 1
                    spent += max(self._elapsed, 1e-9)
            passed = self._clock() - begun
            with_next = passed * (block + 2) / (block + 1)
            if left() <= 0 or self.is_long or with_next > LONGEST_S or (block >= 4 and passed > MEASURING_S):
                break
        for _ in range(self._wanted):
            yield OBSERVED

    def _begin(self, is_turn: bool) -> None:
        """The step begins, or a turn of the loop around it."""
        if is_turn and not self._has_turns:
            return
        if self.is_done or (is_turn and self._open):
            self._open.append(IGNORED)
            return
        if not self._open:
            self._start_form()
        is_step = not is_turn and STEP not in self._open
        self._open.append(TURN if is_turn else STEP if is_step else IGNORED)
        if is_step:
            self._runs += 1
            self.count += 1
            self._recorder.is_inside = True
            self._around.append(self._clocks.take())
            self._faults = page_faults()
            self._start = self._clock()

    def _start_form(self) -> None:
        """Put the program into the form that is next."""
        self._mode = next(self._modes, PLAIN)  # which asks what the step before took
        self._runs, self._elapsed = 0, 0.0
        self._around.clear()
        if self._mode != self._form:
            self._switch.to(self._mode)
            self._form = self._mode
            gc.collect()
        if self._mode == OBSERVED:
            self._recorder.start(keeps=len(self._recorder.steps) == self._wanted - 1)
        self._clocks.take()

    def _end(self, is_turn: bool) -> None:
        now = self._clock()
        if is_turn and not self._has_turns:
            return
        kind = self._open.pop()
        if kind == STEP:
            self._recorder.is_inside = False
            self._inside = self._clocks.take()
            self._elapsed += now - self._start
            if self._mode == PLAIN:
                self.times.faults.append(page_faults() - self._faults)
        if self._open:
            return
        if kind != IGNORED:
            self._finish()
        if self.is_done and sys.exc_info()[0] is None:
            if self._has_told:
                _insist()
            self._has_told = True
            raise Enough

    @property
    def first_s(self) -> float:
        """For how long the first step has been running; 0 if it has not begun, or has ended."""
        is_first = STEP in self._open and not self.times.plain_s and self._mode == PLAIN
        return self._clock() - self._start if is_first else 0.0

    def relieve(self) -> None:
        """End the clocks of a step that they make too long: what it calls from now on runs as it was written.

        May be called from another thread. What the clocks have told so far stands for the whole.
        """
        is_clocked = self._mode == self._form == CLOCKED and STEP in self._open
        if is_clocked and self._clock() - self._start > max(LONG_CLOCKED_S, 2 * max(self.times.plain_s, default=0.0)):
            with contextlib.suppress(RuntimeError):  # the step has a new site at this very moment; there is a next time
                self._early = self._clocks.take()
                self.is_long = True
                self._switch.to(PLAIN)
                self._form = PLAIN

    def _finish(self) -> None:
        """The step has ended, and the turn around it; keep what was measured."""
        if self._runs != 1:
            # the turn made no step, or several: of the latter loops each is looked at by itself
            self._has_turns = self._has_turns and self._runs == 0
            self._modes = chain([self._mode], self._modes)
            if self._mode == OBSERVED:
                self._recorder.discard()
            return
        if self._mode == PLAIN:
            self.times.plain_s.append(self._elapsed)
        elif self._mode == CLOCKED:
            told_s = sum(own.seconds for own in self._early.values())
            self.times.clocked_s.append(told_s or self._elapsed)
            self.times.sites.append(self._early or self._inside)
            self.times.around.append(merged([*self._around, self._clocks.take()]))
        elif self._mode == OBSERVED:
            gc.collect()  # what only a cycle held, as in an autograd tape, is as good as freed
            self._recorder.stop()
            self.is_done = len(self._recorder.steps) == self._wanted


def _insist() -> None:
    """Have `Enough` raised again by whatever line of the calling frames catches it, once.

    For programs with a bare `except:` around their step, which would go on for as long as their training takes.
    """

    def again(frame: FrameType, event: str, arg: object) -> None:
        if event == "line":
            sys.settrace(None)
            raise Enough

    frame: FrameType | None = sys._getframe(3)  # the step's caller: not this one, not the hook, not the step
    while frame is not None and "mlpprof" not in frame.f_globals.get("__name__", ""):
        frame.f_trace = again
        frame = frame.f_back
    sys.settrace(lambda frame, event, arg: None)


def merged(parts: list[dict[int, OwnTime]]) -> dict[int, OwnTime]:
    """By site, of several takes of the clocks."""
    found: dict[int, OwnTime] = {}
    for part in parts:
        for site, own in part.items():
            found[site] = found[site] + own if site in found else own
    return found


def page_faults() -> int:
    """Pages that this process has been given so far; 0 where the system does not tell."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_minflt
