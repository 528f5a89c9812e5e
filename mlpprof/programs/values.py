"""What some statements of a program compute, and how long they take, so that two versions of them can be compared."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType
from typing import Any
from zlib import crc32

import numpy as np

from mlpprof.errors import UsageError
from mlpprof.process import PULSE
from mlpprof.programs.load import Program
from mlpprof.programs.patience import watched
from mlpprof.programs.record import hooks
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.schedule import Enough, end_threads_quietly
from mlpprof.programs.writes import Writes

MOST_EXECUTIONS, LONGEST_S = 10, 10.0
"""The program is ended after so many executions, or so many seconds after the first one has begun."""

LARGEST = 4_000_000
"""If a value has more numbers, only its checksum and its shape are noted: to compare all numbers would take longer than
the statements do."""

RETURN = "return"
"""The name under which a returned value is noted; no variable can have it."""


@dataclass(frozen=True)
class Lines:
    """Statements of one block. path: their file. first, last: lines, 1-based. names: variables that they leave."""

    path: str
    first: int
    last: int
    names: tuple[str, ...]


def statements_of(tree: ast.Module, first: int, last: int) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """The statements that begin in some lines, without those inside them, and their block; both empty if none does."""
    for node in ast.walk(tree):  # the outermost block comes first
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if not isinstance(block, list):
                continue
            inside = [one for one in block if one.lineno <= last and (one.end_lineno or 0) >= first]
            if inside and inside[0].lineno >= first:
                return inside, block
    return [], []


@dataclass
class Executions:
    """Hooks around some statements. values: of each execution, by name; seconds: that it took."""

    lines: Lines
    clock: Callable[[], float] = time.perf_counter
    values: list[dict[str, Array]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    is_done: bool = False
    _began_s: float = 0.0
    _first_s: float | None = None

    @property
    def hooks(self) -> dict[str, Any]:
        """What the statements call."""
        return {hooks.BEFORE: self._before, hooks.AFTER: self._after}

    def compiled(self, path: str, source: str) -> CodeType:
        """The code of a file, with the hooks around the statements if they are in it."""
        tree = ast.parse(source, path)
        inside, block = statements_of(tree, self.lines.first, self.lines.last) if path == self.lines.path else ([], [])
        if inside:
            at = block.index(inside[0])
            before = ast.parse(f"{hooks.BEFORE}()").body
            after = ast.parse(f"{hooks.AFTER}(locals())").body
            block[at : at + len(inside)] = [*before, *(_Returning().visit(one) for one in inside), *after]
        code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
        return code

    def _before(self) -> None:
        self._began_s = self.clock()
        self._first_s = self._began_s if self._first_s is None else self._first_s

    def _after(self, variables: dict[str, Any], returned: object = None) -> object:
        now_s = self.clock()
        if not self.is_done:
            self.seconds.append(now_s - self._began_s)
            wanted = {**variables, RETURN: returned}
            held = {name: as_array(wanted[name]) for name in self.lines.names if name in wanted}
            self.values.append({name: value for name, value in held.items() if value is not None})
            if len(self.seconds) >= MOST_EXECUTIONS or now_s - (self._first_s or now_s) > LONGEST_S:
                self.is_done = True
                raise Enough
        return returned


class _Returning(ast.NodeTransformer):
    """Hands a returned value to the hook first; functions within the statements are left alone."""

    def visit_Return(self, node: ast.Return) -> ast.Return:
        value = node.value or ast.Constant(None)
        here: Any = ast.parse(f"{hooks.AFTER}(locals())", mode="eval").body
        here.args.append(value)
        return ast.copy_location(ast.Return(here), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        return node


def as_array(value: object) -> Array | None:
    """A copy of a value as an array of numbers, or its checksum and shape if it is large; None if it is none."""
    try:
        found = np.array(value)
    except (TypeError, ValueError):
        return None
    if found.dtype.kind not in "biufc":
        return None
    return found if found.size <= LARGEST else np.array([crc32(np.ascontiguousarray(found).data), *found.shape])


def record_values(program: Program, lines: Lines, writes: Writes | None) -> Executions:
    """Run a program until some statements have been executed a few times, or until it ends.

    Raises UsageError if they never were, and what the program's `run` raises.
    """
    seen = Executions(lines)
    end_threads_quietly()
    hooks.install(seen.hooks)
    if writes is not None:
        writes.is_enough = lambda: bool(seen.seconds)

    def is_over(passed_s: float) -> bool:
        if passed_s <= program.wait_s or seen.seconds:
            PULSE.beat(len(seen.seconds) or None)
        is_late = not seen.seconds and passed_s > program.wait_s
        return seen.is_done or is_late or (writes is not None and writes.must_end)

    with watched(is_over):
        program.run(seen.compiled)
    if not seen.seconds:
        raise UsageError("the program did not come to the changed lines")
    return seen
