"""Python source rewritten for the instruments: `Rewriting` is the base of every form of a file.

`OperationForm` makes each operation call a hook, which performs it as Python would. It leaves as they are: chained
comparisons, `and`, `or`, `in`, `is`, subscripts inside tuples of targets, decorators, the bodies of functions under a
decorator that is not Python's own or the file's, defaults, annotations, and calls that look at their caller's frame
(`super`, `locals`, `eval` ...).
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlpprof.instrument.compiled import numba_functions

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
    kind: getattr(operator, f"i{function.__name__.rstrip('_')}")  # iadd, isub ... ior
    for kind, function in OPERATORS.items()
    if issubclass(kind, ast.operator)
}

IN_PLACE_OPERATORS = frozenset(IN_PLACE.values())

FRAME_READERS = frozenset(("super", "locals", "globals", "vars", "dir", "eval", "exec", "__import__", "breakpoint"))
"""The results of these calls depend on the frame that makes them."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Statements = list[ast.stmt]

PLAIN_DECORATORS = frozenset(
    (
        *("staticmethod", "classmethod", "property", "override", "cached_property", "setter", "getter", "deleter"),
        *("abstractmethod", "lru_cache", "cache", "wraps", "contextmanager", "dataclass", "final"),
    )
)
"""Python's own decorators that call the function as it is."""


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

    @classmethod
    def of(cls, file: str, node: ast.expr | ast.stmt, function: Callable[..., Any] | None = None) -> Site:
        """The site of an expression or a statement of a file."""
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return cls(file, node.lineno, node.col_offset, function, end_line, end_column)

    def is_within(self, outer: Site) -> bool:
        """Whether its lines are lines of the other one."""
        return self.file == outer.file and outer.line <= self.line and self.end_line <= outer.end_line


def call(name: str, *arguments: ast.expr) -> ast.Call:
    """A call of a hook."""
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def statement(name: str, *arguments: ast.expr) -> ast.Expr:
    """A call of a hook as a statement."""
    return ast.Expr(call(name, *arguments))


class Declarations(ast.NodeTransformer):
    """Takes `global` and `nonlocal` statements out of a function's body; they must stand before every use."""

    def __init__(self) -> None:
        self.taken: Statements = []

    def visit_Global(self, node: ast.Global) -> ast.stmt:
        self.taken.append(node)
        return ast.copy_location(ast.Pass(), node)  # a block must not be empty

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.stmt:
        self.taken.append(node)
        return ast.copy_location(ast.Pass(), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        return node


def split_body(function: Function) -> tuple[Statements, Statements]:
    """What must stand first in a function (its docstring, its declarations), and the rest of its body."""
    body = list(function.body)
    first: Statements = []
    if ast.get_docstring(function, clean=False) is not None:
        first.append(body.pop(0))
    declarations = Declarations()
    rest = [declarations.visit(one) for one in body]
    return first + declarations.taken, rest


def copied(body: Sequence[ast.stmt]) -> Statements:
    """A copy of the statements."""
    return copy.deepcopy(list(body))


def is_plain_function(function: Function, own: frozenset[str], compiled: frozenset[str]) -> bool:
    """Whether nothing but Python's own decorators and those of the file (`own`) gets hold of the function.

    compiled: names of the functions that numba compiles.
    """
    known = PLAIN_DECORATORS | own
    return function.name not in compiled and all(_name(decorator) in known for decorator in function.decorator_list)


def own_functions(tree: ast.Module) -> frozenset[str]:
    """Names of the functions that a file defines at its top."""
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def _name(decorator: ast.expr) -> str:
    match decorator:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=function):
            return _name(function)
    return ""


class Rewriting(ast.NodeTransformer):
    """Rewrites one file. sites: gets a site for each rewritten expression or statement. tree: the file as written."""

    def __init__(self, sites: list[Site], file: str, tree: ast.Module) -> None:
        self._sites, self._file = sites, file
        self._own, self._compiled = own_functions(tree), numba_functions(tree)

    def statements(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for one in body:
            visited = self.visit(one)
            found += visited if isinstance(visited, list) else [visited]
        return found

    def _number(self, node: ast.expr | ast.stmt, function: Callable[..., Any] | None = None) -> ast.Constant:
        self._sites.append(Site.of(self._file, node, function))
        return ast.Constant(len(self._sites) - 1)

    def _visited(self, node: ast.expr) -> ast.expr:
        visited = self.visit(node)
        assert isinstance(visited, ast.expr)
        return visited

    def _is_plain(self, node: Function) -> bool:
        return is_plain_function(node, self._own, self._compiled)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        if self._is_plain(node):  # numba, for instance, wants the function as it was written
            node.body = self.statements(node.body)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        return node  # what awaits has no order of its own

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        node.body = self.statements(node.body)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is not None:
            node.value = self._visited(node.value)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        return node

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.MatchValue:
        return node

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.MatchMapping:
        return node


class OperationForm(Rewriting):
    """Replaces the operations of a file by calls of the hooks."""

    def _hook(
        self, hook: str, node: ast.expr | ast.stmt, function: Callable[..., Any] | None, *operands: ast.expr
    ) -> ast.Call:
        hook_call = call(hook, self._number(node, function), *operands)
        return ast.copy_location(hook_call, node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
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
        stored = self._hook(STORE, node, None, value, self._visited(target.value), self._key(target.slice))
        return ast.copy_location(ast.Expr(stored), node)

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
