"""Runs a program and lets an outside observer, such as a line profiler, see some of its steps.

The program runs as it was written, except that its step calls two hooks: at its beginning and at its end.
"""

from __future__ import annotations

import ast
import dis
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Protocol

from mlpprof.errors import UsageError
from mlpprof.instrument.rewriting import split_body, statement
from mlpprof.process import PULSE
from mlpprof.programs.load import PACKAGE, Program
from mlpprof.programs.patience import watched
from mlpprof.programs.record import hooks
from mlpprof.programs.record.hooks import BEGIN, END
from mlpprof.programs.record.schedule import Enough, end_threads_quietly
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.writes import Writes

WARM_UP = 1
"""The observer begins after so many steps, because it cannot see the rest of a function that already runs."""

NO_OP = bytes((dis.opmap["NOP"], 0))

VIEW_S, VIEW_STEPS = 1.5, 3
"""The observer sees steps for about `VIEW_S` seconds, and at least `VIEW_STEPS` of them."""


class Observer(Protocol):
    """Sees what runs between `start` and `stop`."""

    def start(self, functions: list[FunctionType]) -> None:
        """Begin; functions: those of the program's own files."""

    def stop(self) -> None:
        """End."""


class WatchedSteps:
    """The observed steps of a program. steps: their number. wall_s: the seconds that the observer saw."""

    def __init__(self, step: StepPlace, observer: Observer, clock: Callable[[], float] = time.perf_counter) -> None:
        self._step, self._observer, self._clock = step, observer, clock
        self._codes: list[CodeType] = []
        self._alike: Counter[bytes] = Counter()
        self._depth, self._seen = 0, 0
        self._start: float | None = None
        self.sources: dict[str, str] = {}
        self.steps, self.wall_s = 0, 0.0
        self.is_done = False
        self.hooks = {BEGIN: self._begin, END: self._end}

    def compiled(self, path: str, source: str) -> CodeType:
        """The code of a file; the step in it calls the hooks, from a line after the last one of the file."""
        self.sources[path] = source
        tree = ast.parse(source, path)
        node = self._step.node(tree) if self._step.concerns(path) else None
        if node is not None:
            first, body = split_body(node) if isinstance(node, ast.FunctionDef) else ([], node.body)
            begin, end = statement(BEGIN), statement(END)
            node.body = [*first, begin, ast.Try(body or [ast.Pass()], [], [], [end])]
            line = len(source.splitlines()) + 1  # no line view shows it
            place = ast.Pass(lineno=line, col_offset=0, end_lineno=line, end_col_offset=0)
            for part in (node.body[-1], *ast.walk(begin), *ast.walk(end)):
                ast.copy_location(part, place)
        code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
        code = self._padded(code)
        self._codes.append(code)
        return code

    def _padded(self, code: CodeType) -> CodeType:
        """The code of a file and of its functions with no-ops at the end, a different number for equal code.

        line_profiler gives functions such code before it watches them. What runs already, as the training loop, would
        keep its old code and not be seen.
        """
        inner = tuple(self._padded(one) if isinstance(one, CodeType) else one for one in code.co_consts)
        self._alike[code.co_code] += 1
        return code.replace(co_code=code.co_code + self._alike[code.co_code] * NO_OP, co_consts=inner)

    def _begin(self) -> None:
        self._depth += 1

    def _end(self) -> None:
        self._depth -= 1
        if self._depth or self.is_done:
            return
        if self._start is not None:
            self.steps += 1
            self.wall_s = self._clock() - self._start
            if self.steps >= VIEW_STEPS and self.wall_s > VIEW_S and sys.exc_info()[0] is None:
                self.finish()
                raise Enough
        else:
            self._seen += 1
            if self._seen >= WARM_UP:
                functions = list(self._functions())
                self._observer.start(functions)
                self._start = self._clock()

    def finish(self) -> None:
        """End the observer, if it is still there."""
        if self._start is not None and not self.is_done:
            self.is_done = True
            self._observer.stop()

    def _functions(self) -> Iterator[FunctionType]:
        """The functions of the program's files, and one for the code of each file itself."""
        known: set[CodeType] = set()
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename in self.sources:
                if thing.__code__ in known:
                    continue
                known.add(thing.__code__)
                yield thing
        for code in self._codes:
            yield FunctionType(code, {})


def watch_steps(program: Program, step: StepPlace, observer: Observer, writes: Writes | None) -> WatchedSteps:
    """Run the program until its observer has seen enough steps, or until it ends.

    Raises UsageError if the program ended before, and what the program's `run` raises.
    """
    seen = WatchedSteps(step, observer)
    end_threads_quietly()
    hooks.install(seen.hooks)
    if writes is not None:
        writes.is_enough = lambda: seen.steps > 0
    try:
        with watched(lambda passed_s: _is_over(seen, passed_s, writes, program.wait_s)):
            program.run(seen.compiled)
    finally:
        seen.finish()
    if not seen.steps:
        raise UsageError(
            f"the step '{step.text}' ran fewer than {WARM_UP + 1} times, too few for --lines and --stacks; let the "
            "program make more steps"
        )
    return seen


def _is_over(seen: WatchedSteps, passed_s: float, writes: Writes | None, wait_s: float) -> bool:
    if passed_s <= wait_s or seen.steps:
        PULSE.beat(seen.steps or None)
    return (writes is not None and writes.must_end) or (not seen.steps and passed_s > wait_s)


def own_sources(sources: dict[str, str]) -> dict[str, str]:
    """Those that are the user's, and not of the package."""
    return {path: source for path, source in sources.items() if not Path(path).is_relative_to(PACKAGE)}
