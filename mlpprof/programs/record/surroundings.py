"""Records statements around the steps, each once: what they compute, and how long each operation takes."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record import hooks
from mlpprof.programs.record.forms import OBSERVED
from mlpprof.programs.record.recorder import Begun, Recorder
from mlpprof.programs.record.schedule import Steps
from mlpprof.programs.record.timeline import Timeline
from mlpprof.programs.record.trace import OwnTime, Times, Trace

MOST_STATEMENTS = 12
"""No more statements are recorded."""

LEAST_S = 1e-4
"""A statement that takes less time is not recorded."""


@dataclass(slots=True)
class Timed:
    """An operation that has begun, when, and the seconds within it that are not its own."""

    begun: Begun
    start_s: float
    inside_s: float = 0.0


class TimedRecorder(Recorder):
    """A recorder that takes the time of each operation, too, without its own work.

    took_s: index of an event -> its seconds without the operations inside it. own_s: seconds of recording.
    """

    def __init__(self, sites: list[Site], clock: Callable[[], float]) -> None:
        super().__init__(sites)
        self._clock = clock
        self._timed: list[Timed] = []
        self.took_s: dict[int, float] = {}
        self.own_s = 0.0

    def before(
        self,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        is_call: bool,
    ) -> Any:
        start_s = self._clock()
        self._timed.append(Timed(super().before(number, function, operands, options, is_call), 0.0))
        self._timed[-1].start_s = now_s = self._clock()
        self._recorded(now_s - start_s, self._timed[:-1])
        return self._timed[-1]

    def after_call(self, begun: Any) -> None:
        super().after_call(begun.begun)

    def after(
        self,
        begun: Any,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Any,
    ) -> None:
        now_s, count = self._clock(), len(self.events)
        while self._timed and self._timed.pop() is not begun:
            pass  # an exception has ended it
        super().after(begun.begun, number, function, operands, options, result)
        whole_s = now_s - begun.start_s
        index = begun.begun.call.index if begun.begun.call is not None else count
        if index < len(self.events):
            self.took_s[index] = max(0.0, whole_s - begun.inside_s)
        if self._timed:
            self._timed[-1].inside_s += whole_s - begun.inside_s
        self._recorded(self._clock() - now_s, self._timed)

    def _recorded(self, seconds: float, around: list[Timed]) -> None:
        self.own_s += seconds
        if around:
            around[-1].inside_s += seconds


@dataclass
class Watched:
    """A recorded statement. seconds: of the execution that was recorded, without the recording."""

    site: int
    recorder: TimedRecorder
    seconds: float = 0.0

    def trace(self, step: Trace, seconds: float) -> Trace:
        """The recording as that of a step that takes so many seconds. step: the recording of the program's step."""
        return replace(
            step,
            **self.recorder.observed(),
            times=replace(self._times(), clocked_s=[seconds]),
            notes=[],
            is_around=True,
        )

    def _times(self) -> Times:
        """The times of its expressions; those of the turns that were not recorded are added."""
        turns = {(run.site, run.execution): run.turns / max(1, run.recorded) for run in self.recorder.loops}
        found: dict[int, OwnTime] = defaultdict(lambda: OwnTime(0.0, 0))
        for event in self.recorder.events:
            if event.is_own or event.index not in self.recorder.took_s:
                continue
            times = 1.0
            for turn in event.loops:
                times *= turns.get((turn.site, turn.execution), 1.0)
            found[event.site] += OwnTime(times * self.recorder.took_s[event.index], round(times))
        return Times(clocked_s=[self.seconds], sites=[dict(found)], around=[{}])


@dataclass
class Surroundings:
    """Decides which statement is recorded, and when: its second execution, or its first one after the steps."""

    sites: list[Site]
    steps: Steps
    timeline: Timeline
    clock: Callable[[], float]
    found: dict[int, Watched] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)
    _now: Watched | None = None
    _start_s: float = 0.0

    @property
    def hooks(self) -> dict[str, Any]:
        """What rewritten code calls."""
        return {hooks.WATCHED: self._watched, hooks.SEEN: self._ended}

    @property
    def left(self) -> frozenset[int]:
        """Statements that have run, and could be recorded when they run again."""
        is_full = len(self.found) >= MOST_STATEMENTS
        return frozenset() if is_full else frozenset(self._seen.keys() - self.found.keys())

    def _watched(self, number: int) -> bool:
        """Whether to record the statement that begins."""
        timeline = self.timeline
        if self._now is not None or not timeline.is_here or number in self.found or len(self.found) >= MOST_STATEMENTS:
            return False
        before, self._seen[number] = self._seen.get(number), timeline.now
        is_worth = self.steps.is_done if before is None else timeline.lasted_s(before) >= LEAST_S
        if not is_worth:
            return False
        timeline.pause()
        self._now = self.found[number] = Watched(number, TimedRecorder(self.sites, self.clock))
        self.steps.lend(self._now.recorder)
        self._now.recorder.start(keeps=True)
        timeline.go_on(OBSERVED)
        timeline.recorded()
        self._start_s = self.clock()
        return True

    def _ended(self) -> None:
        watched = self._now
        if watched is None or threading.get_ident() != self.timeline.thread:
            return
        recorder = watched.recorder
        passed_s = self.clock() - self._start_s
        self.timeline.pause()
        recorder.stop()
        watched.seconds = max(0.0, passed_s - recorder.own_s)
        self.timeline.spare(recorder.own_s)
        self.timeline.go_on(self.steps.take_back())
        self._now = None
        if watched.site in self.timeline.awaited.statements:
            self.timeline.shown()
