"""Arrays in place of np.matrix: what makes the matrices makes arrays, and `*` of a matrix and an array becomes `@`."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from functools import partial

import libcst as cst

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import tree_of
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.advise.editing.source import NodeChange, expression, named_argument, replaced, transformed
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph

MAKERS = frozenset(("matrix", "mat", "asmatrix"))
"""Functions of NumPy that make a matrix of an array."""

OWN = frozenset(("A", "A1", "H", "I"))
"""Attributes that only a matrix has."""

REDUCTIONS = frozenset(("sum", "mean", "max", "min", "argmax", "argmin", "std", "var", "prod", "any", "all", "ptp"))
"""Functions that give a matrix two axes where an array has one, if they work along an axis."""

FLAT = frozenset(("ravel", "flatten", "squeeze", "diagonal"))
"""Functions that give a matrix two axes where an array has one."""


def arrays_for_matrices(graph: Graph) -> Cure | None:
    """The edit; None if the files do something with matrices that is something else with arrays."""
    code = code_of(graph)
    products = _products(code)
    makers = [one for one in code.nodes if isinstance(one, ast.Call) and _is_maker(one, code)]
    if not makers or products is None or not _is_plain(code, makers):
        return None
    changes: dict[str, dict[cst.CSTNode, NodeChange]] = defaultdict(dict)
    for node in (*products, *makers):
        file = code.file(node)
        places = tree_of(graph.trace.sources[file]).all_at(Site.of(file, node))
        found = next((one for one in places if isinstance(one, cst.BinaryOperation | cst.Call)), None)
        if found is None:
            return None
        is_product = isinstance(node, ast.BinOp)
        is_copy = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "matrix"
        changes[file][found] = _as_product if is_product else partial(_as_array, code.numpy_name(file), is_copy)
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


def _as_array(numpy: str | None, is_copy: bool, node: cst.CSTNode) -> cst.CSTNode:
    call = cst.ensure_type(node, cst.Call)
    if not is_copy:
        return call.with_changes(func=expression(f"{numpy}.atleast_2d"))
    given = call.args[0].with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))
    return call.with_changes(func=expression(f"{numpy}.array"), args=[given, named_argument("ndmin", "2")])


def _is_maker(node: ast.AST, code: RecordedCode) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name), args=[one], keywords=[]):
            is_text = isinstance(one, ast.Constant | ast.JoinedStr)
            return name in MAKERS and module == code.numpy_name(code.file(node)) and not is_text
    return False


def _products(code: RecordedCode) -> list[ast.BinOp] | None:
    """The places where `*` has multiplied a matrix with an array; None if one of them does something else as well."""
    found: dict[ast.BinOp, None] = {}
    others: set[ast.AST] = set()
    for event in code.graph.events:
        node = code.node(event)
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult) or len(event.inputs) != 2:
            continue
        is_of_matrix = any(one.is_matrix for one in event.inputs)
        if is_of_matrix and all(one.is_array and len(one.shape) == 2 for one in event.inputs):
            found[node] = None
        else:
            others.add(node)
            if is_of_matrix and all(one.shape for one in event.inputs):
                return None  # a vector becomes a row of a matrix
    return None if others & found.keys() else [*found]


def _is_plain(code: RecordedCode, makers: list[ast.Call]) -> bool:
    """Whether all that the files do with matrices is seen, or is the same with arrays."""
    seen = {node for event in code.graph.events if (node := code.node(event)) is not None}
    run = {code.statement(node) for node in seen}
    of_matrices = set()
    for event in code.graph.events:
        node = code.node(event)
        if any(one.is_matrix for one in event.inputs):
            of_matrices.add(node)
            has_axis = event.name in REDUCTIONS and _has_axis(node)
            if event.name in ("power", "matrix_power", *FLAT) or has_axis:
                return False
    for part in code.nodes:
        is_known = part in seen or _is_of_makers(part, code) or _comes_before(part, makers, code)
        match part:
            case ast.Attribute(attr=name, ctx=ast.Load()) if name in OWN:
                return False
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in (*MAKERS, "bmat"):
                if not _is_maker(code.parent(part) or part, code):
                    return False
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                if not (is_known or isinstance(left, ast.Constant) or isinstance(right, ast.Constant)):
                    return False
            case ast.BinOp(op=ast.Pow()):
                if not is_known and code.statement(part) not in run:
                    return False
            case ast.AugAssign(op=ast.Mult() | ast.Pow() as op, value=value):
                is_scaled = isinstance(op, ast.Mult) and isinstance(value, ast.Constant)
                if not is_scaled and (not is_known or part in of_matrices):
                    return False
            case ast.Call():
                if not is_known and (_has_axis(part) or _name(part) in FLAT) and code.statement(part) not in run:
                    return False
            case ast.Subscript() if _may_have_one_axis(part, code):
                is_run = part in of_matrices or (not is_known and code.statement(part) not in run)
                if is_run or (part in seen and isinstance(part.slice, ast.Constant)):
                    return False
    return True


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _may_have_one_axis(node: ast.Subscript, code: RecordedCode) -> bool:
    """Whether an item may be a row or a column, which of a matrix has two axes. A key of a dictionary is none."""
    is_changed = isinstance(code.parent(node), ast.AugAssign)
    if not isinstance(node.ctx, ast.Load) and not is_changed:
        return False
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return not all(
        isinstance(one, ast.Slice) or (isinstance(one, ast.Constant) and isinstance(one.value, str)) for one in parts
    )


def _has_axis(node: ast.AST | None) -> bool:
    """Whether a call names an axis: by its keyword, or as `X.sum(0)` and `np.sum(X, 0)` do."""
    if not isinstance(node, ast.Call):
        return False
    is_number = any(isinstance(one, ast.Constant | ast.UnaryOp) for one in node.args)
    is_given = _name(node) in REDUCTIONS and (is_number or len(node.args) > 1)
    return is_given or any(one.arg == "axis" for one in node.keywords)


def _comes_before(node: ast.AST, makers: list[ast.Call], code: RecordedCode) -> bool:
    """Whether it belongs to the statements at the top of a file that run before anything there makes a matrix."""
    if not isinstance(node, ast.expr | ast.stmt) or not isinstance(code.scope(node), ast.Module):
        return False
    lines = [one.lineno for one in makers if code.file(one) == code.file(node)]
    return bool(lines) and node.lineno < min(lines)


def _is_of_makers(node: ast.AST, code: RecordedCode) -> bool:
    """Whether it stands in the argument of what makes a matrix, where there are arrays."""
    return any(_is_maker(one, code) for one in code.around(node))
