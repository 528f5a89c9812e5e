"""Values that are computed again: the expression that still holds the first value takes the place of the second.

Which expression that is shows in the recording: among the operands of the frame there is one that was the first value
itself, in the same turn of the loop or in the one before. If there is none, the first value is kept: as an attribute
where both are methods of one object, as a local name where both stand in one function.
"""

from __future__ import annotations

import ast
import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.indices import moved, turn_step
from mlpprof.advise.editing.kept_values import Kept, kept_as_attribute, kept_by_return, local_name
from mlpprof.advise.editing.recorded_code import (
    Comprehension,
    Function,
    RecordedCode,
    code_of,
    inside,
    is_path,
    names_in,
    parameters_of,
    same_array,
)
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

MOST_ALTERNATIVES = 3
"""A finding offers no more cures; each that is wrong costs a run of the program."""


@dataclass(frozen=True)
class Needed:
    """A value that is computed again: by which event, by which expression, and the array of the first time.

    firsts: the operation that computed it first, and the calls that returned it, from the innermost.
    """

    again: Event
    node: ast.expr
    firsts: tuple[Event, ...]
    array: Array


def cures(
    pairs: Sequence[tuple[Event, Event]], repeated: Sequence[tuple[Event, Event]], graph: Graph
) -> list[tuple[Cure, frozenset[int]]]:
    """The cures of one place, the best first, each with the numbers of those events that stay all the same.

    pairs: (again, first) of that place. repeated: those of all places, because a function that is replaced as a whole
    may hold several.
    """
    code = code_of(graph)
    needed = [one for pair in repeated if (one := _needed(*pair, code)) is not None]
    here = {again.index for again, _ in pairs}
    at_place: dict[ast.expr, list[Needed]] = defaultdict(list)
    for one in needed:
        if one.again.index in here:
            at_place[one.node].append(one)
    found: dict[Cure, frozenset[int]] = {}
    for make in (_by_held_values, _by_attributes, _by_local_names, _by_returned_values):
        edits = Edits(code)
        staying = make(at_place, needed, code, edits)
        cure = edits.cure() if edits else None
        if cure is not None:
            ones = (one for node in staying for one in at_place.get(node, ()))
            found.setdefault(cure, frozenset(one.again.index for one in ones))
    return [*found.items()][:MOST_ALTERNATIVES]


def _needed(again: Event, first: Event, code: RecordedCode) -> Needed | None:
    node, graph = code.node(again), code.graph
    if not isinstance(node, ast.expr) or first.output is None or again.output is None:
        return None
    is_same = first.output.content == again.output.content and first.output.shape == again.output.shape
    written = {root for event in graph.events for root in event.writes}
    if not is_same or not first.output.is_array or {first.output.root, again.output.root} & written:
        return None  # also where something writes into either of them later
    return Needed(again, node, tuple(_returning(first, graph)), first.result)


def _returning(event: Event, graph: Graph) -> Iterator[Event]:
    """An event, and the calls that return its array."""
    yield event
    for index in reversed(event.calls):
        call = graph.events[index]
        if not same_array(call.result, event.result):
            break
        yield call


# An expression that holds the value


def _by_held_values(
    at_place: dict[ast.expr, list[Needed]], needed: list[Needed], code: RecordedCode, edits: Edits
) -> set[ast.expr]:
    """Write what holds the value in place of each expression. Gives those that stay: none."""
    calls: dict[ast.Call, list[Needed]] = defaultdict(list)
    for node, ones in at_place.items():
        text = held(ones, [one.again for one in ones], node, code)
        if text is not None:
            edits.replace(node, text)
            continue
        for one in ones:
            site = _call_of(one, code)
            if site is not None:
                calls[site].append(one)
    for site, ones in calls.items():
        times = [code.graph.events[one.again.calls[-1]] for one in ones]
        text = held(ones, times, site, code)
        inlined = _inlined(site, text, needed, code) if text is not None else None
        if inlined is not None:
            edits.replace(site, inlined)
    return set()


def _call_of(one: Needed, code: RecordedCode) -> ast.Call | None:
    """The call that the value is computed again in."""
    if not one.again.calls:
        return None
    site = code.node(code.graph.events[one.again.calls[-1]])
    return site if isinstance(site, ast.Call) else None


