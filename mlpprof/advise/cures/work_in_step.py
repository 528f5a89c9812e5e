"""What is computed in every step and read only in some: it gets the test of the statement that reads it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.no_effect import HARMLESS, has_no_effect_but_its_value
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of, inside, names_in
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

NUMBER = (int, float, np.number, np.bool_)
"""What a loss or a metric is."""


@dataclass(frozen=True)
class RarelyRead:
    """A statement that assigns a name. readers: the `if` statements in which alone the name is read."""

    statement: ast.Assign
    readers: list[ast.If]
    events: list[Event]


def rarely_read(graph: Graph) -> Iterator[RarelyRead]:
    """The statements of the last recorded step whose result is read only under tests that were false in it."""
    code = code_of(graph)
    for statement in statements_of(graph.last, code):
        if not isinstance(statement, ast.Assign):
            continue
        readers = _readers(statement, code)
        if readers and has_no_effect_but_its_value(statement.value, code):
            yield RarelyRead(statement, readers, events_in(statement.value, graph.last, code))


def statements_of(events: Iterable[Event], code: RecordedCode) -> Iterator[ast.stmt]:
    """The statements in which events stand, each once, in the order of the events."""
    nodes = (code.node(event) for event in events)
    yield from dict.fromkeys(code.statement(node) for node in nodes if node is not None)


def events_in(value: ast.expr, events: Iterable[Event], code: RecordedCode) -> list[Event]:
    """Those of the events that stand in an expression."""
    nodes = {*ast.walk(value)}
    return [event for event in events if code.node(event) in nodes]


def with_numbers(events: Iterable[Event]) -> Iterator[Event]:
    """Those of the events whose result is a number."""
    return (event for event in events if isinstance(event.result, NUMBER))


def _readers(statement: ast.Assign, code: RecordedCode) -> list[ast.If]:
    match statement.targets:
        case [ast.Name(id=name)]:
            pass
        case _:
            return []
    scope, block = code.scope(statement), code.block(statement)
    is_global = any(isinstance(one, ast.Global | ast.Nonlocal) and name in one.names for one in inside(scope))
    reads = [one for one in ast.walk(scope) if isinstance(one, ast.Name) and one.id == name and _is_read(one)]
    if is_global or not reads or statement not in block:
        return []
    later = block[block.index(statement) + 1 :]
    found: dict[ast.If, None] = {}
    for read in reads:
        way = [read, *code.around(read)]
        reader = next((one for one in way if one in later), None)
        if not isinstance(reader, ast.If) or reader.orelse or not any(one in reader.body for one in way):
            return []
        found[reader] = None
    return [*found] if all(_is_false(one, statement, code) for one in found) else []


@dataclass(frozen=True)
class UnreadNumber:
    """A statement that gives a number a name, or returns it. is_later: only code after the innermost loop reads it."""

    statement: ast.Assign | ast.Return
    name: str
    is_later: bool
    events: list[Event]


def unread_numbers(graph: Graph) -> Iterator[UnreadNumber]:
    """The numbers that the last step, or the loop around it, computes from arrays, and that the loop never reads."""
    code = code_of(graph)
    for statement in statements_of(with_numbers(graph.turn), code):
        if not isinstance(statement, ast.Assign | ast.Return) or statement.value is None:
            continue
        value = statement.value
        if any(isinstance(one.result, np.ndarray) for one in code.executions(value)):
            continue
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                is_later = is_read_later(statement, name, code)
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(), attr=attribute) as target]):
                name, is_later = code.text(target), None if _is_read_anywhere(attribute, code) else False
            case ast.Return():
                name, is_later = code.text(value), False if is_dropped_by_callers(statement, code) else None
            case _:
                continue
        if is_later is not None and has_no_effect_but_its_value(value, code):
            yield UnreadNumber(statement, name, is_later, events_in(value, graph.turn, code))


READING_ALL = frozenset(("getattr", "vars", "__dict__", "pickle", "deepcopy", "locals", "exec", "eval"))
"""Names of what may read any attribute of an object, or any name."""


def _is_read_anywhere(attribute: str, code: RecordedCode) -> bool:
    """Whether a file reads an attribute of this name, or may do so."""
    for node in code.nodes:
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()) | ast.Name(id=name) | ast.Constant(value=str(name)):
                if name == attribute or (name in READING_ALL and not isinstance(node, ast.Constant)):
                    return True
            case ast.AugAssign(target=ast.Attribute(attr=name)) if name == attribute:
                return True
    return is_named_by_importers(attribute, code)


def is_named_by_importers(name: str, code: RecordedCode) -> bool:
    """Whether a file that the run did not import, but that imports a file of the program, mentions a name."""
    files = {code.file(module) for module in code.modules}
    mention = re.compile(rf"\b{re.escape(name)}\b")
    return any(mention.search(text) for text in code.texts_of_importers(files))


def is_dropped_by_callers(statement: ast.Return, code: RecordedCode) -> bool:
    """Whether all calls of the function are statements of their own, so that nothing reads what it returns."""
    function = code.scope(statement)
    if not isinstance(function, ast.FunctionDef):
        return False
    uses = [
        node
        for node in code.nodes
        if (isinstance(node, ast.Name) and node.id == function.name)
        or (isinstance(node, ast.Attribute) and node.attr == function.name)
    ]
    calls = [code.parent(use) for use in uses]
    is_called_alone = all(
        isinstance(call, ast.Call) and call.func is use and isinstance(code.parent(call), ast.Expr)
        for use, call in zip(uses, calls, strict=True)
    )
    return bool(uses) and is_called_alone and not is_named_by_importers(function.name, code)


def is_read_later(statement: ast.Assign, name: str, code: RecordedCode) -> bool | None:
    """Whether only code after the innermost loop reads a name; False if nothing does, None if the loop reads it."""
    scope = code.scope(statement)
    loop = next((one for one in code.around(statement) if isinstance(one, ast.For | ast.While)), None)
    everywhere = [scope] if not isinstance(scope, ast.Module) else list(code.modules)
    if isinstance(scope, ast.Module) and is_named_by_importers(name, code):
        return None
    held = {*ast.walk(loop)} if loop is not None else {*ast.walk(scope)}
    is_later = False
    for one in everywhere:
        for node in ast.walk(one):
            if isinstance(node, ast.Global | ast.Nonlocal) and name in node.names:
                return None
            match node:
                case ast.Name(id=mentioned):
                    is_mention = mentioned == name
                case ast.Attribute(attr=mentioned):
                    is_mention = mentioned == name and len(everywhere) > 1
                case _:
                    continue
            if is_mention and not isinstance(node.ctx, ast.Store):
                if node in held or isinstance(code.scope(node), ast.FunctionDef) != isinstance(scope, ast.FunctionDef):
                    return None
                is_later = True
    called = (node.func for node in ast.walk(scope) if isinstance(node, ast.Call))
    is_hidden = any(isinstance(one, ast.Name) and one.id in ("locals", "vars", "exec", "eval") for one in called)
    return None if is_hidden else is_later


def _is_read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def has_run(statements: list[ast.stmt], code: RecordedCode) -> bool:
    """Whether the last step has executed something in these statements."""
    nodes = {one for statement in statements for one in ast.walk(statement)}
    sites = {event.site for event in code.graph.last} | code.graph.trace.singles.keys()
    sites |= {site for event in code.graph.last for site in event.singles}
    return any(code.node_at(site) in nodes for site in sites)


def _is_false(reader: ast.If, statement: ast.stmt, code: RecordedCode) -> bool:
    """Whether the body did not run, and the test may be evaluated before the statement as well."""
    if has_run(reader.body, code):
        return False
    for one in ast.walk(reader.test):
        is_builtin = isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id in HARMLESS
        if isinstance(one, ast.Call | ast.NamedExpr | ast.Await | ast.Yield) and not is_builtin:
            return False
    scope, block = code.scope(statement), code.block(statement)
    names = names_in(reader.test)
    between = [
        node
        for one in block[block.index(statement) + 1 : block.index(reader)]
        for node in ast.walk(one)
        if isinstance(node, ast.stmt | ast.expr)
    ]
    # An attribute, an item or a global name may get another value without a statement that binds the name.
    is_of_object = any(isinstance(one, ast.Attribute | ast.Subscript | ast.Call) for one in ast.walk(reader.test))
    is_of_object = is_of_object or any(
        isinstance(one, ast.Global | ast.Nonlocal) and names & {*one.names} for one in code.nodes
    )
    if is_of_object and any(_may_change_objects(one, code) for one in between):
        return False
    return not any(
        statement.lineno <= code.statement(binding).lineno < reader.lineno
        for name in names
        for binding in code.bindings(name, scope)
        if not isinstance(binding, ast.arg)
    )


def _may_change_objects(node: ast.stmt | ast.expr, code: RecordedCode) -> bool:
    """Whether a node may give an attribute, an item or a global name another value."""
    match node:
        case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
            return True
        case ast.Call(func=ast.Name(id=name)) if name in HARMLESS:
            return False
        case ast.Call():
            events = code.executions(node)
            is_plain = bool(events) and not any(event.is_own for event in events)
            return not is_plain or not has_no_effect_but_its_value(node, code)
    return isinstance(node, ast.AugAssign | ast.For | ast.With | ast.Await | ast.Yield | ast.YieldFrom)


def without(one: UnreadNumber, graph: Graph) -> Cure | None:
    """The program without a statement whose number nothing reads, or with a return of nothing.

    If the code after the loop reads the number, the statement is moved there.
    """
    code = code_of(graph)
    if one.is_later:
        return after_the_loop(one.statement, code)
    edits = Edits(code)
    if isinstance(one.statement, ast.Return):
        edits.replace_statement(one.statement, "return")
    else:
        edits.remove(one.statement)
    return edits.cure()


def after_the_loop(head: ast.stmt, code: RecordedCode) -> Cure | None:
    """The edit that moves an evaluation out of the loop over the batches, so that it runs once after its last turn.

    With the statement go those after it that only show what it gives, such as a print. None if the loop reads what they
    give, if other statements change what they read or may do so in a call, or if the loop is the whole training.
    """
    loop = code.parent(head)
    if not isinstance(loop, ast.For | ast.While) or head not in loop.body or loop.orelse:
        return None
    is_in_epoch = isinstance(code.scope(loop), ast.FunctionDef) or any(
        isinstance(one, ast.For | ast.While) for one in code.around(loop)
    )
    if not is_in_epoch or any(
        isinstance(one, ast.Break | ast.Continue | ast.Return | ast.Yield) for one in ast.walk(loop)
    ):
        return None
    moved, given = [head], _names_stored(head)
    for one in loop.body[loop.body.index(head) + 1 :]:
        if given & names_in(one) and _only_shows(one, code):
            moved.append(one)
            given |= _names_stored(one)
    rest = [one for one in loop.body if one not in moved]
    header = [loop.iter, loop.target] if isinstance(loop, ast.For) else [loop.test]
    read = set[str]().union(*(names_in(one) for one in moved))
    later = [one for one in rest if one.lineno > head.lineno]
    if not all(_only_shows(one, code) for one in moved) or given & set[str]().union(*map(names_in, [*rest, *header])):
        return None
    if read & set[str]().union(*(_names_stored(one) for one in later)):
        return None
    test = [loop.test] if isinstance(loop, ast.While) else []  # it runs again after the last turn
    if any(isinstance(node, ast.Call) and _may_update(node, code) for one in (*later, *test) for node in ast.walk(one)):
        return None
    edits = Edits(code)
    after = code.block(loop)[code.block(loop).index(loop) + 1 :]
    for one in moved:
        edits.remove(one)
        stored = _names_stored(one)
        is_set_anew = bool(stored and after) and _names_stored(after[0]) == stored and not stored & _read_in(after[0])
        if not is_set_anew:  # else the next statement replaces what this one would give
            edits.insert_after(loop, code.text_of(one))
    return edits.cure()


def _may_update(call: ast.Call, code: RecordedCode) -> bool:
    """Whether a call may change what an evaluation before it reads, as `net.update(x, y)` changes the weights."""
    is_print = isinstance(call.func, ast.Name) and call.func.id == "print"
    return not is_print and _may_change_objects(call, code)


def _names_stored(one: ast.stmt) -> set[str]:
    """The names that a statement gives values, or whose attributes and items."""
    found = set()
    for node in ast.walk(one):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            base: ast.expr = node
            while isinstance(base, ast.Attribute | ast.Subscript):
                base = base.value
            if isinstance(base, ast.Name):
                found.add(base.id)
    return found


def _read_in(one: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(one) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _only_shows(one: ast.stmt, code: RecordedCode) -> bool:
    """Whether a statement only gives names values, or prints them."""
    match one:
        case ast.Assign(targets=[ast.Name() | ast.Tuple()], value=value):
            return has_no_effect_but_its_value(value, code)
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=args)):
            return all(has_no_effect_but_its_value(argument, code) for argument in args)
    return False


def cure(one: RarelyRead, graph: Graph) -> Cure | None:
    """The statement under the test of those that read it."""
    code = code_of(graph)
    edits = Edits(code)
    tests = [code.text(reader.test) for reader in one.readers]
    edits.guard([one.statement], tests[0] if len(tests) == 1 else " or ".join(f"({test})" for test in tests))
    return edits.cure()
