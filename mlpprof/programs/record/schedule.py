"""Which form each step of the program takes (undisturbed, under clocks, observed), and when enough is recorded.

Undisturbed steps and steps under clocks alternate in blocks, so that the disturbance is a ratio of neighbours. The two
observed steps come last: the second shows what becomes of the first one's results.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import chain
from types import FrameType

try:
    import resource
except ImportError:  # Windows counts no faults here
    resource = None  # type: ignore[assignment]  # the name stays, and None says so

from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks, hook_time
from mlpprof.programs.record.feed import Fed, Feed
from mlpprof.programs.record.forms import CLOCKED, OBSERVED, PLAIN, CodeExchange
from mlpprof.programs.record.heap import given_back_from
from mlpprof.programs.record.hooks import BEGIN, ELEMENT, END, MODE
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.timeline import NOTHING, Timeline, Wait
from mlpprof.programs.record.trace import OwnTime, Part, Times

WARM_UP_S, MEASURING_S, LONGEST_S = 0.1, 1.5, 4.0
"""Steps run undisturbed for `WARM_UP_S` seconds; then they are timed for `MEASURING_S`, and never for longer than
`LONGEST_S` seconds."""

LONG_STEP_S = 4.0
"""If a step is longer, only one runs under clocks and one is observed."""

SHORT_STEP_S, LONG_CLOCKED_S, PART_S = 1.0, 8.0, 0.25
"""A step that clocks make long is timed in parts of `PART_S` seconds: after `LONG_CLOCKED_S` seconds, or at once if it
takes more than `SHORT_STEP_S` without clocks."""

HEAVY = 0.3
"""If the clocks take more than this share of a step, the step counts as slowed down by them."""

PAUSES = 8
"""There are about so many pauses between the parts of a step."""

BLOCK_S, MOST_BLOCKS = 0.03, 20
"""Steps of one form run for `BLOCK_S` seconds before the other form's turn; there are no more blocks of each form."""

OBSERVED_STEPS = 2
"""So many steps are observed if the program makes enough of them."""

LAST_STEPS = 3
"""The last steps are not observed if there are enough others, because programs often do something special in them."""

FIRST_STEPS = 3
"""After the first two steps have been observed, so many are timed in each form."""

LEFT_OUT = 0.3
"""This share of the steps of an earlier run is not counted on: if chance is involved, a program may end sooner."""

STEP, TURN, IGNORED, LATER = "step", "turn of the loop around it", "within", "after the recording"

OWN_MODULES = (__name__, Timeline.__module__)
"""The modules of the hooks that end a program."""

LONGEST_WAIT_S = 4.0
"""After the recording the program goes on for up to so many seconds, if this is enough to see the rest of an epoch, or
if it is not known how long that takes."""


class Enough(BaseException):
    """The step has been recorded: the program may end. Not an Exception, which programs catch."""


def end_threads_quietly() -> None:
    """From now on a thread that `Enough` ends prints nothing, like one that `SystemExit` ends."""
    shown = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not (isinstance(arguments.exc_type, type) and issubclass(arguments.exc_type, Enough)):
            shown(arguments)

    threading.excepthook = hook


