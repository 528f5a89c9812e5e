"""Arrays in place of np.matrix: what makes the matrices makes arrays, and `*` of two matrices becomes `@`."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from functools import partial

import libcst as cst

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import tree_of
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.advise.editing.source import NodeChange, expression, replaced, transformed
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph

MAKERS = frozenset(("matrix", "mat", "asmatrix"))
"""Functions of NumPy that make a matrix of an array."""

OWN = frozenset(("A", "A1", "H", "I"))
"""Attributes that only a matrix has."""

REDUCTIONS = frozenset(("sum", "mean", "max", "min", "argmax", "argmin", "std", "var", "prod"))
"""Functions that give a matrix two axes where an array has one."""


def arrays_for_matrices(graph: Graph) -> Cure | None:
    """The edit; None if the files do something with matrices that is something else with arrays."""
    code = code_of(graph)
    products = _products(code)
    calls = (one for module in code.modules for one in ast.walk(module) if isinstance(one, ast.Call))
    makers = [one for one in calls if _is_maker(one, code)]
    if not makers or not _is_plain(code, products):
        return None
    changes: dict[str, dict[cst.CSTNode, NodeChange]] = defaultdict(dict)
    for node in (*products, *makers):
        file = code.file(node)
        places = tree_of(graph.trace.sources[file]).all_at(Site.of(file, node))
        found = next((one for one in places if isinstance(one, cst.BinaryOperation | cst.Call)), None)
        if found is None:
            return None
        is_product = isinstance(node, ast.BinOp)
        changes[file][found] = _as_product if is_product else partial(_as_array, code.numpy_name(file))
    return transformed(
        "safe", graph.trace.sources, {file: partial(_changed, file, changes[file], graph) for file in changes}
    )


def _changed(file: str, changes: Mapping[cst.CSTNode, NodeChange], graph: Graph, module: cst.Module) -> cst.Module:
    del module  # the nodes are those of the tree of this file that is kept
    return replaced(tree_of(graph.trace.sources[file]).module, changes)


def _as_product(node: cst.CSTNode) -> cst.CSTNode:
    found = cst.ensure_type(node, cst.BinaryOperation)
    old = cst.ensure_type(found.operator, cst.Multiply)
    operator = cst.MatrixMultiply(old.whitespace_before, old.whitespace_after)
    return found.with_changes(operator=operator)


def _as_array(numpy: str | None, node: cst.CSTNode) -> cst.CSTNode:
    return cst.ensure_type(node, cst.Call).with_changes(func=expression(f"{numpy}.atleast_2d"))


def _is_maker(node: ast.AST, code: RecordedCode) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name), args=[one], keywords=[]):
            is_text = isinstance(one, ast.Constant | ast.JoinedStr)
            return name in MAKERS and module == code.numpy_name(code.file(node)) and not is_text
    return False


def _products(code: RecordedCode) -> list[ast.BinOp]:
    """The places where `*` has multiplied two matrices."""
    found: dict[ast.BinOp, None] = {}
    for event in code.graph.events:
        node = code.node(event)
        is_star = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)
        if is_star and len(event.inputs) == 2 and all(one.is_matrix for one in event.inputs):
            assert isinstance(node, ast.BinOp)
            found[node] = None
    return [*found]


def _is_plain(code: RecordedCode, products: list[ast.BinOp]) -> bool:
    """Whether all that the files do with matrices is seen, or is the same with arrays."""
    seen = {code.node(event) for event in code.graph.events}
    for event in code.graph.events:
        node = code.node(event)
        is_of_matrix = any(one.is_matrix for one in event.inputs)
        if is_of_matrix and (event.name in ("power", "matrix_power") or (event.name in REDUCTIONS and _has_axis(node))):
            return False
    for module in code.modules:
        for part in ast.walk(module):
            match part:
                case ast.Attribute(attr=name, ctx=ast.Load()) if name in OWN:
                    return False
                case ast.Attribute(attr=name) | ast.Name(id=name) if name in (*MAKERS, "bmat"):
                    if not _is_maker(code.parent(part) or part, code):
                        return False
                case ast.BinOp(op=ast.Mult() | ast.Pow(), left=left, right=right) as made:
                    numbers = isinstance(left, ast.Constant) or isinstance(right, ast.Constant)
                    is_set_up = isinstance(code.scope(made), ast.Module) and _comes_before(made, products, code)
                    if made not in seen and not numbers and not is_set_up and not _is_of_makers(made, code):
                        return False
                case ast.Subscript(slice=ast.Constant(value=int()), ctx=ast.Load()) if part in seen:
                    return False
    return True


def _has_axis(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call) and (any(one.arg == "axis" for one in node.keywords) or len(node.args) > 1)


def _comes_before(node: ast.BinOp, products: list[ast.BinOp], code: RecordedCode) -> bool:
    """Whether a statement of the module runs before the training."""
    return bool(products) and code.file(node) == code.file(products[0]) and node.lineno < products[0].lineno


def _is_of_makers(node: ast.BinOp, code: RecordedCode) -> bool:
    """Whether it stands in the argument of what makes a matrix, where there are arrays."""
    return any(_is_maker(one, code) for one in code.around(node))
