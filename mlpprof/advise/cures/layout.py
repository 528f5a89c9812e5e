"""layout: an array that comes into the step from outside gets, once, the memory order that its operations need."""

from __future__ import annotations

import ast
from typing import Any, cast

import libcst as cst
import numpy as np

from mlpprof.advise.bindings import Bindings
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.source import NodeChange, SourceTree, replaced, transformed
from mlpprof.advise.syntax import node_at, numpy_name, span
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

TO_ORDER = {"C": "ascontiguousarray", "F": "asfortranarray"}
OTHER = {"C": "F", "F": "C"}

MOST_STEPS = 12
"""An array is followed through no more names."""


def in_one_order(event: Event, graph: Graph) -> Cure | None:
    """The edit that gives an operand of an elementwise operation the order of the other one, where it is made."""
    node = node_at(event, graph)
    if not isinstance(node, ast.BinOp) or len(event.operands) != 2:
        return None
    origins = _Origins(graph)
    for number in (1, 0):
        value, other = event.operands[number], event.operands[1 - number]
        if not _is_matrix(value) or not _is_matrix(other) or _order(other) not in TO_ORDER:
            continue
        if _order(value) == _order(other):
            continue
        found = origins.of((node.left, node.right)[number], _order(other), MOST_STEPS)
        if found is not None:
            return _made(*found, origins, graph)
    return None


def once_contiguous(site: Site, graph: Graph) -> Cure | None:
    """The edit that makes the array of an assignment contiguous where it is made."""
    origins = _Origins(graph)
    for node in ast.walk(graph.trees[site.file]):
        if isinstance(node, ast.Assign) and (node.lineno, node.col_offset) == (site.line, site.column):
            parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            strided = [part for part in parts if any(_has_step(one) for one in ast.walk(part))]
            return _made(strided[0], "C", origins, graph) if len(strided) == 1 else None
    return None


class _Origins:
    """Finds the one expression outside the step that makes an array."""

    def __init__(self, graph: Graph) -> None:
        self.bindings = Bindings({path: tree for path, tree in graph.trees.items() if not graph.is_ours(path)})
        self._executed = {graph.span(event.site) for event in graph.turn if not event.is_own}

    def of(self, node: ast.expr, order: str, steps: int) -> tuple[ast.expr, str] | None:
        """The expression, and the order that its value must have; None if there is none, or more than one."""
        if steps == 0 or node not in self.bindings.files:
            return None
        is_executed = (self.bindings.files[node], *span(node)) in self._executed
        match node:
            case ast.Attribute(value=owner, attr="T"):
                return self.of(owner, OTHER[order], steps - 1)
            case ast.Name():
                known = self.bindings.of_name(node)
            case ast.Attribute(attr=name):
                known = self.bindings.of_attribute(name)
            case ast.Subscript(value=owner) if is_executed:
                return self.of(owner, order, steps - 1)
            case ast.Call() | ast.BinOp() | ast.Subscript() if not is_executed:
                return node, order
            case _:
                return None
        known = [one for one in known if not one.is_item]
        if len(known) != 1 or known[0].path:
            return None
        return self.of(known[0].value, order, steps - 1)


def _made(node: ast.expr, order: str, origins: _Origins, graph: Graph) -> Cure | None:
    file = origins.bindings.files[node]
    alias = numpy_name(file, graph)
    if alias is None:
        return None
    text = graph.trace.sources[file]
    site = Site.of(file, node)

    def wrapped(inner: cst.CSTNode) -> cst.CSTNode:
        plain = cast(cst.BaseExpression, inner).with_changes(lpar=[], rpar=[])
        return cst.Call(cst.Attribute(cst.Name(alias), cst.Name(TO_ORDER[order])), [cst.Arg(plain)])

    def change(module: cst.Module) -> cst.Module:
        tree = SourceTree(text)
        found = tree.of(site)
        nodes: dict[cst.CSTNode, NodeChange] = {}
        if isinstance(found, cst.BaseExpression):
            nodes[found] = wrapped
        return replaced(tree.module, nodes)

    return transformed("safe", {file: text}, {file: change})


def _is_matrix(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 2 and min(value.shape) > 1


def _order(value: np.ndarray[Any, Any]) -> str:
    if value.flags.c_contiguous:
        return "C"
    return "F" if value.flags.f_contiguous else ""


def _has_step(node: ast.AST) -> bool:
    return isinstance(node, ast.Slice) and node.step is not None
