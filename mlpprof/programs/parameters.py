"""In the worker: the values that a program's parameters take in its first steps.

Parameters are found by what happens to them: a statement of the step updates them from their own value, and at the next
step they still have the value that they got. An activation (``z += b``) or a gradient that is zeroed does not last so.
A parameter is identified by a place of the program, and by the number of the update there (that of a layer).
"""

from __future__ import annotations

import ast
import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlpprof.instrument.rewriting import Site, copied
from mlpprof.programs.find_step.choose import buffers, growing_sums
from mlpprof.programs.find_step.rewrite import SeekForm
from mlpprof.programs.find_step.watch_run import is_quiet
from mlpprof.programs.load import Program
from mlpprof.programs.patience import Patience
from mlpprof.programs.pause import GatedForms, run_gated
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.hooks import (
    BEGIN,
    CALLED,
    CHANGING,
    END,
    LEAVE,
    LOOP,
    MULTIPLIED,
    QUIET,
    RETURNED,
    TURN,
    UPDATED,
)
from mlpprof.programs.record.schedule import Enough
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.writes import Writes

MOST_BYTES = 100_000_000
"""The values after all steps are kept; if they would take more memory than this, fewer steps are compared."""

LONGEST_S = 30.0
"""After so many seconds of steps no further step is recorded, if there are two."""

MOST_LEAVES = 10_000
"""If a list or a dictionary is replaced, no more of its arrays are looked at."""

ArrayWay = tuple[int, int, tuple[str, ...]]
"""The number of a site, which update of the step there it is, and the way to the array in a list or dictionary."""


@dataclass(frozen=True)
class Parameter:
    """A parameter and its values, (1 + steps, *shape): before the first step, and after each.

    name: as its last name in the program, such as W. key: which item of the name it is, if it is one. is_sum: the
    program only adds to it, as to a velocity.
    """

    name: str
    key: str
    dtype: str
    values: Array
    is_sum: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter."""
        return tuple(self.values.shape[1:])

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def text(self) -> str:
        """'W[0] (30, 784)'."""
        return f"{self.name}{self.key} {self.shape}"


@dataclass
class _Values:
    """What is known of one place. latest: the array, or the list of numbers, itself."""

    name: str
    key: str
    start: Array
    latest: Any
    after: list[Array] = field(default_factory=list)
    lasts: bool = False


class ParameterRecorder:
    """Keeps what the step updates. most_steps: after so many, the program has done enough."""

    def __init__(self, most_steps: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._most, self._clock = most_steps, clock
        self._found: dict[ArrayWay, _Values] = {}
        self._same: dict[ArrayWay, ArrayWay] = {}
        self._counts: dict[int, int] = defaultdict(int)
        self._elements: dict[tuple[int, int], int] = {}
        self._inside = 0
        self._begun_s = 0.0
        self.count = 0
        self.is_done = False
        self.hooks: dict[str, Any] = {
            **dict.fromkeys((CALLED, RETURNED, LOOP, TURN, LEAVE), lambda site: None),
            MULTIPLIED: lambda value: value,
            QUIET: is_quiet,
            BEGIN: self._begin,
            END: self._end,
            CHANGING: self._changing,
            UPDATED: self._updated,
        }

    def _begin(self, is_turn: bool) -> None:
        if self.is_done:
            raise Enough
        self._inside += 1
        if self._inside == 1:
            self._counts.clear()
            self._elements.clear()
            if self.count == 0:
                self._begun_s = self._clock()

    def _end(self, is_turn: bool) -> None:
        self._inside -= 1
        if self._inside:
            return
        self.count += 1
        if self.count == 2:  # now it is known what lasts
            self._found = {place: one for place, one in self._found.items() if one.lasts}
        for one in self._found.values():
            one.after.append(_copy(one.latest))
        if self.count == 2:
            size = sum(one.start.nbytes for one in self._found.values())
            self._most = max(2, min(self._most, MOST_BYTES // max(1, size)))
        is_late = self.count >= 2 and self._clock() - self._begun_s > LONGEST_S
        if self.count >= self._most or is_late:
            self.is_done = True
            raise Enough

    def _place(self, site: int, owner: Any, value: Any) -> tuple[int, Any]:
        """The number of this update at its site, and what is updated; all elements of one list are one update."""
        is_element = isinstance(owner, list) and isinstance(value, float | np.generic)
        if not is_element and not isinstance(owner, np.ndarray):
            return self._counts[site], value
        number = self._elements.get((site, id(owner)))
        return self._counts[site] if number is None else number, owner

    def _changing(self, site: int, name: str, owner: Any, key: Any, value: Any, in_place: bool) -> None:
        """A statement is about to update something."""
        if not self._inside or self.count > 1:
            return
        number, whole = self._place(site, owner, value)
        if (site, id(owner)) in self._elements and whole is owner:
            return
        for way, leaf in _leaves(whole):
            place = (site, number, way)
            if self.count == 0:
                same = next((other for other, one in self._found.items() if _is_same(one.latest, leaf)), None)
                if same is not None:
                    self._same[place] = same
                else:
                    text = "".join((f"[{key!r}]" if whole is not owner and isinstance(key, int) else "", *way))
                    self._found[place] = _Values(name, text, _copy(leaf), leaf)
            elif (known := self._found.get(place)) is not None and known.after:
                known.lasts = np.array_equal(_copy(leaf), known.after[0], equal_nan=True)

    def _updated(self, site: int, name: str, owner: Any, key: Any, value: Any, in_place: bool) -> None:
        """It has been updated."""
        if not self._inside:
            return
        number, whole = self._place(site, owner, value)
        if whole is owner:
            if (site, id(owner)) in self._elements:
                return
            self._elements[site, id(owner)] = number
        self._counts[site] += 1
        for way, leaf in _leaves(whole):
            place = (site, number, way)
            known = self._found.get(self._same.get(place, place))
            if known is not None:
                known.latest = leaf

    def parameters(self, sums: set[str]) -> list[Parameter]:
        """Those that last; all of them after a single step, since nothing is known then. sums: see `growing_sums`."""
        kept = []
        for one in self._found.values():
            if one.after and (one.lasts or self.count == 1) and all(one.start.shape == x.shape for x in one.after):
                dtype = str(np.asarray(one.latest).dtype)
                values = np.array([one.start, *one.after])
                kept.append(Parameter(one.name, one.key, dtype, values, one.name in sums))
        return [one for one in kept if one.values.ndim > 1] or kept  # single numbers if there is nothing else


def _leaves(value: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The arrays, lists of numbers and numbers in a value, each with the way to it."""
    for count, found in enumerate(_nested(value, way)):
        if count == MOST_LEAVES:
            return
        yield found


