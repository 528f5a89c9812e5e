"""Numbers that a test of the program reads, as a loss that says whether a step is accepted: they decide something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mlpprof.advise.editing.recorded_code import RecordedCode, code_of, inside
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


def tested_events(graph: Graph) -> list[Event]:
    """The events of the first recorded step, calls among them, whose result a test reads, and is no whole array."""
    code = code_of(graph)
    tested = _tested_names(code)
    found = []
    for event in graph.first:
        node = code.node(event)
        if node is None or (isinstance(event.result, np.ndarray) and event.result.size > 1):
            continue
        way = [node, *code.around(node)]
        is_in_test = any(inner is getattr(above, "test", None) for inner, above in pairwise(way))
        targets = _targets(code.statement(node))
        scope = code.scope(node)
        if is_in_test or any(_key(target, scope) in tested for target in targets):
            found.append(event)
    return found


Key = tuple[ast.AST | None, str]
"""A name and its function or module; an attribute has None in place of that."""


def _tested_names(code: RecordedCode) -> set[Key]:
    """What tests read, and what that is computed from."""
    found: set[Key] = set()
    made: list[tuple[set[Key], set[Key]]] = []
    for tree in code.modules:
        for scope in (one for one in ast.walk(tree) if isinstance(one, ast.Module | ast.FunctionDef)):
            for node in inside(scope):
                if isinstance(node, ast.If | ast.While | ast.IfExp):
                    found |= _read(node.test, scope)
                targets = {_key(target, scope) for target in _targets(node)}
                if targets and (value := getattr(node, "value", None)) is not None:
                    made.append((targets, _read(value, scope)))
    while new := {key for targets, read in made if targets & found for key in read} - found:
        found |= new
    return found


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    """The names and attributes that a statement gives a value."""
    held = getattr(node, "targets", None) or ([node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else [])
    for target in held:
        yield from target.elts if isinstance(target, ast.Tuple | ast.List) else [target]


def _read(node: ast.AST, scope: ast.AST) -> set[Key]:
    return {_key(one, scope) for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute)}


def _key(node: ast.expr, scope: ast.AST) -> Key:
    return (None, node.attr) if isinstance(node, ast.Attribute) else (scope, ast.unparse(node))