def held(ones: Sequence[Needed], times: Sequence[Event], node: ast.expr, code: RecordedCode) -> str | None:
    """The expression that holds the needed arrays at these times; None if there is none.

    times: the executions of `node`, one for each needed array.
    """
    found: dict[tuple[int, int, str], bool] = {}
    for one, time in zip(ones, times, strict=True):
        if one.firsts[0].end > time.index:
            return None
        for text, turns_later, is_same in _candidates(one.array, time, node, code):
            key = abs(turns_later), len(text), text
            found[key] = found.get(key, True) and is_same
    best = min((key for key, is_same in found.items() if is_same), default=None)
    return best[-1] if best is not None else None


def _candidates(array: Array, time: Event, node: ast.expr, code: RecordedCode) -> Iterator[tuple[str, int, bool]]:
    """(expression, how many turns later it held a value, whether that is the needed one)."""
    turns = code.turns(time)
    inner = {*ast.walk(node)}
    for one in code.holdings(time.calls):
        if one.node in inner or _is_of_one_layer(one.node, node, code):
            continue
        others = code.turns(one.event) if one.event.calls == time.calls else ()
        if len(others) < len(turns) and isinstance(one.node, ast.Subscript):
            continue  # an item that is named outside the loop, but which one is needed depends on the turn
        is_same = same_array(one.array, array)
        if others == turns[: len(others)]:
            if _is_unchanged(one.node, node, code):
                yield code.text(one.node), 0, is_same
        elif len(turns) == len(others) and turns[:-1] == others[:-1] and turns[-1].site == others[-1].site:
            later = others[-1].turn - turns[-1].turn
            text = _moved_text(one.node, node, later, code) if abs(later) == 1 else None
            if text is not None:
                yield text, later, is_same


def _is_of_one_layer(held_node: ast.expr, node: ast.expr, code: RecordedCode) -> bool:
    """Whether an argument holds the value of a numbered layer, as `self.a[1]`, but `node` works for any layer.

    It does so if another parameter of the function decides about it, as in ``def derivative(self, z)``.
    """
    if code.parent(held_node) is not None or not any(map(_is_numbered, ast.walk(held_node))):
        return False
    if any(isinstance(one, ast.UnaryOp) and isinstance(one.op, ast.USub) for one in _keys_in(node)):
        return True  # `zs[-1]` is the last layer of every network, but `zs[2]` is the last one only of this network
    scope = code.scope(node)
    return isinstance(scope, ast.FunctionDef) and bool(parameters_of(node, scope, code) - names_in(held_node))


def _keys_in(node: ast.expr) -> Iterator[ast.expr]:
    """The indices of the items in an expression."""
    return (one.slice for one in ast.walk(node) if isinstance(one, ast.Subscript))


def _is_numbered(node: ast.AST) -> bool:
    match node:
        case ast.Subscript(slice=ast.Constant(value=key)):
            return isinstance(key, int) or str(key)[-1:].isdigit()
        case ast.Attribute(attr=name):
            return name[-1].isdigit()
    return False


def _is_unchanged(held_node: ast.expr, node: ast.expr, code: RecordedCode) -> bool:
    """Whether no name of an expression is bound between its place and the place where it is needed."""
    if code.parent(held_node) is None:
        return True  # made from an argument
    scope = code.scope(node)
    first, last = sorted((code.statement(held_node).lineno, code.statement(node).lineno))
    is_target = isinstance(held_node.ctx, ast.Store) if isinstance(held_node, ast.Name | ast.Attribute) else False
    for name in names_in(held_node):
        for binding in code.bindings(name, scope):
            line = code.statement(binding).lineno if not isinstance(binding, ast.arg) else 0
            is_own = is_target and code.statement(binding) is code.statement(held_node)
            if first <= line < last and not is_own:
                return False
    return not (is_target and code.statement(held_node).lineno >= code.statement(node).lineno)


def _moved_text(held_node: ast.expr, node: ast.expr, later: int, code: RecordedCode) -> str | None:
    """The expression that names in this turn what `held_node` names some turns later."""
    loop = next((one for one in code.around(node) if isinstance(one, ast.For | ast.FunctionDef)), None)
    if not isinstance(loop, ast.For) or code.parent(held_node) is None:
        return None
    step = turn_step(loop)
    if step is None or not isinstance(loop.target, ast.Name) or loop.target.id not in names_in(held_node):
        return None
    others = names_in(held_node) - {loop.target.id}
    if any(code.statement(b) in {*ast.walk(loop)} for name in others for b in code.bindings(name, loop)):
        return None
    text = moved(held_node, loop.target.id, step * later)
    return text.replace("'", '"') if '"' in code.text(held_node) else text


