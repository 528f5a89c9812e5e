"""A loss that a method stores in an attribute in every step, and that only statements under a false test read.

The statement moves under the test, to where the attribute is read, if what it computes from is the same there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from mlpprof.advise.cures.work_in_step import (
    READING_ALL,
    events_in,
    has_run,
    is_dropped_by_callers,
    is_named_by_importers,
    statements_of,
    with_numbers,
)
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.no_effect import HARMLESS, has_no_effect_but_its_value
from mlpprof.advise.editing.reached import may_call
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


@dataclass(frozen=True)
class ShownAttribute:
    """A statement that gives an attribute a value. readers: the `if` statements in which alone it is read.

    returns: statements that return it to callers which drop it.
    """

    statement: ast.Assign
    name: str
    readers: list[ast.If]
    returns: list[ast.Return]
    events: list[Event]


def shown_attributes(graph: Graph) -> Iterator[ShownAttribute]:
    """The attributes that the last step computed with a number, and that are read only under tests which were false."""
    code = code_of(graph)
    for statement in statements_of(with_numbers(graph.last), code):
        if not isinstance(statement, ast.Assign):
            continue
        match statement.targets:
            case [ast.Attribute(value=ast.Name(), attr=attribute)]:
                pass
            case _:
                continue
        reads = _reads(attribute, code)
        if reads is None or not has_no_effect_but_its_value(statement.value, code):
            continue
        returns = [one for read in reads if isinstance(one := code.parent(read), ast.Return)]
        shown = [read for read in reads if code.parent(read) not in returns]
        readers = list(dict.fromkeys(one for read in shown if (one := _reader(read, statement, code)) is not None))
        is_shown = bool(readers) and all(_reader(read, statement, code) is not None for read in shown)
        if is_shown and all(is_dropped_by_callers(one, code) for one in returns):
            events = events_in(statement.value, graph.last, code)
            yield ShownAttribute(statement, code.text(statement.targets[0]), readers, returns, events)


def _reads(attribute: str, code: RecordedCode) -> list[ast.Attribute] | None:
    """Where the program reads an attribute; None if other code may, or if the program changes it in place."""
    found = []
    for node in code.nodes:
        match node:
            case ast.AugAssign(target=ast.Attribute(attr=name)) if name == attribute:
                return None
            case ast.Constant(value=str(name)) if name == attribute:
                return None
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in READING_ALL:
                return None
            case ast.Attribute(attr=name, ctx=ast.Load()) if name == attribute:
                found.append(node)
    return found if found and not is_named_by_importers(attribute, code) else None


def _reader(read: ast.Attribute, statement: ast.Assign, code: RecordedCode) -> ast.If | None:
    """The `if` statement in a loop whose body a read stands in; None if the last step has run something in it."""
    way = [read, *code.around(read)]
    reader = next((one for one in way if isinstance(one, ast.If)), None)
    loop = next((one for one in way if isinstance(one, ast.For | ast.While)), None)
    if reader is None or loop not in way[way.index(reader) :] or reader.orelse or statement in way:
        return None
    if not any(one in reader.body for one in way):
        return None
    return reader if not has_run(reader.body, code) else None


def under_the_tests(one: ShownAttribute, graph: Graph) -> Cure | None:
    """The statement under the tests of those that read the attribute; None if it would compute something else there.

    What stands under a test did not run, so it must read the attribute of the same object, and not call the method.
    """
    code = code_of(graph)
    value, owner = one.statement.value, one.statement.targets[0]
    assert isinstance(owner, ast.Attribute)
    function = code.scope(one.statement)
    if not isinstance(function, ast.FunctionDef) or code.owner(function) is None:
        return None
    readers = [code.scope(reader) for reader in one.readers]
    is_of_one_class = all(
        isinstance(each, ast.FunctionDef) and code.owner(each) is code.owner(function) for each in readers
    )
    if not is_of_one_class or not _reads_only(value, code.text(owner.value), code):
        return None
    parts = [part for reader in one.readers for part in reader.body]
    shown = [node for part in parts for node in ast.walk(part) if isinstance(node, ast.Attribute)]
    is_of_other = any(node.attr == owner.attr and code.text(node) != one.name for node in shown)
    if is_of_other or may_call(parts, function, code):
        return None
    read = {node.attr for node in ast.walk(value) if isinstance(node, ast.Attribute)}
    stores = [node for node in code.nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    makers = [code.scope(node) for node in stores if node.attr in read]
    if not all(each is function or getattr(each, "name", "") == "__init__" for each in makers):
        return None
    used = {array.root for event in one.events for array in event.inputs if array.is_array}
    last = max(event.index for event in one.events)
    if any(event.index > last and used & {*event.writes} for event in graph.last):
        return None
    edits = Edits(code)
    edits.remove(one.statement)
    for each in one.returns:
        edits.replace_statement(each, "return")
    for reader in one.readers:
        edits.insert_before(reader.body[0], code.text_of(one.statement))
    return edits.cure()


def _reads_only(value: ast.expr, owner: str, code: RecordedCode) -> bool:
    """Whether an expression reads only attributes of one object, and the names of modules and of built-in functions."""
    for node in ast.walk(value):
        if not isinstance(node, ast.Name) or node.id == owner:
            continue
        above = code.parent(node)
        is_module = isinstance(above, ast.Attribute) and node.id in (code.numpy_name(code.file(node)), "math")
        is_builtin = isinstance(above, ast.Call) and above.func is node and node.id in HARMLESS
        if not is_module and not is_builtin:
            return False
    return True
