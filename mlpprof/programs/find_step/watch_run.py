"""Runs a program until enough of its calls and loops has been observed to find its training step.

This module notes what runs and what it changes; `choose` decides which of it is the step.
"""

from __future__ import annotations

import ast
import inspect
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from mlpprof.errors import ProgramEnded, UsageError
from mlpprof.instrument.compiled import ADVICE, WORDS, numba_functions
from mlpprof.instrument.rewriting import Site
from mlpprof.process import PULSE
from mlpprof.programs.find_step.candidates import candidates
from mlpprof.programs.find_step.choose import (
    ELEMENTS,
    MOST_RUNS,
    NAME,
    Execution,
    Observations,
    Variable,
    buffers,
    choose,
    growing_sums,
    is_certain,
    is_product,
    parameters,
)
from mlpprof.programs.find_step.rewrite import CELLS, SeekForm
from mlpprof.programs.load import PACKAGE, Exit, Program
from mlpprof.programs.notebook import place_of
from mlpprof.programs.patience import Patience, watched
from mlpprof.programs.record import hooks
from mlpprof.programs.record.arrays import Roots
from mlpprof.programs.record.finite import not_finite
from mlpprof.programs.record.hooks import CALLED, LEAVE, LOOP, MULTIPLIED, QUIET, RETURNED, TURN, UPDATED
from mlpprof.programs.record.schedule import Enough, end_threads_quietly
from mlpprof.programs.step_not_seen import ASYNC
from mlpprof.programs.step_place import async_functions
from mlpprof.programs.why_no_step import FAILED, Signs, Stillness
from mlpprof.programs.writes import Writes

LOOKING_S, LONGER_S, LONGEST_S = 2.0, 3.0, 8.0
"""Seconds after the first update: the program is observed for the first number at least, and for the other two if the
step is long. As long as nothing certain has been seen, it is observed for as long as it may take until its first step.
Time alone never decides, or a program would have other steps on a busy machine."""

PREPARING_S = 30.0
"""For so many seconds a step without products is not believed if the program's files contain products: loading and
preparing data have none, and training may come yet."""

EVERY_S, REST = 0.5, 5.0
"""Seconds between two looks at what has been observed, and how much longer than a look itself they are at least."""

MOST_UPDATES = 100
"""So many updates are noted in one run of a loop over single elements."""

LEAST_SHARE = 0.02
"""A step that takes less than this share of the time since its first run may be a part of the real step, such as its
forward pass beside a slow backward pass."""

CALLS = 1_000
"""The time of one hook is measured with so many calls."""

ENOUGH_TIMES, FEW_TIMES, FEWEST_TIMES = 5, 3, 2
"""The step must have run so many times; after LONGER_S and after LONGEST_S, the smaller numbers are enough. What runs
once has not been repeated."""


@dataclass(frozen=True)
class Sought:
    """The step that was found.

    step: as 'file.py:Class.method', 'file.py:LINE' or 'work.ipynb:cell 3:LINE'. seconds: roughly, what each execution
    took. is_all: whether these are all steps that the program makes before it ends, or before it wants to write.
    failure: the sentence about a parameter that becomes NaN or infinite; None if none does.
    """

    step: str
    seconds: list[float]
    is_all: bool
    failure: str | None = None


