"""The worker of one program: it notes the program's parameters, or lets it take steps in a race.

The program runs in the main thread, as under Python, so calls are answered in another one.
"""

from __future__ import annotations

import _thread
import base64
import io
import queue
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import numpy as np
import psutil

from mlpprof.compare.worker import LEAD_IN_S, settling
from mlpprof.errors import MlpprofError, ProgramEnded
from mlpprof.machine.blas import blas_line
from mlpprof.machine.facts import describe
from mlpprof.machine.linux import interruptions
from mlpprof.process import Progress, serve
from mlpprof.profile.passes import warm_up
from mlpprof.profile.worker import Key
from mlpprof.programs.in_worker import guarded, opened
from mlpprof.programs.parameters import record_parameters
from mlpprof.programs.pause import StepGate, Taken, run_paused
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.seeds import seed_alike
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.values import Executions, Lines, record_values
from mlpprof.programs.writes import Writes
from mlpprof.results.json import Message, decode

WARM_UP_SHARE = 5
"""If a program makes few steps, one of so many warms up, and the others are timed."""

PLENTY = 500
"""If a program makes at least so many steps, a short step is made untimed before each turn."""

Job = Callable[[], None]


def packed(arrays: list[Array]) -> str:
    """Arrays as text for the message to the parent."""
    content = io.BytesIO()
    np.savez(content, *arrays)
    return base64.b64encode(content.getvalue()).decode("ascii")


class Session:
    """The handlers of one worker. gate: where the program waits in a race."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._gate = StepGate()
        self._writes: Writes | None = None
        self._steps: int | None = None
        self._run_s = 0.0
        self._between: list[tuple[int, float]] = []
        self._settle: Callable[[], None] | None = None
        self._has_children = False

    def run_jobs(self) -> None:
        """In the main thread: run programs, until the parent is done."""
        while (job := self._jobs.get()) is not None:
            job()

    def end(self) -> None:
        """The parent is done: the program unwinds."""
        self._gate.stop()
        self._jobs.put(None)

    def _in_main(self, work: Callable[[], Any]) -> Any:
        """The result of something that runs a program, in the main thread."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def job() -> None:
            try:
                answers.put((work(), None))
            except MlpprofError as error:
                answers.put((None, error))

        self._jobs.put(job)
        answer, error = answers.get()
        if error is not None:
            raise error
        return answer

    def parameters(self, report: Progress, program: Message, steps: int) -> Message:
        """Run the program for its first steps with fixed seeds; the values of its parameters, as text."""
        report("running the program to see how it trains", 0.0)

        def recorded() -> Any:
            runnable, writes = opened(program)
            seed_alike()
            return record_parameters(runnable, StepPlace.parse(program["step"]), steps, writes)

        found, count, has_ended = self._in_main(recorded)
        described = [{"name": one.name, "key": one.key, "dtype": one.dtype, "is_sum": one.is_sum} for one in found]
        values = packed([one.values for one in found])
        return {"parameters": described, "values": values, "steps": count, "has_ended": has_ended}

    def values(self, report: Progress, program: Message, lines: Message) -> Message:
        """Run the program with fixed seeds until some lines have run: what they have computed, and their seconds."""
        report("running the program to see what the changed lines compute", 0.0)

        def recorded() -> Executions:
            runnable, writes = opened(program)
            seed_alike()
            return guarded(writes, lambda: record_values(runnable, decode(Lines, lines), writes))

        found = self._in_main(recorded)
        arrays = [array for values in found.values for array in values.values()]
        return {
            "names": [list(values) for values in found.values],
            "arrays": packed(arrays),
            "seconds": found.seconds,
        }

    # A race.

    def load(self, report: Progress, key: Key, subject: Message, shared: str | None = None) -> Message:
        """Run the program up to its first step."""
        report("running the program up to its first step", 0.0)
        runnable, writes = opened(subject)
        self._writes = writes
        step = StepPlace.parse(subject["step"])
        self._steps = subject["steps"]
        if subject["by_processor"]:
            self._gate = StepGate(lambda: perf_counter() if self._has_children else process_time())
        self._jobs.put(lambda: run_paused(runnable, step, self._gate, writes))
        self._require_more(self._gate.arrived())
        self._has_children = bool(psutil.Process().children())  # their processor time is known too coarsely
        return {"dtype": "", "spans_steps": False, "compiles": False}

    def describe(self, report: Progress, key: Key) -> Message:
        """The machine, with the BLAS that is loaded by now."""
        return {"machine": describe()}

    def first_run(self, report: Progress, key: Key) -> Message:
        """The first step."""
        self._run_s = self._timed(1)
        self._sleep()
        return {"first_s": self._run_s, "engine": blas_line(describe())}

    def warm_up(self, report: Progress, key: Key) -> float:
        """Let it make steps until the time settles, or the share of its few steps is used up; the fastest."""
        if self._steps is None:
            self._run_s = warm_up(self, perf_counter)[1]
        else:
            while self._run_s == 0 or self._gate.count < self._steps // WARM_UP_SHARE:
                self._run_s = min(self._run_s or np.inf, self._timed(1))
        self._sleep()
        return self._run_s

    def warming_s(self) -> float:
        """Seconds of one step."""
        return self._timed(1)

    def turn(self, report: Progress, key: Key, runs: int, tries: int = 1) -> float:
        """Seconds a step, over so many steps.

        tries: if another program has interrupted them, others take their place, up to so many times in all; but a
        program that makes few steps tries once.
        """
        for _ in range(tries if self._steps is None else 1):
            if self._run_s < LEAD_IN_S and (self._steps is None or self._steps >= PLENTY):
                self._timed(1)
            before = interruptions()
            seconds = self._timed(runs)
            if interruptions() == before:
                break
        self._sleep()
        return seconds

    def left(self, report: Progress, key: Key) -> int | None:
        """How many more steps it makes, if that is known."""
        if self._steps is None:
            return None
        left = self._steps - self._gate.count
        return left // 2 if self._steps >= PLENTY else left

    def made(self, report: Progress, key: Key) -> Message:
        """How many steps it has made, whether it makes no more, notes, and the time between steps, seconds a step."""
        steps = sum(count for count, _ in self._between)
        return {
            "steps": self._gate.count,
            "has_ended": self._gate.has_ended,
            "notes": [] if self._writes is None else list(self._writes.notes()),
            "between_s": sum(seconds for _, seconds in self._between) / steps if steps else 0.0,
        }

    def _timed(self, runs: int) -> float:
        taken = self._gate.take(runs)
        if taken.steps < runs:
            self._require_more(taken)
        self._between.append((taken.steps, taken.between_s))
        return taken.seconds / runs

    def _require_more(self, taken: Taken) -> None:
        if taken.has_ended:
            count = self._gate.count
            raise ProgramEnded(f"the program made {count} {'step' if count == 1 else 'steps'} and ended")

    def _sleep(self) -> None:
        """Return once the threads and child processes of the program sleep."""
        self._settle = self._settle or settling()
        self._settle()


def machine(report: Progress) -> Message:
    """What this machine is, without running a program."""
    return dict(describe())


def main() -> None:
    """Serve until the parent is done."""
    session = Session()
    handlers = (
        *(session.parameters, session.values, session.load, session.describe, session.first_run),
        *(session.warm_up, session.turn, session.left, session.made, machine),
    )

    def answer() -> None:
        try:
            serve({handler.__name__: handler for handler in handlers})
        finally:
            session.end()

    _thread.start_new_thread(answer, ())
    session.run_jobs()
