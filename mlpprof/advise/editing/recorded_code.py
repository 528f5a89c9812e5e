"""The recorded step as code: the syntax node of an event, its function, and the arrays that expressions had as values.

The cures reason on `ast`, whose nodes the recording knows by their places. `Edits` makes the new text, on the concrete
syntax, so that comments and formatting stay.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from mlpprof.advise.in_place import operands_of
from mlpprof.advise.syntax import numpy_name, span
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event, Turn

Function = ast.FunctionDef | ast.Lambda
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

Frame = tuple[int, ...]
"""The calls that a frame is in, the last of which is the frame's own."""


@dataclass(frozen=True)
class Holding:
    """An expression that had an array as its value. event: at which time; node: where."""

    node: ast.expr
    array: Array
    event: Event


class RecordedCode:
    """The syntax of the recorded files. Nodes of files that the user does not change are not found."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._parents: dict[ast.AST, ast.AST] = {}
        self._files: dict[ast.AST, str] = {}
        self._nodes: dict[tuple[str, int, int, int, int], ast.expr | ast.stmt] = {}
        self.kept_names: dict[str, tuple[str, int, int]] = {}
        """Each name under which an edit keeps arrays, with the file and the lines of that edit.

        Several edits may be applied together, so a second one must not use these names.
        """
        for file, tree in graph.trees.items():
            if graph.is_ours(file):
                continue
            self._files[tree] = file
            for node in ast.walk(tree):
                for child in ast.iter_child_nodes(node):
                    self._parents.setdefault(child, node)
                if isinstance(node, ast.expr | ast.stmt):  # an expression replaces the statement that it fills
                    self._nodes[file, *span(node)] = node

    @property
    def modules(self) -> list[ast.AST]:
        """The files that the user can change."""
        return [*self._files]

    @property
    def nodes(self) -> Iterator[ast.AST]:
        """The nodes of these files."""
        for module in self._files:
            yield from ast.walk(module)

    def node(self, event: Event) -> ast.expr | ast.stmt | None:
        """The expression or the statement of an event."""
        return self.node_at(event.site)

    def node_at(self, site: int) -> ast.expr | ast.stmt | None:
        """The expression or the statement of a site of the recording, such as that of a loop."""
        return self._nodes.get(self.graph.span(site))

    def node_of(self, site: Site) -> ast.expr | ast.stmt | None:
        """The expression or the statement at a place."""
        return self._nodes.get((site.file, site.line, site.column, site.end_line, site.end_column))

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node is in, the innermost first."""
        while node in self._parents:
            node = self._parents[node]
            yield node

    def parent(self, node: ast.AST) -> ast.AST | None:
        """What a node is directly in."""
        return self._parents.get(node)

    def scope(self, node: ast.AST) -> Scope:
        """The function that a node is in, or the module."""
        return next(one for one in self.around(node) if isinstance(one, Scope))

    def owner(self, node: ast.AST) -> ast.ClassDef | None:
        """The class whose method a function is."""
        above = self.parent(node)
        return above if isinstance(above, ast.ClassDef) else None

    def methods(self, name: str) -> list[ast.FunctionDef]:
        """The methods of a name in all classes of the recorded files."""
        return [one for one in self.functions(name) if self.owner(one) is not None]

    def functions(self, name: str) -> list[ast.FunctionDef]:
        """The functions and methods of a name in the recorded files."""
        return [one for one in self.nodes if isinstance(one, ast.FunctionDef) and one.name == name]

    def texts_of_importers(self, files: set[str]) -> Iterator[str]:
        """The texts of files beside the recorded ones that the run did not import, but that import some of these."""
        folders = {Path(file).parent for file in self._files.values()}
        names = {name for file in files for name in (Path(file).stem, Path(file).parent.name) if name}
        imported = re.compile(rf"^\s*(from|import)\b.*\b({'|'.join(map(re.escape, names))})\b", re.MULTILINE)
        for path in (path for folder in folders for path in folder.glob("*.py")):
            if str(path) not in self.graph.trace.sources:
                text = path.read_text(errors="replace")
                if imported.search(text):
                    yield text

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that a node is, or is in."""
        return next(one for one in (node, *self.around(node)) if isinstance(one, ast.stmt))

    def has_own_lines(self, one: ast.stmt) -> bool:
        """Whether no other statement stands on the line before it, so that a line can be inserted there."""
        block = self.block(one)
        place = block.index(one) if one in block else 0
        above = block[place - 1] if place else self._parents[one]
        last = getattr(above, "end_lineno" if place else "lineno", 0)
        return bool(last < one.lineno)

    def block(self, one: ast.stmt) -> list[ast.stmt]:
        """The statements among which a statement stands."""
        above = self._parents[one]
        blocks = [getattr(above, name, None) for name in ("body", "orelse", "finalbody")]
        return next((held for held in blocks if isinstance(held, list) and one in held), [])

    def is_before(self, first: ast.stmt, later: ast.stmt) -> bool:
        """Whether a statement has always run when a later one of the same function runs."""
        block = self.block(first)
        way = [later, *(one for one in self.around(later) if isinstance(one, ast.stmt))]
        below = next((one for one in way if one in block), None)
        return below is not None and block.index(first) <= block.index(below)

    def file(self, node: ast.AST) -> str:
        """The file of a node."""
        *_, module = (node, *self.around(node))
        return self._files[module]

    def text(self, node: ast.expr) -> str:
        """The source of an expression as it is written."""
        if self.parent(node) is None:
            return ast.unparse(node)  # it was made, as an item of an argument
        return ast.get_source_segment(self.graph.trace.sources[self.file(node)], node) or ast.unparse(node)

    def text_of(self, one: ast.stmt) -> str:
        """The source of a simple statement, with the comments in the lines right above it."""
        source = self.graph.trace.sources[self.file(one)]
        lines = source.splitlines()[: one.lineno - 1]
        above = [line.strip() for line in takewhile(lambda line: line.strip().startswith("#"), reversed(lines))]
        return "\n".join([*reversed(above), ast.get_source_segment(source, one) or ast.unparse(one)])

    def bindings(self, name: str, scope: ast.AST) -> list[ast.AST]:
        """The nodes within a scope that bind a name, its parameters included, without inner functions."""
        return [one for one in inside(scope) if name in bound_by(one)]

    def numpy_name(self, file: str) -> str | None:
        """The name of NumPy in a file; None if the file imports only names from it, or has several names for it."""
        return numpy_name(file, self.graph)

    # Frames

    @cached_property
    def _events(self) -> dict[Frame, list[Event]]:
        found: dict[Frame, list[Event]] = defaultdict(list)
        for event in self.graph.last:
            found[event.calls].append(event)
        return found

    def turns(self, event: Event) -> tuple[Turn, ...]:
        """The turns of the loops within the frame of an event."""
        depth = len(self.graph.events[event.calls[-1]].loops) if event.calls else 0
        return event.loops[depth:]

    def executions(self, node: ast.AST) -> list[Event]:
        """The events of the last recorded step at a node; those of the loop around it where the step has none."""
        found = [event for event in self.graph.turn if self.node(event) is node]
        return [event for event in found if not event.is_outside] or found

    def holdings(self, frame: Frame) -> list[Holding]:
        """What expressions of a frame had arrays as values, as far as operations have read or made them."""
        known = self._holdings.get(frame)
        if known is None:
            known = self._holdings[frame] = [*self._parameters(frame), *self._operands(frame)]
        return known

    @cached_property
    def _holdings(self) -> dict[Frame, list[Holding]]:
        return {}

    def _operands(self, frame: Frame) -> Iterator[Holding]:
        for event in self._events.get(frame, ()):
            node = self.node(event)
            if node is None:
                continue
            held = [*_read(node, event), *self._stored(node, event)]
            for operand, value in [part for pair in held for part in _parts(*pair)]:
                while isinstance(operand, ast.Attribute) and operand.attr == "T" and isinstance(value, np.ndarray):
                    operand, value = operand.value, value.T
                if isinstance(value, np.ndarray) and is_path(operand):
                    yield Holding(operand, value, event)

    def _stored(self, node: ast.expr | ast.stmt, event: Event) -> Iterator[tuple[ast.expr, Any]]:
        """What the result of an expression is assigned to, when the expression is the whole right side."""
        above = self.parent(node)
        if not isinstance(above, ast.Assign) or above.value is not node:
            return
        for target in above.targets:
            if isinstance(target, ast.Tuple) and isinstance(event.result, tuple):
                yield from zip(target.elts, event.result, strict=False)
            else:
                yield target, event.result

    def _parameters(self, frame: Frame) -> Iterator[Holding]:
        """The arguments of the frame's call, and arrays in the attributes and containers among them."""
        if not frame:
            return
        call = self.graph.events[frame[-1]]
        function = self.function(call)
        if function is None:
            return
        names = [*function.args.posonlyargs, *function.args.args]
        for text, value in _free_variables(call.function):
            for held, array in _arrays_of(text, value, depth=1):
                node = ast.parse(held, mode="eval").body
                yield Holding(ast.copy_location(node, function), array, call)
        owner = getattr(call.function, "__self__", None)
        values = [owner, *call.operands] if owner is not None else list(call.operands)
        for name, value in zip(names, values, strict=False):
            for text, array in _arrays_of(name.arg, value, depth=2):
                node = ast.parse(text, mode="eval").body
                yield Holding(ast.copy_location(node, name), array, call)

    def function(self, call: Event) -> Function | None:
        """The definition of a called function of the program."""
        code = getattr(getattr(call.function, "__func__", call.function), "__code__", None)
        frame = (*call.calls, call.index)
        inner = next((event for event in self.graph.events[call.index + 1 : call.end] if event.calls == frame), None)
        node = self.node(inner) if inner is not None else None
        scope = self.scope(node) if node is not None else None
        name = getattr(code, "co_name", None)
        if inner is None:  # it computes with single numbers, which are no events
            return self._functions.get((getattr(code, "co_filename", ""), getattr(code, "co_firstlineno", 0)))
        if isinstance(scope, ast.Lambda):
            return scope if name == "<lambda>" else None
        return scope if isinstance(scope, ast.FunctionDef) and scope.name == name else None

    @cached_property
    def _functions(self) -> dict[tuple[str, int], ast.FunctionDef]:
        """The functions by file and line."""
        nodes = (node for node in self._parents if isinstance(node, ast.FunctionDef))
        return {(self.file(node), node.lineno): node for node in nodes}


