"""Questions about a file's syntax: the node of an event, the name of NumPy, whether an expression may stand twice."""

from __future__ import annotations

import ast

from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


def node_at(event: Event, graph: Graph) -> ast.expr | ast.stmt | None:
    """The expression or the statement of an event."""
    _, line, column, end_line, end_column = graph.span(event.site)
    tree = graph.trees.get(graph.trace.sites[event.site].file)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.expr | ast.stmt) and (span(node) == (line, column, end_line, end_column)):
            return node
    return None


def numpy_name(file: str, graph: Graph) -> str | None:
    """The name of NumPy in a file; None if the file imports only names from it, or has several names for it."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(graph.trees[file])
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "numpy"
    }
    return next(iter(names)) if len(names) == 1 else None


def span(node: ast.expr | ast.stmt) -> tuple[int, int, int, int]:
    """The line and column of a node's begin and end, as in `Graph.span` after the file."""
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or 0


def last_name(node: ast.AST) -> str:
    """The name at the end of a path: `f` of `f` and of `module.f`; empty where there is none."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def container_of(node: ast.expr) -> ast.expr:
    """What an item, or an item of an item, is taken from: `W` for `W`, `W[l]` and `W[l][0]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node


def is_simple(node: ast.expr) -> bool:
    """Whether an expression may be written twice: names, attributes, and items by such or by constants."""
    match node:
        case ast.Name() | ast.Constant():
            return True
        case ast.Attribute(value=value):
            return is_simple(value)
        case ast.Subscript(value=value, slice=key):
            return is_simple(value) and is_simple(key)
        case ast.UnaryOp(operand=value):
            return is_simple(value)
        case ast.BinOp(left=left, right=right):
            return is_simple(left) and is_simple(right)
    return False
