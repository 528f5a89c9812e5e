"""The training step of a program, found: the innermost repeated call or turn of a loop that changes the parameters.

Parameters are what is changed again and again, from its own value: arrays, lists of numbers, at last single numbers.
Sums that grow (gradients, velocities) start from zero and are read in updates only: they are none. A call that changes
all parameters and holds hardly any of the products, as `optimizer.step()`, is a part of the step and not the step.
"""

from __future__ import annotations

import ast
import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from types import CodeType
from typing import Any

import numpy as np

from mlpprof.advise import hooks
from mlpprof.advise.hooks import CALLED, LEAVE, LOOP, MULTIPLIED, QUIET, RETURNED, TURN, UPDATED
from mlpprof.advise.identity import Roots
from mlpprof.advise.own_files import load_through, own_files
from mlpprof.advise.program import Script, VariantLoop
from mlpprof.advise.seek_form import SeekForm
from mlpprof.advise.seek_sums import growing_sums
from mlpprof.advise.steps import Enough
from mlpprof.errors import UsageError
from mlpprof.instrument.rewriting import Site

LOOKING_S, LONGEST_S = 2.0, 5.0
"""After the first update: what is looked at in any case, and at most if the step is long."""

ENOUGH_TIMES = 5
LEAST_COVERED, LEAST_PRODUCTS, LEAST_TIME = 0.9, 0.7, 0.5
LEAST_TOGETHER = 0.6
OFTEN = 0.4
"""Of the times that the most frequent parameter is changed: what is changed less often is no parameter."""

Slot = tuple[Any, ...]


@dataclass
class Run:
    """One call of a function, or one turn of a loop, that changed something."""

    site: int
    depth: int
    start_s: float
    products: int
    slots: set[Slot] = field(default_factory=set)
    spent_s: float = 0.0


class Observer:
    """Keeps the calls and turns that run, and what each changes. clock: seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: list[Run] = []
        self._products = 0
        self._first_s: float | None = None
        self._next_look_s = 0.0
        self._roots = Roots(lambda: 0)
        self._kept: dict[int, Any] = {}
        self._frames = 0
        self.runs: dict[int, list[Run]] = defaultdict(list)
        self.times: dict[Slot, int] = defaultdict(int)
        self.name_of: dict[Slot, str] = {}
        self.is_number: dict[Slot, bool] = {}
        self.is_done: Callable[[], bool] = lambda: False
        self.has_ended = False
        self.functions: set[int] = set()
        self.hooks: dict[str, Any] = {
            CALLED: self._begin,
            RETURNED: self._end,
            LOOP: lambda site: None,
            TURN: self._turn,
            LEAVE: self._end,
            MULTIPLIED: self._multiplied,
            UPDATED: self._updated,
            QUIET: is_quiet,
        }

    def _begin(self, site: int) -> None:
        self._open.append(Run(site, len(self._open), self._clock(), self._products))

    def _turn(self, site: int) -> None:
        if self.has_ended:  # the program has caught it
            raise Enough
        self._end(site)
        self._begin(site)

    def _end(self, site: int) -> None:
        if not self._open or (self._open[-1].site != site and not any(run.site == site for run in self._open)):
            return
        while self._open:
            run = self._open.pop()
            if run.slots:
                run.spent_s = self._clock() - run.start_s
                run.products = self._products - run.products
                self.runs[run.site].append(run)
            if run.site == site:
                break
        self._look()

    def _multiplied(self, value: Any) -> Any:
        self._products += 1
        return value

    def _updated(self, site: int, name: str, owner: Any, key: Any, value: Any, in_place: bool) -> None:
        slot = self._slot(site, owner, key, value, in_place)
        if slot is None:
            return
        if self._first_s is None:
            self._first_s = self._clock()
            self._next_look_s = self._first_s + LOOKING_S
        self.times[slot] += 1
        self.name_of[slot] = name
        self.is_number[slot] = isinstance(value, float | np.generic) and not isinstance(owner, list | np.ndarray)
        for run in self._open:
            run.slots.add(slot)

    def _slot(self, site: int, owner: Any, key: Any, value: Any, in_place: bool) -> Slot | None:
        """What is changed: an array's memory, a part of an object, or a name in a call; None of no parameter."""
        if isinstance(value, bool | int | str | bytes) or (isinstance(value, np.ndarray) and value.dtype.kind != "f"):
            return None
        if isinstance(owner, str):
            return ("global", owner, key)
        if isinstance(owner, np.ndarray):
            return ("array", self._roots.number(owner))
        if isinstance(value, np.ndarray) and in_place:
            return ("array", self._roots.number(value))
        if owner is not None:
            self._kept[id(owner)] = owner  # so that nothing else gets its number
            if isinstance(owner, list) and isinstance(value, float | np.generic):
                return ("numbers", id(owner))
            return ("part", id(owner), key if isinstance(key, str | int | tuple) else None)
        return None if isinstance(value, float | np.generic) else ("name", site, self._frame())  # a number is a sum

    def _frame(self) -> float:
        """The call that a local name belongs to."""
        return next((run.start_s for run in reversed(self._open) if run.site in self.functions), 0.0)

    def _look(self) -> None:
        if self._first_s is None or self.has_ended:
            return
        now = self._clock()
        if now < self._next_look_s:
            return
        self._next_look_s = now + 0.5
        if now > self._first_s + LONGEST_S or self.is_done():
            self.has_ended = True
            raise Enough