# A function that is replaced by what it returns


def _inlined(site: ast.Call, text: str, needed: list[Needed], code: RecordedCode) -> str | None:
    """What the called function returns, with the held value in place of what it computes again."""
    calls = code.executions(site)
    functions = {code.function(call) for call in calls if call.is_own}
    if len(functions) != 1 or None in functions or not _is_static(site, functions):
        return None
    (function,) = functions
    assert function is not None
    numbers = {call.index for call in calls}
    again = [one for one in needed if one.again.calls and one.again.calls[-1] in numbers]
    if {one.again.calls[-1] for one in again} != numbers:
        return None  # other executions compute what has not been computed before
    firsts = {(one.again.calls[-1], one.firsts[0].index) for one in again}
    if len(firsts) != len(numbers):
        return None  # it computes several values again, and one of them is held
    return returned(site, function, {one.node: text for one in again}, code)


def _is_static(site: ast.Call, functions: set[Function | None]) -> bool:
    """Whether the call names the function itself, and not a variable or an attribute that may hold another one."""
    (function,) = functions
    name = getattr(function, "name", None)
    match site.func:
        case ast.Name(id=called) | ast.Attribute(value=ast.Name(), attr=called):
            return called == name
    return False


def returned(site: ast.Call, function: Function, known: dict[ast.expr, str], code: RecordedCode) -> str | None:
    """The returned expression in terms of the caller's names; None if it needs names that the caller does not have.

    known: expressions of the function, and what is written in their place.
    """
    if isinstance(function, ast.Lambda):
        value: ast.expr | None = function.body
    else:
        wanted = {code.statement(node) for node in known}
        scope = [one for one in inside(function) if isinstance(one, ast.Return)]
        holding = [one for one in scope if one in wanted]
        blocks = [code.block(one) for one in wanted]
        last = [one for one in scope if any(one in block for block in blocks)]
        value = (holding or last or [ast.Return(None)])[0].value
    if value is None or site.keywords or any(isinstance(one, ast.Starred) for one in site.args):
        return None
    substitution = _Substitution(site, function, known, code)
    made = substitution.visit(copy_with_origin(value, substitution.origin))
    return ast.unparse(made) if substitution.is_possible else None


def copy_with_origin(node: ast.expr, origin: dict[ast.AST, ast.AST]) -> ast.expr:
    """A copy of an expression. origin: gets the node of the program for each node of the copy."""
    made = copy.deepcopy(node)
    origin.update(zip(ast.walk(made), ast.walk(node), strict=True))
    return made


class _Substitution(ast.NodeTransformer):
    """Replaces known expressions, local names and parameters by what the caller has for them."""

    def __init__(self, site: ast.Call, function: Function, known: dict[ast.expr, str], code: RecordedCode) -> None:
        self._code, self._function, self._known = code, function, known
        self._is_same_file = code.file(site) == code.file(function)
        self._site = site
        self.origin: dict[ast.AST, ast.AST] = {}
        self.is_possible = True
        names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        values = list(site.args)
        if isinstance(site.func, ast.Attribute) and isinstance(function, ast.FunctionDef) and code.owner(function):
            is_static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
            values = values if is_static else [site.func.value, *values]
        self._arguments = dict(zip(names, values, strict=False))
        self._parameters = {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}

    def visit(self, node: ast.AST) -> ast.AST:
        original = self.origin.get(node)
        if isinstance(original, ast.expr) and original in self._known:
            return ast.parse(self._known[original], mode="eval").body
        if isinstance(node, ast.Lambda | Comprehension | ast.NamedExpr):
            self.is_possible = False
        return self.visit_Name(node) if isinstance(node, ast.Name) else super().generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        name = node.id
        if name in self._parameters:
            argument = self._arguments.get(name)
            if argument is None or not (is_path(argument) or isinstance(argument, ast.Constant)):
                self.is_possible = False
                return node
            return copy.deepcopy(argument)
        bindings = self._code.bindings(name, self._function)
        if bindings:
            statement = self._code.statement(bindings[0])
            match statement:
                case ast.Assign(targets=[ast.Name()], value=value) if len(bindings) == 1:
                    return self.visit(copy_with_origin(value, self.origin))
            self.is_possible = False
            return node
        scope = self._code.scope(self._site)
        is_hidden = not isinstance(scope, ast.Module) and bool(self._code.bindings(name, scope))
        if is_hidden or not (self._is_same_file or self._means_the_same(name)):
            self.is_possible = False
        return node

    def _means_the_same(self, name: str) -> bool:
        """Whether both files import the name in the same way."""
        imports = []
        for node in (self._site, self._function):
            *_, module = self._code.around(node)
            found = [
                (type(one), getattr(one, "module", None), alias.name)
                for one in ast.walk(module)
                if isinstance(one, ast.Import | ast.ImportFrom)
                for alias in one.names
                if (alias.asname or alias.name) == name
            ]
            imports.append(found[:1])
        return bool(imports[0]) and imports[0] == imports[1]