class ProgramObserver:
    """Keeps the calls and loop turns of a program, and what each changes. clock, looking_s: seconds."""

    def __init__(self, clock: Callable[[], float], looking_s: float = LOOKING_S) -> None:
        self._clock, self._looking_s = clock, looking_s
        self._stacks: dict[int, list[Execution]] = defaultdict(list)
        self._updating: set[int] = set()
        self._products = 0
        self._first_s: float | None = None
        self._next_look_s = 0.0
        self._roots = Roots(lambda: 0)
        self._kept: dict[int, Any] = {}
        self._own_s = 0.0
        self._first_keys: dict[int, Any] = {}
        self._first_elements: dict[int, Any] = {}
        self._common: set[int] = set()
        self.seen = Observations()
        self.failed: dict[Variable, tuple[int, int, str]] = {}
        """Variable -> the site of the change that makes it NaN or infinite, the number of that change, and which."""
        self.is_done: Callable[[float], bool] = lambda looked_s: False
        self.has_ended = False
        self.functions: set[int] = set()
        self.hooks: dict[str, Any] = {
            CALLED: self._timed(self._begin),
            RETURNED: self._timed(self._end),
            LOOP: self._timed(lambda site: None),
            TURN: self._quick_turn(self._timed(self._turn)),
            LEAVE: self._timed(self._end),
            MULTIPLIED: self._multiplied,
            UPDATED: self._quick_update(self._timed(self._updated)),
            QUIET: is_quiet,
        }
        self._call_s = self._time_of_a_call()

    @property
    def _open(self) -> list[Execution]:
        """The executions that are open in this thread."""
        return self._stacks[threading.get_ident()]

    @property
    def looked_s(self) -> float:
        """Seconds since the first update."""
        return 0.0 if self._first_s is None else self._clock() - self._first_s

    @property
    def has_ended_elsewhere(self) -> bool:
        """Whether enough was observed in another thread than the main one, which need not go on then."""
        return self.has_ended and threading.main_thread().ident not in self._updating

    def _timed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """The hook with its own time noted, because it is long compared with operations on single numbers."""

        def timed(*arguments: Any) -> Any:
            start_s = self._clock()
            try:
                return hook(*arguments)
            finally:
                self._own_s += self._clock() - start_s + self._call_s

        return timed

    def _quick_turn(self, turn: Callable[..., Any]) -> Callable[..., Any]:
        """Observes the turns of one run of a loop over single elements as one turn."""
        common, stacks, thread = self._common, self._stacks, threading.get_ident

        def quick(site: int) -> None:
            if site in common and not self.has_ended and (stack := stacks[thread()]) and stack[-1].site == site:
                self._own_s += self._call_s
            else:
                turn(site)

        return quick

    def _quick_update(self, updated: Callable[..., Any]) -> Callable[..., Any]:
        """Leaves out the updates in such a turn after the first ones."""
        stacks, thread = self._stacks, threading.get_ident

        def quick(*arguments: Any) -> None:
            if (stack := stacks[thread()]) and stack[-1].updates > MOST_UPDATES:
                self._own_s += self._call_s
            else:
                updated(*arguments)

        return quick

    def _time_of_a_call(self) -> float:
        """The time of a hook's call that the hook itself cannot measure."""
        self._call_s = 0.0
        hook = self._timed(lambda site: None)
        before_s, start_s = self._own_s, self._clock()
        for site in range(CALLS):
            hook(site)
        return max(0.0, (self._clock() - start_s - (self._own_s - before_s)) / CALLS)

    def _begin(self, site: int) -> None:
        parent = self._open[-1].site if self._open else -1
        self._open.append(Execution(site, len(self._open), self._clock(), self._products, self._own_s, parent))

    def _turn(self, site: int) -> None:
        if self.has_ended and threading.get_ident() in self._updating:  # the program has caught it
            raise Enough
        self._end(site)
        self._begin(site)

    def _end(self, site: int) -> None:
        if not self._open or (self._open[-1].site != site and not any(run.site == site for run in self._open)):
            return
        while self._open:
            run = self._open.pop()
            if run.variables:
                run.end_s = self._clock()
                run.spent_s = max(0.0, run.end_s - run.start_s - (self._own_s - run.hooks_s))
                run.products = self._products - run.products
                self.seen.has_run(run)
                if len(self.seen.runs[run.site]) == MOST_RUNS and not self.seen.has_products(run.site):
                    self._common.add(run.site)
                if self._open:
                    self._open[-1].variables |= run.variables
            if run.site == site:
                break
        self._look()

    def _multiplied(self, value: Any) -> Any:
        self._products += 1
        return value

    def _updated(self, site: int, name: str, owner: Any, key: Any, value: Any, in_place: bool) -> None:
        if self._open and self._open[-1].site in self._common:
            self._open[-1].updates += 1
        variable = self._variable(site, owner, key, value, in_place)
        if variable is None:
            return
        self._updating.add(threading.get_ident())
        now = self._clock()
        if self._first_s is None:
            self._first_s = now
            self._next_look_s = self._first_s + self._looking_s
        is_number = isinstance(value, float | np.generic) and not isinstance(owner, list | np.ndarray)
        self.seen.change(variable, name, value, is_number, now)
        if variable not in self.failed and (word := not_finite(value)) is not None:
            self.failed[variable] = (site, self.seen.times[variable], word)
        if self._open:
            self._open[-1].variables.add(variable)

    def _variable(self, site: int, owner: Any, key: Any, value: Any, in_place: bool) -> Variable | None:
        """What is changed: an array's memory, a part of an object, or a name in a call; None if it is no parameter."""
        if isinstance(value, bool | int | str | bytes):
            return None
        if (
            isinstance(value, np.ndarray) and value.dtype.kind not in "fO"
        ):  # an array of objects is mostly a list of arrays
            return None
        if isinstance(owner, str) and not owner.startswith(CELLS):
            return ("global", owner, key)
        if isinstance(owner, str) and not (isinstance(value, np.ndarray) and in_place):
            # The closures that one function makes, such as one for each layer, have names of their own. No instrument
            # sees which closure runs, but arrays of different shapes belong to different ones.
            return ("global", owner, key, getattr(value, "shape", None))
        if isinstance(owner, np.ndarray):
            number = self._roots.number(owner)
            if not isinstance(value, float | np.generic):
                return ("array", number)
            # Two parts for the elements of one array, so that no turn of a loop over them changes all of it.
            element = (owner.__array_interface__["data"][0], key)
            return (ELEMENTS, -1 - number, self._first_elements.setdefault(number, element) == element)
        if isinstance(value, np.ndarray) and in_place:
            return ("array", self._roots.number(value))
        if owner is not None:
            self._kept[id(owner)] = owner  # so that no other object gets its id
            if isinstance(owner, list) and isinstance(value, float | np.generic):
                # Two parts for one list of numbers, so that no turn of a loop over its elements changes all of it.
                return (ELEMENTS, id(owner), self._first_keys.setdefault(id(owner), key) == key)
            return ("part", id(owner), key if isinstance(key, str | int | tuple) else None)
        return (
            None if isinstance(value, float | np.generic) else (NAME, site, self._frame())
        )  # a single number is a sum

    def _frame(self) -> float:
        """The call that a local name belongs to."""
        return next((run.start_s for run in reversed(self._open) if run.site in self.functions), 0.0)

    def open_calls(self) -> set[float]:
        """The calls of functions that still run, by their start; 0.0 is what runs in no function."""
        return {0.0, *(run.start_s for stack in self._stacks.values() for run in stack)}

    def share(self, site: int) -> float:
        """Which share of the time since its first run the runs of a site take, all without the hooks."""
        first = self.seen.runs[site][0]
        passed_s = self._clock() - first.start_s - (self._own_s - first.hooks_s)
        return self.seen.spent_s[site] / max(passed_s, self.seen.spent_s[site], sys.float_info.min)

    def _look(self) -> None:
        if self._first_s is None or self.has_ended or threading.get_ident() not in self._updating:
            return  # a thread that prepares batches is needed for as long as the program runs
        now = self._clock()
        if now < self._next_look_s:
            return
        is_done = self.is_done(now - self._first_s)
        looking_s = self._clock() - now
        self._next_look_s = now + looking_s + max(EVERY_S, REST * looking_s)
        if is_done:
            self.has_ended = True
            raise Enough


