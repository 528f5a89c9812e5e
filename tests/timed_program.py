"""A program that runs in this process with its timeline, as `advise` runs one, and its figures."""

from __future__ import annotations

import contextlib
import time
from itertools import chain, repeat

from mlpprof.programs.notebook import place_of
from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks
from mlpprof.programs.record.forms import PLAIN, CodeExchange, Forms
from mlpprof.programs.record.program_time import program_time
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.schedule import Enough, Steps
from mlpprof.programs.record.surroundings import Surroundings
from mlpprof.programs.record.timeline import Timeline
from mlpprof.programs.step_place import StepPlace

STEP_S = 0.5
"""The program's figures count so many seconds for a step."""


class Run:
    """A program that may call `wait(seconds)`, which a fake clock only adds, and `stop()`, which ends it."""

    def __init__(self, text, step, clock, forms=(), files=None, step_s=STEP_S):
        self.text, self.has_ended, self.step_s = text, True, step_s
        self.timeline = Timeline(clock)
        self.forms = Forms(
            StepPlace.parse(step),
            inside=self.timeline.inside,
            in_turns=self.timeline.in_turns,
            imported=lambda path, source: {path: source, **(files or {})},
        )
        clocks, recorder = Clocks(clock), Recorder(self.forms.sites)
        self.steps = Steps(
            CodeExchange(self.forms), clocks, recorder, clock, forms=chain(forms, repeat(PLAIN)), timeline=self.timeline
        )
        self.around = Surroundings(self.forms.sites, self.steps, self.timeline, clock)
        for one in (clocks, recorder, self.steps, self.timeline, self.around):
            hooks.install(one.hooks)
        self.space = {"wait": getattr(clock, "advance", time.sleep), "stop": self.stop, "__name__": "__main__"}
        self.timeline.begin()
        with contextlib.suppress(Enough):
            exec(self.forms.module_code("train.py", text), self.space)
        self.timeline.end()

    def stop(self):
        self.has_ended = False
        raise Enough

    @property
    def time(self):
        def place_and_text(site):
            return place_of(site.file, site.line), self.text.splitlines()[site.line - 1].strip()

        return program_time(self.timeline, self.forms.sites, self.step_s, place_and_text, self.has_ended)