def _nested(value: Any, way: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, bool | int | str | bytes):
        return
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            yield way, value
        elif value.dtype.hasobject:
            for number, item in enumerate(value.ravel()):
                yield from _nested(item, (*way, f"[{number}]"))
    elif isinstance(value, float | np.floating):
        yield way, value
    elif isinstance(value, list | tuple):
        if value and all(isinstance(one, float) for one in value):
            yield way, value
        else:
            for number, item in enumerate(value):
                yield from _nested(item, (*way, f"[{number}]"))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nested(item, (*way, f"[{key!r}]"))
    elif dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from _nested(getattr(value, one.name, None), (*way, f".{one.name}"))


def _copy(leaf: Any) -> Array:
    return np.array(leaf, dtype=leaf.dtype if isinstance(leaf, np.ndarray | np.generic) else np.float64)


def _is_same(one: Any, other: Any) -> bool:
    """Whether both are one array, or parts of memory that are one; or the same list."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        start, begin = one.__array_interface__["data"][0], other.__array_interface__["data"][0]
        return bool(start == begin and one.shape == other.shape and one.strides == other.strides)
    return one is other and isinstance(one, list)


class ParameterForm(SeekForm):
    """Rewrites a program as the search of the step does, and reports each update before it happens as well."""

    def visit_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        return _reported_before(super().visit_AugAssign(node))

    def visit_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        return _reported_before(super().visit_Assign(node))

    def visit_Expr(self, node: ast.Expr) -> list[ast.stmt]:
        return _reported_before(super().visit_Expr(node))


def _reported_before(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The update and its reports, preceded by the same reports with the value before; there may be none yet."""
    _, *reports = statements
    early = copied(reports)
    for one in early:
        assert isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)
        one.value.func = ast.Name(CHANGING, ast.Load())
    unknown = [ast.Name(name, ast.Load()) for name in ("NameError", "AttributeError", "LookupError")]
    handler = ast.ExceptHandler(ast.Tuple(list(unknown), ast.Load()), None, [ast.Pass()])
    return [*(ast.Try([one], [handler], [], []) for one in early), *statements]


def record_parameters(
    program: Program,
    step: StepPlace,
    most_steps: int,
    writes: Writes | None = None,
    patience: Patience | None = None,
) -> tuple[list[Parameter], int, bool]:
    """The parameters of a program in its first steps, the number of those, and whether the program makes no more.

    Raises UsageError if the step never ran, and what the program's `run` raises.
    """
    recorder = ParameterRecorder(most_steps)
    sites: list[Site] = []

    def form(path: str, tree: ast.Module) -> ast.Module:
        rewritten = ParameterForm(sites, {}, path, tree).visit(tree)
        assert isinstance(rewritten, ast.Module)
        return rewritten

    forms = GatedForms(step, form)
    has_ended = run_gated(
        program,
        forms,
        recorder.hooks,
        lambda: recorder.count > 0,
        lambda: recorder.is_done,
        lambda: recorder.count,
        writes,
        patience or Patience(waiting_s=program.wait_s),
    )
    trees = {path: ast.parse(source, path) for path, source in forms.sources.items()}
    return recorder.parameters(growing_sums(trees) | buffers(trees)), recorder.count, has_ended and not recorder.is_done