def is_quiet(owner: Any, key: Any, is_attribute: bool) -> bool:
    """Whether reading the attribute `key`, or `owner[key]`, runs no code of the program."""
    kind: Any = type(owner)
    if not is_attribute:
        return isinstance(owner, np.ndarray) or kind in (list, dict)
    return _is_plain_attribute(kind, key)


@cache
def _is_plain_attribute(kind: Any, key: str) -> bool:
    found = inspect.getattr_static(kind, key, None)
    is_computed = hasattr(type(found), "__get__") and not inspect.ismemberdescriptor(found)
    is_plain = inspect.getattr_static(kind, "__getattribute__", None) is vars(object)["__getattribute__"]
    return is_plain and not is_computed


def seek(program: Program, writes: Writes | None = None, observer: ProgramObserver | None = None) -> Sought:
    """The step of a program. Raises UsageError if there is none, and what the program's `run` raises."""
    sites: list[Site] = []
    names: dict[int, str] = {}
    trees: dict[str, ast.Module] = {}
    observer = observer or ProgramObserver(time.perf_counter)

    def compiled(path: str, source: str) -> CodeType:
        trees[path] = ast.parse(source, path)
        tree = ast.parse(source, path)
        form = SeekForm(sites, names, path, tree)
        rewritten = ast.fix_missing_locations(form.visit(tree))
        observer.functions = {number for number, name in names.items() if name}
        code: CodeType = compile(rewritten, path, "exec", dont_inherit=True)
        return code

    @cache
    def ignored_of(files: tuple[str, ...]) -> set[str]:
        return growing_sums(trees) | buffers(trees)

    def ignored() -> set[str]:
        return ignored_of(tuple(trees))

    found: int | None = None

    @cache
    def has_products_in(files: tuple[str, ...]) -> bool:
        return any(is_product(node) for path in files for node in ast.walk(trees[path]))

    def is_done(looked_s: float) -> bool:
        nonlocal found
        found = choose(observer.seen, ignored())
        if found is None or not is_certain(observer.seen, ignored(), found, observer.open_calls()):
            return False
        if observer.share(found) < LEAST_SHARE:
            return False
        least = ENOUGH_TIMES if looked_s <= LONGER_S else FEW_TIMES if looked_s <= LONGEST_S else FEWEST_TIMES
        if not observer.seen.has_products(found):
            until_s = PREPARING_S if has_products_in(tuple(trees)) else LONGER_S
            return looked_s > until_s and len(observer.seen.runs[found]) >= FEW_TIMES
        return len(observer.seen.runs[found]) >= least

    observer.is_done = is_done
    hooks.install(observer.hooks)
    end_threads_quietly()
    if writes is not None:
        writes.is_enough = lambda: observer.has_ended or is_done(0.0)
    ended: Exit | None = None
    signs, stillness = Signs(program.is_own), Stillness(time.monotonic)
    signs.watch()

    def is_over(passed_s: float) -> bool:
        if signs.stopped is not None or (writes is not None and writes.must_end) or observer.has_ended_elsewhere:
            return True
        if observer.seen.times:
            is_long = stillness.seconds() > Patience.still_s or observer.looked_s > program.wait_s
        else:
            is_long = passed_s > program.wait_s
        if not is_long:
            PULSE.beat()
        return is_long and signs.give_up(passed_s)

    with watched(is_over):
        ended = program.run(compiled)
    if writes is not None:
        writes.is_enough = lambda: True
    # What `Enough` has ended in the middle is observed too, and would be taken for whole turns and calls.
    site = found if observer.has_ended and found is not None else choose(observer.seen, ignored())
    if site is None and ended is not None and ended.place is not None:
        raise ProgramEnded(f"{ended.place} ended the program with exit code {ended.code} before a training step ran")
    if site is None:
        machine_code = sorted(name for tree in trees.values() for name in numba_functions(tree))
        if machine_code:
            raise UsageError(f"the step is {WORDS} (compiled functions: {', '.join(machine_code)}); {ADVICE}")
        raise (UsageError if ended is None else ProgramEnded)(_not_found(observer, trees, signs))
    place = sites[site]
    seconds = [run.spent_s for run in observer.seen.runs[site]]
    has_refused = writes is not None and writes.must_end
    is_all = ended is not None or (not observer.has_ended and (has_refused or signs.stopped is not None))
    name = f"{Path(place.file).name}:{names[site]}" if names[site] else place_of(place.file, place.line).text
    return Sought(name, seconds, is_all, _failure(observer, parameters(observer.seen, ignored()), sites))


