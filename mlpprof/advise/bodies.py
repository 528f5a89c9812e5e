"""What every rewriting does to the body of a function: docstring first, declarations in front, the body several times.

A function in several forms holds them one beside the other and asks at its start which to run, so that the forms
that do not run cost nothing.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence

Function = ast.FunctionDef | ast.AsyncFunctionDef
Statements = list[ast.stmt]

PLAIN_DECORATORS = frozenset(
    (
        *("staticmethod", "classmethod", "property", "override", "cached_property", "setter", "getter", "deleter"),
        *("abstractmethod", "lru_cache", "cache", "wraps", "contextmanager", "dataclass", "final"),
    )
)
"""Decorators of Python's own that call the function as it is."""


class Declarations(ast.NodeTransformer):
    """Takes `global` and `nonlocal` statements out of a function's body; they must stand before every use."""

    def __init__(self) -> None:
        self.taken: Statements = []

    def visit_Global(self, node: ast.Global) -> ast.stmt:
        """Taken; `pass` stays, since a block must not be empty."""
        self.taken.append(node)
        return ast.copy_location(ast.Pass(), node)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.stmt:
        """As `global`."""
        self.taken.append(node)
        return ast.copy_location(ast.Pass(), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        """A function within has its own."""
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        """As a function."""
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        """As a function."""
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        """As a function."""
        return node


def split(function: Function) -> tuple[Statements, Statements]:
    """What must stand first in a function (its docstring, its declarations), and the rest of its body."""
    body = list(function.body)
    first: Statements = []
    if ast.get_docstring(function, clean=False) is not None:
        first.append(body.pop(0))
    declarations = Declarations()
    rest = [declarations.visit(one) for one in body]
    return first + declarations.taken, rest


def copied(body: Sequence[ast.stmt]) -> Statements:
    """The statements once more."""
    return copy.deepcopy(list(body))


def is_plain(function: Function, own: frozenset[str], compiled: frozenset[str]) -> bool:
    """Whether the function runs as it was written: not compiled, no decorator but Python's own and the file's (`own`).

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
