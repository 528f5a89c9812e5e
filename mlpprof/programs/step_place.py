"""The step as the user names it, found in a file: a function by its qualified name, or a loop by its line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlpprof.errors import UsageError
from mlpprof.instrument.rewriting import FRAME_READERS
from mlpprof.programs.notebook import READ

Loop = ast.For | ast.While

NOTEBOOK = ".ipynb"

PLACE = re.compile(r"(?:(?P<file>.+\.(?:py|ipynb)):)?(?:(?:cell )?(?P<cell>\d+):(?=\d+$))?(?P<rest>[^:]+)")
"""A step as the user writes it, perhaps with its file before it."""

SCOPES_WITHIN = (
    ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.ListComp | ast.GeneratorExp | ast.DictComp
)
"""Parts of a loop's body that run on their own."""

Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp

NO_CLOSURE = ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom
"""Expressions that would mean something else in a function of their own."""


@dataclass(frozen=True)
class StepPlace:
    """A step: a function (`name` is its qualified name or the end of it), or the body of the loop on `line`.

    file: the path as the user gave it, matched from its end; None for any file of the program. cell: of a notebook; the
    line is then counted within the cell.
    """

    file: str | None
    name: str | None = None
    line: int | None = None
    cell: int | None = None

    @classmethod
    def parse(cls, text: str) -> StepPlace:
        """From 'Class.method', 'function', '41' or 'fit.41', with or without a file before it; else UsageError.

        In a notebook, a line has its cell before it: '3:12' is line 12 of cell 3.
        """
        found = PLACE.fullmatch(text)
        if found is None:
            raise UsageError(
                f"--step '{text}' is not a place; expected Class.method, a function name, or the line of a loop, with "
                "or without its file: file.py:Class.method. In a notebook, 3:12 is line 12 of cell 3"
            )
        file, cell, rest = found["file"], found["cell"], found["rest"]
        if cell is not None:
            return cls(file, line=int(rest), cell=int(cell))
        last = rest.rpartition(".")[2]
        if last.isdigit():
            return cls(file, line=int(last))
        return cls(file, name=rest)

    @property
    def text(self) -> str:
        """The step as the user can write it, without the file."""
        if self.name is not None:
            return self.name
        return str(self.line) if self.cell is None else f"cell {self.cell}:{self.line}"

    @property
    def words(self) -> str:
        """The step within a sentence."""
        if self.name is not None:
            return f"function '{self.name}'"
        return f"loop in line {self.line}" + ("" if self.cell is None else f" of cell {self.cell}")

    def concerns(self, path: str) -> bool:
        """Whether this file may hold the step."""
        if self.line is not None and (self.cell is not None) != path.endswith(NOTEBOOK):
            return False
        if self.file is None:
            return True
        wanted, have = Path(self.file).parts, Path(path).parts
        return have[-len(wanted) :] == wanted

    def node(self, tree: ast.Module, path: str = "") -> ast.FunctionDef | Loop | None:
        """The function or the loop in a parsed file; path: of a notebook that has been read.

        Raises UsageError if the notebook has no such line.
        """
        for name, node in functions(tree):
            if self.name is not None and f".{name}".endswith(f".{self.name}"):
                return node
        if self.line is None:
            return None
        line = self.line if self.cell is None else READ[path].line(self.cell, self.line)
        loops = [node for node in ast.walk(tree) if isinstance(node, Loop) and node.lineno == line]
        return loops[0] if loops else None


def loops_around(tree: ast.Module, name: str) -> list[Loop]:
    """The innermost loops of a file that call a function with the last part of this name."""
    found = []
    for loop in ast.walk(tree):
        if isinstance(loop, Loop) and any(_calls(one, name.rpartition(".")[2]) for one in loop.body):
            found.append(loop)
    return found


def comprehensions_around(tree: ast.Module, name: str) -> list[Comprehension]:
    """The comprehensions of a file whose element calls a function with the last part of this name.

    Those whose element cannot be evaluated by a function of its own are left out.
    """
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, Comprehension) and _calls(node.elt, name.rpartition(".")[2]) and _can_be_closed(node.elt)
    ]


def _can_be_closed(element: ast.expr) -> bool:
    parts = list(ast.walk(element))
    names = {one.id for one in parts if isinstance(one, ast.Name)}
    return FRAME_READERS.isdisjoint(names) and not any(isinstance(one, NO_CLOSURE) for one in parts)


def loops_that_feed(tree: ast.Module, name: str) -> list[Loop]:
    """The innermost loops that call a function, directly or through other functions of the file."""
    known = {name.rpartition(".")[2]}
    while True:
        calling = {
            own.rpartition(".")[2]
            for own, node in functions(tree)
            if any(_calls(one, last) for one in node.body for last in known)
        }
        if calling <= known:
            break
        known |= calling
    return list({id(loop): loop for last in known for loop in loops_around(tree, last)}.values())


def _calls(node: ast.AST, name: str) -> bool:
    """Whether a statement calls the name outside of inner loops and functions."""
    if isinstance(node, Loop | SCOPES_WITHIN):
        return False
    if isinstance(node, ast.Call):
        match node.func:
            case ast.Name(id=found) | ast.Attribute(attr=found) if found == name:
                return True
    return any(_calls(child, name) for child in ast.iter_child_nodes(node))


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a file with their qualified names; those within functions as 'outer.inner'."""
    yield from ((name, node) for name, node in _functions(tree, prefix) if isinstance(node, ast.FunctionDef))


def async_functions(tree: ast.AST) -> list[str]:
    """The qualified names of the functions of a file that are `async def`."""
    return [name for name, node in _functions(tree, "") if isinstance(node, ast.AsyncFunctionDef)]


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.stmt | ast.ExceptHandler):
            yield from _functions(node, prefix)
