"""Arrays that a program keeps from step to step, in which a result is replaced before anything reads it.

Code that did not run while the step was recorded, as in every hundredth step, can read such an array. The place that
holds it must therefore be known from the source, and nothing that has not run may mention that place.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property

from mlpprof.advise.syntax import container_of
from mlpprof.programs.record.arrays import Value
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

MAKERS_OF_NEW_ARRAYS = frozenset(
    ("empty", "zeros", "ones", "full", "empty_like", "zeros_like", "ones_like", "full_like", "copy")
)
"""Functions that return an array that nothing else holds."""

ATTRIBUTES_WITHOUT_VALUES = frozenset(("shape", "ndim", "size", "dtype", "nbytes"))
"""Reading these attributes of an array does not read its values."""

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


class KeptBuffers:
    """The arrays that a program keeps from one recorded step to the next."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def replaced(self, event: Event, made: Value) -> int | None:
        """The index of the event that overwrites a whole result without reading it; None if none is known."""
        graph = self._graph
        if made.root not in event.writes or made.root in graph.trace.shared:
            return None
        for later in graph.events[event.index + 1 : graph.trace.steps[1][1]]:
            if made.root in later.writes and self._is_over(later, made):
                is_seen = not self._is_cut_between(event, later) and self._is_private(event)
                return later.index if is_seen else None
        return None

    def is_read_unseen(self, event: Event) -> bool:
        """Whether code that did not run while the step was recorded reads the name that a result was given."""
        site = self._graph.trace.sites[event.site]
        place = site.line, site.column
        for node in ast.walk(self._graph.trees[site.file]) if site.file in self._graph.trees else ():
            if isinstance(node, ast.Assign) and _gives(node.value, place):
                return any(self.is_named_unseen(site.file, target) for target in node.targets)
            if isinstance(node, ast.AugAssign) and (_gives(node, place) or _gives(node.value, place)):
                return self.is_named_unseen(site.file, node.target)
        return False

    def is_named_unseen(self, file: str, node: ast.expr) -> bool:
        """Whether code that did not run while the step was recorded reads a name, an attribute, or items of one."""
        match container_of(node):
            case ast.Name(id=name):
                scope: Scope | None = self._scope(file, node.lineno)
                if scope is not None and name not in _local_names(scope):
                    scope = self._graph.trees[file]
            case ast.Attribute(attr=name):
                scope = None
            case _:
                return False
        return any(self._is_unseen(path, mention) for path, mention in self._mentions(file, name, scope))

    def _is_over(self, later: Event, made: Value) -> bool:
        value = later.output if later.output is not None else later.region
        covers = value is not None and (value.root, value.start, value.shape) == (made.root, made.start, made.shape)
        return covers and later.index not in self._graph.trace.reads.get(made.root, ())

    def _is_cut_between(self, event: Event, later: Event) -> bool:
        """Whether turns of a loop between them were not recorded."""
        runs = (run for run in self._graph.trace.loops if run.is_cut)
        return any(run.first_event <= later.index and run.end >= event.index for run in runs)

    def _is_private(self, event: Event) -> bool:
        """Whether all code that can name the buffer has run."""
        holder = self._holder(event)
        return holder is not None and not any(self._is_unseen(file, node) for file, node in self._mentions(*holder))

    def _holder(self, event: Event) -> tuple[str, str, Scope | None] | None:
        """File, name and scope (None of an attribute) of what holds the buffer that an event writes."""
        site = self._graph.trace.sites[event.site]
        written = _target(self._graph.trees.get(site.file), site.line, site.column)
        target = container_of(written) if written is not None else None
        if isinstance(target, ast.Attribute):
            values = [
                value for tree in self._graph.trees.values() for value in _assigned(tree, target.attr, ast.Attribute)
            ]
            return (site.file, target.attr, None) if _are_fresh(values) else None
        if not isinstance(target, ast.Name):
            return None
        for scope in (self._scope(site.file, site.line), self._graph.trees[site.file]):
            values = [*_assigned(scope, target.id, ast.Name)]
            if values:
                return (site.file, target.id, scope) if _are_fresh(values) else None
        return None

    def _scope(self, file: str, line: int) -> Scope:
        tree = self._graph.trees[file]
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.lineno <= line <= _end(n)]
        return max(functions, key=lambda n: n.lineno, default=tree)

    def _mentions(self, file: str, name: str, scope: Scope | None) -> Iterator[tuple[str, ast.expr]]:
        """Where the name is read."""
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ((file, node) for node in _loads(scope, name, (ast.Name,)))
            return
        for path, tree in self._graph.trees.items():
            is_global = scope is not None and path == file
            kinds = (ast.Attribute, ast.Name) if is_global else (ast.Attribute,)
            yield from ((path, node) for node in _loads(tree, name, kinds))

    def _is_unseen(self, file: str, mention: ast.expr) -> bool:
        """Whether a mention stands in a line, or in a body, from which nothing was recorded."""
        for first, last, is_function in [(mention.lineno, mention.lineno, False), *self._bodies(file, mention.lineno)]:
            spots = [line for line in self._spots.get(file, ()) if first <= line <= last]
            if spots:
                return not any((file, line) in self._ran for line in spots)
            if is_function:
                return True  # for instance a function that only returns the buffer
        return False

    def _bodies(self, file: str, line: int) -> list[tuple[int, int, bool]]:
        """First and last lines of the bodies that a line is in, and whether of a function, the innermost first."""
        found = []
        for node in ast.walk(self._graph.trees[file]):
            for field in ("body", "orelse", "finalbody"):
                body = getattr(node, field, None)
                if isinstance(body, list) and body and body[0].lineno <= line <= _end(body[-1]):
                    found.append((body[0].lineno, _end(body[-1]), isinstance(node, ast.FunctionDef)))
        return sorted(found, key=lambda body: (-body[0], body[1]))

    @cached_property
    def _spots(self) -> dict[str, frozenset[int]]:
        """The lines of each file on which something could have been recorded."""
        lines: dict[str, set[int]] = {}
        for site in self._graph.trace.sites:
            lines.setdefault(site.file, set()).add(site.line)
        return {file: frozenset(found) for file, found in lines.items()}

    @cached_property
    def _ran(self) -> frozenset[tuple[str, int]]:
        """The lines on which something was recorded."""
        sites = (self._graph.trace.sites[event.site] for event in self._graph.events)
        return frozenset((site.file, site.line) for site in sites)


