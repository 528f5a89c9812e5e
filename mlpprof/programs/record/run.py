"""In the worker: runs a program until its step has been timed and observed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mlpprof.errors import MlpprofError, ProgramEnded, UsageError
from mlpprof.instrument.compiled import ADVICE, WORDS
from mlpprof.process import PULSE
from mlpprof.programs.load import Exit, Program, imported_texts, is_import_to_come
from mlpprof.programs.patience import Patience, watched
from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks, hook_time
from mlpprof.programs.record.file_reads import FileReads
from mlpprof.programs.record.forms import CodeExchange, Forms
from mlpprof.programs.record.notes import notes_of, notes_on_times
from mlpprof.programs.record.program_time import unfinished
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.replayed import add_replayed_times
from mlpprof.programs.record.schedule import OBSERVED_STEPS, Steps, end_threads_quietly
from mlpprof.programs.record.surroundings import Surroundings, Watched
from mlpprof.programs.record.timeline import Timeline
from mlpprof.programs.record.trace import Trace
from mlpprof.programs.step_not_seen import not_seen, too_long
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.why_no_step import Signs, Stillness
from mlpprof.programs.writes import Writes

ENOUGH_STEPS = 20
"""A run with so many steps takes its own times; with fewer, those of an earlier run are used too."""


@dataclass
class Recording:
    """What a run of the program gave. trace: None if the program ended too early; count: how often the step ran.

    timeline: of the program around its steps, if it was kept. has_ended: the program has run to its end. around: the
    recorded statements around the steps.
    """

    trace: Trace | None
    count: int
    plain_s: list[float]
    timeline: Timeline | None = None
    has_ended: bool = False
    around: Sequence[Watched] = ()


@dataclass(frozen=True)
class Instruments:
    """What times and records a program's step. steps: decides which form each step takes.

    timeline, surroundings: of what is around the steps.
    """

    forms: Forms
    clocks: Clocks
    recorder: Recorder
    steps: Steps
    timeline: Timeline | None = None
    surroundings: Surroundings | None = None

    @classmethod
    def usual(cls, step: StepPlace, few: int, program: Program, looks_around: bool) -> Instruments:
        """Those for a program that makes `few` steps (0: not known), and may end after a few steps if not."""
        forms, may_be_short = Forms(step), program.may_be_short
        clocks, recorder = Clocks(time.perf_counter), Recorder(forms.sites)
        early = Recorder(forms.sites) if may_be_short and (few == 0 or few >= ENOUGH_STEPS) else None
        # What is around the steps of a variant is mlpprof's own.
        timeline = Timeline(time.perf_counter) if looks_around and may_be_short else None
        steps = Steps(CodeExchange(forms), clocks, recorder, time.perf_counter, few, early, timeline=timeline)
        if timeline is None:
            return cls(forms, clocks, recorder, steps)
        forms.imported = partial(imported_texts, program)
        forms.inside, forms.in_turns = timeline.inside, timeline.in_turns
        around = Surroundings(forms.sites, steps, timeline, time.perf_counter)
        steps.unfinished = lambda: unfinished(timeline, forms.sites, around.left)
        return cls(forms, clocks, recorder, steps, timeline, around)

    def install(self) -> None:
        """From now on the rewritten program finds the hooks of them all."""
        for instrument in (self.clocks, self.recorder, self.steps):
            hooks.install(instrument.hooks)
        if self.timeline is not None and self.surroundings is not None:
            hooks.install({**self.timeline.hooks, **self.surroundings.hooks})


def record(
    program: Program,
    step: StepPlace,
    few: int = 0,
    plain_s: Sequence[float] = (),
    writes: Writes | None = None,
    patience: Patience | None = None,
    instruments: Instruments | None = None,
    looks_around: bool = False,
) -> Recording:
    """Run a program until its step has been recorded, or until it ends, or wants to write, and a few have been.

    few: the number of steps, if an earlier run has counted them. plain_s: what undisturbed steps took in that run.
    looks_around: take the times of the statements around the steps, too, and record them.
    Raises UsageError if the step never ran, and what the program's `run` raises.
    """
    patience = patience or Patience(waiting_s=program.wait_s)
    end_threads_quietly()
    signs = Signs(program.is_own)
    signs.watch()
    hook_time()  # measured before the program runs, and others with it
    instruments = instruments or Instruments.usual(step, few, program, looks_around)
    instruments.install()
    forms, steps, timeline = instruments.forms, instruments.steps, instruments.timeline
    for module in list(sys.modules.values()):  # the activations and losses of variants, which the harness uses too
        if (path := getattr(module, "__file__", None)) is not None and program.is_own(path):
            forms.sources[path] = Path(path).read_text(encoding="utf-8")
    end = _End(program, patience, forms, steps, signs, writes)
    reads = FileReads(
        program.is_own,
        lambda: steps.count > 0 and threading.get_ident() == steps.thread,
        lambda: steps.is_in_step or steps.is_feeding,
        lambda: not steps.is_done,
    )
    begun_s = time.perf_counter()
    with reads.watched():
        ended = _run(program, instruments, end)
    if forms.is_compiled:
        name = Path(forms.step_file or "").name
        raise UsageError(f"the step '{step.text}' in {name} is {WORDS}; {ADVICE}")
    if signs.stopped is not None and steps.is_in_step and not steps.is_enough:
        raise UsageError(f"the step '{step.text}' ran {steps.count} times, and did not end: {signs.stopped}")
    if end.endless_at is not None:
        raise UsageError(too_long(step, forms, patience.longest_step_s, end.endless_at, program.may_be_short))
    if steps.count == 0 and ended is not None and ended.place is not None:
        raise ProgramEnded(f"{ended.place} ended the program with exit code {ended.code} before the step ran")
    if forms.step_file is None or steps.count == 0:
        raise UsageError(not_seen(step, forms, signs))
    if not steps.recorded.steps:
        return Recording(None, steps.count, steps.times.plain_s)
    if few and few < ENOUGH_STEPS:
        steps.times.plain_s += plain_s
    trace = Trace(
        sites=forms.sites,
        **steps.recorded.observed(),
        times=steps.times,
        sources=forms.sources,
        step_file=forms.step_file,
        step_text=step.text,
        folder=program.folder,
        loading_s=max(0.0, (steps.first_begun_s or begun_s) - begun_s),
        file_reads=reads.of_steps(steps.count),
    )
    trace.notes.extend(notes_of(trace, steps, signs, writes))
    is_replayed = not trace.times.sites and not steps.is_long
    if is_replayed:
        add_replayed_times(trace)
    is_of_one_step = 0 < few <= OBSERVED_STEPS + 1 and not steps.is_long
    trace.notes.extend(notes_on_times(steps.times, forms, is_replayed, is_of_one_step))
    around = list(instruments.surroundings.found.values()) if instruments.surroundings is not None else []
    return Recording(trace, steps.count, steps.times.plain_s, timeline, ended is not None, around)


def _run(program: Program, instruments: Instruments, end: _End) -> Exit | None:
    """Run the program until it ends, or until `end` says so (None)."""
    steps, timeline, writes = instruments.steps, instruments.timeline, end.writes
    ended: Exit | None = None
    if writes is not None:
        writes.is_enough = lambda: steps.is_enough
    if timeline is not None:
        timeline.begin()
    with watched(end.is_due):
        try:
            ended = program.run(instruments.forms.module_code)
        except MlpprofError:
            if not steps.is_done:  # what comes after the recording may fail, as a file that cannot be written
                raise
    if timeline is not None:
        timeline.end()
    sys.settrace(None)  # `Steps` may have set one
    if writes is not None:
        writes.is_enough = lambda: True
    return ended


@dataclass
class _End:
    """Decides when a running program has to end. endless_at: where a step that took too long was; None if none did."""

    program: Program
    patience: Patience
    forms: Forms
    steps: Steps
    signs: Signs
    writes: Writes | None
    stillness: Stillness = field(default_factory=lambda: Stillness(time.monotonic))
    endless_at: str | None = None

    def is_due(self, passed_s: float) -> bool:
        """Whether the program has to end. passed_s: so long it has run."""
        steps, patience = self.steps, self.patience
        if self.signs.stopped is not None or (self.writes is not None and self.writes.must_end):
            return True
        if passed_s <= patience.waiting_s or steps.count:
            PULSE.beat(steps.count or None)
        steps.relieve()
        if self.endless_at is None and steps.first_s > patience.longest_step_s:
            self.endless_at = self.signs.here()
        if self.forms.is_compiled or steps.is_done_elsewhere or steps.is_over:
            return True
        if self.forms.step_file is None:
            if passed_s > patience.waiting_s:
                return self.signs.give_up(passed_s)
            sources = dict(self.forms.sources)
            return passed_s > patience.loading_s and not is_import_to_come(sources, self.program.folder)
        if steps.count == 0:
            return passed_s > patience.waiting_s and self.signs.give_up(passed_s)
        if self.stillness.seconds() > patience.still_s or steps.pause_s > patience.waiting_s:
            return self.signs.give_up(passed_s)
        return self.endless_at is not None
