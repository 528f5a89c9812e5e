"""A file rewritten so that each of its operations calls a hook, which performs it as Python would.

Left as they stand: chained comparisons, `and`, `or`, `in`, `is`, subscripts inside tuples of targets, decorators and
the bodies of functions under a decorator that is not Python's own, defaults, annotations, and calls that look at their
caller's frame (`super`, `locals`, `eval` ...).
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OPERATE, CALL, STORE, SLICE = (f"__mlpprof_{name}__" for name in ("operate", "call", "store", "slice"))
"""The names of the hooks in rewritten code: an operator, a call, ``target[key] = value``, and the class of slices."""

OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.MatMult: operator.matmul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.BitAnd: operator.and_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

IN_PLACE: dict[type, Callable[..., Any]] = {
    ast.Add: operator.iadd,
    ast.Sub: operator.isub,
    ast.Mult: operator.imul,
    ast.MatMult: operator.imatmul,
    ast.Div: operator.itruediv,
    ast.FloorDiv: operator.ifloordiv,
    ast.Mod: operator.imod,
    ast.Pow: operator.ipow,
    ast.LShift: operator.ilshift,
    ast.RShift: operator.irshift,
    ast.BitOr: operator.ior,
    ast.BitXor: operator.ixor,
    ast.BitAnd: operator.iand,
}

IN_PLACE_OPERATORS = frozenset(IN_PLACE.values())

FRAME_READERS = frozenset(("super", "locals", "globals", "vars", "dir", "eval", "exec", "__import__", "breakpoint"))
"""Calls whose result depends on the frame that makes them."""

TRANSPARENT_DECORATORS = frozenset(("staticmethod", "classmethod", "property", "override", "cached_property"))


@dataclass(frozen=True)
class Site:
    """One operation where it stands: file, 1-based lines, 0-based columns, and the function that performs it.

    function: None for a call, whose function is only known when it runs.
    """

    file: str
    line: int
    column: int
    function: Callable[..., Any] | None
    end_line: int = 0
    end_column: int = 0


class OperationHooks(ast.NodeTransformer):
    """Replaces operations by calls of the hooks, adding a site for each."""

    def __init__(self, sites: list[Site], file: str) -> None:
        self._sites = sites
        self._file = file

    def _hook(
        self, hook: str, node: ast.expr | ast.stmt, function: Callable[..., Any] | None, *operands: ast.expr
    ) -> ast.Call:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        self._sites.append(Site(self._file, node.lineno, node.col_offset, function, end_line, end_column))
        call = ast.Call(ast.Name(hook, ast.Load()), [ast.Constant(len(self._sites) - 1), *operands], [])
        return ast.copy_location(call, node)

    def _visited(self, node: ast.expr) -> ast.expr:
        visited = self.visit(node)
        assert isinstance(visited, ast.expr)
        return visited

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """``a @ b``."""
        if isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant):
            return node
        left, right = self._visited(node.left), self._visited(node.right)
        return self._hook(OPERATE, node, OPERATORS[type(node.op)], left, right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        """``-a``; `not` has no value of its own."""
        if isinstance(node.operand, ast.Constant):
            return node
        operand = self._visited(node.operand)
        if isinstance(node.op, ast.Not):
            return ast.copy_location(ast.UnaryOp(node.op, operand), node)
        return self._hook(OPERATE, node, OPERATORS[type(node.op)], operand)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """``a > b``, where it is a single comparison of values."""
        self.generic_visit(node)
        if len(node.ops) > 1 or type(node.ops[0]) not in OPERATORS:
            return node
        return self._hook(OPERATE, node, OPERATORS[type(node.ops[0])], node.left, node.comparators[0])

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """``a[key]``, read."""
        value, key = self._visited(node.value), self._key(node.slice)
        if not isinstance(node.ctx, ast.Load):
            return ast.copy_location(ast.Subscript(value, key, node.ctx), node)
        return self._hook(OPERATE, node, operator.getitem, value, key)

    def _key(self, key: ast.expr) -> ast.expr:
        """The key as an expression of its own: ``[:, 1:]`` becomes ``(slice(None), slice(1, None))``, step included."""
        match key:
            case ast.Slice():
                bounds = [
                    ast.Constant(None) if b is None else self._visited(b) for b in (key.lower, key.upper, key.step)
                ]
                return ast.copy_location(ast.Call(ast.Name(SLICE, ast.Load()), bounds, []), key)
            case ast.Tuple():
                return ast.copy_location(ast.Tuple([self._key(part) for part in key.elts], ast.Load()), key)
        return self._visited(key)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """``f(a, b, k=c)``."""
        if isinstance(node.func, ast.Name) and node.func.id.startswith("__mlpprof_"):
            return node
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in FRAME_READERS:
            return node
        hook = self._hook(CALL, node, None, node.func, *node.args)
        hook.keywords = node.keywords
        return hook

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        """``a[key] = value``; with several targets the value is computed once and stored in turn."""
        value = self._visited(node.value)
        if not any(isinstance(target, ast.Subscript) for target in node.targets):
            node.value = value
            node.targets = [self._visited(target) for target in node.targets]
            return node
        if len(node.targets) == 1:
            return self._stored(node, node.targets[0], value)
        name = f"__mlpprof_value_{len(self._sites)}__"
        kept = ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), node)
        return [kept, *(self._stored(node, target, ast.Name(name, ast.Load())) for target in node.targets)]

    def _stored(self, node: ast.stmt, target: ast.expr, value: ast.expr) -> ast.stmt:
        if not isinstance(target, ast.Subscript):
            return ast.copy_location(ast.Assign([self._visited(target)], value), node)
        call = self._hook(STORE, node, None, value, self._visited(target.value), self._key(target.slice))
        return ast.copy_location(ast.Expr(call), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        """``a[key] += b``: container and key are evaluated once, and the item read before `b` is evaluated."""
        function = IN_PLACE[type(node.op)]
        setup: list[ast.stmt] = []

        def keep(expression: ast.expr) -> ast.expr:
            name = f"__mlpprof_target_{len(self._sites)}_{len(setup)}__"
            setup.append(ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], expression), node))
            return ast.Name(name, ast.Load())

        match node.target:
            case ast.Name(id=name):
                result = self._hook(OPERATE, node, function, ast.Name(name, ast.Load()), self._visited(node.value))
                store: ast.stmt = ast.Assign([ast.Name(name, ast.Store())], result)
            case ast.Attribute(value=owner, attr=attribute):
                kept = keep(self._visited(owner))
                old = ast.Attribute(kept, attribute, ast.Load())
                result = self._hook(OPERATE, node, function, old, self._visited(node.value))
                store = ast.Assign([ast.Attribute(kept, attribute, ast.Store())], result)
            case ast.Subscript(value=owner, slice=key):
                kept, kept_key = keep(self._visited(owner)), keep(self._key(key))
                item = self._hook(OPERATE, node, operator.getitem, kept, kept_key)
                result = self._hook(OPERATE, node, function, item, self._visited(node.value))
                store = ast.Expr(self._hook(STORE, node, None, result, kept, kept_key))
        return [*setup, ast.copy_location(store, node)]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        """``a: int = b``: the value alone."""
        if node.value is not None:
            node.value = self._visited(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        """The body; a decorator such as numba's wants the function as it was written."""
        if all(_name(decorator) in TRANSPARENT_DECORATORS for decorator in node.decorator_list):
            self._visit_body(node)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        """As a function."""
        if not node.decorator_list:
            self._visit_body(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        """The body; bases and decorators stand."""
        self._visit_body(node)
        return node

    def _visit_body(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        body: list[ast.stmt] = []
        for statement in node.body:
            visited = self.visit(statement)
            body += visited if isinstance(visited, list) else [visited]
        node.body = body

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        """Defaults of a lambda stand."""
        return node

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.MatchValue:
        """A value in a pattern stands."""
        return node

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.MatchMapping:
        """Keys in a pattern stand."""
        return node


def _name(decorator: ast.expr) -> str:
    match decorator:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
