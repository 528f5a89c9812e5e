"""What is computed in every step and read only in some: it gets the test of the statement that reads it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from mlpprof.advise.cures.cure import Cure
from mlpprof.advise.cures.dead_computation import HARMLESS, has_no_effect_but_its_value
from mlpprof.advise.cures.edits import Edits
from mlpprof.advise.cures.recorded_code import RecordedCode, code_of, inside, names_in
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


@dataclass(frozen=True)
class RarelyRead:
    """A statement that assigns a name. readers: the `if` statements in which alone the name is read."""

    statement: ast.Assign
    readers: list[ast.If]
    events: list[Event]


def rarely_read(graph: Graph) -> Iterator[RarelyRead]:
    """The statements of the last recorded step whose result is read only under tests that were false in it."""
    code = code_of(graph)
    seen: set[ast.AST] = set()
    for event in graph.last:
        node = code.node(event)
        statement = code.statement(node) if node is not None else None
        if not isinstance(statement, ast.Assign) or statement in seen:
            continue
        seen.add(statement)
        readers = _readers(statement, code)
        if readers and has_no_effect_but_its_value(statement.value, code):
            nodes = {*ast.walk(statement.value)}
            yield RarelyRead(statement, readers, [one for one in graph.last if code.node(one) in nodes])


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


def _is_read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _is_false(reader: ast.If, statement: ast.stmt, code: RecordedCode) -> bool:
    """Whether the body did not run, and the test may be evaluated before the statement as well."""
    nodes = {one for part in reader.body for one in ast.walk(part)}
    sites = {event.site for event in code.graph.last} | code.graph.trace.singles.keys()
    sites |= {site for event in code.graph.last for site in event.singles}
    if any(code.node_at(site) in nodes for site in sites):
        return False
    for one in ast.walk(reader.test):
        is_builtin = isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id in HARMLESS
        if isinstance(one, ast.Call | ast.NamedExpr | ast.Await | ast.Yield) and not is_builtin:
            return False
    scope = code.scope(statement)
    return not any(
        statement.lineno <= code.statement(binding).lineno < reader.lineno
        for name in names_in(reader.test)
        for binding in code.bindings(name, scope)
        if not isinstance(binding, ast.arg)
    )


def cure(one: RarelyRead, graph: Graph) -> Cure | None:
    """The statement under the test of those that read it."""
    code = code_of(graph)
    edits = Edits(code)
    tests = [code.text(reader.test) for reader in one.readers]
    edits.guard([one.statement], tests[0] if len(tests) == 1 else " or ".join(f"({test})" for test in tests))
    return edits.cure()
