"""The edit that replaces a loop over rows, columns, neurons or single numbers by operations on the whole arrays.

The statements of the loop are read in index notation (`editing/index_notation.py`): each of its variables becomes an
axis, and the operations on what a turn takes become operations on all of it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.index_notation import (
    ATOM,
    LOOSE,
    WHOLE,
    Axes,
    Axis,
    Leaf,
    NotLifted,
    Tensor,
    elementwise,
    held,
    number,
    product,
    total,
)
from mlpprof.advise.editing.recorded_code import Frame, RecordedCode, code_of, inside, is_path, names_in
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import LoopRun

Comprehension = ast.ListComp | ast.GeneratorExp

BINARY: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
COMPARED: dict[type[ast.cmpop], str] = {ast.Gt: ">", ast.Lt: "<", ast.GtE: ">=", ast.LtE: "<="}
UFUNCS = {
    **dict.fromkeys(("exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "sqrt", "abs", "absolute", "square"), 1),
    "sign": 1,
    **dict.fromkeys(("maximum", "minimum", "power", "multiply", "add", "subtract", "divide"), 2),
    **dict.fromkeys(("where", "clip"), 3),
}
"""NumPy's functions that work element by element, with the number of their operands (a further one is `out`)."""

OF_NUMBERS = {"max": "maximum", "min": "minimum", "abs": "abs"}
"""Python's functions of numbers, with those of NumPy that have as many operands."""

STACKING = {"array": 0, "asarray": 0, "vstack": 0, "stack": 0, "row_stack": 0, "column_stack": 1}
"""Functions that make one array of a list, with the axis that the list becomes."""

NEW = frozenset(("zeros", "zeros_like", "empty", "empty_like"))
"""Functions that make an array to be filled."""


@dataclass(frozen=True)
class Index:
    """A loop's variable that counts. bounds: the texts of the range."""

    axis: str
    bounds: tuple[str, str]


@dataclass
class Lines:
    """The statements that a loop becomes. replaced: statements before it that they replace as well."""

    texts: list[str] = field(default_factory=list)
    replaced: list[ast.stmt] = field(default_factory=list)


def at_once(node: ast.AST | None, executions: Sequence[LoopRun], graph: Graph) -> list[Cure]:
    """The edits of a loop, the best first: a `for` statement, or a comprehension of which one array is made."""
    code = code_of(graph)
    numpy = code.numpy_name(code.file(node)) if node is not None else None
    if numpy is None or not isinstance(node, ast.For | Comprehension | ast.Call):
        return []
    found = []
    for is_merged in (True, False):
        lifting = _Lifting(code, numpy, executions, is_merged)
        try:
            edit = lifting.of_loop(node) if isinstance(node, ast.For) else lifting.of_expression(node)
        except NotLifted:
            continue
        if edit is not None and edit not in found:
            found.append(edit)
    return found