def _gives(value: ast.expr | ast.stmt, place: tuple[int, int]) -> bool:
    """Whether a value is what begins at a place, or a container that may hold it."""
    begin, end = (value.lineno, value.col_offset), (value.end_lineno or 0, value.end_col_offset or 0)
    is_container = isinstance(value, ast.List | ast.Tuple | ast.Dict | ast.ListComp | ast.DictComp)
    is_call = isinstance(value, ast.Call) and any(isinstance(one, ast.GeneratorExp) for one in value.args)
    return begin == place or ((is_container or is_call) and begin <= place < end)


def _target(tree: ast.Module | None, line: int, column: int) -> ast.expr | None:
    """What the expression or the assignment at a place writes into."""
    for node in ast.walk(tree) if tree is not None else ():
        if (getattr(node, "lineno", 0), getattr(node, "col_offset", -1)) != (line, column):
            continue
        if isinstance(node, ast.Call):
            out = [one.value for one in node.keywords if one.arg == "out"]
            if out:
                return out[0]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "copyto" and node.args:
                return node.args[0]
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript):
            return node.targets[0]
        if isinstance(node, ast.AugAssign):
            return node.target
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            return node
    return None


def _assigned(tree: ast.AST, name: str, kind: type[ast.Attribute | ast.Name]) -> Iterator[ast.expr | None]:
    """What a name or an attribute is set to; None where that is not known."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if _is_named(target, name, kind):
                    yield node.value
                elif isinstance(target, ast.Tuple | ast.List) and any(_is_named(x, name, kind) for x in target.elts):
                    yield None
        elif isinstance(node, ast.arg | ast.Global | ast.Nonlocal) and kind is ast.Name:
            names = [node.arg] if isinstance(node, ast.arg) else node.names
            if name in names:
                yield None
        elif isinstance(node, ast.For | ast.comprehension | ast.NamedExpr):
            yield from (None for x in ast.walk(node.target) if _is_named(x, name, kind))


def _is_named(node: ast.AST, name: str, kind: type[ast.expr]) -> bool:
    return isinstance(node, kind) and name in (getattr(node, "id", None), getattr(node, "attr", None))


def _loads(tree: ast.AST, name: str, kinds: tuple[type[ast.Attribute | ast.Name], ...]) -> Iterator[ast.expr]:
    nodes = [*ast.walk(tree)]
    formal = {
        id(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES_WITHOUT_VALUES
    }
    for node in nodes:
        if id(node) in formal:
            continue
        if isinstance(node, kinds) and isinstance(node.ctx, ast.Load) and _is_named(node, name, type(node)):
            yield node


def _are_fresh(values: list[ast.expr | None]) -> bool:
    return bool(values) and all(value is not None and _is_fresh(value) for value in values)


def _is_fresh(value: ast.expr) -> bool:
    """Whether an expression gives a new array, or a container of such, that has no other name."""
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in MAKERS_OF_NEW_ARRAYS
        case ast.ListComp(elt=inner) | ast.DictComp(value=inner):
            return _is_fresh(inner)
        case ast.List(elts=inner) | ast.Tuple(elts=inner) | ast.Dict(values=inner):
            return all(map(_is_fresh, inner))
        case ast.BinOp(left=ast.List(elts=inner), op=ast.Mult()):
            return all(map(_is_fresh, inner))
        case ast.Constant(value=None):
            return True
    return False


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _local_names(scope: Scope) -> set[str]:
    """The names that a function binds itself, with its parameters."""
    stored = {one.id for one in ast.walk(scope) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    arguments = {one.arg for one in ast.walk(scope) if isinstance(one, ast.arg)}
    return (stored | arguments).difference(*(one.names for one in ast.walk(scope) if isinstance(one, ast.Global)))
