"""The clocked form of a file: ``post(pre(n), <expression>)`` around its operations, which stay as they were written.

Operands are not handed to anybody, so NumPy reuses its temporaries as ever.
"""

from __future__ import annotations

import ast

from mlpprof.advise.bodies import is_plain, own_functions
from mlpprof.advise.compiled import numba_functions
from mlpprof.advise.hooks import CLOSE, OPEN, POST, PRE, call, statement
from mlpprof.instrument.rewriting import FRAME_READERS, OperationHooks, Site

SUSPENDING = (ast.Yield, ast.YieldFrom, ast.Await)
FREE_KEYS = (ast.Constant, ast.Slice, ast.UnaryOp)
"""Keys with which a subscript is a view, or an item of a list."""


class ClockedForm(OperationHooks):
    """Rewrites one file."""

    def __init__(self, sites: list[Site], file: str, tree: ast.Module) -> None:
        super().__init__(sites, file)
        self._own, self._compiled = own_functions(tree), numba_functions(tree)

    def _number(self, node: ast.expr | ast.stmt) -> ast.Constant:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        self._sites.append(Site(self._file, node.lineno, node.col_offset, None, end_line, end_column))
        return ast.Constant(len(self._sites) - 1)

    def statements(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The clocked form of some statements."""
        found: list[ast.stmt] = []
        for one in body:
            visited = self.visit(one)
            found += visited if isinstance(visited, list) else [visited]
        return found

    def _clocked(self, node: ast.expr) -> ast.expr:
        suspends = any(isinstance(one, SUSPENDING) for one in ast.walk(node))  # time would pass elsewhere
        self.generic_visit(node)
        if suspends:
            return node
        return ast.copy_location(call(POST, call(PRE, self._number(node)), node), node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """``a @ b``."""
        if isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant):
            return node
        return self._clocked(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        """``-a``."""
        if isinstance(node.op, ast.Not) or isinstance(node.operand, ast.Constant):
            self.generic_visit(node)
            return node
        return self._clocked(node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """``a > b``, where it compares values."""
        if len(node.ops) > 1 or isinstance(node.ops[0], ast.Is | ast.IsNot | ast.In | ast.NotIn):
            self.generic_visit(node)
            return node
        return self._clocked(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """``a[key]``, read, where it may be more than a view."""
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if not isinstance(node.ctx, ast.Load) or all(isinstance(part, FREE_KEYS) for part in parts):
            self.generic_visit(node)
            return node
        return self._clocked(node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """``f(a)``."""
        if isinstance(node.func, ast.Name) and node.func.id in FRAME_READERS:
            self.generic_visit(node)
            return node
        return self._clocked(node)

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        """``a[key] = value``: the statement, and the value within it."""
        self.generic_visit(node)
        if not any(isinstance(target, ast.Subscript) for target in node.targets):
            return node
        return self._between(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        """``a += b``: the statement, and the value within it."""
        self.generic_visit(node)
        return self._between(node)

    def _between(self, node: ast.stmt) -> list[ast.stmt]:
        if any(isinstance(one, SUSPENDING) for one in ast.walk(node)):
            return [node]
        number = self._number(node)
        opened, closed = (ast.copy_location(statement(name, number), node) for name in (OPEN, CLOSE))
        return [opened, node, closed]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        """The body, unless a decorator wants the function as it was written."""
        if is_plain(node, self._own, self._compiled):
            node.body = self.statements(node.body)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        """As it stands."""
        return node
