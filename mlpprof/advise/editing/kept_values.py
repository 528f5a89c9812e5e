"""Ways to keep a value until it is needed again: a local name, an attribute of the object, one more returned value."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import Comprehension, RecordedCode, inside, is_path, names_in
from mlpprof.programs.record.trace import Event


@dataclass(frozen=True)
class Kept:
    """The expression that has the value where it is needed; `write` makes the edits that keep it."""

    text: str
    write: Callable[[], None]


def kept_locally(firsts: list[Event], times: list[Event], code: RecordedCode, edits: Edits) -> Kept | None:
    """By a name in the function that both are in, in the same turns of its loops.

    firsts: the events that give the value first. times: the events, at one place, for which it is needed.
    """
    nodes = _nodes(firsts, times, code)
    is_one_frame = all(
        first.calls == time.calls and code.turns(first) == code.turns(time)[: len(code.turns(first))]
        for first, time in zip(firsts, times, strict=True)
    )
    return local_name(*nodes, code, edits) if nodes is not None and is_one_frame else None


def _nodes(firsts: list[Event], times: list[Event], code: RecordedCode) -> tuple[ast.expr, ast.expr] | None:
    """The one expression of all first events, and that of the later ones."""
    places = [{code.node(event) for event in events} for events in (firsts, times)]
    first, later = (place.pop() for place in places)
    if places[0] or places[1] or not isinstance(first, ast.expr) or not isinstance(later, ast.expr):
        return None
    return first, later


def local_name(first: ast.expr, again: ast.expr, code: RecordedCode, edits: Edits) -> Kept | None:
    """By a name in the function that both expressions are in; None if `first` has not always run before."""
    one, other = code.statement(first), code.statement(again)
    if code.scope(first) is not code.scope(again) or not code.is_before(one, other):
        return None
    target = _assigned_name(one, first)
    if target is not None and one is not other and not _is_bound_between(target, one, other, code):
        return Kept(target, lambda: None)
    how = _is_conditional(first, code)
    name = edits.fresh_name(name_for(first), code.file(first))
    is_simple = isinstance(one, ast.Assign | ast.AugAssign | ast.Return | ast.Expr)
    if how == "" and is_simple and code.has_own_lines(one):

        def write() -> None:
            if isinstance(one, ast.Assign) and one.value is first and one is not other:
                left = " = ".join(map(code.text, one.targets))
                edits.replace_statement(one, f"{left} = {name} = {code.text(first)}")
            else:
                edits.insert_before(one, f"{name} = {in_parentheses(first, code)}")
                edits.replace(first, name)

        return Kept(name, write)
    if one is other and how != "comprehension":
        # In a lambda, or in a line without room for another one.
        return Kept(name, lambda: edits.replace(first, f"({name} := {code.text(first)})"))
    return None


def kept_as_attribute(firsts: list[Event], times: list[Event], code: RecordedCode, edits: Edits) -> Kept | None:
    """By an attribute of the object whose methods both are in, as for `kept_locally`."""
    nodes = _nodes(firsts, times, code)
    if nodes is None:
        return None
    first, later = nodes
    owner, owner_later = _receiver(code.scope(first)), _receiver(code.scope(later))
    if owner is None or owner_later is None or _is_conditional(first, code):
        return None
    if any(_is_for_an_item(time, owner_later, code) for time in times):
        return None
    events = code.executions(first)
    if not all(_is_latest(event, time, events, code) for event, time in zip(firsts, times, strict=True)):
        return None
    one = code.statement(first)
    match one:
        case ast.Assign(targets=targets, value=value) if value is first:
            for target in targets:
                match target:
                    case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name == owner:
                        return Kept(f"{owner_later}.{attribute}", lambda: None)
            wanted = targets[0].id if isinstance(targets[0], ast.Name) else name_for(first)
            fresh = edits.fresh_name(wanted, code.file(first)) if wanted in _attributes(code, first) else wanted
            left = " = ".join([*(code.text(target) for target in targets), f"{owner}.{fresh}"])
            return Kept(f"{owner_later}.{fresh}", lambda: edits.replace_statement(one, f"{left} = {code.text(first)}"))
    fresh = edits.fresh_name(name_for(first), code.file(first))

    def write() -> None:
        edits.insert_before(one, f"{owner}.{fresh} = {in_parentheses(first, code)}")
        edits.replace(first, f"{owner}.{fresh}")

    return Kept(f"{owner_later}.{fresh}", write) if code.has_own_lines(one) else None


def kept_by_return(firsts: list[Event], times: list[Event], code: RecordedCode, edits: Edits) -> Kept | None:
    """By one more value that the function of the first returns to that of the later ones, as for `kept_locally`."""
    nodes = _nodes(firsts, times, code)
    if nodes is None or not all(event.calls for event in firsts):
        return None
    first, later = nodes
    calls = [code.graph.events[event.calls[-1]] for event in firsts]
    sites = _nodes(calls, times, code)
    function = code.scope(first)
    is_returning = all(
        call.calls == time.calls
        and call.index < time.index
        and code.turns(call) == code.turns(time)[: len(code.turns(call))]
        for call, time in zip(calls, times, strict=True)
    )
    if sites is None or not is_returning or not isinstance(function, ast.FunctionDef):
        return None
    site = sites[0]
    returns = [one for one in inside(function) if isinstance(one, ast.Return)]
    statement = code.statement(site)
    if len(returns) != 1 or returns[0].value is None or _calls_elsewhere(function, site, code):
        return None
    match statement:
        case ast.Assign(targets=[target], value=value) if value is site and isinstance(target, ast.Name | ast.Tuple):
            pass
        case _:
            return None
    if not code.is_before(statement, code.statement(later)):
        return None
    result = returns[0].value
    kept = local_name(first, result, code, edits)
    if (
        kept is None
        or code.statement(first) is returns[0]
        or isinstance(result, ast.Tuple) != isinstance(target, ast.Tuple)
    ):
        return None
    taken = {one.id for one in inside(code.scope(site)) if isinstance(one, ast.Name)}
    name = kept.text if kept.text.isidentifier() and kept.text not in taken else None
    fresh = name or edits.fresh_name(name_for(first), code.file(site))

    def write() -> None:
        kept.write()
        for node, added in ((result, kept.text), (target, fresh)):
            parts = node.elts if isinstance(node, ast.Tuple) else [node]
            edits.replace(node, ", ".join([*map(code.text, parts), added]))

    return Kept(fresh, write)


def _calls_elsewhere(function: ast.FunctionDef, site: ast.expr, code: RecordedCode) -> bool:
    """Whether the name of a function is read at other places than its call."""
    assert isinstance(site, ast.Call)
    found = [
        node
        for node in code.nodes
        if (isinstance(node, ast.Name) and node.id == function.name and isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Attribute) and node.attr == function.name)
    ]
    return found != [site.func]


def _is_latest(first: Event, time: Event, events: list[Event], code: RecordedCode) -> bool:
    """Whether both happen in methods of one object, and `first` is its last execution of that place before."""
    subject = _self_of(first, code)
    if subject is None or subject is not _self_of(time, code):
        return False
    before = [event for event in events if event.index < time.index and _self_of(event, code) is subject]
    return bool(before) and before[-1] is first


def _self_of(event: Event, code: RecordedCode) -> object:
    return getattr(code.graph.events[event.calls[-1]].function, "__self__", None) if event.calls else None


def _is_for_an_item(time: Event, owner: str, code: RecordedCode) -> bool:
    """Whether a method is called for one of several arrays that its object holds, as ``self.derivative(self.z[1])``."""
    site = code.node(code.graph.events[time.calls[-1]]) if time.calls else None
    arguments = site.args if isinstance(site, ast.Call) else []
    return any(isinstance(one, ast.Subscript) and owner in names_in(one) for one in arguments)


def _receiver(scope: ast.AST) -> str | None:
    """The name of a method's object."""
    if not isinstance(scope, ast.FunctionDef) or not scope.args.args:
        return None
    return scope.args.args[0].arg


