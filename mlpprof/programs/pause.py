"""In the worker: a program that pauses at the beginning of its training step, and takes steps when it is asked to.

The program runs in the main thread, as under Python. The step has a hook at its beginning and one at its end, and no
other instrument. The first hook waits for permission, in whatever thread the step runs. Whoever gives permission is in
another thread. What is measured is the time between the two hooks, and the time in which the loop around the step gets
its next item, as from a generator of batches. This is the step of `advise` and `profile`, too.
"""

from __future__ import annotations

import ast
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpprof.errors import MlpprofError, ProgramEnded, UsageError
from mlpprof.instrument.compiled import ADVICE, WORDS
from mlpprof.instrument.rewriting import split_body, statement
from mlpprof.process import PULSE
from mlpprof.programs.load import Exit, Program, is_import_to_come
from mlpprof.programs.patience import EVERY_S, Patience, watched
from mlpprof.programs.record import hooks
from mlpprof.programs.record.feed import Feed
from mlpprof.programs.record.forms import Forms
from mlpprof.programs.record.hooks import BEGIN, END, FED, TESTED
from mlpprof.programs.record.schedule import Enough, end_threads_quietly
from mlpprof.programs.step_not_seen import not_seen
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.why_no_step import Signs
from mlpprof.programs.writes import Writes

STOP = 0
"""Permission for so many steps ends the program."""


class GatedForms(Forms):
    """The files, with a hook at the beginning and one at the end of the step. form: rewrites a file before that."""

    def __init__(self, step: StepPlace, form: Callable[[str, ast.Module], ast.Module] | None = None) -> None:
        super().__init__(step, with_turns=False)
        self._form = form

    def _parsed(self, path: str, source: str) -> ast.Module:
        tree = super()._parsed(path, source)
        return tree if self._form is None else self._form(path, tree)

    def _dispatch(
        self, node: ast.FunctionDef | ast.For | ast.While, path: str, tree: ast.Module, *, is_turn: bool
    ) -> None:
        first, body = split_body(node) if isinstance(node, ast.FunctionDef) else ([], node.body)
        guarded = ast.Try(body or [ast.Pass()], [], [], [statement(END, ast.Constant(is_turn))])
        node.body = [*first, statement(BEGIN, ast.Constant(is_turn)), guarded]


@dataclass(frozen=True)
class Taken:
    """What a program did with its permission.

    steps: how many steps it made. seconds: their sum, with what it took to get the next item after each of them.
    between_s: the other time until the next one began. has_ended: whether it makes no more.
    """

    steps: int
    seconds: float
    between_s: float
    has_ended: bool