class _Lifting:
    """Reads the statements of one loop.

    is_merged: an array that is made only to be filled by the loop is left out, and the result takes its name.
    """

    def __init__(self, code: RecordedCode, numpy: str, executions: Sequence[LoopRun], is_merged: bool) -> None:
        self._code, self._numpy, self._is_merged = code, numpy, is_merged
        self._executions = executions
        self._known: dict[str, Tensor] = {}
        self._indices: dict[str, Index] = {}
        self._axes: list[str] = []
        self._begun: dict[str, int] = {}
        """For each name that a turn sets: how many loops were entered before."""
        self._fresh: set[str] = set()
        """Names whose array a turn makes, so that it may be changed in place."""
        self._unreadable: set[str] = set()
        """Names that hold what an earlier turn has left in them, or a sum that is not complete."""
        self._locals: set[str] = set()
        """All names that the turns set for themselves."""
        self._loops: list[ast.For] = []

    # Statements

    def of_loop(self, loop: ast.For) -> Cure | None:
        """The edit of a `for` statement."""
        if loop.orelse:
            return None
        lines = Lines()
        _require_own_places(loop)
        self._loop(loop, (), lines)
        self._require_local(loop)
        if not lines.texts:
            return None
        edits = Edits(self._code)
        for text in lines.texts[:-1]:
            edits.insert_before(loop, text)
        edits.replace_statement(loop, lines.texts[-1])
        for one in lines.replaced:
            edits.remove(one)
        return edits.cure()

    def _loop(self, loop: ast.For, nest: tuple[str, ...], lines: Lines) -> None:
        """The statements of a loop. No turn may read a name that it has not set before, nor a sum that still grows."""
        stored = _stored_names(loop)
        summed = {*_sums(loop)} - stored
        before = set(self._unreadable)
        self._forget(stored)
        axis = self._enter(loop.target, loop.iter)
        self._unreadable |= summed
        self._loops.append(loop)
        for one in loop.body:
            self._statement(one, (*nest, axis), lines, loop)
        self._loops.pop()
        self._unreadable -= summed - before
        self._forget(stored)

    def _forget(self, names: set[str]) -> None:
        for name in names:
            self._known.pop(name, None)
            self._indices.pop(name, None)
        self._unreadable |= names

    def _require_readable(self, node: ast.AST) -> None:
        if names_in(node) & self._unreadable:
            raise NotLifted

    def _statement(self, one: ast.stmt, nest: tuple[str, ...], lines: Lines, loop: ast.For) -> None:
        match one:
            case ast.For(orelse=[]):
                self._loop(one, nest, lines)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call) if _appended(call, name) is not None:
                self._append(name, call, nest, lines, loop)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._known[name] = lifted = self._lifted(value)
                self._begun[name] = len(self._axes)
                self._unreadable.discard(name)
                self._locals.add(name)
                is_view = (
                    is_path(value) or not isinstance(value, ast.Call) or _last_name(value.func) not in {*NEW, "copy"}
                )
                (self._fresh.discard if isinstance(lifted, Leaf) and is_view else self._fresh.add)(name)
            case ast.Assign(targets=[ast.Subscript() as target], value=value):
                self._store(target, "=", self._lifted(value), nest, lines, loop)
            case ast.AugAssign(target=ast.Subscript() as target, op=op, value=value) if type(op) in BINARY:
                self._store(target, f"{BINARY[type(op)]}=", self._lifted(value), nest, lines, loop)
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add() | ast.Sub() as op, value=value):
                self._accumulate(name, BINARY[type(op)], self._lifted(value), nest, lines, loop)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case _:
                raise NotLifted

    def _append(self, name: str, call: ast.Call, nest: tuple[str, ...], lines: Lines, loop: ast.For) -> None:
        """A row that every turn appends to an array, which begins without rows."""
        row = _appended(call, name)
        made = self._maker(name, loop)
        if row is None or made is None or len(nest) != 1 or not self._is_merged:
            raise NotLifted
        rows = self._lifted(row)
        own = [one for one in rows.axes if isinstance(one, int)]
        if nest[0] not in rows.axes or len(own) != 1:
            raise NotLifted
        lines.replaced.append(made)
        text, _ = rows.aligned((nest[0], *own), self._numpy)
        lines.texts.append(f"{name} = {self._numpy}.array({text})")

    def _accumulate(
        self, name: str, operator: str, value: Tensor, nest: tuple[str, ...], lines: Lines, loop: ast.For
    ) -> None:
        """A sum that grows: of a name that the loop itself sets, or of one that is there before the loop."""
        known = self._known.get(name)
        is_array = isinstance(known, Leaf) and any(isinstance(one, int) for one in known.axes)
        if (known is not None and name not in self._begun) or (is_array and name not in self._fresh):
            raise NotLifted  # the loop's own variable, or a view: what it shows would not be changed
        if known is None and name in self._locals:
            raise NotLifted
        for axis in reversed(nest):
            if known is None or self._axes.index(axis) >= self._begun[name]:
                value = total(value, axis)
        if known is None:
            text, _ = value.text(_usual(value.axes), self._numpy)
            if any(isinstance(one, str) for one in value.axes):
                raise NotLifted
            self._write(name, f"{operator}=", value, text, lines, loop, is_filled=operator == "+")
        elif isinstance(known, Leaf) and operator == "+" and _is_nothing(known, value):
            self._known[name] = value
        else:
            self._known[name] = elementwise(operator, known, value)

    def _store(
        self, target: ast.Subscript, operator: str, value: Tensor, nest: tuple[str, ...], lines: Lines, loop: ast.For
    ) -> None:
        place = self._place(target)
        self._outdate(target)
        is_gathered = any(isinstance(one, ast.Name) and one.id in self._known for one in _keys(target))
        if operator != "=" and is_gathered:
            raise NotLifted  # an index that occurs twice counts once in an array
        summed = [number for number, axis in enumerate(nest) if axis not in place.axes]
        if summed:
            if operator not in ("+=", "-=") or len(_reads(self._loops[summed[0]], target)) > 1:
                raise NotLifted
            for number in reversed(summed):
                value = total(value, nest[number])
        if not set(value.axes) <= set(place.axes) or not isinstance(place, Leaf):
            raise NotLifted
        text, _ = value.aligned(place.axes, self._numpy)
        bases = [target.value]
        while isinstance(bases[-1], ast.Subscript):
            bases.append(bases[-1].value)
        if operator == "=" and any(map(self._is_list, bases)):
            if not isinstance(target.value, ast.Name):
                raise NotLifted
            is_whole = place.written == f"{self._numpy}.asarray({self._source(target.value)})"
            if not is_whole or set(value.axes) != set(place.axes) or not self._may_be_array(target.value, loop):
                raise NotLifted
            made = self._maker(target.value.id, loop) if self._is_merged else None
            lines.replaced += [made] if made is not None else []
            lines.texts.append(f"{target.value.id} = {self._copied(value, text)}")
            return
        if place.written not in map(self._source, bases):  # only a part of it
            if not place.written.endswith("]"):
                raise NotLifted
            lines.texts.append(f"{place.written} {operator} {text}")
            return
        is_filled = operator == "=" and set(value.axes) == set(place.axes)
        self._write(place.written, operator, value, text, lines, loop, is_filled)

    def _outdate(self, target: ast.Subscript) -> None:
        """Forget what a turn has read from an array before it stores into it: the text would read it afterwards."""
        base = self._source(_base(target))
        if base in self._fresh:
            raise NotLifted  # an array of the turn itself, which has no name outside
        of_base = re.compile(rf"(?<![\w.]){re.escape(base)}(?!\w)")
        for name, value in self._known.items():
            if of_base.search(value.text(value.axes, self._numpy)[0]):
                self._unreadable.add(name)

    def _copied(self, value: Tensor, text: str) -> str:
        """The text of an array that may be changed: a copy of what is another array, or a view of one."""
        return f"{self._numpy}.array({text})" if isinstance(value, Leaf) else text

    def _write(
        self, name: str, operator: str, value: Tensor, text: str, lines: Lines, loop: ast.For, is_filled: bool
    ) -> None:
        """The statement that stores all results."""
        if is_filled and self._is_merged and name.isidentifier() and not isinstance(value, Leaf):
            made = self._maker(name, loop)
            if made is not None and made not in lines.replaced and self._is_alike(made, value):
                lines.replaced.append(made)
                lines.texts.append(f"{name} = {text}")
                return
        scope = self._code.scope(loop)
        is_outer = isinstance(scope, ast.FunctionDef) and name.isidentifier() and not self._code.bindings(name, scope)
        lines.texts.append(f"{name}{'[:]' if operator == '=' or is_outer else ''} {operator} {text}")

    def _maker(self, name: str, loop: ast.For) -> ast.stmt | None:
        """The statement that makes an array of zeros, or nothing, just for the loop to fill."""
        block = self._code.block(loop)
        for one in reversed(block[: block.index(loop)]):
            match one:
                case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                    is_zero = isinstance(value, ast.Constant) and value.value == 0
                    is_new = isinstance(value, ast.Call) and _last_name(value.func) in NEW
                    is_new = is_new or (isinstance(value, ast.BinOp) and isinstance(value.left, ast.List))
                    return one if is_zero or is_new else None
            if name in names_in(one):
                return None
        return None

    def _is_alike(self, made: ast.stmt, value: Tensor) -> bool:
        """Whether what a statement makes has the dtype and the number of axes of the value that would replace it."""
        match made:
            case ast.Assign(value=ast.Constant(value=int())):
                return True
            case ast.Assign(value=ast.Constant()):
                return value.kind().startswith("float")
            case ast.Assign(value=new):
                arrays = self._arrays(new)
                kinds = {(array.dtype.name, array.ndim) for array in arrays}
                return kinds == {(value.kind(), len(value.axes))} and value.kind().startswith("float")
        return False

    def _may_be_array(self, base: ast.expr, loop: ast.For) -> bool:
        """Whether all code that uses a list, apart from the loop, does the same with an array."""
        within = {id(one) for one in ast.walk(loop)}
        for one in ast.walk(self._code.scope(loop)):
            if not isinstance(one, ast.Name) or one.id != self._source(base) or id(one) in within:
                continue
            match self._code.parent(one):
                case ast.Assign(targets=[ast.Name()]) if isinstance(one.ctx, ast.Store):
                    continue
                case ast.Subscript(value=held, slice=key, ctx=ast.Load()) if held is one:
                    if not isinstance(key, ast.Slice | ast.Tuple):
                        continue
                case ast.For(iter=held) | ast.comprehension(iter=held) if held is one:
                    continue
                case ast.Call(func=ast.Name(id="len" | "sum" | "zip" | "enumerate")):
                    continue
                case ast.Call(func=ast.Attribute(value=ast.Name(id=module))) if module == self._numpy:
                    continue
            return False
        return True

    def _require_local(self, loop: ast.For) -> None:
        """Raise NotLifted if other code reads what one of the loop's turns has left.

        A name may be read again where a statement before has always set it anew.
        """
        code, scope = self._code, self._code.scope(loop)
        within = {id(one) for one in ast.walk(loop)}
        around = next((one for one in reversed([*code.around(loop)]) if isinstance(one, ast.For | ast.While)), None)
        again = {id(one) for one in ast.walk(around)} if around is not None else set()
        own = {id(one) for one in inside(scope)}
        names = self._locals
        if any(isinstance(one, ast.Global | ast.Nonlocal) and names & {*one.names} for one in inside(scope)):
            raise NotLifted
        uses = [one for one in ast.walk(scope) if isinstance(one, ast.Name) and one.id in names]
        for one in (one for one in uses if id(one) not in within):
            is_read = isinstance(one.ctx, ast.Load) or isinstance(code.parent(one), ast.AugAssign)
            if (
                not is_read
                or self._is_of_inner_scope(one, scope)
                or (id(one) in own and one.lineno < loop.lineno and id(one) not in again)
            ):
                continue
            stores = (
                code.statement(other)
                for other in uses
                if other.id == one.id
                and isinstance(other.ctx, ast.Store)
                and id(other) in own
                and id(other) not in within
                and (
                    loop.lineno < other.lineno < one.lineno
                    or (other.lineno < one.lineno < loop.lineno and id(other) in again)
                )
            )
            if not any(
                isinstance(store, ast.Assign | ast.For)
                and store is not code.statement(one)
                and code.is_before(store, code.statement(one))
                for store in stores
            ):
                raise NotLifted

    def _is_of_inner_scope(self, name: ast.Name, scope: ast.AST) -> bool:
        """Whether a comprehension or an inner function binds a name for itself."""
        kinds = ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
        around = takewhile(lambda one: one is not scope, self._code.around(name))
        return any(isinstance(one, kinds) and bool(self._code.bindings(name.id, one)) for one in around)

    # Comprehensions

    def of_expression(self, node: Comprehension | ast.Call) -> Cure | None:
        """The edit of a comprehension, or of a call of `map`, of which one array or a sum is made."""
        whole: ast.expr = node
        value, axis = self._of_each(node)
        above = self._code.parent(whole)
        if isinstance(above, ast.Call) and _last_name(above.func) == "list" and above.args == [whole]:
            whole, above = above, self._code.parent(above)
        if not isinstance(above, ast.Call) or whole not in above.args[:1]:
            return None
        function = _last_name(above.func)
        rest: list[ast.expr | ast.keyword] = [*above.args[1:], *above.keywords]
        own = tuple(sorted(one for one in value.axes if isinstance(one, int)))
        axes: Axes = (axis, *own)
        is_sum = isinstance(above.func, ast.Name) and function == "sum" and not rest
        if is_sum or (function == "sum" and _axis_of(above) == 0):
            value, axes = total(value, axis), own
        elif function in STACKING and (function != "vstack" or len(own) == 1):
            place = _axis_of(above) if function == "stack" else STACKING[function]
            if place is None or place > len(own) or (function == "column_stack" and len(own) != 1):
                return None
            axes = (*own[:place], axis, *own[place:])
            rest = [] if function == "stack" else rest
        else:
            return None
        whole, outer = above, self._code.parent(above)
        if isinstance(outer, ast.Attribute) and outer.attr == "T" and not (rest and not is_sum):
            whole, axes = outer, axes[::-1]
        if not set(value.axes) <= set(axes) or (axis in axes and axis not in value.axes):
            return None
        text = value.aligned(axes, self._numpy)
        if rest and not is_sum and function != "sum":
            options = ", ".join(self._written(one) for one in rest)
            maker = "array" if isinstance(value, Leaf) else "asarray"
            text = f"{self._numpy}.{maker}({text[0]}, {options})", ATOM
        else:
            text = self._copied(value, text[0]), ATOM
        edits = Edits(self._code)
        edits.replace(whole, text[0])
        return edits.cure()

    def _written(self, one: ast.expr | ast.keyword) -> str:
        return f"{one.arg}={self._source(one.value)}" if isinstance(one, ast.keyword) else self._source(one)

    def _of_each(self, node: Comprehension | ast.Call) -> tuple[Tensor, str]:
        """What each item gives, and the axis of the items."""
        match node:
            case ast.ListComp(generators=[one]) | ast.GeneratorExp(generators=[one]) if not one.ifs:
                axis = self._enter(one.target, one.iter)
                return self._of_item(node.elt, names_in(one.target)), axis
            case ast.Call(func=ast.Name(id="map"), args=[ast.Lambda(args=arguments, body=body), items]):
                names = [one.arg for one in arguments.args]
                if len(names) == 1 and not arguments.defaults:
                    axis = self._enter(ast.Name(names[0], ast.Store()), items)
                    return self._of_item(body, {*names}), axis
        raise NotLifted

    def _of_item(self, node: ast.expr, names: set[str]) -> Tensor:
        """What an item gives; its names are forgotten afterwards."""
        found = self._lifted(node)
        for name in names:
            self._known.pop(name, None)
            self._indices.pop(name, None)
        self._locals -= names
        return found

    # What a loop runs over

    def _enter(self, target: ast.expr, items: ast.expr) -> str:
        """The names of a loop get their values; the axis that its turns become."""
        axis = f"axis {len(self._axes)}"
        self._axes.append(axis)
        match items, target:
            case ast.Call(func=ast.Name(id="enumerate"), args=[inner], keywords=[]), ast.Tuple(elts=[counter, item]):
                self._bind(item, inner, axis)
                self._bind(counter, ast.parse(f"range(len({self._source(inner)}))", mode="eval").body, axis)
            case ast.Call(func=ast.Name(id="zip"), args=parts, keywords=[]), ast.Tuple(elts=names) if len(parts) == len(
                names
            ):
                for name, part in zip(names, parts, strict=True):
                    self._bind(name, part, axis)
            case ast.Call(func=ast.Attribute(attr="ndenumerate"), args=[array]), ast.Tuple(
                elts=[ast.Name(id=place), ast.Name(id=item)]
            ) if is_path(array) and not names_in(array) & self._names():
                self._require_readable(array)
                self._known[item] = Leaf((axis,), self._source(array), of=self._kind(array))
                self._locals |= {place, item}
                self._unreadable -= {place, item}
                self._indices[place] = Index(axis, ("", "..."))
            case _:
                self._bind(target, items, axis)
        return axis

    def _bind(self, target: ast.expr, items: ast.expr, axis: str) -> None:
        if not isinstance(target, ast.Name) or target.id in self._names():
            raise NotLifted
        is_counted = isinstance(items, ast.Call) and _last_name(items.func) == "range"
        if is_counted and names_in(items) & (self._names() | self._unreadable):
            raise NotLifted  # the length of an inner loop that differs from turn to turn
        self._locals.add(target.id)
        self._unreadable.discard(target.id)
        match items:
            case ast.Call(func=ast.Name(id="range"), args=[stop], keywords=[]):
                self._indices[target.id] = Index(axis, ("", self._source(stop)))
            case ast.Call(func=ast.Name(id="range"), args=[start, stop], keywords=[]):
                first = self._source(start)
                self._indices[target.id] = Index(axis, ("" if first == "0" else first, self._source(stop)))
            case ast.Call(func=ast.Name(id="range" | "zip" | "enumerate" | "reversed")):
                raise NotLifted
            case _:
                of_all = self._lifted(items)
                own = [one for one in of_all.axes if isinstance(one, int)]
                if not names_in(items) & self._names():
                    ranks = {array.ndim for array in self._arrays(ast.copy_location(ast.Name(target.id), target))}
                    rank = 1 + max(ranks) if ranks else len(own) or 1
                    own = list(range(-rank, 0))
                    of_all = self._leaf(tuple(own), items)
                self._known[target.id] = of_all.renamed({min(own): axis})

    def _names(self) -> set[str]:
        """The names that have a value in a turn."""
        return {*self._known, *self._indices}

    # Expressions

    def _lifted(self, node: ast.expr) -> Tensor:
        self._require_readable(node)
        if not names_in(node) & self._names():
            return self._constant(node)
        match node:
            case ast.Name(id=name) if name in self._known:
                return self._known[name]
            case ast.Subscript():
                return self._place(node)
            case ast.BinOp(left=left, op=ast.MatMult(), right=right):
                return product(self._lifted(left), self._lifted(right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                return elementwise(BINARY[type(op)], self._lifted(left), self._lifted(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return elementwise("neg", self._lifted(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARED:
                return elementwise(COMPARED[type(op)], self._lifted(left), self._lifted(right))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                parts = (self._lifted(one) for one in (test, body, orelse))
                return elementwise(f"{self._numpy}.where({{}})", *parts)
            case ast.Attribute(value=value, attr="T"):
                inner = self._lifted(value)
                own = [one for one in inner.axes if isinstance(one, int)]
                return inner.renamed({-1: -2, -2: -1}) if len(own) == 2 else inner
            case ast.Call(keywords=[]):
                return self._call(node)
        raise NotLifted

    def _call(self, node: ast.Call) -> Tensor:
        match node.func:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in (self._numpy, "math"):
                arguments = [self._lifted(one) for one in node.args]
                if name in ("dot", "matmul") and len(arguments) == 2:
                    if not all(any(isinstance(axis, int) for axis in one.axes) for one in arguments):
                        return elementwise("*", *arguments)
                    return product(*arguments)
                if name == "outer" and len(arguments) == 2:
                    return elementwise("*", arguments[0].renamed({-1: -2}), arguments[1])
                if name == "sum" and len(arguments) == 1:
                    return self._sum(arguments[0])
                if UFUNCS.get(name) == len(arguments):
                    arguments = [*map(self._as_double, arguments)] if module == "math" else arguments
                    return elementwise(f"{self._numpy}.{name}({{}})", *arguments)
            case ast.Attribute(value=value, attr="dot") if len(node.args) == 1:
                return product(self._lifted(value), self._lifted(node.args[0]))
            case ast.Attribute(value=value, attr="sum") if not node.args:
                return self._sum(self._lifted(value))
            case ast.Attribute(value=value, attr="copy") if not node.args:
                return self._lifted(value)
            case ast.Name(id="float") if len(node.args) == 1:
                return self._as_double(self._lifted(node.args[0]))
            case ast.Name(id="sum") if isinstance(node.args[0], Comprehension) and len(node.args) == 1:
                return total(*self._of_each(node.args[0]))
            case ast.Name(id=name) if UFUNCS.get(OF_NUMBERS.get(name, "")) == len(node.args):
                arguments = [self._lifted(one) for one in node.args]
                return elementwise(f"{self._numpy}.{OF_NUMBERS[name]}({{}})", *arguments)
            case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name) if self._is_elementwise(name):
                written = self._source(node.func)
                return elementwise(f"{written}({{}})", *(self._lifted(one) for one in node.args))
        raise NotLifted

    def _as_double(self, value: Tensor) -> Tensor:
        """The value as Python's own numbers have it: with 64 bits."""
        if value.kind() == "float64":
            return value
        return elementwise(f"{self._numpy}.array({{}}, dtype=float)", value)

    def _sum(self, value: Tensor) -> Tensor:
        for axis in sorted((one for one in value.axes if isinstance(one, int)), reverse=True):
            value = total(value, axis)
        return value

    def _is_elementwise(self, name: str) -> bool:
        """Whether a function of the program only computes element by element."""
        functions = [
            one
            for module in self._code.modules
            for one in ast.walk(module)
            if isinstance(one, ast.FunctionDef) and one.name == name
        ]
        if len(functions) != 1 or not functions[0].body:
            return False
        *_, last = functions[0].body
        calls = [one for one in ast.walk(functions[0]) if isinstance(one, ast.Call)]
        are_known = all(UFUNCS.get(getattr(one.func, "attr", "")) == len(one.args) for one in calls)
        is_plain = all(not isinstance(one, ast.MatMult | ast.Subscript | ast.For) for one in ast.walk(functions[0]))
        is_math = any(isinstance(one, ast.Name) and one.id == "math" for one in ast.walk(functions[0]))
        is_new = isinstance(last, ast.Return) and isinstance(last.value, ast.BinOp | ast.UnaryOp | ast.Call)
        return is_new and len(functions[0].body) == 1 and are_known and is_plain and not is_math

    def _place(self, node: ast.Subscript) -> Tensor:
        """An item of an array by the loops' variables."""
        self._require_readable(node)
        keys = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        base = node.value
        if not names_in(base) & self._names():
            rank = self._rank(base) or len(keys)
            of_all: Tensor = self._leaf(tuple(range(-rank, 0)), base)
            if self._is_list(base):
                of_all = Leaf(of_all.axes, f"{self._numpy}.asarray({self._source(base)})")
            if len(keys) == 1 and isinstance(keys[0], ast.Name) and keys[0].id in self._known:
                return self._gathered(of_all, self._known[keys[0].id], rank)
        else:
            of_all = self._lifted(base)
        own = sorted(one for one in of_all.axes if isinstance(one, int))
        if len(keys) == 1 and isinstance(keys[0], ast.Name):
            index = self._indices.get(keys[0].id)
            if index is not None and index.bounds == ("", "...") and isinstance(of_all, Leaf):
                return Leaf((index.axis,), of_all.written, of_all.tightness, of_all.of)  # of all indices at once
        if len(keys) > len(own):
            raise NotLifted
        names: dict[Axis, Axis] = {}
        slices = [":"] * len(own)
        for place, (key, axis) in enumerate(zip(keys, own, strict=False)):
            match key:
                case ast.Slice(lower=None, upper=None, step=None):
                    continue
                case ast.Name(id=name) if name in self._indices:
                    index = self._indices[name]
                    if index.axis in names.values() or index.axis in of_all.axes:
                        raise NotLifted
                    names[axis] = index.axis
                    if not self._is_whole(base, place, index):
                        slices[place] = ":".join(index.bounds)
                case _:
                    raise NotLifted
        kept = [axis for axis in own if axis not in names]
        names |= {axis: number - len(kept) for number, axis in enumerate(kept)}
        if any(one != ":" for one in slices):
            if not isinstance(of_all, Leaf):
                raise NotLifted
            while slices[-1] == ":":
                slices.pop()
            whole = held((of_all.written, of_all.tightness), ATOM)
            of_all = Leaf(of_all.axes, f"{whole}[{', '.join(slices)}]", of=of_all.of)
        return of_all.renamed(names)

    def _gathered(self, of_all: Tensor, rows: Tensor, rank: int) -> Tensor:
        """The rows of an array that the items of a sequence name."""
        if not isinstance(of_all, Leaf) or not isinstance(rows, Leaf) or len(rows.axes) != 1:
            raise NotLifted
        return Leaf((*rows.axes, *range(1 - rank, 0)), f"{of_all.written}[{rows.written}]", of=of_all.of)

    def _is_whole(self, base: ast.expr, place: int, index: Index) -> bool:
        """Whether a range runs over all of an axis: by its text, or as recorded where it always has as many turns."""
        first, stop = index.bounds
        if first == "" and (stop in self._lengths_of_list(base) or self._is_length(stop, base, place)):
            return True
        sizes = {array.shape[place] for array in self._arrays(base) if array.ndim > place}
        return first == "" and stop.isdigit() and sizes == {int(stop)}

    def _is_length(self, stop: str, base: ast.expr, place: int) -> bool:
        """Whether a number is the length of an axis by the text: a statement made the one from the other."""
        text = self._source(base)
        lengths = {f"{text}.shape[{place}]", *([f"len({text})"] if place == 0 else [])}
        if stop in lengths:
            return True
        if self._code.parent(base) is None or not is_path(base):
            return False
        scope, later = self._code.scope(base), self._code.statement(base)
        bound = {
            name: self._code.bindings(name, scope)
            for name in names_in(ast.parse(f"({stop}), ({text})"))
            if name != "self"
        }
        if any(len(held) > 1 for held in bound.values()):
            return False
        found = [self._code.statement(one) for name in (stop, text) for one in bound.get(name, [])]
        for one in found:
            if not isinstance(one, ast.Assign) or not self._code.is_before(one, later):
                continue
            match one.targets, one.value:
                case [ast.Name(id=name)], value if name == stop and self._source(value) in lengths:
                    return True
                case [ast.Tuple(elts=names)], value if self._source(value) == f"{text}.shape":
                    if [getattr(held, "id", "") for held in names[place : place + 1]] == [stop]:
                        return True
                case [ast.Name(id=name)], ast.Call(func=maker, args=[shape, *_]) if name == text:
                    sides = shape.elts if isinstance(shape, ast.Tuple) else [shape]
                    is_new = _last_name(maker) in ("zeros", "empty") and place < len(sides)
                    if is_new and self._source(sides[place]) == stop:
                        return True
        return False

    def _constant(self, node: ast.expr) -> Tensor:
        """An expression that is the same in all turns."""
        if isinstance(node, ast.Constant):
            return number(self._source(node), "float" if isinstance(node.value, float) else "int")
        return self._leaf(tuple(range(-self._rank(node), 0)), node)

    def _leaf(self, axes: Axes, node: ast.expr) -> Leaf:
        is_atom = isinstance(node, ast.Name | ast.Call | ast.Subscript | ast.Attribute)
        return Leaf(axes, self._source(node), ATOM if is_atom else LOOSE, self._kind(node))

    def _kind(self, node: ast.expr) -> str:
        """The kind of an expression that does not change from turn to turn, as it was recorded."""
        kinds = {
            array.dtype.name if array.dtype.kind not in "biu" else "bool" if array.dtype.kind == "b" else WHOLE
            for array in self._arrays(node)
        }
        return kinds.pop() if len(kinds) == 1 else ""

    # Values

    def _rank(self, node: ast.expr) -> int:
        """The number of axes of an expression that does not change from turn to turn."""
        found = {array.ndim for array in self._arrays(node)}
        if len(found) > 1:
            raise NotLifted
        if found:
            return found.pop()
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                return max(self._rank(left), self._rank(right))
            case ast.UnaryOp(operand=operand):
                return self._rank(operand)
        return 0

    def _arrays(self, node: ast.expr) -> list[np.ndarray[Any, Any]]:
        """The arrays that an expression gave, in the frames in which the loop ran."""
        if isinstance(node, ast.Attribute) and node.attr == "T":
            return [array.T for array in self._arrays(node.value)]
        found = [event.result for event in self._code.executions(node) if isinstance(event.result, np.ndarray)]
        if found or not is_path(node):
            return found
        text = ast.unparse(node)
        frames = dict.fromkeys(run.calls for run in self._executions)
        held = (one for frame in frames for one in self._code.holdings(frame))
        found = [one.array for one in held if ast.unparse(one.node) == text]
        return found or [array for frame in frames for array in self._of_objects(text, frame)]

    def _of_objects(self, text: str, frame: Frame) -> Iterator[np.ndarray[Any, Any]]:
        """The array that an attribute of an object holds, if a method of the object is called in the same frame."""
        for event in self._code.graph.last:
            node = self._code.node(event) if event.is_own and event.calls == frame else None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = text.removeprefix(f"{ast.unparse(node.func.value)}.")
                held = getattr(getattr(event.function, "__self__", None), name, None) if name != text else None
                if isinstance(held, np.ndarray):
                    yield held

    def _is_list(self, base: ast.expr) -> bool:
        """Whether a name holds a list that the function makes."""
        return any(
            isinstance(one, ast.List | ast.ListComp) or (isinstance(one, ast.BinOp) and isinstance(one.left, ast.List))
            for one in self._values(base)
        )

    def _lengths_of_list(self, base: ast.expr) -> Iterator[str]:
        """The text of the length of a list such as ``[0.0] * n``."""
        for value in self._values(base):
            match value:
                case ast.BinOp(left=ast.List(elts=[_]), op=ast.Mult(), right=length):
                    yield self._source(length)

    def _values(self, base: ast.expr) -> Iterator[ast.expr]:
        """What a name of the function is given."""
        if isinstance(base, ast.Name) and self._code.parent(base) is not None:
            for one in self._code.bindings(base.id, self._code.scope(base)):
                statement = self._code.statement(one) if not isinstance(one, ast.arg) else None
                if isinstance(statement, ast.Assign):
                    yield statement.value

    def _source(self, node: ast.expr) -> str:
        return self._code.text(node)


def _appended(call: ast.Call, name: str) -> ast.expr | None:
    """The vector in ``np.append(X, row.reshape(1, n), axis=0)`` or ``np.vstack((X, row))``; None for other calls."""
    match call:
        case ast.Call(
            func=ast.Attribute(attr="append"),
            args=[ast.Name(id=held), made],
            keywords=[ast.keyword(arg="axis", value=ast.Constant(value=0))],
        ) if held == name:
            pass
        case (
            ast.Call(func=ast.Attribute(attr="vstack"), args=[ast.Tuple(elts=[ast.Name(id=held), made])], keywords=[])
            | ast.Call(func=ast.Attribute(attr="vstack"), args=[ast.List(elts=[ast.Name(id=held), made])], keywords=[])
        ) if held == name:
            pass
        case _:
            return None
    match made:
        case ast.Call(func=ast.Attribute(value=row, attr="reshape"), args=[ast.Constant(value=1), _]):
            return row
        case ast.List(elts=[row]):
            return row
        case ast.Subscript(value=row, slice=ast.Constant(value=None)):
            return row
        case ast.Subscript(
            value=row, slice=ast.Tuple(elts=[ast.Constant(value=None), ast.Slice(lower=None, upper=None)])
        ):
            return row
    return made if isinstance(made, ast.Name) else None


def _is_nothing(known: Leaf, value: Tensor) -> bool:
    """Whether a sum that begins with a zero has the value, and the kind, of what is added to it."""
    return known.written == "0" or (known.written == "0.0" and value.kind() not in ("bool", WHOLE))


def _stored_names(loop: ast.For) -> set[str]:
    """The names that statements within a loop set, other than by adding to them."""
    nodes = inside(loop)
    changed = {id(one.target) for one in ast.walk(loop) if isinstance(one, ast.AugAssign)}
    of_items = {
        id(one) for node in ast.walk(loop) if isinstance(node, ast.comprehension) for one in ast.walk(node.target)
    }
    return {
        one.id
        for one in nodes
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store) and id(one) not in changed | of_items
    }


def _sums(loop: ast.For) -> Iterator[str]:
    """The names to which statements within a loop add."""
    for one in ast.walk(loop):
        if isinstance(one, ast.AugAssign) and isinstance(one.target, ast.Name):
            yield one.target.id


def _keys(node: ast.expr) -> Iterator[ast.expr]:
    """The indices of an item of an item of an array."""
    while isinstance(node, ast.Subscript):
        yield from node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        node = node.value


def _base(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Subscript):
        node = node.value
    return node


def _reads(loop: ast.For, target: ast.Subscript) -> list[ast.expr]:
    """Where a loop reads or changes the array that a target is an item of; its length does not count."""
    above = {id(child): one for one in ast.walk(loop) for child in ast.iter_child_nodes(one)}
    text = ast.dump(_base(target), include_attributes=False)
    found: list[ast.expr] = []
    for one in ast.walk(loop):
        if isinstance(one, ast.Name | ast.Attribute) and ast.dump(one) == text:
            outer = above.get(id(one))
            is_length = isinstance(outer, ast.Call) and _last_name(outer.func) == "len"
            if not is_length and _last_name(outer or one) not in ("shape", "size", "ndim"):
                found.append(one)
    return found


def _require_own_places(loop: ast.For) -> None:
    """Raise NotLifted if a turn reads other places of an array than the one that it stores into."""
    above = {id(child): one for one in ast.walk(loop) for child in ast.iter_child_nodes(one)}
    targets = [one for one in ast.walk(loop) if isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Store)]
    for target in targets:
        for read in _reads(loop, target):
            outer: ast.AST | None = read
            while isinstance(above.get(id(outer)), ast.Subscript):
                outer = above[id(outer)]
                if ast.unparse(outer) == ast.unparse(target):
                    break
            else:
                raise NotLifted


def _last_name(node: ast.AST) -> str:
    name = getattr(node, "attr", getattr(node, "id", ""))
    return name if isinstance(name, str) else ""


def _axis_of(call: ast.Call) -> int | None:
    """The axis that a call names; 0 where it names none."""
    named = [one.value for one in call.keywords if one.arg == "axis"]
    match named or call.args[1:]:
        case []:
            return 0
        case [ast.Constant(value=int(axis))]:
            return axis
    return None


def _usual(axes: Axes) -> Axes:
    """The axes of what the turns give, in the order that they have in a turn."""
    return tuple(sorted(one for one in axes if isinstance(one, int)))