class Steps:
    """Decides for every step in which form it runs, and takes its time.

    few: the number of steps that the program makes, if an earlier run has counted them, else 0. early: records two of
    the first steps, because the program may end before `recorder` has recorded any. forms: the form of each step, in
    place of the usual plan; recording then goes on until the program ends. timeline: is informed of all steps.
    """

    def __init__(
        self,
        exchange: CodeExchange,
        clocks: Clocks,
        recorder: Recorder,
        clock: Callable[[], float],
        few: int = 0,
        early: Recorder | None = None,
        forms: Iterator[int] | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        self._exchange, self._clocks, self._recorder, self._clock = exchange, clocks, recorder, clock
        self._last, self._early = recorder, early
        self._timeline = timeline or Timeline(clock, 0)
        self.unfinished: Callable[[], Wait] = lambda: NOTHING
        """What is still to be seen around the steps; after the recording, the program goes on for that."""
        self._timeline.reached = self._reached
        self._until_s: float | None = None
        self.count = 0
        self._wanted = min(few, OBSERVED_STEPS) if few else OBSERVED_STEPS
        if forms is not None:
            self._wanted = sys.maxsize
        self._modes: Iterator[int] = self._plan(few) if forms is None else forms
        self._open: list[str] = []
        self._has_turns = True
        self._runs = 0
        self._mode = PLAIN
        self._form = PLAIN
        self._start = 0.0
        self._left_at = clock()
        self._elapsed = 0.0
        self._faults = 0
        self._inside: dict[int, OwnTime] = {}
        self._parts: list[Part] = []
        self._since = 0.0
        self._ended_s: float | None = None
        self._changing = threading.Lock()
        self._around: list[dict[int, OwnTime]] = []
        self._block = -1
        self.times = Times()
        self.first_begun_s: float | None = None
        """When the first step began, by the clock."""
        self.thread = 0
        """The thread that the steps run in."""
        self.is_done = False
        self.is_done_elsewhere = False
        """Recording ended in another thread than the main one, which need not go on then."""
        self.is_long = False
        self._has_raised = False
        self._is_timed_last = False
        self._feed, self._fed = Feed(clock, lambda: bool(self._open), self._begin_loop), Fed()
        own = {BEGIN: self._begin, MODE: lambda: self._mode, END: self._end, ELEMENT: self._element}
        self.hooks = {**own, **self._feed.hooks}

    def _plan(self, few: int) -> Iterator[int]:
        """The form of each step. `_elapsed` is the time of the step before."""

        def left() -> int:
            """Steps that can still be timed."""
            return (few or sys.maxsize) - OBSERVED_STEPS - spare - self.count

        spare = max(LAST_STEPS, int(LEFT_OUT * few)) if few > 6 * LAST_STEPS else 0

        if self._early is not None and (yield from self._beginning()):
            return
        most = max(1, left() // 6)  # of a block
        begun, warm = self._clock(), int(few == OBSERVED_STEPS + 1)  # of three steps one is left: under clocks
        while left() > 0 and (warm < 1 or (self._clock() - begun < WARM_UP_S and warm < min(MOST_BLOCKS, most))):
            yield PLAIN
            warm += 1
        if self._elapsed > LONG_STEP_S:
            self.is_long = True
            self._wanted = 1
        begun = self._clock()
        for block in range(MOST_BLOCKS):
            self._block = block + 1
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

    def _beginning(self) -> Generator[int, None, bool]:
        """The first steps: a program of few steps is recorded in the run that shows how few they are.

        Returns whether these are all steps that are needed.
        """
        yield PLAIN
        if self._elapsed > SHORT_STEP_S:
            yield from self._long_steps()
            return True
        yield CLOCKED
        yield PLAIN
        assert self._early is not None
        self._record_with(self._early)
        for _ in range(OBSERVED_STEPS):
            yield OBSERVED
        self._record_with(self._last)
        self._block = 0
        for mode in (CLOCKED, PLAIN):
            for _ in range(FIRST_STEPS):
                yield mode
        self._block = -1
        return False

    def _long_steps(self) -> Iterator[int]:
        """Steps that take seconds are recorded at once after the first one. The last one is timed again."""
        self.is_long = self._elapsed > LONG_STEP_S
        self._wanted = 1 if self.is_long else OBSERVED_STEPS
        self._is_timed_last = not self.is_long
        self._block = 0
        yield CLOCKED
        for _ in range(self._wanted):
            yield OBSERVED
        if self._is_timed_last:
            yield PLAIN

    def _record_with(self, recorder: Recorder) -> None:
        self._recorder = recorder
        hooks.install(recorder.hooks)

    @property
    def recorded(self) -> Recorder:
        """The recorder that is complete; if there is none, the one for the last steps."""
        has_early = self._early is not None and len(self._early.steps) == OBSERVED_STEPS
        return self._early if self._early is not None and has_early and not self.is_done else self._last

    @property
    def is_enough(self) -> bool:
        """Whether steps have been recorded, so that the program may end."""
        return self.is_done or self.recorded is not self._last or len(self._last.steps) == self._wanted

    def _begin(self, is_turn: bool) -> None:
        """The step begins, or a turn of the loop around it."""
        if is_turn and not self._has_turns:
            return
        if self.is_done and not is_turn:
            self._open.append(LATER)
            self._timeline.begin_step()
            return
        if self.is_done or (is_turn and self._open):
            self._open.append(IGNORED)
            return
        self._timeline.pause()
        if not self._open:
            self._take_time_between()
            self._start_form()
        is_step = not is_turn and STEP not in self._open
        self._open.append(TURN if is_turn else STEP if is_step else IGNORED)
        if is_step:
            self._runs += 1
            self.count += 1
            fed = self._feed.taken()
            self._fed = fed if self.count > 1 else Fed()  # the first item may load all data
            self._recorder.is_inside = True
            self._around.append(self._clocks.take())
            self._faults = page_faults()
            self._start = self._since = self._clock()
            if self.first_begun_s is None:
                self.first_begun_s, self.thread = self._start, threading.get_ident()
            self._timeline.begin_step()
        else:
            self._timeline.go_on(self._form)

    def _element(self, evaluate: Callable[[], object]) -> object:
        """An element of a comprehension is a turn of a loop around the step."""
        self._begin(True)
        try:
            return evaluate()
        finally:
            self._end(True)

    def _take_time_between(self) -> None:
        if self._ended_s is not None and self._mode == PLAIN and self.times.plain_s:
            self.times.between_s.append(self._clock() - self._ended_s - self._feed.last.seconds)

    def _begin_loop(self) -> None:
        """A loop around the step is about to begin: a generator that it runs over keeps the form that it begins in."""
        if self._form != PLAIN and not self.is_done:
            self._timeline.pause()
            with self._changing:
                self._exchange.to(PLAIN)
                self._form = PLAIN
            self._timeline.go_on(PLAIN)

    def _start_form(self) -> None:
        """Put the program into the next form."""
        before, self._mode = self._mode, next(self._modes, PLAIN)  # the plan uses the time of the step before
        self._runs, self._elapsed = 0, 0.0
        self._around.clear()
        self._parts.clear()
        if self._mode != self._form:
            with self._changing:
                self._exchange.to(self._mode)
                self._form = self._mode
            if self._mode != before:
                gc.collect()
        if self._mode == OBSERVED:
            if not self._recorder.steps:
                self.times.given_back_from = given_back_from()
            self._recorder.start(keeps=len(self._recorder.steps) == self._wanted - 1)
        self._clocks.take()

    def _end(self, is_turn: bool) -> None:
        now = self._clock()
        if is_turn and not self._has_turns:
            return
        self._left_at = now
        with self._changing:
            kind = self._open.pop()
        if kind in (STEP, LATER):
            self._timeline.end_step()
        else:
            self._timeline.pause()
        self._end_of(kind, now)
        self._timeline.go_on(self._form)

    def _end_of(self, kind: str, now: float) -> None:
        if kind == STEP:
            self._recorder.is_inside = False
            self._inside = self._clocks.take()
            self._elapsed += now - self._start
            if self._parts:
                self._end_part(now, self._inside)
            if self._mode == PLAIN:
                self.times.faults.append(page_faults() - self._faults)
        if self._open:
            return
        if kind in (STEP, TURN):
            self._finish()
        self._ended_s = self._clock()
        if self.is_done and (self._until_s is None or self.is_over) and sys.exc_info()[0] is None:
            self._reached()

    def _reached(self) -> None:
        """The program may end, unless there is more to see soon."""
        if self._until_s is not None and not self.is_over:
            self._go_on()
            if self._timeline.awaited != NOTHING:
                return
        if self._has_raised:
            _insist()
        self._has_raised = True
        raise Enough

    def lend(self, recorder: Recorder) -> None:
        """Put the program into the observed form for another recorder, until `take_back`."""
        with self._changing:
            self._exchange.to(OBSERVED)
        hooks.install(recorder.hooks)

    def take_back(self) -> int:
        """Put the program back into its form, which is the answer."""
        hooks.install(self._recorder.hooks)
        with self._changing:
            self._exchange.to(self._form)
        return self._form

    def _go_on(self) -> None:
        """If the rest of an epoch can be seen soon, let the program go on until then, without instruments."""
        wait = self._timeline.awaited = NOTHING if self.is_done_elsewhere else self.unfinished()
        if wait == NOTHING or wait.seconds > LONGEST_WAIT_S:
            self._timeline.awaited = NOTHING
        elif self._until_s is None:
            self._until_s = self._clock() + LONGEST_WAIT_S
            self._mode = PLAIN
            with self._changing:
                self._exchange.to(PLAIN)
                self._form = PLAIN

    @property
    def is_over(self) -> bool:
        """Whether the program had its time to go on after the recording."""
        return self._until_s is not None and self._clock() > self._until_s

    @property
    def is_in_step(self) -> bool:
        """Whether a step runs."""
        return STEP in self._open

    @property
    def is_feeding(self) -> bool:
        """Whether a loop around the step gets its next item, which counts as a part of the step."""
        return self._feed.is_feeding

    @property
    def pause_s(self) -> float:
        """Seconds since the last step has ended; 0 while one runs."""
        return 0.0 if self._open else self._clock() - self._left_at

    @property
    def first_s(self) -> float:
        """Seconds that the first step has been running; 0 if it has not begun, or has ended."""
        is_first = STEP in self._open and not self.times.plain_s and self._mode == PLAIN
        return self._clock() - self._start if is_first else 0.0

    def relieve(self) -> None:
        """Time only parts of a step that clocks make too long; between them, called functions run as they were written.

        This is called several times per second, from another thread.
        """
        with self._changing:
            if self._mode != CLOCKED or STEP not in self._open:
                return
            now = self._clock()
            passed_s = now - self._since
            with contextlib.suppress(RuntimeError):  # the step gets a new site at this moment; it is tried again soon
                if passed_s < self._part_s() or not (self._parts or self._is_heavy(passed_s)):
                    return
                self._end_part(now, self._clocks.take())
                self.is_long = True
                self._form = PLAIN if self._form == CLOCKED else CLOCKED
                self._exchange.to(self._form)
                self._clocks.take()
                self._since = self._clock()

    def _part_s(self) -> float:
        """How long the clocks run, or pause."""
        whole_s = max(self.times.plain_s, default=0.0)
        if self._form != CLOCKED:
            return max(PART_S, whole_s / PAUSES)
        return PART_S if self._parts or whole_s > SHORT_STEP_S else LONG_CLOCKED_S

    def _is_heavy(self, passed_s: float) -> bool:
        """Whether the clocks took much of the time."""
        one = hook_time()
        return self._clocks.executions * (one.inside_s + one.outside_s) > HEAVY * passed_s

    def _end_part(self, now: float, own: dict[int, OwnTime]) -> None:
        """Note the own times of a part, or the length of a pause."""
        if self._form == CLOCKED:
            self._parts.append(Part(own, now - self._since))
        else:
            self._parts[-1] = replace(self._parts[-1], plain_s=now - self._since)

    def _finish(self) -> None:
        """The step and the turn around it have ended; keep what was measured."""
        if self._runs != 1:
            # The turn made no step or several. In such a loop, each step is recorded by itself.
            self._has_turns = self._has_turns and self._runs == 0
            self._modes = chain([self._mode], self._modes)
            if self._mode == OBSERVED:
                self._recorder.discard()
            return
        fed = {} if self._fed.site < 0 else {self._fed.site: OwnTime(self._fed.seconds, 1)}
        self.times.feeds.update(fed)
        if self._mode == PLAIN:
            self.times.fed_s.append(self._fed.seconds)
            self.times.plain_s.append(self._elapsed + self._fed.seconds)
            self.times.plain_blocks.append(self._block)
            if self._is_timed_last and len(self._last.steps) == self._wanted:
                self._end_recording()
        elif self._mode == CLOCKED:
            if self._parts:
                self._parts[0] = replace(self._parts[0], own=merged([self._parts[0].own, fed]))
            own_times = merged([part.own for part in self._parts])
            whole_s = sum(own.seconds for own in own_times.values()) if own_times else self._elapsed + self._fed.seconds
            self.times.clocked_s.append(whole_s)
            self.times.sites.append(own_times or merged([self._inside, fed]))
            self.times.clocked_blocks.append(self._block)
            self.times.parts = self._parts.copy()
            self.times.around.append(merged([*self._around, self._clocks.take()]))
        elif self._mode == OBSERVED:
            gc.collect()  # what only a cycle keeps, as in an autograd tape, counts as freed
            self._recorder.stop()
            if self._recorder is self._last and len(self._last.steps) == self._wanted and not self._is_timed_last:
                self._end_recording()

    def _end_recording(self) -> None:
        """All steps that are needed have been recorded."""
        self.is_done = True
        self.is_done_elsewhere = threading.current_thread() is not threading.main_thread()
        self._early = None  # it keeps arrays
        self._go_on()


def _insist() -> None:
    """Have `Enough` raised again by whatever line of the calling frames catches it, once.

    For programs with a bare `except:` around their step, which would go on for as long as their training takes.
    """

    def again(frame: FrameType, event: str, arg: object) -> None:
        if event == "line":
            sys.settrace(None)
            raise Enough

    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in OWN_MODULES:
        frame = frame.f_back  # to the step, or the code with the loop
    while frame is not None and ((name := frame.f_globals.get("__name__", "")) in OWN_MODULES or "mlpprof" not in name):
        if name not in OWN_MODULES:  # the hook around the element of a comprehension is one of them
            frame.f_trace = again
        frame = frame.f_back
    sys.settrace(lambda frame, event, arg: None)


def merged(parts: list[dict[int, OwnTime]]) -> dict[int, OwnTime]:
    """The sum of several readings of the clocks, by site."""
    found: dict[int, OwnTime] = {}
    for part in parts:
        for site, own in part.items():
            found[site] = found[site] + own if site in found else own
    return found


def page_faults() -> int:
    """Page faults of this process so far; 0 if the system does not count them."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_minflt