def is_quiet(owner: Any, key: Any, is_attribute: bool) -> bool:
    """Whether the attribute `key`, or `owner[key]`, is read without code of the program's own being run."""
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


def seek(program: Script | VariantLoop, include: Sequence[str], exclude: Sequence[str]) -> str:
    """The step of a program as 'file.py:Class.method' or 'file.py:LINE'. Raises UsageError if there is none."""
    is_own = own_files(include, exclude)
    sites: list[Site] = []
    names: dict[int, str] = {}
    trees: dict[str, ast.Module] = {}
    observer = Observer(time.perf_counter)

    def compiled(path: str, source: str) -> CodeType:
        trees[path] = ast.parse(source, path)
        tree = ast.parse(source, path)
        form = SeekForm(sites, names, path, tree)
        rewritten = ast.fix_missing_locations(form.visit(tree))
        observer.functions = {number for number, name in names.items() if name}
        code: CodeType = compile(rewritten, path, "exec", dont_inherit=True)
        return code

    def is_done() -> bool:
        found = choose(observer, trees)
        return found is not None and len(observer.runs[found]) >= ENOUGH_TIMES

    observer.is_done = is_done
    hooks.install(observer.hooks)
    load_through(is_own, compiled)
    program.run(compiled)
    site = choose(observer, trees)
    if site is None:
        raise UsageError(
            "no training step was found: nothing is changed again and again from its own value, as in W -= rate * dW; "
            "name the step with --step Class.method, or with the line of the loop whose body it is"
        )
    place = sites[site]
    return f"{Path(place.file).name}:{names[site] or place.line}"


def choose(observer: Observer, trees: dict[str, ast.Module]) -> int | None:
    """The site of the step, as far as is known."""
    slots = _parameters(observer, trees)
    if not slots:
        return None
    covering = {}
    for site, runs in observer.runs.items():
        changing = [len(run.slots & slots) / len(slots) for run in runs if run.slots & slots]
        if changing and median(changing) >= LEAST_COVERED:
            covering[site] = [run for run in runs if run.slots & slots]
    if not covering:
        return None
    most = max(len(runs) for runs in covering.values())
    often = {
        site: runs for site, runs in covering.items() if len(runs) >= 0.9 * most - 1 and (most < 2 or len(runs) > 1)
    }
    outermost = min(often, key=lambda site: median(run.depth for run in often[site]))
    whole = often[outermost]
    products, spent = median(run.products for run in whole), median(run.spent_s for run in whole)

    def is_step(site: int) -> bool:
        runs = often[site]
        if products:
            return median(run.products for run in runs) >= LEAST_PRODUCTS * products
        return median(run.spent_s for run in runs) >= LEAST_TIME * spent

    return max((site for site in often if is_step(site)), key=lambda site: median(run.depth for run in often[site]))


def _parameters(observer: Observer, trees: dict[str, ast.Module]) -> set[Slot]:
    """What is changed more than once, without sums, and without what is changed more seldom than the rest."""
    again = _lasting(observer)
    arrays = {slot for slot in again if not observer.is_number[slot]}
    found = arrays or again
    sums = growing_sums(trees)
    kept = {slot for slot in found if observer.name_of[slot] not in sums} or found
    if not kept:  # a single step
        kept = {slot for slot in observer.times if not observer.is_number[slot]}
    return _frequent(kept, observer)


def _frequent(slots: set[Slot], observer: Observer) -> set[Slot]:
    """Without what is changed more seldom than the rest: counted where half of all is changed together."""
    halves = [
        runs
        for runs in observer.runs.values()
        if slots and median(len(run.slots & slots) for run in runs) >= LEAST_TOGETHER * len(slots)
    ]
    if not halves:
        return slots
    runs = max(halves, key=len)
    times = {slot: sum(slot in run.slots for run in runs) for slot in slots}
    return {slot for slot in slots if times[slot] >= OFTEN * max(times.values())}


def _lasting(observer: Observer) -> set[Slot]:
    """What is changed in more than one turn of the outermost loop, or call, that runs more than once."""
    by_depth = sorted((runs for runs in observer.runs.values() if len(runs) > 1), key=lambda runs: runs[0].depth)
    for runs in by_depth:
        times: dict[Slot, int] = defaultdict(int)
        for run in runs:
            for slot in run.slots:
                times[slot] += 1
        if found := {slot for slot, count in times.items() if count > 1}:
            return found
    return set()
