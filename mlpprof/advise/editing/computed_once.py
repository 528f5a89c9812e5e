"""What every step computes anew from the same arrays is computed once: before the loop, in the module, or at the start.

It stands after the last statement that gives one of its operands a value: before the outermost loop that binds none of
its names, after the global variables that it reads, or in `__init__` after the attributes that it reads.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from dataclasses import dataclass

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.kept_values import in_parentheses, name_for
from mlpprof.advise.editing.no_effect import has_no_effect_but_its_value
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of, inside, names_in
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


@dataclass(frozen=True)
class Moved:
    """An expression that a name replaces, the name that it gets if it can, and the text of what is computed once.

    read: the part of the expression that is computed once, if not all of it. rest: what is written after the name.
    """

    node: ast.expr
    name: str
    text: str
    read: ast.expr | None = None
    rest: str = ""

    @property
    def once(self) -> ast.expr:
        """The expression that is computed once."""
        return self.node if self.read is None else self.read


def once(events: list[Event], graph: Graph) -> list[Cure]:
    """The cure that computes the results of these events once; none if something writes into one of them."""
    code = code_of(graph)
    written = {root for event in graph.events for root in event.writes}
    staying = [event for event in events if event.output is not None and event.output.root not in written]
    nodes = [
        node
        for event in [*staying, *_returning(staying, graph)]
        if isinstance(node := code.node(event), ast.expr) and has_no_effect_but_its_value(node, code)
    ]
    edits = Edits(code)
    done: list[ast.expr] = []
    for node in reversed(dict.fromkeys(nodes)):  # calls come first, and what is in them is done with them
        functions = {code.function(event) for one in done for event in code.executions(one) if event.is_own}
        if any(one in done or one in functions for one in code.around(node)):
            continue
        if move_out(Moved(node, name_for(node), in_parentheses(node, code)), code, edits):
            done.append(node)
    cure = edits.cure() if edits else None
    return [cure] if cure is not None else []


def move_out(one: Moved, code: RecordedCode, edits: Edits, *, is_expensive: bool = False) -> bool:
    """Let something be computed once, where its operands have their values. Whether there is such a place.

    is_expensive: if there are several places, it is worth the one that is reached least often.
    """
    moves = (_before_the_loop, _in_the_module, _in_the_constructor)
    return any(move(one, code, edits) for move in (reversed(moves) if is_expensive else moves))


def _returning(events: list[Event], graph: Graph) -> list[Event]:
    """The calls that return the results of events."""
    roots = {event.output.root for event in events if event.output is not None}
    calls = {index for event in events for index in event.calls}
    found = [graph.events[index] for index in sorted(calls, reverse=True)]
    return [call for call in found if call.output is not None and call.output.root in roots]


def data_names(node: ast.expr, code: RecordedCode) -> set[str]:
    """The names of an expression without modules and built-in functions."""
    *_, module = code.around(node)
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for one in ast.walk(module)
        if isinstance(one, ast.Import | ast.ImportFrom)
        for alias in one.names
    }
    return {name for name in names_in(node) if name not in imported and not hasattr(builtins, name)}


def _attributes(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    """The attributes that code reads or stores, as ``self.X``."""
    return {
        ast.unparse(one) for one in ast.walk(node) if isinstance(one, ast.Attribute) and isinstance(one.ctx, context)
    }


def outermost_loop(node: ast.AST, read: list[ast.expr], code: RecordedCode) -> ast.For | ast.While | None:
    """The outermost loop around a node, within its function, that changes nothing of what expressions read."""
    names = {name for one in read for name in data_names(one, code)}
    attributes = {text for one in read for text in _attributes(one, ast.Load)}
    outermost: ast.For | ast.While | None = None
    for above in code.around(node):
        if isinstance(above, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            break
        if not isinstance(above, ast.For | ast.While):
            continue
        if any(code.bindings(name, above) for name in names) or attributes & _attributes(above, ast.Store):
            break
        outermost = above
    return outermost


def _before_the_loop(one: Moved, code: RecordedCode, edits: Edits) -> bool:
    outermost = outermost_loop(one.node, [one.once], code)
    if outermost is None:
        return False
    return _moved(one, lambda text: edits.insert_before(outermost, text), code, edits)


def _moved(one: Moved, insert: Callable[[str], None], code: RecordedCode, edits: Edits) -> bool:
    """Whether the statement could be moved, if it does nothing else, or the value given a name of its own."""
    node = one.node
    statement = code.statement(node)
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if value is one.once:
            if len(code.bindings(name, code.scope(node))) == 1 and code.scope(node) is code.scope(statement):
                insert(f"{name} = {code.text(node)}")
                edits.remove(statement)
                return True
    name = edits.fresh_name(one.name, code.file(node))
    insert(f"{name} = {one.text}")
    edits.replace(node, name + one.rest)
    return True


def _in_the_module(one: Moved, code: RecordedCode, edits: Edits) -> bool:
    node = one.node
    names = data_names(one.once, code)
    *_, module = code.around(node)
    scope = code.scope(node)
    if not names or not isinstance(module, ast.Module) or scope is module:
        return False
    if any(code.bindings(name, scope) for name in names) or _is_changed_by_functions(names, module):
        return False
    last: ast.stmt | None = None
    for name in names:
        for binding in code.bindings(name, module):
            statement = binding if isinstance(binding, ast.FunctionDef) else code.statement(binding)
            if statement not in module.body or not isinstance(statement, ast.Assign | ast.FunctionDef):
                return False
            if last is None or statement.lineno > last.lineno:
                last = statement
    if last is None or not all(code.bindings(name, module) for name in names):
        return False
    name = edits.fresh_name(one.name, code.file(node))
    edits.insert_after(last, f"{name} = {one.text}")
    edits.replace(node, name + one.rest)
    return True


def _is_changed_by_functions(names: set[str], module: ast.Module) -> bool:
    return any(isinstance(one, ast.Global) and names & set(one.names) for one in ast.walk(module))


def _in_the_constructor(moved: Moved, code: RecordedCode, edits: Edits) -> bool:
    node = moved.node
    scope = code.scope(node)
    owner = code.owner(scope)
    if not isinstance(scope, ast.FunctionDef) or owner is None or not scope.args.args or scope.name == "__init__":
        return False
    receiver = scope.args.args[0].arg
    made = next((one for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    read = {one for one in _attributes(moved.once, ast.Load) if one.startswith(f"{receiver}.") and one.count(".") == 1}
    if made is None or made.args.args[0].arg != receiver or data_names(moved.once, code) != {receiver} or not read:
        return False
    last: ast.stmt | None = None
    for method in (one for one in owner.body if isinstance(one, ast.FunctionDef)):
        for one in inside(method):
            if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store) and ast.unparse(one) in read:
                statement = code.statement(one)
                if method is not made or statement not in made.body or not isinstance(statement, ast.Assign):
                    return False
                last = statement if last is None or statement.lineno > last.lineno else last
    if last is None:
        return False
    name = edits.fresh_name(moved.name, code.file(node))
    edits.insert_after(last, f"{receiver}.{name} = {moved.text}")
    edits.replace(node, f"{receiver}.{name}{moved.rest}")
    return True
