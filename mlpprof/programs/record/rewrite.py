"""The observed and the clocked form of a file.

In the observed form, operations go through hooks that get their operands, and loops report their turns. Every function
holds its plain body beside the observed one, and every loop its plain turn: what is not recorded, as the later turns
of a long loop, runs as it was written.

In the clocked form, ``post(pre(n), <expression>)`` stands around operations, which stay as they were written. No hook
gets their operands, so NumPy reuses its temporaries as in the plain form.
"""

from __future__ import annotations

import ast
import copy

from mlpprof.instrument.rewriting import (
    FRAME_READERS,
    OperationForm,
    Rewriting,
    Site,
    call,
    copied,
    split_body,
    statement,
)
from mlpprof.programs.record.hooks import (
    CLOSE,
    GIVEN,
    LEAVE,
    LOCALS,
    LOOP,
    OPEN,
    OVER,
    POST,
    PRE,
    RECORDING,
    TURN,
    TURNS,
    USED,
)

FRAME_READING_METHODS = frozenset(("currentframe", "_getframe", "stack", "warn"))
"""Functions of `inspect`, `sys` and `warnings` whose result depends on the frame that calls them."""

Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp


class ObservedForm(OperationForm):
    """Rewrites one file into the observed form; loops have sites among those of the operations."""

    def __init__(self, sites: list[Site], file: str, tree: ast.Module) -> None:
        super().__init__(sites, file, tree)
        self.is_step = False
        """Whether the statements are the step's: what it returns goes to code that may not be seen."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        """Both bodies, unless a decorator wants the function as it was written."""
        if not self._is_plain(node):
            return node
        first, body = split_body(node)
        if not body:
            return node
        outer, self.is_step = self.is_step, False
        observed = ast.If(call(RECORDING), self.statements(copied(body)), body)
        self.is_step = outer
        node.body = [*first, ast.copy_location(observed, body[0])]
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        """A lambda is observed in the steps that are recorded, as a function is."""
        plain = copy.deepcopy(node.body)
        node.body = ast.copy_location(ast.IfExp(call(RECORDING), self._visited(node.body), plain), plain)
        return node

    def visit_For(self, node: ast.For) -> list[ast.stmt]:
        """A loop between LOOP and LEAVE; each turn is observed if TURN says so."""
        number = self._number(node)
        node.iter = ast.copy_location(call(OVER, number, self._visited(node.iter)), node.iter)
        return self._loop(node, number)

    def visit_While(self, node: ast.While) -> list[ast.stmt]:
        """`while` is rewritten as `for` is; its test has been used."""
        node.test = self._used(self._visited(node.test))
        return self._loop(node, self._number(node))

    def _loop(self, node: ast.For | ast.While, number: ast.Constant) -> list[ast.stmt]:
        plain = node.body
        turn = ast.If(call(TURN, number), self.statements(copied(plain)), plain)
        node.body = [ast.copy_location(turn, plain[0])]
        node.orelse = self.statements(node.orelse)
        guarded = ast.Try([node], [], [], [statement(LEAVE, number)])
        return [ast.copy_location(one, node) for one in (statement(LOOP, number), guarded)]

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        """``[f(x) for x in X]`` is a loop too."""
        return self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.expr:
        """A set comprehension is a loop, as that of a list is."""
        return self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        """A generator expression is a loop, and a call such as ``sum`` reads its values one by one."""
        return self._comprehension(node)

    def _comprehension(self, node: Comprehension) -> ast.expr:
        if any(part.is_async for part in node.generators):
            return node
        number = self._number(node)
        plain = copy.deepcopy(node.elt)
        self.generic_visit(node)
        if isinstance(node, ast.GeneratorExp):
            node.elt = self._used(node.elt)
        first = node.generators[0]
        first.iter = ast.copy_location(call(TURNS, number, first.iter), first.iter)
        node.elt = ast.copy_location(ast.IfExp(call(TURN, number), node.elt, plain), plain)
        return node

    def visit_If(self, node: ast.If) -> ast.stmt:
        """What a branch depends on has been used."""
        node.test = self._used(self._visited(node.test))
        node.body, node.orelse = self.statements(node.body), self.statements(node.orelse)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        """What ``a if test else b`` depends on has been used."""
        node.test = self._used(self._visited(node.test))
        node.body, node.orelse = self._visited(node.body), self._visited(node.orelse)
        return node

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        """What the step returns has been used: its caller may not be seen."""
        self.generic_visit(node)
        if self.is_step and node.value is not None:
            node.value = ast.copy_location(call(GIVEN, self._number(node.value), node.value), node.value)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        """What an assertion tests has been used."""
        self.generic_visit(node)
        node.test = self._used(node.test)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        """`and` and `or` ask all values but the last for their truth."""
        self.generic_visit(node)
        node.values = [*map(self._used, node.values[:-1]), node.values[-1]]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        """`not` asks its value for its truth."""
        visited = super().visit_UnaryOp(node)
        if isinstance(visited, ast.UnaryOp) and isinstance(visited.op, ast.Not):
            visited.operand = self._used(visited.operand)
        return visited

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        """The conditions of a comprehension ask for a truth."""
        self.generic_visit(node)
        node.ifs = [self._used(one) for one in node.ifs]
        return node

    def visit_Match(self, node: ast.Match) -> ast.stmt:
        """`match` reads its subject, and its guards ask for a truth."""
        self.generic_visit(node)
        node.subject = self._used(node.subject)
        for case in node.cases:
            case.guard = self._used(case.guard) if case.guard is not None else None
        return node

    def looks(self, test: ast.expr) -> list[ast.stmt]:
        """Statements that look at the names of a test that is made where nothing is recorded, as of the step's loop."""
        names = [one for one in ast.walk(test) if isinstance(one, ast.Name | ast.Attribute) and _is_path(one)]
        found: list[ast.stmt] = []
        for name in names:
            used = ast.Expr(self._used(copy.deepcopy(name)))
            unbound = ast.Tuple([ast.Name("NameError", ast.Load()), ast.Name("AttributeError", ast.Load())], ast.Load())
            found.append(ast.Try([used], [ast.ExceptHandler(unbound, None, [ast.Pass()])], [], []))
        return [ast.copy_location(one, test) for one in found]

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """A chain or a test of membership stays; what it compares has been used."""
        visited = super().visit_Compare(node)
        if isinstance(visited, ast.Compare):
            visited.left = self._used(visited.left)
            visited.comparators = [self._used(one) for one in visited.comparators]
        return visited

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        """What is printed has been used."""
        node.value = self._used(self._visited(node.value))
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.expr:
        """``*A`` takes A apart."""
        node.value = self._visited(node.value)
        if isinstance(node.ctx, ast.Load):
            node.value = self._used(node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        """``a, b = A`` takes A apart."""
        if isinstance(node.targets[0], ast.Tuple | ast.List) and not isinstance(node.value, ast.Tuple | ast.List):
            node.value = self._used(self._visited(node.value))
        return super().visit_Assign(node)

    def _used(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Constant):
            return node
        return ast.copy_location(call(USED, self._number(node), node), node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """A call is recorded; ``locals()`` does not show the names that the rewriting needs."""
        if _reads_frames(node):
            self.generic_visit(node)
            return node
        visited = super().visit_Call(node)
        match visited:
            case ast.Call(func=ast.Name(id="locals" | "vars" | "dir"), args=[], keywords=[]):
                return ast.copy_location(call(LOCALS, visited), visited)
        return visited


def _reads_frames(node: ast.Call) -> bool:
    """Whether it may be a call of such a function; NumPy's `stack` takes arrays, and that of `inspect` a number."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in FRAME_READING_METHODS:
        return False
    return node.func.attr != "stack" or not node.args or isinstance(node.args[0], ast.Constant)


def _is_path(node: ast.expr) -> bool:
    """Whether it is a name that is read, or an attribute of one."""
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        return isinstance(node, ast.Name) or _is_path(node.value)
    return False


SUSPENDING = (ast.Yield, ast.YieldFrom, ast.Await)
FREE_KEYS = (ast.Constant, ast.Slice, ast.UnaryOp)
"""With such keys, a subscript is a view, or an item of a list."""


class ClockedForm(Rewriting):
    """Rewrites one file into the clocked form."""

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
