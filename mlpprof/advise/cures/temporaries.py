"""temporaries: arrays are changed in place where the program replaces them, and needless copies are left out."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import libcst as cst

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.source import (
    NodeChange,
    SourceTree,
    before,
    named_argument,
    replaced,
    transformed,
)
from mlpprof.advise.in_place import Update
from mlpprof.advise.syntax import node_at
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


def lines_in_place(update: Update) -> tuple[str, ...]:
    """The statements that change the array in place; none if they need an array that the program does not have."""
    lines = tuple(line.partition("  # ")[0] for line in update.cure)
    return () if any("scratch" in line for line in lines) else lines


def in_place(updates: Iterable[Update], graph: Graph) -> Cure | None:
    """The edit of all statements that change an array in place, and not by a new array of the same name."""
    wanted: dict[str, dict[ast.stmt, tuple[str, ...]]] = defaultdict(dict)
    for one in updates:
        wanted[one.file][one.statement] = lines_in_place(one)
    if not wanted or any(graph.is_ours(file) for file in wanted):
        return None
    sources = {file: graph.trace.sources[file] for file in wanted}
    return transformed("safe", sources, {file: _written(sources[file], file, held) for file, held in wanted.items()})


def _written(text: str, file: str, held: dict[ast.stmt, tuple[str, ...]]) -> Callable[[cst.Module], cst.Module]:
    def change(module: cst.Module) -> cst.Module:
        tree = SourceTree(text)
        parents = tree.parents()
        nodes: dict[cst.CSTNode, NodeChange] = {}
        for statement, lines in held.items():
            small = tree.of(Site.of(file, statement))
            if isinstance(small, cst.BaseSmallStatement):
                line = parents[small]
                if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
                    nodes[line] = _line_of(lines)
                else:
                    nodes[small] = _parts_of(lines)
        return replaced(tree.module, nodes)

    return change


def _line_of(lines: Sequence[str]) -> NodeChange:
    """The lines in place of one; its comments stay."""
    *first, last = map(cst.parse_statement, lines)

    def made(node: cst.CSTNode) -> object:
        line = cast(cst.SimpleStatementLine, node)
        if isinstance(last, cst.SimpleStatementLine):
            return before(line.with_changes(body=last.body), first)
        return before(cast(cst.For, last).with_changes(leading_lines=line.leading_lines), first)

    return made


def _parts_of(lines: Sequence[str]) -> NodeChange:
    """The statements in place of one of several on a line."""
    parts = [cast(cst.SimpleStatementLine, cst.parse_statement(line)).body[0] for line in lines]
    return lambda node: cst.FlattenSentinel(
        [*parts[:-1], parts[-1].with_changes(semicolon=cast(cst.BaseSmallStatement, node).semicolon)]
    )


def without_copies(events: Iterable[Event], graph: Graph) -> Cure | None:
    """The edit that leaves out copies, or makes them only where they are needed."""
    wanted: dict[str, dict[Site, Event]] = defaultdict(dict)
    for event in events:
        site = graph.trace.sites[event.site]
        wanted[site.file][site] = event
    if not wanted or any(graph.is_ours(file) for file in wanted):
        return None
    sources = {file: graph.trace.sources[file] for file in wanted}

    def change_of(file: str) -> Callable[[cst.Module], cst.Module]:
        def change(module: cst.Module) -> cst.Module:
            tree = SourceTree(sources[file])
            nodes: dict[cst.CSTNode, NodeChange] = {}
            for site, event in wanted[file].items():
                node, call = tree.of(site), node_at(event, graph)
                if isinstance(node, cst.Call) and isinstance(call, ast.Call):
                    back = _turned_back(node, event, tree)
                    if back is not None:
                        nodes[back] = _array_of_chain
                    else:
                        nodes[node] = _without_copy
            return replaced(tree.module, nodes)

        return change

    return transformed("safe", sources, {file: change_of(file) for file in wanted})


def _turned_back(node: cst.Call, event: Event, tree: SourceTree) -> cst.Call | None:
    """The call ``A.flatten('F').reshape(shape, order='F')`` around ``A.flatten('F')`` of an array in C order."""
    chosen = (*event.operands, event.options.get("order"))
    order = next((one for one in chosen if isinstance(one, str)), "C")
    if event.name != "flatten" or event.inputs[0].order == order:
        return None
    method = tree.parents()[node]
    around = tree.parents()[method]
    is_shaped = isinstance(method, cst.Attribute) and method.attr.value == "reshape"
    return around if is_shaped and isinstance(around, cst.Call) else None


def _array_of_chain(node: cst.CSTNode) -> cst.CSTNode:
    """A of ``A.flatten('F').reshape(shape, order='F')``."""
    match node:
        case cst.Call(func=cst.Attribute(value=cst.Call(func=cst.Attribute(value=array)))):
            return array
    return node


def _without_copy(node: cst.CSTNode) -> cst.CSTNode:
    call = cast(cst.Call, node)
    name = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
    match name:
        case "copy":
            assert isinstance(call.func, cst.Attribute)
            return call.args[0].value if call.args else call.func.value
        case "ascontiguousarray" | "asfortranarray":
            return call.args[0].value
        case "flatten" | "array":
            assert isinstance(call.func, cst.Attribute)
            renamed = "ravel" if name == "flatten" else "asarray"
            kept = [one for one in call.args if one.keyword is None or one.keyword.value != "order"]
            kept[-1:] = [one.with_changes(comma=cst.MaybeSentinel.DEFAULT) for one in kept[-1:]]
            return call.with_changes(func=call.func.with_changes(attr=cst.Name(renamed)), args=kept)
        case "astype":
            added = named_argument("copy", "False")
            comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
            kept = [one for one in call.args if one.keyword is None or one.keyword.value != "copy"]
            return call.with_changes(args=[*(one.with_changes(comma=comma) for one in kept), added])
    return call
