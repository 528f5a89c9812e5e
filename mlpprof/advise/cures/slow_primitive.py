"""Faster forms of slow operations, written with the operands of the program."""

from __future__ import annotations

import ast
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of, is_path
from mlpprof.advise.in_place import operands_of
from mlpprof.advise.syntax import is_simple
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

Operand = TypeVar("Operand")

Text = Callable[[ast.expr], str]
Written = Callable[[ast.expr, Text, str], str | None]
"""Makes the expression that replaces a slow one, from the slow one, what gives the source of an expression, and the
file's name for NumPy; None if there is none."""


def expression_cure(parts: Iterable[tuple[Event, Written]], graph: Graph) -> Cure | None:
    """The cure that replaces expressions by their faster forms; None if one cannot be written."""
    code = code_of(graph)
    edits = Edits(code)
    for node, written in {code.node(event): written for event, written in parts}.items():
        name = code.numpy_name(code.file(node)) if node is not None else None
        if node is None or name is None:
            return None
        value = node if isinstance(node, ast.expr) else _stored_into(node)
        if value is None or (isinstance(value, ast.Call) and any(isinstance(one, ast.Starred) for one in value.args)):
            return None
        text = written(value, code.text, name)
        if text is None:
            return None
        edits.replace(value, text)
    return edits.cure() if edits else None


def _stored_into(node: ast.stmt) -> ast.expr | None:
    """The target of a store."""
    match node:
        case ast.Assign(targets=[ast.Subscript() as target]) | ast.AugAssign(target=ast.Subscript() as target):
            return target
    return None


def unwritten(node: ast.expr, text: Text, name: str) -> str | None:
    """There is no expression that could replace the slow one."""
    return None


def in_parentheses(node: ast.expr, text: Text) -> str:
    """An operand such that it may be a factor or have an attribute."""
    is_plain = isinstance(node, ast.Name | ast.Attribute | ast.Subscript | ast.Call)
    return text(node) if is_plain else f"({text(node)})"


def power_as(form: str) -> Written:
    """A form of a power with `{x}` for its base and `{np}` for NumPy."""

    def written(node: ast.expr, text: Text, name: str) -> str | None:
        operands = operands_of(node)
        if len(operands) != 2 or not is_simple(operands[0]):
            return None
        return form.format(x=in_parentheses(operands[0], text), np=name)

    return written


def exponential(node: ast.expr, text: Text, name: str) -> str | None:
    """``np.exp(x)`` for a power of e."""
    operands = operands_of(node)
    return f"{name}.exp({text(operands[1])})" if len(operands) == 2 else None


def called(function: str, options: str = "") -> Written:
    """Another function of NumPy with the first operand alone."""

    def written(node: ast.expr, text: Text, name: str) -> str | None:
        operands = operands_of(node)
        return f"{name}.{function}({text(operands[0])}{options})" if len(operands) == 1 else None

    return written


def renamed(names: Mapping[str, str]) -> Written:
    """Another function of NumPy with the same arguments."""

    def written(node: ast.expr, text: Text, name: str) -> str | None:
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr=function)) if function in names:
                arguments = [*map(text, node.args), *(f"{one.arg}={text(one.value)}" for one in node.keywords)]
                return f"{text(owner)}.{names[function]}({', '.join(arguments)})"
        return None

    return written


def by_tanh(node: ast.expr, text: Text, name: str) -> str | None:
    """A sigmoid as a tangent."""
    operands = operands_of(node)
    return f"0.5 * {name}.tanh(0.5 * {in_parentheses(operands[0], text)}) + 0.5" if len(operands) == 1 else None


# einsum


@dataclass(frozen=True)
class Product:
    """A matrix product of two operands. first: which of them is on the left. turned: which are transposed."""

    first: int
    turned: tuple[bool, bool]

    def text(self, *operands: str) -> str:
        """The product as an expression."""
        left, right = self._ordered(operands)
        return f"{left}{'.T' if self.turned[0] else ''} @ {right}{'.T' if self.turned[1] else ''}"

    def of(self, *operands: Array) -> Array:
        """The product of two arrays."""
        left, right = self._ordered(operands)
        return (left.T if self.turned[0] else left) @ (right.T if self.turned[1] else right)

    def _ordered(self, operands: tuple[Operand, ...]) -> tuple[Operand, Operand]:
        return operands[self.first], operands[1 - self.first]


def product_of(subscripts: str) -> Product | None:
    """An einsum that sums over one index of two matrices or vectors, such as 'bi,bj->ij', as a product."""
    sides = subscripts.replace(" ", "").split("->")
    names = sides[0].split(",")
    if len(names) != 2 or not all(name.isalpha() and len(set(name)) == len(name) <= 2 for name in names):
        return None
    result = sides[1] if len(sides) == 2 else "".join(sorted(set(names[0]) ^ set(names[1])))
    summed = set(names[0]) & set(names[1])
    if len(summed) != 1 or sorted(result) != sorted(set(names[0]) ^ set(names[1])):
        return None
    (index,) = summed
    first = 0 if not result or result[0] in names[0] else 1
    left, right = names[first], names[1 - first]
    return Product(first, (left[-1] != index, right[0] != index))


def as_product(node: ast.expr, text: Text, name: str) -> str | None:
    """The product of an einsum of two matrices, or the einsum with a search for the best order."""
    match node:
        case ast.Call(args=[ast.Constant(value=str(subscripts)), first, second]):
            form = product_of(subscripts)
            if form is not None:
                return form.text(in_parentheses(first, text), in_parentheses(second, text))
            if not node.keywords:
                return f"{text(node.func)}({', '.join(map(text, node.args))}, optimize=True)"
    return None


# Indices


def with_slice(node: ast.expr, text: Text, name: str) -> str | None:
    """``A[i:j]`` for ``A[np.arange(i, j)]``, also beside other indices."""
    if not isinstance(node, ast.Subscript):
        return None
    keys = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    bounds = [_bounds(key, text) for key in keys]
    parts = [text(key) if bound is None else bound for key, bound in zip(keys, bounds, strict=True)]
    return f"{text(node.value)}[{', '.join(parts)}]" if any(bounds) else None


def _bounds(made: ast.expr, text: Text) -> str | None:
    match made:
        case ast.Call(func=ast.Name(id="list") | ast.Attribute(attr="array" | "asarray"), args=[inner], keywords=[]):
            return _bounds(inner, text)
        case ast.Call(func=ast.Name(id="range") | ast.Attribute(attr="arange"), args=[stop], keywords=[]):
            return f":{text(stop)}"
        case ast.Call(func=ast.Name(id="range") | ast.Attribute(attr="arange"), args=[*numbers], keywords=[]):
            return ":".join(map(text, numbers))
    return None


def with_arange(node: ast.expr, text: Text, name: str) -> str | None:
    """``A[np.arange(n), y]`` for ``A[range(n), y]``."""
    match node:
        case ast.Subscript(value=container, slice=key):
            keys = key.elts if isinstance(key, ast.Tuple) else [key]
            parts = [
                f"{name}.arange({', '.join(map(text, one.args))})"
                if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == "range"
                else text(one)
                for one in keys
            ]
            return f"{text(container)}[{', '.join(parts)}]" if parts != list(map(text, keys)) else None
    return None


def by_mask(node: ast.expr, text: Text, name: str) -> str | None:
    """``A[mask]`` for ``A[np.where(mask)]``."""
    match node:
        case ast.Subscript(value=container, slice=ast.Call(args=[mask], keywords=[])):
            return f"{text(container)}[{text(mask)}]"
        case ast.Subscript(
            value=container, slice=ast.Call(func=ast.Attribute(value=mask, attr="nonzero"), args=[], keywords=[])
        ):
            return f"{text(container)}[{text(mask)}]"
    return None


def without_vectorize(node: ast.expr, text: Text, name: str) -> str | None:
    """``f(x)`` for ``np.vectorize(f)(x)``."""
    match node:
        case ast.Call(func=ast.Call(args=[ast.Name() | ast.Attribute() as inner]), args=arguments, keywords=[]):
            return f"{text(inner)}({', '.join(map(text, arguments))})"
    return None


def larger_one(node: ast.expr, text: Text, name: str) -> str | None:
    """``np.maximum(a, b)`` for ``np.where(a > b, a, b)`` or ``np.max([a, b], axis=0)``."""
    match node:
        case ast.Call(args=[_, one, other], keywords=[]) | ast.Call(args=[ast.List(elts=[one, other])]):
            return f"{name}.maximum({text(one)}, {text(other)})"
    return None


def times_the_mask(node: ast.expr, text: Text, name: str) -> str | None:
    """``x * mask`` for ``np.where(mask, x, 0)``."""
    match node:
        case ast.Call(args=[mask, one, _], keywords=[]):
            return f"{in_parentheses(one, text)} * {in_parentheses(mask, text)}"
    return None


def first_operand(node: ast.expr, text: Text, name: str) -> str | None:
    """The first operand of a call alone."""
    return text(node.args[0]) if isinstance(node, ast.Call) and node.args else None


def half_of_sum(node: ast.AST | None, code: RecordedCode) -> ast.expr | None:
    """The array of ``(np.abs(Z) + Z) / 2``; None for other expressions."""
    match node:
        case ast.BinOp(left=ast.BinOp(op=ast.Add()) as added, op=ast.Div(), right=ast.Constant(value=2 | 2.0)):
            pass
        case ast.BinOp(left=ast.Constant(value=0.5), op=ast.Mult(), right=ast.BinOp(op=ast.Add()) as added):
            pass
        case ast.BinOp(left=ast.BinOp(op=ast.Add()) as added, op=ast.Mult(), right=ast.Constant(value=0.5)):
            pass
        case _:
            return None
    for one, other in ((added.left, added.right), (added.right, added.left)):
        match one:
            case ast.Call(func=ast.Attribute(attr="abs" | "absolute") | ast.Name(id="abs"), args=[array], keywords=[]):
                return other if ast.unparse(array) == ast.unparse(other) and is_simple(other) else None
    return None


def positive_part(node: ast.expr, text: Text, name: str) -> str | None:
    """``np.maximum(Z, 0)`` for ``(np.abs(Z) + Z) / 2``."""
    names = [one for one in ast.walk(node) if isinstance(one, ast.Call) and len(one.args) == 1]
    return f"{name}.maximum({text(names[0].args[0])}, 0)" if names else None


def of_whole_array(options: str) -> Written:
    """``f(x, axis=0)`` for ``np.apply_along_axis(f, 0, x)``. options: with `{axis}` for the axis."""

    def written(node: ast.expr, text: Text, name: str) -> str | None:
        match node:
            case ast.Call(args=[ast.Name() | ast.Attribute() as inner, axis, array], keywords=[]):
                return f"{text(inner)}({text(array)}{options.format(axis=text(axis))})"
        return None

    return written


def of_the_array(is_double: bool) -> Written:
    """``np.array(x, t)`` for ``np.array(x.tolist(), t)``. is_double: the array of the list is float64."""

    def written(node: ast.expr, text: Text, name: str) -> str | None:
        match node:
            case ast.Call(args=[ast.Call(func=ast.Attribute(value=array, attr="tolist"), args=[]), *rest]):
                options = [*map(text, rest), *(f"{one.arg}={text(one.value)}" for one in node.keywords)]
                if not options and not is_double:
                    return None
                return f"{text(node.func)}({', '.join([text(array), *(options or ['float'])])})"
        return None

    return written


# Sums of outer products


def product_cure(pairs: Iterable[tuple[Event, Event]], graph: Graph) -> Cure | None:
    """One matrix product in place of all products of pairs and their sum."""
    code = code_of(graph)
    edits = Edits(code)
    for made, added in dict.fromkeys((code.node(made), code.node(added)) for made, added in pairs):
        if not isinstance(made, ast.expr) or not isinstance(added, ast.Call):
            return None
        summed = _summed(added, made, code)
        text = _matrix_product(made, summed, code.text) if summed is not None else None
        if summed is None or text is None:
            return None
        edits.replace(added, f"({text}) / {text_of_length(made, summed, code.text)}" if _is_mean(added) else text)
        statement = code.statement(made)
        if statement is not code.statement(added):
            edits.remove(statement)
    return edits.cure() if edits else None


def sum_cure(pairs: Iterable[tuple[Event, Event]], graph: Graph) -> Cure | None:
    """``np.vdot(A, B)`` for ``np.sum(A * B)``, also where B is A."""
    code = code_of(graph)
    edits = Edits(code)
    for made, added in dict.fromkeys((code.node(made), code.node(added)) for made, added in pairs):
        if not isinstance(made, ast.expr) or not isinstance(added, ast.Call):
            return None
        name = code.numpy_name(code.file(added))
        if code.parent(made) not in (added, added.func) or len(added.args) + len(added.keywords) > 1 or name is None:
            return None
        operands = operands_of(made)
        is_square = not isinstance(made, ast.BinOp | ast.Call) or len(operands) == 1 or _is_two(operands[1])
        if is_square and not is_simple(operands[0]):
            return None
        first, second = (operands[0], operands[0]) if is_square else operands
        edits.replace(added, f"{name}.vdot({code.text(first)}, {code.text(second)})")
    return edits.cure() if edits else None


