"""gather: rows are taken once, and only those of the batch; the one-hot rows come from a matrix that is kept."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import cast

import libcst as cst
import numpy as np

from mlpprof.advise.bindings import Bindings
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of, inside, names_in
from mlpprof.advise.editing.source import NodeChange, SourceTree, before, expression, replaced, statement, transformed
from mlpprof.advise.syntax import is_simple, node_at, span
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph, Span
from mlpprof.programs.record.trace import Event

ELEMENTWISE = ast.Add | ast.Sub | ast.Mult | ast.Div | ast.Pow
"""Operators that give each row from the same row, if the other operand is a number."""

COPYING = frozenset(("array", "asarray", "copy", "ascontiguousarray", "asfortranarray"))
"""Functions of NumPy that copy an array, so that they can copy some of its rows as well."""


def taken_once(first: Event, later: Event, graph: Graph) -> Cure | None:
    """The edit that gives the rows a name where they are first taken, and uses the name the second time."""
    one, other = node_at(first, graph), node_at(later, graph)
    file = graph.trace.sites[first.site].file
    is_here = file == graph.trace.sites[later.site].file and first.calls == later.calls and not graph.is_ours(file)
    if not is_here or not isinstance(one, ast.expr) or not isinstance(other, ast.expr):
        return None
    bindings, source = Bindings({file: graph.trees[file]}), graph.trace.sources[file]
    if bindings.scope(one) is not bindings.scope(other) or one.lineno >= other.lineno:
        return None
    holder = bindings.statement(one)
    is_named = isinstance(holder, ast.Assign) and holder.value is one and isinstance(holder.targets[0], ast.Name)
    name = holder.targets[0].id if is_named else ""  # type: ignore[union-attr]  # it is an assignment to a name
    if is_named and _is_bound_between(graph.trees[file], {name}, one.lineno, other.lineno):
        return None

    def change(tree: SourceTree) -> dict[cst.CSTNode, NodeChange]:
        known = name or tree.fresh_name("rows")
        nodes = _with(tree, file, {other: known} if is_named else {one: known, other: known})
        if not is_named:
            nodes |= _before(tree, one, [f"{known} = {_text(source, one)}"])
        return nodes

    return _edited(file, graph, change)


def rows_first(event: Event, graph: Graph) -> Cure | None:
    """The edit that takes the rows of the batch before the work: of ``X[order]``, or of ``(X / 255)``."""
    node, file = node_at(event, graph), graph.trace.sites[event.site].file
    if not isinstance(node, ast.Subscript | ast.BinOp | ast.Call) or graph.is_ours(file):
        return None
    if isinstance(node, ast.Call) and not _is_taken_apart(node):
        return None
    bindings, source = Bindings({file: graph.trees[file]}), graph.trace.sources[file]
    if not _has_numbers_as_index(node, graph):
        return None
    parent = bindings.parents.get(node)
    if isinstance(parent, ast.Subscript) and parent.value is node and _is_rows(parent.slice):
        return _edited(file, graph, lambda tree: _with(tree, file, {parent: _part(source, node, parent.slice)}))
    holder = bindings.statement(node)
    scope = bindings.scope(node)
    if not isinstance(holder, ast.Assign) or len(holder.targets) != 1 or not _is_taken_apart(node):
        return None
    pairs = list(_pairs(holder))
    names = {target.id: value for target, value in pairs if isinstance(target, ast.Name)}
    read = {one.id for value in names.values() for one in ast.walk(value) if isinstance(one, ast.Name)}
    if len(names) != len(pairs) or not all(map(_is_taken_apart, names.values())) or read & set(names):
        return None
    if not all(_has_numbers_as_index(value, graph) for value in names.values()):
        return None
    body = scope or graph.trees[file]
    loads = [
        one for one in ast.walk(body) if isinstance(one, ast.Name) and one.id in names and isinstance(one.ctx, ast.Load)
    ]
    uses = [bindings.parents[one] for one in loads]
    stores = [one for one in ast.walk(body) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    is_once = sum(one.id in names for one in stores) == len(names)
    if (
        not uses
        or not is_once
        or not all(
            isinstance(use, ast.Subscript) and use.value is load and _is_rows(use.slice)
            for use, load in zip(uses, loads, strict=True)
        )
    ):
        return None
    last = max(one.lineno for one in loads)
    if _is_bound_between(body, read, holder.lineno, last) or min(one.lineno for one in loads) <= holder.lineno:
        return None

    def change(tree: SourceTree) -> dict[cst.CSTNode, NodeChange]:
        written: dict[ast.expr, str] = {}
        for use, load in zip(uses, loads, strict=True):
            assert isinstance(use, ast.Subscript)
            written[use] = _part(source, names[load.id], use.slice)
        nodes = _with(tree, file, written)
        line = tree.statement_at(holder.lineno)
        if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1 and not line.trailing_whitespace.comment:
            nodes[line] = lambda _: cst.RemoveFromParent()
            return nodes
        return {}

    return _edited(file, graph, change)


def parts_of_rows(function: ast.FunctionDef) -> list[ast.Subscript]:
    """The places of a generator that copy all rows, and then take a part of them, as ``X[order][a:b]``."""
    loops = [one for one in ast.walk(function) if isinstance(one, ast.For | ast.While)]
    yields = [loop for loop in loops if any(isinstance(one, ast.Yield) for one in ast.walk(loop))]
    within = {one for loop in yields for one in ast.walk(loop)}
    return [
        one
        for one in ast.walk(function)
        if one in within
        and isinstance(one, ast.Subscript)
        and isinstance(one.value, ast.Subscript | ast.Call)
        and _is_taken_apart(one.value)
        and _is_rows(one.slice)
    ]


def rows_of_parts_first(parts: list[ast.Subscript], file: str, graph: Graph) -> Cure | None:
    """The edit that writes ``X[order[a:b]]`` in these places."""
    bindings = Bindings({file: graph.trees[file]})
    if not all(_is_order(key, bindings) for one in parts for key in _innermost_index(one.value)):
        return None
    source = graph.trace.sources[file]
    texts: dict[ast.expr, str] = {one: _part(source, one.value, one.slice) for one in parts}
    return _edited(file, graph, lambda tree: _with(tree, file, texts))


def loop_of_list(event: Event, graph: Graph) -> list[Span] | None:
    """The places that make an array of a list of rows: the call, and a loop that appends the rows to the list.

    None if the list is not made in the function that the call is in.
    """
    code = code_of(graph)
    node = code.node(event)
    if not isinstance(node, ast.Call) or not node.args:
        return None
    here = graph.span(event.site)
    match node.args[0]:
        case ast.Call(func=ast.Name(id="list"), args=[ast.expr()]) if _is_list_of_array(event, graph):
            return [here]
        case ast.ListComp() | ast.GeneratorExp() | ast.Call(func=ast.Name(id="list"), args=[ast.GeneratorExp()]):
            return [here]
        case ast.Name(id=name):
            scope = code.scope(node)
            bound = [code.statement(one) for one in code.bindings(name, scope) if not isinstance(one, ast.arg)]
            values = [one for one in bound if one is not code.statement(node)]
            if len(values) != 1 or not isinstance(values[0], ast.Assign):
                return None
            match values[0].value:
                case ast.ListComp() as made:
                    return [here, _span(code.file(made), made)]
                case ast.List(elts=[]):
                    loops = [one for one in inside(scope) if isinstance(one, ast.For) and _appends(one, name)]
                    return [here, _span(code.file(node), loops[0])] if len(loops) == 1 else None
    return None


def _is_list_of_array(event: Event, graph: Graph) -> bool:
    """Whether ``np.array(list(a))`` makes an array of the elements of an array."""
    listed = (one for one in graph.turn if one.result is event.operands[0] and one.operands)
    return event.name in ("array", "asarray") and any(isinstance(one.operands[0], np.ndarray) for one in listed)


def _appends(loop: ast.For, name: str) -> bool:
    """Whether a loop does nothing but append to lists, to one of this name among others."""
    appended = set()
    for one in loop.body:
        match one:
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=held), attr="append"), args=[_])):
                appended.add(held)
            case _:
                return False
    return name in appended


def rows_at_once(event: Event, graph: Graph) -> Cure | None:
    """The edit that writes ``X[rows]`` for ``np.array([X[i] for i in rows])``, and ``rows`` for ``list(rows)``."""
    code = code_of(graph)
    node = code.node(event)
    match node:
        case ast.Call(args=[ast.Call(func=ast.Name(id="list"), args=[listed]) as made, *_]):
            if not _is_list_of_array(event, graph):
                return None
            edits = Edits(code)
            edits.replace(made, code.text(listed))
            return edits.cure()
        case ast.Call(
            args=[
                ast.ListComp(
                    elt=ast.Subscript(value=container, slice=ast.Name(id=index)),
                    generators=[ast.comprehension(target=ast.Name(id=target), iter=rows, ifs=[])],
                ),
                *rest,
            ]
        ) if index == target and is_simple(container) and index not in names_in(container):
            pass
        case _:
            return None
    taken = _taken_at_once(rows, code)
    if taken is None:
        return None
    text = f"{code.text(container)}[{taken}]"
    has_options = bool(rest or node.keywords)
    output = event.output
    assert output is not None
    is_written = any(output.root in one.writes for one in graph.events)
    edits = Edits(code)
    name = code.numpy_name(code.file(node))
    if has_options and event.name in ("array", "asarray"):
        edits.replace(node.args[0], text)
    elif has_options or name is None:
        return None
    else:
        is_view = isinstance(rows, ast.Call) and ":" in taken
        edits.replace(node, f"{text}.copy()" if is_view and is_written else text)
    return edits.cure()


def _taken_at_once(rows: ast.expr, code: RecordedCode) -> str | None:
    """The index that takes the rows over which a loop runs."""
    match rows:
        case ast.Call(func=ast.Name(id="range"), args=[stop], keywords=[]):
            return f":{code.text(stop)}"
        case ast.Call(func=ast.Name(id="range"), args=[start, stop], keywords=[]):
            return f"{code.text(start)}:{code.text(stop)}"
    return code.text(rows) if is_simple(rows) or isinstance(rows, ast.Subscript) else None


def kept_identity(made: Event, graph: Graph) -> Cure | None:
    """The edit that makes ``np.eye(10)`` once, before the function or the statement at the top that uses it."""
    node, file = node_at(made, graph), graph.trace.sites[made.site].file
    if graph.is_ours(file) or not isinstance(node, ast.Call):
        return None
    source = graph.trace.sources[file]
    values = [*node.args, *(one.value for one in node.keywords)]
    top = next(one for one in graph.trees[file].body if one.lineno <= node.lineno <= (one.end_lineno or one.lineno))
    names = {one.id for one in values if isinstance(one, ast.Name)}
    if not all(isinstance(one, ast.Constant | ast.Attribute | ast.Name) and is_simple(one) for one in values):
        return None
    if not all(_is_constant(name, graph.trees[file], top.lineno) for name in names):
        return None
    is_compound = isinstance(top, ast.FunctionDef | ast.ClassDef | ast.For | ast.While | ast.If)
    if not is_compound or getattr(top, "decorator_list", []):
        return None

    def change(tree: SourceTree) -> dict[cst.CSTNode, NodeChange]:
        name = tree.fresh_name("IDENTITY")
        line = tree.compound_at(top.lineno)
        if line is None:
            return {}
        added = statement(f"{name} = {_text(source, node)}")
        return {**_with(tree, file, {node: name}), line: lambda one: before(cast(cst.BaseStatement, one), [added])}

    return _edited(file, graph, change)


def _is_constant(name: str, tree: ast.Module, line: int) -> bool:
    """Whether a file gives a name one value, at its top and before a line, and means nothing else by it."""
    of_top = {part for one in tree.body if isinstance(one, ast.Assign) and one.lineno < line for part in ast.walk(one)}
    bound = [one for one in ast.walk(tree) if isinstance(one, ast.Name) and one.id == name and _is_store(one)]
    is_argument = any(isinstance(one, ast.arg) and one.arg == name for one in ast.walk(tree))
    return len(bound) == 1 and bound[0] in of_top and not is_argument


def _is_store(node: ast.Name) -> bool:
    return not isinstance(node.ctx, ast.Load)


def _edited(file: str, graph: Graph, change: Callable[[SourceTree], dict[cst.CSTNode, NodeChange]]) -> Cure | None:
    text = graph.trace.sources[file]

    def edit(module: cst.Module) -> cst.Module:
        tree = SourceTree(text)
        return replaced(tree.module, change(tree))

    return transformed("safe", {file: text}, {file: edit})


def _with(tree: SourceTree, file: str, written: dict[ast.expr, str]) -> dict[cst.CSTNode, NodeChange]:
    """Expressions -> their new texts."""
    nodes: dict[cst.CSTNode, NodeChange] = {}
    for node, text in written.items():
        found = tree.of(Site.of(file, node))
        if found is None:
            return {}
        is_inside = isinstance(tree.parents()[found], cst.BaseExpression)
        new = expression(text, parenthesized=is_inside)
        nodes[found] = lambda _, new=new: new  # type: ignore[misc]  # a value of this turn
    return nodes


def _before(tree: SourceTree, node: ast.expr, lines: list[str]) -> dict[cst.CSTNode, NodeChange]:
    line = tree.statement_at(node.lineno)
    if not isinstance(line, cst.SimpleStatementLine):
        return {}
    added = [statement(one) for one in lines]
    return {line: lambda one: before(cast(cst.BaseStatement, one), added)}


def _part(source: str, node: ast.expr, rows: ast.expr) -> str:
    """The work on some rows alone: ``X[order[a:b]]`` for ``X[order]``, ``X[a:b] / 255`` for ``X / 255``."""
    chosen = _text(source, rows)
    match node:
        case ast.Subscript(value=owner, slice=ast.Subscript() as key):  # the rows of a matrix, for the labels of some
            return f"{_text(source, owner)}[{_part(source, key, rows)}]"
        case ast.Subscript(value=owner, slice=key):
            return f"{_text(source, owner)}[{_text(source, key)}[{chosen}]]"
        case ast.BinOp(left=left, right=ast.Constant()):
            whole = _text(source, node)
            return f"{_text(source, left)}[{chosen}]{whole[len(_text(source, left)) :]}"
        case ast.Call(func=function, args=[array]):
            return f"{_text(source, function)}({_text(source, array)}[{chosen}])"
        case ast.Call(func=ast.Attribute(value=array, attr=name)):
            return f"{_text(source, array)}[{chosen}].{name}()"
    raise ValueError("no work on rows")


def _is_taken_apart(node: ast.expr) -> bool:
    """Whether the rows of an expression can be had without the others."""
    match node:
        case ast.Subscript(value=owner, slice=ast.Subscript() as key):
            return is_simple(owner) and _is_taken_apart(key)
        case ast.Subscript(value=owner, slice=key):
            return is_simple(owner) and isinstance(key, ast.Name | ast.Attribute | ast.Call)
        case ast.Call(func=ast.Attribute(attr=name), args=[array], keywords=[]):
            return name in COPYING and is_simple(array)
        case ast.Call(func=ast.Attribute(value=array, attr="copy"), args=[], keywords=[]):
            return is_simple(array)
        case ast.BinOp(left=left, op=op, right=ast.Constant()):
            return is_simple(left) and isinstance(op, ELEMENTWISE)
    return False


def _innermost_index(node: ast.expr) -> Iterator[ast.expr]:
    """The index of an item, or that of the index: `order` in `eye[labels[order]]`."""
    is_item = isinstance(node, ast.Subscript)
    while isinstance(node, ast.Subscript):
        node = node.slice
    if is_item:
        yield node


def _has_numbers_as_index(node: ast.expr, graph: Graph) -> bool:
    """Whether the index of an item, and the index of that index, were arrays of integers.

    The key of a dictionary is no such array. Neither is a mask of rows: a part of the mask belongs to other rows.
    """
    code = code_of(graph)
    while isinstance(node, ast.Subscript):
        indices = [event.operands[-1] for event in code.executions(node) if event.operands]
        if not indices or not all(isinstance(one, np.ndarray) and one.dtype.kind in "iu" for one in indices):
            return False
        node = node.slice
    return True


ORDERS = frozenset(("permutation", "arange", "argsort", "integers", "randint", "flatnonzero"))
"""Functions of NumPy that give an array of numbers of rows."""


def _is_order(key: ast.expr, bindings: Bindings, depth: int = 0) -> bool:
    """Whether the text of a program shows that an index is an array of numbers of rows, whatever may have bound it."""
    match key:
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in ORDERS
        case ast.Name():
            found = bindings.of_name(key)
        case ast.Attribute(attr=name):
            found = bindings.of_attribute(name)
        case _:
            return False
    whole = [one for one in found if not one.is_item]
    return (
        bool(whole) and depth < 9 and all(not one.path and _is_order(one.value, bindings, depth + 1) for one in whole)
    )


def _is_rows(key: ast.expr) -> bool:
    """Whether an index takes rows: a slice, or an array of indices that has a name."""
    return isinstance(key, ast.Slice | ast.Name | ast.Attribute)


def _pairs(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        yield from zip(target.elts, node.value.elts, strict=False)
    else:
        yield target, node.value


def _is_bound_between(body: ast.AST, names: set[str], first: int, last: int) -> bool:
    """Whether a name gets another value, or an item of it, on a line after the first and up to the last."""
    for node in ast.walk(body):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) if name in names:
                pass
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()) if name in names:
                pass
            case _:
                continue
        if first < node.lineno <= last:
            return True
    return False


def _text(source: str, node: ast.expr) -> str:
    return ast.get_source_segment(source, node) or ast.unparse(node)


def _span(file: str, node: ast.expr | ast.stmt) -> Span:
    return file, *span(node)
