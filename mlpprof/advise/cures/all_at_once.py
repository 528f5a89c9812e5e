"""The edit that replaces a loop over rows, columns, neurons or single numbers by operations on the whole arrays.

What its expressions are for all turns at once is read in index notation (`editing/loop_values.py`). Here are the rules
for its statements: what may be stored, summed or appended at once, and what other code may read afterwards.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.index_notation import ATOM, WHOLE, Axes, Leaf, NotLifted, Tensor, elementwise, total
from mlpprof.advise.editing.loop_values import BINARY, Comprehension, LoopValues
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of, inside, is_path, names_in
from mlpprof.advise.syntax import container_of, last_name
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import LoopRun

STACKING = {"array": 0, "asarray": 0, "vstack": 0, "stack": 0, "row_stack": 0, "column_stack": 1}
"""Functions that make one array of a list, with the axis that the list becomes."""

NEW = frozenset(("zeros", "zeros_like", "empty", "empty_like"))
"""Functions that make an array to be filled."""


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
    """Writes the statements of one loop for all of its turns.

    is_merged: an array that is made only to be filled by the loop is left out, and the result takes its name.
    """

    def __init__(self, code: RecordedCode, numpy: str, executions: Sequence[LoopRun], is_merged: bool) -> None:
        self._code, self._numpy, self._is_merged = code, numpy, is_merged
        self._values = LoopValues(code, numpy, executions)
        self._begun: dict[str, int] = {}
        """For each name that a turn sets: how many loops were entered before."""
        self._fresh: set[str] = set()
        """Names whose array a turn makes, so that it may be changed in place."""
        self._loops: list[ast.For] = []

    # Statements

    def of_loop(self, loop: ast.For) -> Cure | None:
        """The edit of a `for` statement."""
        if loop.orelse:
            return None
        lines = Lines()
        _require_own_places(loop, self._code)
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
        before = set(self._values.unreadable)
        self._values.forget(stored)
        axis = self._values.enter(loop.target, loop.iter)
        self._values.unreadable |= summed
        self._loops.append(loop)
        for one in loop.body:
            self._statement(one, (*nest, axis), lines, loop)
        self._loops.pop()
        self._values.unreadable -= summed - before
        self._values.forget(stored)

    def _statement(self, one: ast.stmt, nest: tuple[str, ...], lines: Lines, loop: ast.For) -> None:
        match one:
            case ast.For(orelse=[]):
                self._loop(one, nest, lines)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call) if _appended(call, name) is not None:
                self._append(name, call, nest, lines, loop)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._values.known[name] = lifted = self._values.lifted(value)
                self._begun[name] = len(self._values.axes)
                self._values.unreadable.discard(name)
                self._values.locals.add(name)
                is_view = (
                    is_path(value) or not isinstance(value, ast.Call) or last_name(value.func) not in {*NEW, "copy"}
                )
                (self._fresh.discard if isinstance(lifted, Leaf) and is_view else self._fresh.add)(name)
            case ast.Assign(targets=[ast.Subscript() as target], value=value):
                self._store(target, "=", self._values.lifted(value), nest, lines, loop)
            case ast.AugAssign(target=ast.Subscript() as target, op=op, value=value) if type(op) in BINARY:
                self._store(target, f"{BINARY[type(op)]}=", self._values.lifted(value), nest, lines, loop)
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add() | ast.Sub() as op, value=value):
                self._accumulate(name, BINARY[type(op)], self._values.lifted(value), nest, lines, loop)
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
        rows = self._values.lifted(row)
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
        known = self._values.known.get(name)
        is_array = isinstance(known, Leaf) and any(isinstance(one, int) for one in known.axes)
        if (known is not None and name not in self._begun) or (is_array and name not in self._fresh):
            raise NotLifted  # the loop's own variable, or a view: what it shows would not be changed
        if known is None and name in self._values.locals:
            raise NotLifted
        for axis in reversed(nest):
            if known is None or self._values.axes.index(axis) >= self._begun[name]:
                value = total(value, axis)
        if known is None:
            text, _ = value.text(_usual(value.axes), self._numpy)
            if any(isinstance(one, str) for one in value.axes):
                raise NotLifted
            self._write(name, f"{operator}=", value, text, lines, loop, is_filled=operator == "+")
        elif isinstance(known, Leaf) and operator == "+" and _is_nothing(known, value):
            self._values.known[name] = value
        else:
            self._values.known[name] = elementwise(operator, known, value)

    def _store(
        self, target: ast.Subscript, operator: str, value: Tensor, nest: tuple[str, ...], lines: Lines, loop: ast.For
    ) -> None:
        place = self._values.place(target)
        self._outdate(target)
        is_gathered = any(isinstance(one, ast.Name) and one.id in self._values.known for one in _keys(target))
        if operator != "=" and is_gathered:
            raise NotLifted  # an index that occurs twice counts once in an array
        summed = [number for number, axis in enumerate(nest) if axis not in place.axes]
        if summed:
            if operator not in ("+=", "-=") or len(_reads(self._loops[summed[0]], target, self._code)) > 1:
                raise NotLifted
            for number in reversed(summed):
                value = total(value, nest[number])
        if not set(value.axes) <= set(place.axes) or not isinstance(place, Leaf):
            raise NotLifted
        text, _ = value.aligned(place.axes, self._numpy)
        bases = [target.value]
        while isinstance(bases[-1], ast.Subscript):
            bases.append(bases[-1].value)
        if operator == "=" and any(map(self._values.is_list, bases)):
            if not isinstance(target.value, ast.Name):
                raise NotLifted
            is_whole = place.written == f"{self._numpy}.asarray({self._code.text(target.value)})"
            if not is_whole or set(value.axes) != set(place.axes) or not self._may_be_array(target.value, loop):
                raise NotLifted
            made = self._maker(target.value.id, loop) if self._is_merged else None
            lines.replaced += [made] if made is not None else []
            lines.texts.append(f"{target.value.id} = {self._copied(value, text)}")
            return
        if place.written not in map(self._code.text, bases):  # only a part of it
            if not place.written.endswith("]"):
                raise NotLifted
            lines.texts.append(f"{place.written} {operator} {text}")
            return
        is_filled = operator == "=" and set(value.axes) == set(place.axes)
        self._write(place.written, operator, value, text, lines, loop, is_filled)

    def _outdate(self, target: ast.Subscript) -> None:
        """Forget what a turn has read from an array before it stores into it: the text would read it afterwards."""
        base = self._code.text(container_of(target))
        if base in self._fresh:
            raise NotLifted  # an array of the turn itself, which has no name outside
        of_base = re.compile(rf"(?<![\w.]){re.escape(base)}(?!\w)")
        for name, value in self._values.known.items():
            if of_base.search(value.text(value.axes, self._numpy)[0]):
                self._values.unreadable.add(name)

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
                    is_new = isinstance(value, ast.Call) and last_name(value.func) in NEW
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
                arrays = self._values.arrays(new)
                kinds = {(array.dtype.name, array.ndim) for array in arrays}
                return kinds == {(value.kind(), len(value.axes))} and value.kind().startswith("float")
        return False

    def _may_be_array(self, base: ast.expr, loop: ast.For) -> bool:
        """Whether all code that uses a list, apart from the loop, does the same with an array."""
        within = {id(one) for one in ast.walk(loop)}
        for one in ast.walk(self._code.scope(loop)):
            if not isinstance(one, ast.Name) or one.id != self._code.text(base) or id(one) in within:
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
        names = self._values.locals
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
        value, axis = self._values.of_each(node)
        above = self._code.parent(whole)
        if isinstance(above, ast.Call) and last_name(above.func) == "list" and above.args == [whole]:
            whole, above = above, self._code.parent(above)
        if not isinstance(above, ast.Call) or whole not in above.args[:1]:
            return None
        function = last_name(above.func)
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
        return f"{one.arg}={self._code.text(one.value)}" if isinstance(one, ast.keyword) else self._code.text(one)


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


def _reads(loop: ast.For, target: ast.Subscript, code: RecordedCode) -> list[ast.expr]:
    """Where a loop reads or changes the array that a target is an item of; its length does not count."""
    text = ast.dump(container_of(target), include_attributes=False)
    found: list[ast.expr] = []
    for one in ast.walk(loop):
        if isinstance(one, ast.Name | ast.Attribute) and ast.dump(one) == text:
            outer = code.parent(one)
            is_length = isinstance(outer, ast.Call) and last_name(outer.func) == "len"
            if not is_length and last_name(outer or one) not in ("shape", "size", "ndim"):
                found.append(one)
    return found


def _require_own_places(loop: ast.For, code: RecordedCode) -> None:
    """Raise NotLifted if a turn reads other places of an array than the one that it stores into."""
    targets = [one for one in ast.walk(loop) if isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Store)]
    for target in targets:
        for read in _reads(loop, target, code):
            items = takewhile(lambda one: isinstance(one, ast.Subscript), code.around(read))
            if ast.unparse(target) not in map(ast.unparse, items):
                raise NotLifted


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
