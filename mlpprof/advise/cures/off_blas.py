"""Products that do not reach BLAS: their operands are made in a dtype that BLAS knows, where the program makes them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

import numpy as np

from mlpprof.advise.bindings import Bindings, called
from mlpprof.advise.cures.float64 import VIEWS, Changes, change_of, dtype_of
from mlpprof.advise.editing.cure import Cure, CureKind
from mlpprof.advise.editing.source import transformed
from mlpprof.advise.syntax import node_at
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

WRITTEN = {
    "float16": ("float16", "half", "f2"),
    "longdouble": ("longdouble", "longfloat", "float128", "float96"),
}
"""Floating-point dtypes that BLAS cannot multiply -> how a program writes them. It has no array in them unless it has
written one of these words."""


Factors = tuple[Event, frozenset[int]]
"""A product, and which of its operands have to change."""


def cast_at_source(factors: list[Factors], dtype: str, target: str, graph: Graph) -> Cure | None:
    """The edit that makes operands of products in another dtype.

    dtype, target: of the operands, now and then.
    """
    bindings = Bindings({path: tree for path, tree in graph.trees.items() if not graph.is_ours(path)})
    source = _Source(bindings)
    words = next((words for known, words in WRITTEN.items() if np.dtype(dtype) == np.dtype(known)), ())
    if words:
        source.replace_all(words)
    else:
        for node in _operands(factors, graph):
            source.follow(node)
    nodes = source.changes.nodes()
    if source.is_lost or not nodes:
        return None
    files = dict.fromkeys(bindings.files[node] for node in nodes)
    texts = {file: graph.trace.sources[file] for file in files}
    kind: CureKind = "precision" if words else "safe"
    return transformed(kind, texts, {file: change_of(file, source.changes, bindings, graph, target) for file in files})


def _operands(factors: list[Factors], graph: Graph) -> Iterator[ast.expr]:
    """The expressions of the operands that have to change."""
    for event, places in factors:
        match node_at(event, graph):
            case ast.BinOp(left=left, right=right):
                nodes = [left, right]
            case ast.Call(func=ast.Attribute(value=owner), args=[other]) if _is_method(event):
                nodes = [owner, other]
            case ast.Call(args=[left, right, *_]):
                nodes = [left, right]
            case _:
                continue
        yield from (node for number, node in enumerate(nodes) if number in places)


def _is_method(event: Event) -> bool:
    return isinstance(getattr(event.function, "__self__", None), np.ndarray)


class _Source:
    """Follows arrays to where they are made. is_lost: the text does not show where that is."""

    def __init__(self, bindings: Bindings) -> None:
        self._bindings = bindings
        self._seen: set[ast.AST] = set()
        self.changes = Changes()
        self.is_lost = False

    def replace_all(self, words: Iterable[str]) -> None:
        """Write the new dtype wherever the program has written the old one."""
        for node in self._bindings.files:
            match node:
                case ast.Attribute(attr=word) | ast.Name(id=word) | ast.Constant(value=str(word)) if word in words:
                    self.changes.replaced[node] = None

    def follow(self, node: ast.expr) -> None:
        """Find what makes an array, and let it make one of the new dtype."""
        if node in self._seen:
            return
        self._seen.add(node)
        match node:
            case ast.Attribute(value=owner, attr=name) if name in VIEWS:
                self.follow(owner)
            case ast.Call(func=ast.Attribute(value=owner, attr=name)) if name in VIEWS:
                self.follow(owner)
            case ast.Call(args=[dtype, *_]) if called(node) == "astype":
                self.changes.replaced[dtype] = None
            case ast.Call() if (written := dtype_of(node)) is not None:
                self.changes.replaced[written] = None
            case ast.Call() if called(node) in self._bindings.functions:
                for value, _ in self._bindings.returns(called(node)):
                    self.follow(value)
            case ast.Subscript(value=ast.Call() | ast.Name() | ast.Attribute() | ast.Subscript() as owner):
                self.follow(owner)
            case ast.Name() | ast.Attribute():
                self._named(node)
            case _:
                self.changes.astype[node] = None

    def _named(self, node: ast.Name | ast.Attribute) -> None:
        bindings = self._bindings
        known = bindings.of_name(node) if isinstance(node, ast.Name) else bindings.of_attribute(node.attr)
        self.is_lost |= not known
        for one in known:
            if not one.path and not one.is_item:
                self.follow(one.value)
            elif isinstance(one.node, ast.Assign) and isinstance(one.target, ast.Name) and not one.is_item:
                self.changes.after.setdefault(one.node, {})[one.target.id] = None
            elif not one.is_item:  # what is stored into an array gets the array's dtype
                self.is_lost = True