def _failure(observer: ProgramObserver, variables: set[Variable], sites: list[Site]) -> str | None:
    """The sentence about the first parameter that becomes NaN or infinite."""
    for variable, (site, number, word) in observer.failed.items():
        if variable in variables:
            place = place_of(sites[site].file, sites[site].line).text
            name = observer.seen.name_of[variable]
            return f"`{name}` ({place}) is {word} from its change number {number} on: {FAILED}"
    return None


def _not_found(observer: ProgramObserver, trees: dict[str, ast.Module], signs: Signs) -> str:
    """Why there is no step, and what helps."""
    if not observer.seen.times:
        waiting = [name for tree in trees.values() for name in async_functions(tree)]
        if waiting:
            return f"no training step was found. The program trains perhaps in {waiting[0]}, which {ASYNC}"
    if signs.reason(signs.stopped is None) is not None:
        return f"no training step was found: {signs.without_step()}"
    found = candidates({path: tree for path, tree in trees.items() if not Path(path).is_relative_to(PACKAGE)})
    to_type = f". These may be the step: {', '.join(f'--step {one}' for one in found)}" if found else ""
    nothing = "" if signs.stopped else ", since nothing is changed repeatedly from its own value, as in W -= rate * dW"
    return f"no training step was found{nothing}: {signs.without_step()}{to_type}"
