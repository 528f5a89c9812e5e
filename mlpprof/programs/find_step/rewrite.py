"""The form of a file for finding the training step: calls, loop turns, products and updates call hooks.

Everything else runs as it was written. An update is an augmented assignment, or an assignment of a changed value to the
same variable: ``W = W - rate * dW``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from mlpprof.instrument.rewriting import Rewriting, Site, call, split_body, statement
from mlpprof.programs.find_step.choose import is_product, items_of, last_name
from mlpprof.programs.record.hooks import (
    CALLED,
    LEAVE,
    LOOP,
    MULTIPLIED,
    QUIET,
    RETURNED,
    TURN,
    UPDATED,
)

CONVERSIONS = frozenset(
    (
        *("float", "int", "str", "list", "tuple", "array", "asarray", "asmatrix", "matrix", "ascontiguousarray"),
        *("float32", "float64", "astype", "copy", "strip", "reshape", "ravel", "flatten", "squeeze", "transpose"),
    )
)
"""Calls that return their argument in another form, with the same numbers."""


GLOBALS, CELLS = "globals of ", "cells of "
"""The owner of a name that a function changes by `global` or by `nonlocal`, before the name of the file."""


class SeekForm(Rewriting):
    """Rewrites one file. names: number of a site -> the qualified name of the function, or '' of a loop."""

    def __init__(self, sites: list[Site], names: dict[int, str], file: str, tree: ast.Module) -> None:
        super().__init__(sites, file, tree)
        self._names = names
        self._scopes: list[str] = []
        self._globals: dict[str, str] = {}
        self._made_of, self._short_for = _made_of(tree), _short_for(tree)

    def _named(self, node: ast.stmt, name: str = "") -> ast.Constant:
        """The number of a new site, whose name is noted."""
        number = self._number(node)
        self._names[len(self._sites) - 1] = name
        return number

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        """Its methods."""
        self._scopes.append(node.name)
        self.generic_visit(node)
        self._scopes.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        """The body between CALLED and RETURNED."""
        if not self._is_plain(node):
            return node
        self._scopes.append(node.name)
        outer = self._globals, self._made_of, self._short_for
        self._made_of, self._short_for = _made_of(node), _short_for(node)
        named = [one for one in ast.walk(node) if isinstance(one, ast.Global | ast.Nonlocal)]
        kinds = {ast.Global: GLOBALS, ast.Nonlocal: CELLS}
        self._globals = {name: kinds[type(one)] for one in named for name in one.names}
        number = self._named(node, ".".join(self._scopes))
        self.generic_visit(node)
        self._scopes.pop()
        self._globals, self._made_of, self._short_for = outer
        first, body = split_body(node)
        if body and not any(isinstance(one, ast.Yield | ast.YieldFrom) for one in ast.walk(node)):
            guarded = ast.Try(body, [], [], [statement(RETURNED, number)])
            node.body = [*first, statement(CALLED, number), guarded]
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        """The lambda as it is written."""
        return node

    def visit_For(self, node: ast.For) -> list[ast.stmt]:
        """LOOP before it, TURN in it, LEAVE after it."""
        return self._loop(node)

    def visit_While(self, node: ast.While) -> list[ast.stmt]:
        """`while` is rewritten as `for` is."""
        return self._loop(node)

    def _loop(self, node: ast.For | ast.While) -> list[ast.stmt]:
        number = self._named(node)
        self.generic_visit(node)
        node.body = [statement(TURN, number), *node.body]
        return [statement(LOOP, number), ast.Try([node], [], [], [statement(LEAVE, number)])]

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """``a @ b`` is counted."""
        self.generic_visit(node)
        return call(MULTIPLIED, node) if is_product(node) else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """``np.dot(a, b)`` and its like are counted."""
        self.generic_visit(node)
        return call(MULTIPLIED, node) if is_product(node) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        """``W -= rate * dW``."""
        reports = self._reports(node, node.target)
        self.generic_visit(node)
        return [node, *reports]

    def visit_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        """``W = W - rate * dW``, or ``new = W - rate * dW`` and then ``W = new``; W may be short for ``self.W[l]``.

        ``X = X[order]`` only changes an order, and ``x = float(x)`` only a form; neither is an update.
        """
        reports = []
        given = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        mentioned = {text for one in given if isinstance(one, ast.Name) for text in self._made_of.get(one.id, ())}
        if not isinstance(_unconverted(node.value), ast.Subscript | ast.Name | ast.Attribute):
            mentioned |= _mentioned(node.value, node.targets)
        mentioned |= {text for name in mentioned for text in self._short_for.get(name, ())}
        if mentioned:
            for target in _targets(node.targets):
                owner = target.value if isinstance(target, ast.Subscript) else target
                if ast.unparse(target) in mentioned or (owner is not target and ast.unparse(owner) in mentioned):
                    reports += self._reports(node, target)
        self.generic_visit(node)
        return [node, *reports]

    def visit_Expr(self, node: ast.Expr) -> list[ast.stmt]:
        """``np.subtract(W, dW, out=W)``."""
        reports = []
        if isinstance(node.value, ast.Call):
            mentioned = {ast.unparse(one) for one in node.value.args}
            for keyword in node.value.keywords:
                if keyword.arg == "out" and ast.unparse(keyword.value) in mentioned:
                    reports += self._reports(node, keyword.value)
        self.generic_visit(node)
        return [node, *reports]

    def _reports(self, node: ast.stmt, target: ast.expr) -> list[ast.stmt]:
        """``updated(site, name, owner, key, value, in_place)`` of a target that can be read again."""
        owner: ast.expr = ast.Constant(None)
        key: ast.expr = ast.Constant(None)
        name = last_name(target)
        match target:
            case ast.Name(id=name) if name in self._globals:
                owner, key = ast.Constant(f"{self._globals[name]}{self._file}"), ast.Constant(name)
            case ast.Attribute(value=owner):
                key = ast.Constant(name)
            case ast.Subscript(value=owner, slice=part):
                if _is_pure(part):
                    key = part
                else:
                    target = owner
        if not _is_pure(owner) or not _is_pure(target):
            return []
        in_place = ast.Constant(isinstance(node, ast.AugAssign | ast.Expr))
        value = _loaded(target)
        if not isinstance(target, ast.Name):  # reading a property or a container of the program's own may run its code
            is_attribute = ast.Constant(isinstance(target, ast.Attribute))
            quiet = call(QUIET, _loaded(owner), _loaded(key), is_attribute)
            value = ast.IfExp(quiet, value, ast.Constant(None))
        parts = [self._named(node), ast.Constant(name), _loaded(owner), _loaded(key), value, in_place]
        return [statement(UPDATED, *parts)]


def _mentioned(node: ast.AST, targets: Sequence[ast.expr] = ()) -> set[str]:
    """The expressions in it, as text. ``z[:, 0]`` does not mention ``z`` for a target ``z[:, 1]``, another part."""
    others = {
        id(one.value)
        for one in ast.walk(node)
        if isinstance(one, ast.Subscript) and any(_is_other_part(one, target) for target in targets)
    }
    return {ast.unparse(one) for one in ast.walk(node) if isinstance(one, ast.expr) and id(one) not in others}


def _is_other_part(one: ast.Subscript, target: ast.expr) -> bool:
    """Whether both are parts of the same array or list, with different numbers at one place of the index."""
    if not isinstance(target, ast.Subscript) or ast.unparse(one.value) != ast.unparse(target.value):
        return False
    keys = [key.elts if isinstance(key, ast.Tuple) else [key] for key in (one.slice, target.slice)]
    numbers = [[part.value if isinstance(part, ast.Constant) else None for part in key] for key in keys]
    pairs = zip(*numbers, strict=False)
    return any(isinstance(left, int) and isinstance(right, int) and left != right for left, right in pairs)


def _made_of(scope: ast.AST) -> dict[str, set[str]]:
    """Names of a function -> what their values are computed from, where that is more than another name."""
    found: dict[str, set[str]] = {}
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        inner = _made_of(node)
        if isinstance(node, ast.Assign) and isinstance(_unconverted(node.value), ast.BinOp | ast.Call):
            names = [target.id for target in _targets(node.targets) if isinstance(target, ast.Name)]
            inner = {**inner, **{name: _mentioned(node.value) for name in names}}
        match node:
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=[one])):
                inner = {**inner, name: _mentioned(one)}  # a list of new values, which then takes the place of the old
        for name, texts in inner.items():
            found[name] = found.get(name, set()) | texts
    return found


def _short_for(scope: ast.AST) -> dict[str, set[str]]:
    """Names of a function -> the parts of something that they are short for.

    ``W = self.W[l]``, ``W, g = self.W[l], gradients[l]``, ``for W, g in zip(self.W, gradients)``.
    """
    found: dict[str, set[str]] = {}
    for node in ast.walk(scope):
        for target, value in _short_pairs(node):
            if isinstance(target, ast.Name) and isinstance(value, ast.Subscript | ast.Attribute):
                found.setdefault(target.id, set()).add(ast.unparse(value))
    return found


def _short_pairs(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    yield from zip(target.elts, value.elts, strict=False)
                else:
                    yield target, value
        case ast.For(target=target, iter=value):
            yield from items_of(target, value)


def _targets(targets: list[ast.expr]) -> Iterator[ast.expr]:
    for target in targets:
        if isinstance(target, ast.Tuple | ast.List):
            yield from _targets(target.elts)
        elif isinstance(target, ast.Name | ast.Attribute | ast.Subscript):
            yield target


def _unconverted(node: ast.expr) -> ast.expr:
    """What is converted: x of ``np.array(x.strip())``."""
    while isinstance(node, ast.Call):
        match node.func:
            case ast.Name(id=name) if name in CONVERSIONS and node.args:
                node = node.args[0]
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name) if name in CONVERSIONS and node.args:
                node = node.args[0]
            case ast.Attribute(value=owner, attr=name) if name in CONVERSIONS:
                node = owner
            case _:
                break
    return node


def _is_pure(node: ast.expr) -> bool:
    """Whether reading it once more does nothing: names, attributes, items, arithmetic, and texts made of them."""
    match node:
        case ast.Name() | ast.Constant():
            return True
        case ast.Attribute(value=value) | ast.UnaryOp(operand=value) | ast.FormattedValue(value=value):
            return _is_pure(value)
        case ast.Subscript(value=value, slice=key):
            return _is_pure(value) and _is_pure(key)
        case ast.BinOp(left=left, right=right):
            return _is_pure(left) and _is_pure(right)
        case ast.JoinedStr(values=parts) | ast.Tuple(elts=parts):
            return all(_is_pure(part) for part in parts)
        case ast.Call(func=ast.Name(id="str" | "len" | "int"), args=parts):
            return all(_is_pure(part) for part in parts)
    return False


def _loaded(node: ast.expr) -> ast.expr:
    """The expression to be read, as a copy."""
    return ast.parse(ast.unparse(node), mode="eval").body