# An attribute, or a returned value


def _by_attributes(
    at_place: dict[ast.expr, list[Needed]], needed: list[Needed], code: RecordedCode, edits: Edits
) -> set[ast.expr]:
    """Keep the first value as an attribute of the object whose methods compute it both times. None stays."""
    _by_kept(kept_as_attribute, at_place, needed, code, edits)
    return set()


def _by_returned_values(
    at_place: dict[ast.expr, list[Needed]], needed: list[Needed], code: RecordedCode, edits: Edits
) -> set[ast.expr]:
    """Let the function that has computed the value first return it as well. None stays."""
    _by_kept(kept_by_return, at_place, needed, code, edits)
    return set()


def _by_kept(
    keep: Callable[[list[Event], list[Event], RecordedCode, Edits], Kept | None],
    at_place: dict[ast.expr, list[Needed]],
    needed: list[Needed],
    code: RecordedCode,
    edits: Edits,
) -> None:
    known: dict[int, Kept] = {}
    for node, ones in at_place.items():
        targets: list[tuple[ast.expr, Callable[[str], str | None], list[Event]]] = [
            (node, lambda text: text, [one.again for one in ones])
        ]
        site = _call_of(ones[0], code)
        if site is not None and all(_call_of(one, code) is site for one in ones):
            calls = [code.graph.events[one.again.calls[-1]] for one in ones]
            targets.append((site, partial(_inlined, site, needed=needed, code=code), calls))
        for target, written, times in targets:
            levels = range(min(len(one.firsts) for one in ones))
            found = (keep([one.firsts[level] for one in ones], times, code, edits) for level in levels)
            kept = known.get(ones[0].firsts[0].index) or next((one for one in found if one is not None), None)
            text = written(kept.text) if kept is not None else None
            if kept is not None and text is not None:
                kept.write()  # the same edits again if two places need the value
                known[ones[0].firsts[0].index] = kept
                edits.replace(target, text)
                break


# A local name that keeps the value


def _by_local_names(
    at_place: dict[ast.expr, list[Needed]], needed: list[Needed], code: RecordedCode, edits: Edits
) -> set[ast.expr]:
    """Compute each value once per call of a function. Gives the expressions that do it."""
    pairs: dict[tuple[ast.expr, ast.expr], None] = {}
    for node, ones in at_place.items():
        partner = _partner(node, ones, needed, code)
        if partner is not None:
            pairs[partner] = None
    names: dict[ast.expr, str] = {}
    for first, again in pairs:
        if first not in names:
            kept = local_name(first, again, code, edits)
            if kept is None:
                continue
            kept.write()
            names[first] = kept.text
        edits.replace(again, names[first])
    return {*names}


def _partner(
    node: ast.expr, ones: list[Needed], needed: list[Needed], code: RecordedCode
) -> tuple[ast.expr, ast.expr] | None:
    """The expression in the same frame that has computed the value first, and the one that computes it again."""
    for one in ones:
        frame, turns = one.again.calls, code.turns(one.again)
        firsts = [first for first in one.firsts if first.calls == frame and _holds(code.turns(first), turns)]
        found = [first for event in firsts if isinstance(first := code.node(event), ast.expr)]
        found += [
            other.node
            for other in needed
            if other.again.calls == frame and other.array is one.array and _holds(code.turns(other.again), turns)
        ]
        earlier = [other for other in found if _position(other) < _position(node)]
        if not earlier:
            return None
        return min(earlier, key=_position), node
    return None


def _holds(first: tuple[object, ...], later: tuple[object, ...]) -> bool:
    return first == later[: len(first)]


def _position(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset
