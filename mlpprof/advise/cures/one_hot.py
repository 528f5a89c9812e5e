"""One-hot rows that Python makes one by one: all ones are stored at once, or rows of an identity are taken."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.advise.syntax import is_simple
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


@dataclass(frozen=True)
class StoredNumbers:
    """A loop ``for n, k in enumerate(y): T[n, k] = 1``, or with another number.

    keys: the two indices. counter: the name that counts the samples; count: their number. labels: the expression of
    all labels, with `{np}` for NumPy.
    """

    loop: ast.For
    rows: ast.expr
    number: ast.Constant
    keys: tuple[ast.expr, ast.expr]
    counter: str
    count: str
    labels: str


def stored_ones(site: int, graph: Graph) -> StoredNumbers | None:
    """The loop at a site of the recording, if all it does is to store a one for each label, as in one-hot rows."""
    stored = stored_numbers(site, graph)
    return stored if stored is not None and stored.number.value == 1 else None


def stored_numbers(site: int, graph: Graph) -> StoredNumbers | None:
    """The same for any number that the loop stores for the label of each sample."""
    code = code_of(graph)
    loop = code.node_at(site)
    if not isinstance(loop, ast.For) or graph.is_ours(graph.trace.sites[site].file):
        return None
    return _stored_by(loop, code)


Written = tuple[Cure, str]
"""An edit, and the labels as it writes them."""


def numbers_at_once(stored: StoredNumbers, graph: Graph) -> Written | None:
    """The edit that stores all numbers at once: ``T[np.arange(n), y] = 1``."""
    code = code_of(graph)
    name = code.numpy_name(code.file(stored.loop))
    if name is None:
        return None
    labels = stored.labels.format(np=name)
    keys = [f"{name}.arange({stored.count})", labels]
    if ast.unparse(stored.keys[0]) != stored.counter:
        keys.reverse()
    statement = f"{code.text(stored.rows)}[{', '.join(keys)}] = {code.text(stored.number)}"
    return _in_place_of(stored.loop, statement, labels, code)


def vectors_at_once(loop: ast.For, graph: Graph) -> Written | None:
    """The edit of a loop that appends a vector of zeros with a one for each label: ``Y.extend(np.eye(10)[y])``."""
    code = code_of(graph)
    name = code.numpy_name(code.file(loop))
    match loop.target, loop.body:
        case (
            ast.Name(id=label),
            [
                ast.Assign(targets=[ast.Name(id=vector)], value=ast.Call() as zeros),
                ast.Assign(
                    targets=[ast.Subscript(value=ast.Name(id=indexed), slice=ast.Name(id=place))],
                    value=ast.Constant(value=1 | 1.0),
                ),
                ast.Expr(
                    value=ast.Call(
                        func=ast.Attribute(value=ast.Name(id=held), attr="append"), args=[ast.Name(id=added)]
                    )
                ),
            ],
        ) if vector == indexed == added and place == label and is_simple(loop.iter) and name is not None:
            eye = _eye(zeros, name)
        case _:
            return None
    labels = ast.unparse(loop.iter)
    return _in_place_of(loop, f"{held}.extend({eye}[{labels}])", labels, code) if eye is not None else None


def _in_place_of(loop: ast.For, statement: str, labels: str, code: RecordedCode) -> Written | None:
    edits = Edits(code)
    edits.replace_statement(loop, statement)
    cure = edits.cure()
    return (cure, labels) if cure is not None else None


def _eye(zeros: ast.Call, name: str) -> str | None:
    """The unit vectors as rows, in the dtype of ``np.zeros(n)``, or as columns for ``np.zeros((n, 1))``."""
    if ast.unparse(zeros.func) != f"{name}.zeros" or len(zeros.args) != 1:
        return None
    options = "".join(f", {one.arg}={ast.unparse(one.value)}" for one in zeros.keywords)
    match zeros.args[0]:
        case ast.Tuple(elts=[size, ast.Constant(value=1)]):
            return f"{name}.eye({ast.unparse(size)}{options})[:, :, None]"
        case ast.Tuple(elts=[size]):
            return f"{name}.eye({ast.unparse(size)}{options})"
        case ast.Tuple():
            return None
    return f"{name}.eye({ast.unparse(zeros.args[0])}{options})"


def _stored_by(loop: ast.For, code: RecordedCode) -> StoredNumbers | None:
    match loop.body:
        case [ast.Assign(targets=[ast.Subscript() as target], value=ast.Constant() as number)] if not loop.orelse:
            pass
        case _:
            return None
    match target:
        case ast.Subscript(value=rows, slice=ast.Tuple(elts=[first, second])):
            keys = first, second
        case ast.Subscript(value=ast.Subscript(value=rows, slice=first), slice=second):
            keys = first, second
        case _:
            return None
    counted = _of_pairs(loop, keys, code) or _of_numbers(loop, keys, code)
    return StoredNumbers(loop, rows, number, keys, *counted) if counted is not None and is_simple(rows) else None


Counted = tuple[str, str, str]
"""The counter, the number of samples, and the labels, as in `StoredNumbers`."""


def _of_pairs(loop: ast.For, keys: tuple[ast.expr, ast.expr], code: RecordedCode) -> Counted | None:
    """The counting of ``for n, k in enumerate(y)``."""
    match loop:
        case ast.For(
            target=ast.Tuple(elts=[ast.Name(id=counter), ast.Name(id=label)]),
            iter=ast.Call(func=ast.Name(id="enumerate"), args=[labels], keywords=[]) as over,
        ) if is_simple(labels):
            held = _labels(keys, counter, label, code.text(labels), _read(over, code))
            return (counter, f"len({code.text(labels)})", held) if held is not None else None
    return None


def _of_numbers(loop: ast.For, keys: tuple[ast.expr, ast.expr], code: RecordedCode) -> Counted | None:
    """The counting of ``for n in range(len(y))``, with the label ``y[n]``."""
    match loop:
        case ast.For(
            target=ast.Name(id=counter), iter=ast.Call(func=ast.Name(id="range"), args=[stop], keywords=[])
        ) if _is_number(stop):
            pass
        case _:
            return None
    for item in (one for key in keys for one in ast.walk(key)):
        match item:
            case ast.Subscript(value=labels, slice=ast.Name(id=index)) if index == counter and is_simple(labels):
                text, count = code.text(labels), code.text(stop)
                is_whole = count in (f"len({text})", f"{text}.shape[0]", f"{text}.size")
                whole = text if is_whole else f"{text}[:{count}]"
                held = _labels(keys, counter, ast.unparse(item), whole, _read(item, code))
                return (counter, count, held) if held is not None else None
    return None


def _labels(keys: tuple[ast.expr, ast.expr], counter: str, label: str, whole: str, values: list[Any]) -> str | None:
    """The labels of all samples. label, whole: the text of one label and of all; values: arrays of all labels."""
    if any(isinstance(value, np.ndarray) and value.ndim > 1 for value in values):
        whole = f"{{np}}.ravel({whole})"  # a column of labels
    texts = sorted(map(ast.unparse, keys))
    if texts == sorted((counter, label)):
        return whole
    return f"{{np}}.asarray({whole}, dtype=int)" if texts == sorted((counter, f"int({label})")) else None


def _read(node: ast.expr, code: RecordedCode) -> list[Any]:
    return [event.operands[0] for event in code.executions(node) if event.operands]


def _is_number(node: ast.expr) -> bool:
    """Whether it is a name, an item, or the length of such."""
    match node:
        case ast.Call(func=ast.Name(id="len"), args=[held], keywords=[]):
            return is_simple(held)
    return is_simple(node)


def rows_of_identity(event: Event, graph: Graph) -> Cure | None:
    """The edit that writes ``np.eye(10)[y]`` for ``np.array([encoded(k) for k in y])``."""
    code = code_of(graph)
    node = code.node(event)
    match node:
        case ast.Call(
            args=[
                ast.ListComp(
                    elt=ast.Call(args=[ast.Name(id=label)], keywords=[]) as call,
                    generators=[ast.comprehension(target=ast.Name(id=target), iter=labels, ifs=[])],
                )
            ],
            keywords=[],
        ) if label == target:
            functions = {code.function(one) for one in code.executions(call) if one.is_own}
        case _:
            return None
    name, function = code.numpy_name(code.file(node)), functions.pop() if len(functions) == 1 else None
    zeros = _of_zeros_and_one(function) if isinstance(function, ast.FunctionDef) else None
    if zeros is None or name is None:
        return None
    dtype = "".join(f", dtype={code.text(one.value)}" for one in zeros.keywords)
    edits = Edits(code)
    edits.replace(node, f"{name}.eye({code.text(zeros.args[0])}{dtype})[{code.text(labels)}]")
    return edits.cure()


def _of_zeros_and_one(function: ast.FunctionDef) -> ast.Call | None:
    """The call that makes zeros, in a function that makes a row of a fixed number of them and stores a one."""
    body = [one for one in function.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
    match function.args.args, body:
        case (
            [ast.arg(arg=label)],
            [
                ast.Assign(
                    targets=[ast.Name(id=row)],
                    value=ast.Call(func=ast.Attribute(attr="zeros"), args=[ast.Constant(value=int())]) as zeros,
                ),
                ast.Assign(
                    targets=[ast.Subscript(value=ast.Name(id=stored), slice=ast.Name(id=place))],
                    value=ast.Constant(value=1 | 1.0),
                ),
                ast.Return(value=ast.Name(id=returned)),
            ],
        ) if row == stored == returned and place == label:
            return zeros if all(one.arg == "dtype" for one in zeros.keywords) else None
    return None