def _is_two(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 2


def _is_mean(added: ast.Call) -> bool:
    return isinstance(added.func, ast.Attribute) and added.func.attr in ("mean", "average")


def _summed(added: ast.Call, made: ast.expr, code: RecordedCode) -> int | None:
    """The axis that a call sums, if it sums the products and does nothing else."""
    arguments = list(added.args)
    is_function = isinstance(added.func, ast.Attribute) and isinstance(added.func.value, ast.Name)
    target: ast.expr | None = None
    match added.func:
        case ast.Attribute(value=value, attr="sum" | "mean") if not (is_function and _is_numpy(value, code)):
            target = value
        case ast.Attribute(attr="sum" | "mean" | "average") if is_function and arguments:
            target = arguments.pop(0)
        case ast.Attribute(value=ast.Attribute(attr="add"), attr="reduce") if arguments:
            target = arguments.pop(0)
    axis: ast.expr | None = arguments.pop(0) if arguments else None
    for keyword in added.keywords:
        if keyword.arg != "axis" or axis is not None:
            return None
        axis = keyword.value
    if axis is None and isinstance(added.func, ast.Attribute) and added.func.attr == "reduce":
        axis = ast.Constant(0)
    number = axis.value if isinstance(axis, ast.Constant) else None
    if target is None or arguments or not isinstance(number, int) or number not in (0, 1, 2):
        return None
    if target is not made:
        statement = code.statement(made)
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if value is made:
                if not isinstance(target, ast.Name) or target.id != name:
                    return None
            case _:
                return None
    return number


def _is_numpy(node: ast.expr, code: RecordedCode) -> bool:
    return isinstance(node, ast.Name) and node.id == code.numpy_name(code.file(node))


def _axes(node: ast.expr) -> tuple[ast.expr, tuple[int, ...]] | None:
    """The matrix in ``A[:, :, None]``, and which of the three axes are its own."""
    if not isinstance(node, ast.Subscript) or not is_path(node.value):
        return None
    keys = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    own: list[int] = []
    place = 0
    for key in keys:
        match key:
            case ast.Slice(lower=None, upper=None, step=None):
                own.append(place)
                place += 1
            case ast.Constant(value=None) | ast.Attribute(attr="newaxis"):
                place += 1
            case ast.Constant(value=value) if value is Ellipsis:
                missing = 3 - (len(keys) - 1)
                own += range(place, place + missing)
                place += missing
            case _:
                return None
    own += range(place, 3)
    return (node.value, tuple(own)) if len(own) == 2 else None


def _factors(made: ast.expr) -> list[tuple[ast.expr, tuple[int, ...]]] | None:
    """The two matrices of a product of all pairs, with their axes in it."""
    match made:
        case ast.Call(args=[ast.Constant(value=str(subscripts)), *arrays], keywords=[]):
            names, _, result = subscripts.replace(" ", "").partition("->")
            parts = names.split(",")
            if len(parts) != 2 or len(arrays) != 2 or len(result) != 3:
                return None
            return [
                (array, tuple(result.index(name) for name in part))
                for array, part in zip(arrays, parts, strict=True)
                if len(part) == 2
            ]
        case ast.Call(func=ast.Attribute(attr="multiply" | "matmul"), args=[left, right], keywords=[]):
            operands = [left, right]
        case ast.BinOp(left=left, op=ast.Mult() | ast.MatMult(), right=right):
            operands = [left, right]
        case _:
            return None
    found = [factor for one in operands if (factor := _axes(one)) is not None]
    return found if len(found) == 2 else None


def _matrix_product(made: ast.expr, summed: int, text: Text) -> str | None:
    factors = _factors(made)
    if factors is None or len(factors) != 2:
        return None
    letters = string.ascii_lowercase[:3]
    names = ["".join(letters[axis] for axis in own) for _, own in factors]
    form = product_of(f"{','.join(names)}->{letters.replace(letters[summed], '')}")
    return form.text(*(in_parentheses(array, text) for array, _ in factors)) if form is not None else None


def text_of_length(made: ast.expr, summed: int, text: Text) -> str:
    """How many terms the sum has, as an expression."""
    factors = _factors(made) or []
    array, own = next((array, own) for array, own in factors if summed in own)
    place = own.index(summed)
    return f"len({text(array)})" if place == 0 else f"{in_parentheses(array, text)}.shape[{place}]"


# Stores through masks


def mask_cure(stores: list[tuple[list[Event], str]], graph: Graph) -> Cure | None:
    """A function of the whole array in place of one or two stores through masks.

    stores: the events that store, and the name of the function that does the same.
    """
    code = code_of(graph)
    edits = Edits(code)
    for events, function in stores:
        nodes = [code.node(event) for event in events]
        texts = [_store_texts(node, code) for node in nodes]
        first, last = nodes[0], nodes[-1]
        if not all(texts) or not isinstance(first, ast.Assign) or not isinstance(last, ast.Assign):
            return None
        array, bound, number = texts[0] or ("", "", "")
        name = code.numpy_name(code.file(first))
        if name is None or any(one is None or one[0] != array for one in texts):
            return None
        if len(events) == 1:
            if number != bound:
                return None
            edits.replace_statement(first, f"{name}.{function}({array}, {number}, out={array})")
        else:
            block = code.block(first)
            if last not in block or block.index(last) != block.index(first) + 1:
                return None
            edits.replace_statement(first, f"{name}.{function}({array}, 0, out={array})")
            edits.remove(last)
    return edits.cure() if edits else None


def _store_texts(node: ast.AST | None, code: RecordedCode) -> tuple[str, str, str] | None:
    """(array, what it is compared with, what is stored) of ``A[A < 0] = 0``, as text."""
    match node:
        case ast.Assign(
            targets=[ast.Subscript(value=target, slice=ast.Compare(left=left, comparators=[right]))], value=number
        ) if is_simple(target):
            array = code.text(target)
            sides = {code.text(left): code.text(right), code.text(right): code.text(left)}
            return (array, sides[array], code.text(number)) if array in sides else None
    return None