@lru_cache(maxsize=1)
def code_of(graph: Graph) -> RecordedCode:
    """The code of a recording; the detectors look at one recording after the other."""
    return RecordedCode(graph)


def inside(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of functions and classes defined in it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from inside(child)


def bound_by(node: ast.AST) -> frozenset[str]:
    """The names that a node itself binds, without those that nodes inside bind."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            return frozenset((name,))
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return frozenset((name,))
        case ast.alias(name=name, asname=other):
            return frozenset((other or name.partition(".")[0],))
        case ast.ExceptHandler(name=str(name)):
            return frozenset((name,))
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return frozenset(names)
    return frozenset()


def names_in(node: ast.AST) -> set[str]:
    """The names that a node reads or binds."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def parameters_of(node: ast.expr, function: ast.FunctionDef, code: RecordedCode) -> set[str]:
    """The parameters of a function that an expression depends on, itself or through local names."""
    known, new = set[str](), names_in(node)
    while new:
        known |= new
        bound = [one for name in new for one in code.bindings(name, function) if not isinstance(one, ast.arg)]
        new = set[str]().union(*(names_in(code.statement(one)) for one in bound)) - known
    return known & {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}


def is_path(node: ast.expr) -> bool:
    """Whether an expression only names an array: a name, an attribute, an item; reading it computes next to nothing."""
    match node:
        case ast.Name():
            return True
        case ast.Attribute(value=value):
            return is_path(value)
        case ast.Subscript(value=value, slice=key):
            return is_path(value) and _is_key(key)
    return False


def same_array(one: Any, other: Any) -> bool:
    """Whether both are the same elements of the same buffer."""
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray) or one.dtype != other.dtype:
        return False
    if one is other:
        return True
    lies = [(x.__array_interface__["data"][0], x.shape, x.strides) for x in (one, other)]
    return lies[0] == lies[1]


