"""Every operation of a file as it runs: an expression's operands and its result, handed to an observer.

The file is parsed and rewritten so that each binary, unary and comparing operation, each call, each subscript that is
read or stored, and each augmented assignment goes through a function of `Rewriter`, which performs it as Python would
and then tells the observer. The values are bitwise those of the plain file.

Not for a pass that is timed: handing operands to a function keeps NumPy from reusing its temporaries.

Left as they stand: chained comparisons, `and`, `or`, `in`, `is`, subscripts inside tuples of targets, decorators and
the bodies of functions under a decorator that is not Python's own, defaults, annotations, and calls that look at their
caller's frame (`super`, `locals`, `eval` ...).

Helpers are opened: a Python function that an observed call reaches is rewritten too, if `is_open` says so.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any, Protocol

OPERATE, CALL, STORE, SLICE = (f"__mlpprof_{name}__" for name in ("operate", "call", "store", "slice"))

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

FRAME_READERS = frozenset(("super", "locals", "globals", "vars", "dir", "eval", "exec", "__import__", "breakpoint"))
"""Calls whose result depends on the frame that makes them."""

TRANSPARENT_DECORATORS = frozenset(("staticmethod", "classmethod", "property", "override", "cached_property"))


@dataclass(frozen=True)
class Site:
    """One operation where it stands: file, 1-based line, 0-based column, and the function that performs it.

    function: None for a call, whose function is only known when it runs.
    """

    file: str
    line: int
    column: int
    function: Callable[..., Any] | None


class Observer(Protocol):
    """Who is told of operations."""

    def seen(
        self,
        site: Site,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Any,
    ) -> None:
        """An operation has run: `operator.matmul`, `operator.setitem`, or whatever was called."""

    def before_call(self, site: Site) -> None:
        """A call begins; until `after_call` whatever is seen happens inside it."""

    def after_call(self) -> None:
        """The call that began last has ended, with a result or an exception."""


class Rewriter:
    """Rewrites modules and functions for one observer; `hooks` are the names that rewritten code needs.

    is_open: whether a Python function that a rewritten file calls is rewritten too.
    """

    def __init__(self, observer: Observer, is_open: Callable[[FunctionType], bool]) -> None:
        self._observer = observer
        self._is_open = is_open
        self._sites: list[Site] = []
        self._twins: dict[CodeType, CodeType | None] = {}
        self._compiled: dict[str, CodeType | None] = {}
        self.hooks: dict[str, Any] = {OPERATE: self._operate, CALL: self._call, STORE: self._store, SLICE: slice}

    def rewrite(self, tree: ast.AST, file: str) -> ast.AST:
        """The tree with its operations observed; names that begin with `__mlpprof_` are left alone."""
        rewritten: ast.AST = _Transformer(self._sites, file).visit(tree)
        return ast.fix_missing_locations(rewritten)

    def opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function rewritten, with its globals, defaults and closure; itself where it is not open."""
        if isinstance(function, MethodType):
            inner = self.opened(function.__func__)
            return function if inner is function.__func__ else MethodType(inner, function.__self__)
        if not isinstance(function, FunctionType):
            return self._opened_object(function)
        code = self._twin(function)
        if code is None:
            return function
        function.__globals__.update(self.hooks)
        twin = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
        twin.__kwdefaults__ = function.__kwdefaults__
        return twin

    def _opened_object(self, thing: Any) -> Any:
        """An object that Python code makes callable: its `__call__`, opened."""
        method = None if isinstance(thing, type) else getattr(type(thing), "__call__", None)
        if not isinstance(method, FunctionType):
            return thing
        inner = self.opened(method)
        return thing if inner is method else MethodType(inner, thing)

    def _twin(self, function: FunctionType) -> CodeType | None:
        code = function.__code__
        if code not in self._twins:
            is_rewritten = any({OPERATE, CALL, STORE} & set(one.co_names) for one in (code, *_nested(code)))
            self._twins[code] = None if is_rewritten or not self._is_open(function) else self._find(code)
        return self._twins[code]

    def _find(self, code: CodeType) -> CodeType | None:
        """The code of the same function in the rewritten file; None where its source is gone or ambiguous."""
        file = code.co_filename
        if file not in self._compiled:
            self._compiled[file] = self._compile(code)
        found = [
            inner
            for inner in _nested(self._compiled[file])
            if (inner.co_qualname, inner.co_firstlineno, inner.co_freevars)
            == (code.co_qualname, code.co_firstlineno, code.co_freevars)
        ]
        return found[0] if len(found) == 1 else None

    def _compile(self, code: CodeType) -> CodeType | None:
        module = inspect.getmodule(code)
        try:
            source = inspect.getsource(module) if module is not None else ""
        except (OSError, TypeError):
            return None
        tree = self.rewrite(ast.parse(source), code.co_filename)
        assert isinstance(tree, ast.Module)
        compiled: CodeType = compile(tree, code.co_filename, "exec", dont_inherit=True)
        return compiled

    def _operate(self, number: int, /, *operands: Any) -> Any:
        site = self._sites[number]
        assert site.function is not None
        # A second reference: NumPy would else write the result into an operand that nobody seems to hold.
        held = [*operands]
        result = site.function(*held)
        self._observer.seen(site, site.function, operands, {}, result)
        return result

    def _store(self, number: int, value: Any, target: Any, key: Any, /) -> None:
        """``target[key] = value``, in Python's order of evaluation."""
        target[key] = value
        self._observer.seen(self._sites[number], operator.setitem, (target, key, value), {}, None)

    def _call(self, number: int, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        site, observer = self._sites[number], self._observer
        observer.before_call(site)
        try:
            result = self.opened(function)(*arguments, **options)
        finally:
            observer.after_call()
        observer.seen(site, function, arguments, options, result)
        return result


def _nested(code: CodeType | None) -> list[CodeType]:
    if code is None:
        return []
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [*inner, *(deeper for one in inner for deeper in _nested(one))]


class _Transformer(ast.NodeTransformer):
    """Replaces operations by calls of the hooks, adding a site for each."""

    def __init__(self, sites: list[Site], file: str) -> None:
        self._sites = sites
        self._file = file

    def _hook(
        self, hook: str, node: ast.expr | ast.stmt, function: Callable[..., Any] | None, *operands: ast.expr
    ) -> ast.Call:
        self._sites.append(Site(self._file, node.lineno, node.col_offset, function))
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
        """The key as an expression of its own: ``[:, 1:]`` becomes ``(slice(None, None, None), slice(1, None, None))``."""
        match key:
            case ast.Slice():
                bounds = [ast.Constant(None) if b is None else self._visited(b) for b in (key.lower, key.upper, key.step)]
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