def _attributes(code: RecordedCode, node: ast.expr) -> set[str]:
    """All names of attributes and methods in the file of a node."""
    *_, module = code.around(node)
    return {one.attr for one in ast.walk(module) if isinstance(one, ast.Attribute)} | {
        one.name for one in ast.walk(module) if isinstance(one, ast.FunctionDef)
    }


def _assigned_name(one: ast.stmt, value: ast.expr) -> str | None:
    match one:
        case ast.Assign(targets=[ast.Name() | ast.Attribute() as target], value=held) if held is value:
            return ast.unparse(target) if is_path(target) else None
    return None


def _is_bound_between(target: str, first: ast.stmt, later: ast.stmt, code: RecordedCode) -> bool:
    """Whether something is assigned to the name after its value, as far as the order of lines shows."""
    lines = [
        one.lineno
        for one in inside(code.scope(first))
        if isinstance(one, ast.Name | ast.Attribute) and isinstance(one.ctx, ast.Store) and ast.unparse(one) == target
    ]
    return any(first.lineno < line < later.lineno for line in lines)


def _is_conditional(node: ast.expr, code: RecordedCode) -> str:
    """What may keep an expression from being evaluated once when its statement runs; '' if nothing does."""
    below: ast.AST = node
    for above in code.around(node):
        if isinstance(above, ast.stmt):
            return "header" if isinstance(above, ast.While) else ""
        if isinstance(above, ast.Lambda):
            return "lambda"
        if isinstance(above, Comprehension):
            return "comprehension"
        if isinstance(above, ast.IfExp) and below is not above.test:
            return "branch"
        if isinstance(above, ast.BoolOp) and below is not above.values[0]:
            return "branch"
        below = above
    return ""


def in_parentheses(node: ast.expr, code: RecordedCode) -> str:
    """The source of an expression, such that it may fill several lines."""
    text = code.text(node)
    return f"({text})" if "\n" in text and not isinstance(node, ast.Call | ast.Subscript) else text


def name_for(node: ast.expr) -> str:
    """A name for the value of an expression, as `sigmoid_z` for ``sigmoid(z)``."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[argument, *_]):
            return f"{name}_{_short(argument) or 'value'}"
        case ast.BinOp(op=ast.MatMult()):
            return "product"
    return "kept"


def _short(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.UnaryOp(operand=operand):
            return _short(operand)
        case ast.Subscript(value=value):
            return _short(value)
    return ""