def _is_key(key: ast.expr) -> bool:
    match key:
        case ast.Constant() | ast.Name() | ast.JoinedStr():
            return True
        case ast.UnaryOp(operand=operand):
            return _is_key(operand)
        case ast.BinOp(left=left, right=right):
            return _is_key(left) and _is_key(right)
        case ast.Call(func=ast.Name(id="str" | "len"), args=[argument], keywords=[]):
            return _is_key(argument) or is_path(argument)
        case ast.Attribute():
            return is_path(key)
    return False


def _read(node: ast.expr | ast.stmt, event: Event) -> Iterator[tuple[ast.expr, Any]]:
    """The operands of an operation in the source, with their values."""
    match node:
        case ast.Subscript(value=value):
            yield value, event.operands[0] if event.operands else None
        case ast.Assign(value=value) if len(event.operands) == 3:
            yield value, event.operands[2]
        case ast.AugAssign(target=target, value=value) if len(event.operands) == 2:
            yield from zip((target, value), event.operands, strict=True)
        case ast.Call(args=args) if any(isinstance(one, ast.Starred) for one in args):
            return
        case ast.expr():
            yield from zip(operands_of(node), event.operands, strict=False)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield node.func.value, getattr(event.function, "__self__", None)


def _parts(operand: ast.expr, value: Any) -> Iterator[tuple[ast.expr, Any]]:
    """The elements of a tuple or a list that is written out, as in ``np.vstack((ones, A))``; else the operand."""
    match operand:
        case ast.Tuple(elts=elements) | ast.List(elts=elements) if isinstance(value, list | tuple):
            if len(elements) == len(value) and not any(isinstance(one, ast.Starred) for one in elements):
                yield from zip(elements, value, strict=True)
        case _:
            yield operand, value


def _free_variables(function: Any) -> Iterator[tuple[str, Any]]:
    """The variables of outer functions that a function uses, with their values."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # it has no value yet
            continue


MOST_ITEMS = 64
"""No more attributes or items of an object are looked through for an array."""


def _arrays_of(text: str, value: Any, depth: int) -> Iterator[tuple[str, Array]]:
    """The arrays in an object's attributes, or in a dict, a list or a tuple, with the expressions that give them."""
    if isinstance(value, np.ndarray):
        yield text, value
        return
    if not depth or isinstance(value, type):
        return
    if isinstance(value, dict):
        parts = [(f"{text}[{json.dumps(key)}]", one) for key, one in value.items() if isinstance(key, str | int)]
    elif isinstance(value, list | tuple):
        parts = [(f"{text}[{i}]", one) for i, one in enumerate(value)]
    else:
        held = getattr(value, "__dict__", None)
        parts = [(f"{text}.{key}", one) for key, one in held.items()] if isinstance(held, dict) else []
    for part, one in parts[:MOST_ITEMS]:
        yield from _arrays_of(part, one, depth - 1)