class StepGate:
    """Lets a program make so many steps at a time.

    A step within a step, as in a recursion or in another thread meanwhile, is a part of it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._permissions: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Taken | MlpprofError] = queue.SimpleQueue()
        self._left = 0
        self._inside = 0
        self._start_s = 0.0
        self._end_s: float | None = None
        self._steps, self._seconds, self._between_s = 0, 0.0, 0.0
        self.count = 0
        self.is_stopped = False
        """Whether the program must end, because nobody needs it any more."""
        self.has_arrived = False
        """Whether the program has been at its step."""
        self.has_ended = False
        self._feed = Feed(clock, lambda: self._inside > 0)
        self.hooks = {BEGIN: self._begin, END: self._end, **self._feed.hooks}

    # In the program's threads.

    def _begin(self, is_turn: bool) -> None:
        if self.is_stopped:  # the program has caught it
            raise Enough
        self._inside += 1
        if self._inside > 1:
            return
        fed_s = self._feed.taken().seconds
        if self._end_s is not None:
            self._seconds += fed_s
            self._between_s += self._clock() - self._end_s - fed_s
        if self._left == 0:
            self.has_arrived = True
            self._answers.put(self._taken())
            self._left = self._permissions.get()
        if self._left == STOP:
            raise Enough
        self._left -= 1
        self._start_s = self._clock()

    def _end(self, is_turn: bool) -> None:
        now_s = self._clock()
        self._inside -= 1
        if self._inside:
            return
        self._seconds += now_s - self._start_s
        self._steps += 1
        self.count += 1
        self._end_s = self._clock()

    def _taken(self, has_ended: bool = False) -> Taken:
        taken = Taken(self._steps, self._seconds, self._between_s, has_ended)
        self._steps, self._seconds, self._between_s, self._end_s = 0, 0.0, 0.0, None
        return taken

    def ended(self, problem: MlpprofError | None = None) -> None:
        """The program is over; problem: why, if that is an error."""
        self.has_ended = True
        self._answers.put(problem or self._taken(has_ended=True))

    # In the thread that gives permission.

    def arrived(self) -> Taken:
        """Wait until the program is at its first step. Raises what `run_paused` raised."""
        return self._answered()

    def take(self, steps: int) -> Taken:
        """Let the program make so many steps, and wait until it has, and is at the beginning of the next one."""
        if self.has_ended and self._answers.empty():
            return Taken(0, 0.0, 0.0, has_ended=True)
        self._permissions.put(steps)
        return self._answered()

    def stop(self) -> None:
        """End the program."""
        self.is_stopped = True
        self._permissions.put(STOP)

    def _answered(self) -> Taken:
        answer = self._answers.get()
        if isinstance(answer, MlpprofError):
            raise answer
        return answer


def run_gated(
    program: Program,
    forms: GatedForms,
    hooks_of_step: Mapping[str, Callable[..., Any]],
    is_at_step: Callable[[], bool],
    is_over: Callable[[], bool],
    steps_made: Callable[[], int],
    writes: Writes | None,
    patience: Patience,
) -> bool:
    """Run a program whose step calls hooks, to its end or until `is_over`; whether it has ended by itself.

    is_at_step: whether it has reached its step. steps_made: how many of them it has made. Raises UsageError if it never
    reaches its step, and what the program's `run` raises.
    """
    hooks.install({name: hooks.QUIETLY[name] for name in (FED, TESTED)})
    hooks.install(hooks_of_step)
    end_threads_quietly()
    signs = Signs(program.is_own)
    signs.watch()

    def is_hopeless(passed_s: float) -> bool:
        if passed_s <= patience.waiting_s or is_at_step():
            PULSE.beat(steps_made() or None)
        if is_over() or forms.is_compiled or (writes is not None and writes.must_end):
            return True
        if is_at_step() or passed_s <= patience.loading_s:
            return False
        if passed_s > patience.waiting_s:
            return signs.give_up(passed_s)
        return forms.step_file is None and not is_import_to_come(dict(forms.sources), program.folder)

    if writes is not None:
        writes.is_enough = is_at_step

    others = set(threading.enumerate())

    def run() -> Exit | None:
        with watched(is_hopeless):
            ended = program.run(forms.module_code)
            while alive := [one for one in set(threading.enumerate()) - others if not one.daemon]:
                alive[0].join(EVERY_S)  # as Python does at its end, since the step may run in one of them
            return ended
        return None

    ended = run() if writes is None else writes.guarded(run)
    if not is_at_step():
        raise _unreached(forms, ended, signs)
    return ended is not None or (writes is not None and writes.must_end)


def run_paused(
    program: Program, step: StepPlace, gate: StepGate, writes: Writes | None = None, patience: Patience | None = None
) -> None:
    """Run a program whose step waits at the gate, to the program's end or until the gate stops it.

    The gate gets the UsageError if the step never ran, and what the program's `run` raises.
    """
    forms, patience = GatedForms(step), patience or Patience(waiting_s=program.wait_s)
    try:
        run_gated(
            program,
            forms,
            gate.hooks,
            lambda: gate.has_arrived,
            lambda: gate.is_stopped,
            lambda: gate.count,
            writes,
            patience,
        )
    except MlpprofError as error:
        gate.ended(error)
    else:
        gate.ended()


def _unreached(forms: GatedForms, ended: Exit | None, signs: Signs) -> UsageError:
    assert forms.step is not None
    if forms.is_compiled:
        name = Path(forms.step_file or "").name
        return UsageError(f"the step '{forms.step.text}' in {name} is {WORDS}; {ADVICE}")
    if ended is not None and ended.place is not None:
        return ProgramEnded(f"{ended.place} ended the program with exit code {ended.code} before the step ran")
    return UsageError(not_seen(forms.step, forms, signs))
