"""The definitions at the top of a file: what each binds, what it needs, and where that comes from."""

from __future__ import annotations

import ast
import builtins
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlpprof.errors import VariantError

PACKAGE = "mlpprof"
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass
class Piece:
    """A definition at the top of a module: the names that it binds and uses, and its text."""

    module: str
    node: Definition
    binds: tuple[str, ...]
    uses: frozenset[str]


@dataclass
class Source:
    """A module of the package: its definitions by name, and where the names that it imports come from.

    inner: local name -> (module of the package, name there). outer: local name -> the import statement.
    """

    name: str
    lines: list[str]
    pieces: dict[str, Piece] = field(default_factory=dict)
    order: list[Piece] = field(default_factory=list)
    inner: dict[str, tuple[str, str]] = field(default_factory=dict)
    outer: dict[str, str] = field(default_factory=dict)


def read_source(name: str, text: str, file: str) -> Source:
    """The definitions and imports at the top of a file."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise VariantError(f"{file}:{error.lineno}: {error.msg}") from error
    found = Source(name, text.splitlines())
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    raise VariantError(f"{file}:{node.lineno}: import {alias.name} cannot be inlined; import its names")
                local = alias.asname or alias.name.split(".")[0]
                found.outer[local] = ast.unparse(ast.Import([alias]))
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                local = alias.asname or alias.name
                if (node.module or "").split(".")[0] == PACKAGE:
                    found.inner[local] = (node.module or "", alias.name)
                elif node.module != "__future__":
                    found.outer[local] = ast.unparse(ast.ImportFrom(node.module, [alias], 0))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign):
            piece = Piece(name, node, tuple(_bound(node)), frozenset(_used(node)))
            found.order.append(piece)
            found.pieces.update(dict.fromkeys(piece.binds, piece))
    return found


def module_source(name: str, sources: dict[str, Source]) -> Source:
    """The source of a module of the package, read once; raises VariantError if there is no such module."""
    if name not in sources:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise VariantError(f"there is no module {name} to inline")
        sources[name] = read_source(name, Path(spec.origin).read_text(encoding="utf-8"), spec.origin)
    return sources[name]


def home_of(place: tuple[str, str], sources: dict[str, Source]) -> tuple[str, str]:
    """Where a name is defined, behind any number of imports."""
    module = module_source(place[0], sources)
    if place[1] in module.pieces:
        return place
    if place[1] in module.inner:
        return home_of(module.inner[place[1]], sources)
    raise VariantError(f"{place[0]} defines no {place[1]} that can be inlined")


def closure(place: tuple[str, str], sources: dict[str, Source]) -> Iterator[tuple[str, str]]:
    """A name and all that it needs, what is needed first."""
    seen: set[tuple[str, str]] = set()

    def visit(wanted: tuple[str, str]) -> Iterator[tuple[str, str]]:
        home = home_of(wanted, sources)
        if home in seen:
            return
        seen.add(home)
        module = module_source(home[0], sources)
        for used in sorted(module.pieces[home[1]].uses, key=lambda name: _line_of(module, name)):
            if used in module.pieces:
                yield from visit((home[0], used))
            elif used in module.inner:
                yield from visit(module.inner[used])
        yield home

    yield from visit(place)


def _line_of(module: Source, name: str) -> int:
    return module.pieces[name].node.lineno if name in module.pieces else 0


def piece_at(place: tuple[str, str], sources: dict[str, Source]) -> Piece:
    """The definition of a name at home in a module that has been read."""
    return sources[place[0]].pieces[place[1]]


def _bound(node: Definition) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
        return
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))


def _used(node: Definition) -> Iterator[str]:
    """The names that running the definition needs: those in the annotations of functions are left out."""
    left_out = {id(inner) for annotation, _, _ in annotations_of(node) for inner in ast.walk(annotation)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and id(inner) not in left_out and not hasattr(builtins, inner.id):
            yield inner.id


def annotations_of(node: ast.AST) -> Iterator[tuple[ast.expr, int, int]]:
    """Annotations within functions and of assignments outside of classes; the kind is told by what precedes them."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef):
            arguments = inner.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            for argument in every:
                if argument is not None and argument.annotation is not None:
                    yield argument.annotation, argument.lineno, argument.col_offset + len(argument.arg.encode())
            if inner.returns is not None:
                yield inner.returns, -1, -1
            for statement in ast.walk(inner):
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    yield statement.annotation, statement.lineno, statement.target.end_col_offset or 0
    if isinstance(node, ast.AnnAssign):
        yield node.annotation, node.lineno, node.target.end_col_offset or 0
