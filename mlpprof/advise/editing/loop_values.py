"""What the expressions of a loop are in all of its turns at once, in index notation (`index_notation.py`).

Each variable of the loop becomes an axis. A name that a turn sets has the value that its expression has for all turns.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
from mlpprof.advise.editing.recorded_code import Frame, RecordedCode, is_path, names_in
from mlpprof.advise.syntax import last_name
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


@dataclass(frozen=True)
class Index:
    """A loop's variable that counts. bounds: the texts of the range."""

    axis: str
    bounds: tuple[str, str]


class LoopValues:
    """The values of names and expressions in the turns of a loop and of the loops in it. numpy: the name of NumPy."""

    def __init__(self, code: RecordedCode, numpy: str, executions: Sequence[LoopRun]) -> None:
        self._code, self._numpy = code, numpy
        self._executions = executions
        self.known: dict[str, Tensor] = {}
        self.indices: dict[str, Index] = {}
        self.axes: list[str] = []
        """Those of the loops that were entered so far, in this order."""
        self.unreadable: set[str] = set()
        """Names that hold what an earlier turn has left in them, or a sum that is not complete."""
        self.locals: set[str] = set()
        """All names that the turns set for themselves."""

    def forget(self, names: set[str]) -> None:
        """Take the values from names; they are unreadable until a turn sets them."""
        for name in names:
            self.known.pop(name, None)
            self.indices.pop(name, None)
        self.unreadable |= names

    def require_readable(self, node: ast.AST) -> None:
        """Raise NotLifted if a node reads a name whose value is that of another turn."""
        if names_in(node) & self.unreadable:
            raise NotLifted

    # What a loop runs over

    def enter(self, target: ast.expr, items: ast.expr) -> str:
        """The names of a loop get their values; the axis that its turns become."""
        axis = f"axis {len(self.axes)}"
        self.axes.append(axis)
        match items, target:
            case ast.Call(func=ast.Name(id="enumerate"), args=[inner], keywords=[]), ast.Tuple(elts=[counter, item]):
                self._bind(item, inner, axis)
                self._bind(counter, ast.parse(f"range(len({self._code.text(inner)}))", mode="eval").body, axis)
            case ast.Call(func=ast.Name(id="zip"), args=parts, keywords=[]), ast.Tuple(elts=names) if len(parts) == len(
                names
            ):
                for name, part in zip(names, parts, strict=True):
                    self._bind(name, part, axis)
            case ast.Call(func=ast.Attribute(attr="ndenumerate"), args=[array]), ast.Tuple(
                elts=[ast.Name(id=place), ast.Name(id=item)]
            ) if is_path(array) and not names_in(array) & self._names():
                self.require_readable(array)
                self.known[item] = Leaf((axis,), self._code.text(array), of=self._kind(array))
                self.locals |= {place, item}
                self.unreadable -= {place, item}
                self.indices[place] = Index(axis, ("", "..."))
            case _:
                self._bind(target, items, axis)
        return axis

    def _bind(self, target: ast.expr, items: ast.expr, axis: str) -> None:
        if not isinstance(target, ast.Name) or target.id in self._names():
            raise NotLifted
        is_counted = isinstance(items, ast.Call) and last_name(items.func) == "range"
        if is_counted and names_in(items) & (self._names() | self.unreadable):
            raise NotLifted  # the length of an inner loop that differs from turn to turn
        self.locals.add(target.id)
        self.unreadable.discard(target.id)
        match items:
            case ast.Call(func=ast.Name(id="range"), args=[stop], keywords=[]):
                self.indices[target.id] = Index(axis, ("", self._code.text(stop)))
            case ast.Call(func=ast.Name(id="range"), args=[start, stop], keywords=[]):
                first = self._code.text(start)
                self.indices[target.id] = Index(axis, ("" if first == "0" else first, self._code.text(stop)))
            case ast.Call(func=ast.Name(id="range" | "zip" | "enumerate" | "reversed")):
                raise NotLifted
            case _:
                of_all = self.lifted(items)
                own = [one for one in of_all.axes if isinstance(one, int)]
                if not names_in(items) & self._names():
                    ranks = {array.ndim for array in self.arrays(ast.copy_location(ast.Name(target.id), target))}
                    rank = 1 + max(ranks) if ranks else len(own) or 1
                    own = list(range(-rank, 0))
                    of_all = self._leaf(tuple(own), items)
                if not own:
                    raise NotLifted  # the rows were not recorded, so the number of their axes is not known
                self.known[target.id] = of_all.renamed({min(own): axis})

    def _names(self) -> set[str]:
        """The names that have a value in a turn."""
        return {*self.known, *self.indices}

    def of_each(self, node: Comprehension | ast.Call) -> tuple[Tensor, str]:
        """What each item gives, and the axis of the items."""
        match node:
            case ast.ListComp(generators=[one]) | ast.GeneratorExp(generators=[one]) if not one.ifs:
                axis = self.enter(one.target, one.iter)
                return self._of_item(node.elt, names_in(one.target)), axis
            case ast.Call(func=ast.Name(id="map"), args=[ast.Lambda(args=arguments, body=body), items]):
                names = [one.arg for one in arguments.args]
                if len(names) == 1 and not arguments.defaults:
                    axis = self.enter(ast.Name(names[0], ast.Store()), items)
                    return self._of_item(body, {*names}), axis
        raise NotLifted

    def _of_item(self, node: ast.expr, names: set[str]) -> Tensor:
        """What an item gives; its names are forgotten afterwards."""
        found = self.lifted(node)
        for name in names:
            self.known.pop(name, None)
            self.indices.pop(name, None)
        self.locals -= names
        return found

    # Expressions

    def lifted(self, node: ast.expr) -> Tensor:
        """An expression for all turns at once; raises NotLifted if there is none."""
        self.require_readable(node)
        if not names_in(node) & self._names():
            return self._constant(node)
        match node:
            case ast.Name(id=name) if name in self.known:
                return self.known[name]
            case ast.Subscript():
                return self.place(node)
            case ast.BinOp(left=left, op=ast.MatMult(), right=right):
                return product(self.lifted(left), self.lifted(right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                return elementwise(BINARY[type(op)], self.lifted(left), self.lifted(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return elementwise("neg", self.lifted(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARED:
                return elementwise(COMPARED[type(op)], self.lifted(left), self.lifted(right))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                parts = (self.lifted(one) for one in (test, body, orelse))
                return elementwise(f"{self._numpy}.where({{}})", *parts)
            case ast.Attribute(value=value, attr="T"):
                inner = self.lifted(value)
                own = [one for one in inner.axes if isinstance(one, int)]
                return inner.renamed({-1: -2, -2: -1}) if len(own) == 2 else inner
            case ast.Call(keywords=[]):
                return self._call(node)
        raise NotLifted

    def _call(self, node: ast.Call) -> Tensor:
        match node.func:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in (self._numpy, "math"):
                arguments = [self.lifted(one) for one in node.args]
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
                return product(self.lifted(value), self.lifted(node.args[0]))
            case ast.Attribute(value=value, attr="sum") if not node.args:
                return self._sum(self.lifted(value))
            case ast.Attribute(value=value, attr="copy") if not node.args:
                return self.lifted(value)
            case ast.Name(id="float") if len(node.args) == 1:
                return self._as_double(self.lifted(node.args[0]))
            case ast.Name(id="sum") if isinstance(node.args[0], Comprehension) and len(node.args) == 1:
                return total(*self.of_each(node.args[0]))
            case ast.Name(id=name) if UFUNCS.get(OF_NUMBERS.get(name, "")) == len(node.args):
                arguments = [self.lifted(one) for one in node.args]
                return elementwise(f"{self._numpy}.{OF_NUMBERS[name]}({{}})", *arguments)
            case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name) if self._is_elementwise(name):
                written = self._code.text(node.func)
                return elementwise(f"{written}({{}})", *(self.lifted(one) for one in node.args))
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
        functions = self._code.functions(name)
        if len(functions) != 1 or not functions[0].body:
            return False
        *_, last = functions[0].body
        calls = [one for one in ast.walk(functions[0]) if isinstance(one, ast.Call)]
        are_known = all(UFUNCS.get(getattr(one.func, "attr", "")) == len(one.args) for one in calls)
        is_plain = all(not isinstance(one, ast.MatMult | ast.Subscript | ast.For) for one in ast.walk(functions[0]))
        is_math = any(isinstance(one, ast.Name) and one.id == "math" for one in ast.walk(functions[0]))
        is_new = isinstance(last, ast.Return) and isinstance(last.value, ast.BinOp | ast.UnaryOp | ast.Call)
        return is_new and len(functions[0].body) == 1 and are_known and is_plain and not is_math

    def place(self, node: ast.Subscript) -> Tensor:
        """An item of an array by the loops' variables."""
        self.require_readable(node)
        keys = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        base = node.value
        if not names_in(base) & self._names():
            rank = self._rank(base) or len(keys)
            of_all: Tensor = self._leaf(tuple(range(-rank, 0)), base)
            if self.is_list(base):
                of_all = Leaf(of_all.axes, f"{self._numpy}.asarray({self._code.text(base)})")
            if len(keys) == 1 and isinstance(keys[0], ast.Name) and keys[0].id in self.known:
                return self._gathered(of_all, self.known[keys[0].id], rank)
        else:
            of_all = self.lifted(base)
        own = sorted(one for one in of_all.axes if isinstance(one, int))
        if len(keys) == 1 and isinstance(keys[0], ast.Name):
            index = self.indices.get(keys[0].id)
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
                case ast.Name(id=name) if name in self.indices:
                    index = self.indices[name]
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
        sizes = {array.shape[place] for array in self.arrays(base) if array.ndim > place}
        return first == "" and stop.isdigit() and sizes == {int(stop)}

    def _is_length(self, stop: str, base: ast.expr, place: int) -> bool:
        """Whether a number is the length of an axis by the text: a statement made the one from the other."""
        text = self._code.text(base)
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
                case [ast.Name(id=name)], value if name == stop and self._code.text(value) in lengths:
                    return True
                case [ast.Tuple(elts=names)], value if self._code.text(value) == f"{text}.shape":
                    if [getattr(held, "id", "") for held in names[place : place + 1]] == [stop]:
                        return True
                case [ast.Name(id=name)], ast.Call(func=maker, args=[shape, *_]) if name == text:
                    sides = shape.elts if isinstance(shape, ast.Tuple) else [shape]
                    is_new = last_name(maker) in ("zeros", "empty") and place < len(sides)
                    if is_new and self._code.text(sides[place]) == stop:
                        return True
        return False

    def _constant(self, node: ast.expr) -> Tensor:
        """An expression that is the same in all turns."""
        if isinstance(node, ast.Constant):
            return number(self._code.text(node), "float" if isinstance(node.value, float) else "int")
        return self._leaf(tuple(range(-self._rank(node), 0)), node)

    def _leaf(self, axes: Axes, node: ast.expr) -> Leaf:
        is_atom = isinstance(node, ast.Name | ast.Call | ast.Subscript | ast.Attribute)
        return Leaf(axes, self._code.text(node), ATOM if is_atom else LOOSE, self._kind(node))

    def _kind(self, node: ast.expr) -> str:
        """The kind of an expression that does not change from turn to turn, as it was recorded."""
        kinds = {
            array.dtype.name if array.dtype.kind not in "biu" else "bool" if array.dtype.kind == "b" else WHOLE
            for array in self.arrays(node)
        }
        return kinds.pop() if len(kinds) == 1 else ""

    # What was recorded

    def _rank(self, node: ast.expr) -> int:
        """The number of axes of an expression that does not change from turn to turn."""
        found = {array.ndim for array in self.arrays(node)}
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

    def arrays(self, node: ast.expr) -> list[np.ndarray[Any, Any]]:
        """The arrays that an expression gave, in the frames in which the loop ran."""
        if isinstance(node, ast.Attribute) and node.attr == "T":
            return [array.T for array in self.arrays(node.value)]
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

    def is_list(self, base: ast.expr) -> bool:
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
                    yield self._code.text(length)

    def _values(self, base: ast.expr) -> Iterator[ast.expr]:
        """What a name of the function is given."""
        if isinstance(base, ast.Name) and self._code.parent(base) is not None:
            for one in self._code.bindings(base.id, self._code.scope(base)):
                statement = self._code.statement(one) if not isinstance(one, ast.arg) else None
                if isinstance(statement, ast.Assign):
                    yield statement.value
