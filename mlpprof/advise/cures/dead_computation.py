"""Results that nothing uses: a statement that is never needed goes, and one that is needed at times runs only then.

The turn of a loop shows when it is needed, and the test is written with the loop's own variable; or the call that it
happens in shows it. If the statement is in a function that the loop calls, the function gets a parameter for it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.loop_tests import Turns, is_other_turn
from mlpprof.advise.editing.no_effect import has_no_effect_but_its_value
from mlpprof.advise.editing.recorded_code import RecordedCode, bound_by, code_of, inside, is_path, names_in
from mlpprof.advise.unused import is_in_last_turn
from mlpprof.instrument.numpy_costs import FILL
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event, Turn

PARAMETER = "needs_input_delta"
"""The parameter that says whether a layer has to compute what it passes on to the layer before it."""

ATTRIBUTE = "needs_gradient"
"""The attribute that says whether an object on a tape has to get a gradient."""


@dataclass(frozen=True)
class Dead:
    """A statement whose result is dead. times: in which of its executions; needed: the other executions.

    is_open: no execution was needed, but those of another network would be, as one with more layers.
    """

    statement: ast.stmt
    value: ast.expr
    times: list[Event]
    needed: list[Event]
    is_open: bool = False

    @property
    def is_partly(self) -> bool:
        """Whether the statement has to stay, under a test."""
        return bool(self.needed) or self.is_open


def cures(again: list[Event], graph: Graph) -> list[Cure]:
    """The cures of a chain of dead events, the best first."""
    code = code_of(graph)
    dead = _dead(again, code)
    found: list[Cure] = []
    if all(event.kind == FILL for event in again):
        cure = _without_fills(again, code)
        return [cure] if cure is not None else []
    if not dead:
        return []
    makes = [_without, _with_none]
    if any(one.is_partly for one in dead):
        makes = [_guarded, _with_condition, _with_flag, _with_attribute]
    if any(one.is_partly for one in dead) and all(_has_only_unread_names(one, dead, code) for one in dead):
        makes = [_without]
    if any(map(graph.is_cut_short, again)):  # code after the loop may read what its last turn leaves
        makes = [make for make in makes if make is not _with_none]
    for make in makes:
        edits = Edits(code)
        make(dead, code, edits)
        cure = edits.cure() if edits else None
        if cure is not None and cure not in found:
            found.append(cure)
    return found


def open_turn(again: list[Event], graph: Graph) -> Turn | None:
    """The only turn of a loop over layers that a chain is dead in, if another network may need it in other turns."""
    code = code_of(graph)
    turns = [_only_turn(one.times[0], code) for one in _dead(again, code) if one.is_open]
    return turns[0] if turns else None


def _dead(again: list[Event], code: RecordedCode) -> list[Dead]:
    numbers = frozenset(event.index for event in again)
    dead = [one for one in _statements(again, code) if has_no_effect_but_its_value(one.value, code, numbers)]
    return [replace(one, is_open=_is_open(one, dead, code)) for one in dead]


def _statements(again: list[Event], code: RecordedCode) -> list[Dead]:
    numbers = {event.index for event in again}
    found: dict[ast.expr, Dead] = {}
    for event in again:
        node = code.node(event)
        one: ast.stmt
        if isinstance(node, ast.AugAssign):
            value, one = node.value, node
        elif isinstance(node, ast.expr):
            one = code.statement(node)
            value = node
        else:
            continue
        if value in found or (value is not getattr(one, "value", None) and not _is_part(value, one)):
            continue
        all_times = code.executions(node)
        times = [time for time in all_times if time.index in numbers]
        needed = [time for time in all_times if time.index not in numbers and not is_in_last_turn(time, code.graph)]
        found[value] = Dead(one, value, times, needed)
    return sorted(found.values(), key=lambda dead: dead.statement.lineno)


def _only_turn(event: Event, code: RecordedCode) -> Turn | None:
    """The innermost loop that made a single turn and whose variable an event uses, itself or in a call around it."""
    graph = code.graph
    ones = {(run.site, run.execution) for run in graph.trace.loops if run.turns == 1}
    nodes = [code.node(one) for one in (event, *(graph.events[call] for call in event.calls))]
    used = set[str]().union(*(names_in(code.statement(node)) for node in nodes if node is not None))
    for turn in reversed(event.loops):
        loop = code.node_at(turn.site)
        if (turn.site, turn.execution) in ones and isinstance(loop, ast.For) and names_in(loop.target) & used:
            return turn
    return None


def _is_open(one: Dead, dead: list[Dead], code: RecordedCode) -> bool:
    """Whether another network may need a result that this one never needs.

    A loop over layers that made one turn makes more for a deeper network, and each turn reads what the one before has
    left. A function that returns the result may be called for other layers.
    """
    if one.needed or not _is_read(one, dead, code):
        return False
    turn = _only_turn(one.times[0], code)
    loop = code.node_at(turn.site) if turn is not None else None
    is_before = any(
        loop in [*code.around(node)] and code.statement(node).lineno <= one.statement.lineno
        for node in _readers(one, dead, code)
    )
    return (loop is not None and is_before) or _is_returned(one, code)


def _is_returned(one: Dead, code: RecordedCode) -> bool:
    """Whether a function returns the result itself, alone or as one of several values."""
    if isinstance(one.statement, ast.Return):
        return True
    returned = [node.value for node in inside(code.scope(one.statement)) if isinstance(node, ast.Return) and node.value]
    parts = [part for value in returned for part in (value.elts if isinstance(value, ast.Tuple) else [value])]
    return not {*_names(one)}.isdisjoint(map(ast.unparse, parts))


def _is_part(value: ast.expr, one: ast.stmt) -> bool:
    """Whether it is one of several values that a statement assigns to as many names."""
    match one:
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
            return value in values and len(targets) == len(values) > 1
    return False


def _names(dead: Dead) -> list[str]:
    """What the statement assigns, as text."""
    match dead.statement:
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if dead.value in values:
            return [ast.unparse(targets[values.index(dead.value)])]
        case ast.Assign(targets=targets):
            return [ast.unparse(target) for target in targets]
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return [ast.unparse(target)]
    return []


def _reads(name: str, one: ast.stmt, without: set[ast.stmt], code: RecordedCode) -> list[ast.AST]:
    """Where a name, an attribute or an item is read, apart from some statements."""
    target = ast.parse(name, mode="eval").body
    keys = []
    while isinstance(target, ast.Subscript):
        keys, target = [target.slice], target.value
    scope: ast.AST = code.scope(one)
    if isinstance(target, ast.Attribute):
        *_, scope = code.around(one)
    return [
        node
        for node in (ast.walk(scope) if isinstance(target, ast.Attribute) else inside(scope))
        if (
            (isinstance(node, ast.Attribute) and isinstance(target, ast.Attribute) and node.attr == target.attr)
            or (isinstance(node, ast.Name) and isinstance(target, ast.Name) and node.id == target.id)
        )
        and isinstance(node.ctx, ast.Load)
        and code.statement(node) not in without
        and all(_may_be_item(node, key, code) for key in keys)
    ]


def _may_be_item(node: ast.AST, key: ast.expr, code: RecordedCode) -> bool:
    """Whether what is read is an item of the named container whose key may be this one."""
    above = code.parent(node)
    if not isinstance(above, ast.Subscript) or above.value is not node or not isinstance(above.ctx, ast.Load):
        return False
    held = above.slice
    return not (isinstance(held, ast.Constant) and isinstance(key, ast.Constant) and held.value != key.value)


# Where it never has a use


def _without(dead: list[Dead], code: RecordedCode, edits: Edits) -> None:
    """Leave the statements out, if nothing reads what they assign."""
    for one in dead:
        if not _is_read(one, dead, code):
            _leave_out(one, code, edits)


def _with_none(dead: list[Dead], code: RecordedCode, edits: Edits) -> None:
    """Assign None if something reads the name without need, as a dictionary of all gradients."""
    if not any(_is_read(one, dead, code) for one in dead):
        return  # then there is a better cure
    for one in dead:
        if not _is_read(one, dead, code):
            _leave_out(one, code, edits)
        elif isinstance(one.statement, ast.Assign):
            edits.replace(one.value, "None")


def _has_only_unread_names(one: Dead, dead: list[Dead], code: RecordedCode) -> bool:
    """Whether a statement gives values to names, and no code of the function reads them, in any turn of a loop."""
    names = _names(one)
    is_plain = isinstance(one.statement, ast.Assign) and all(map(str.isidentifier, names))
    return is_plain and bool(names) and not _is_read(one, dead, code)


def _is_read(one: Dead, dead: list[Dead], code: RecordedCode) -> bool:
    """Whether a result is returned, or something reads a name of it, apart from what is dead."""
    return isinstance(one.statement, ast.Return) or bool(_readers(one, dead, code))


def _readers(one: Dead, dead: list[Dead], code: RecordedCode) -> list[ast.AST]:
    """Where a name of a result is read, apart from what is dead."""
    gone = {other.statement for other in dead if _is_whole(other)}
    parts = {node for other in dead if not _is_whole(other) for node in ast.walk(other.value)}
    return [node for n in _names(one) for node in _reads(n, one.statement, gone, code) if node not in parts]


def _leave_out(one: Dead, code: RecordedCode, edits: Edits) -> None:
    match one.statement:
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if one.value in values:
            place = values.index(one.value)
            left, right = (
                ", ".join(code.text(part) for i, part in enumerate(parts) if i != place) for parts in (targets, values)
            )
            edits.replace_statement(one.statement, f"{left} = {right}")
        case _:
            edits.remove(one.statement)


def _without_fills(fills: list[Event], code: RecordedCode) -> Cure | None:
    """None in place of arrays that other arrays replace, as in a list of gradients."""
    edits = Edits(code)
    for node in dict.fromkeys(code.node(event) for event in fills):
        if not isinstance(node, ast.Call):
            continue
        others = [event for event in code.executions(node) if event not in fills]
        if not all(is_in_last_turn(event, code.graph) for event in others):
            continue
        edits.replace(node, "None")
    return edits.cure() if edits else None


# Where it has a use only in some turns or calls


@dataclass(frozen=True)
class Condition:
    """When a result is used, as an expression in a frame, and the calls from that frame to the statement."""

    text: str
    calls: list[Event]
    loop: ast.For | None = None


def _condition(dead: Dead, code: RecordedCode) -> Condition | None:
    """What distinguishes the executions in which the result is used from those in which it is not."""
    return next(iter([*_by_call(dead, code), *_by_turn(dead, code)]), None)


def _by_call(dead: Dead, code: RecordedCode) -> Iterator[Condition]:
    graph, first = code.graph, dead.times[0]
    if not dead.needed:
        if first.calls and _only_turn(first, code) is None:
            yield Condition("False", [graph.events[first.calls[-1]]])
        return
    if _only_turn(first, code) is not None:
        return  # with more layers, other turns of this loop make the call too
    for depth in range(len(first.calls)):
        paths = [_path(event, depth, graph) for event in dead.times]
        if len(set(paths)) == 1 and paths[0] not in [_path(event, depth, graph) for event in dead.needed]:
            yield Condition("False", [graph.events[call] for call in first.calls[depth:]])


def _path(event: Event, depth: int, graph: Graph) -> tuple[int, ...]:
    return tuple(graph.events[call].site for call in event.calls[: depth + 1])


def _by_turn(dead: Dead, code: RecordedCode) -> Iterator[Condition]:
    graph, first = code.graph, dead.times[0]
    for turn in reversed(first.loops):
        of_dead = [_turn_of(event, turn.site) for event in dead.times]
        of_needed = [_turn_of(event, turn.site) for event in dead.needed]
        loop = code.node_at(turn.site)
        if len(set(of_dead)) != 1 or of_dead[0] in of_needed or not isinstance(loop, ast.For):
            continue
        runs = [run for run in graph.trace.loops if run.site == turn.site and run.execution == turn.execution]
        if not dead.needed and turn != _only_turn(first, code):
            continue
        if not runs:
            continue
        is_first = turn.turn == 0 and dead.needed and runs[0].turns > 1  # what a turn leaves, the next one reads
        place = Turns.FIRST if is_first else Turns.LAST
        if place is Turns.LAST and turn.turn != runs[0].turns - 1:
            continue
        test = is_other_turn(loop, place, code.text)
        if test is not None:
            calls = [graph.events[call] for call in first.calls if _turn_of(graph.events[call], turn.site) is not None]
            yield Condition(test, calls, loop)


def _turn_of(event: Event, site: int) -> int | None:
    return next((turn.turn for turn in event.loops if turn.site == site), None)


def _guarded(dead: list[Dead], code: RecordedCode, edits: Edits) -> None:
    """Put the statements of a loop under a test of its variable."""
    ones = [one for one in dead if one.is_partly and _is_whole(one) and not isinstance(one.statement, ast.Return)]
    tests = {one.statement: condition for one in ones if (condition := _condition(one, code)) and not condition.calls}
    done: set[ast.stmt] = set()
    for one, condition in tests.items():
        if one in done or condition.loop is None:
            continue
        group = _neighbours(one, tests, code)
        done.update(group)
        if not _is_bound_else(group, condition.loop, code):
            continue
        above = code.parent(one)
        if isinstance(above, ast.If) and above.body == group and not above.orelse and _is_weaker(above.test, condition):
            edits.replace(above.test, condition.text)
        else:
            edits.guard(group, condition.text)


def _is_whole(dead: Dead) -> bool:
    return getattr(dead.statement, "value", None) is dead.value


def _neighbours(one: ast.stmt, tests: dict[ast.stmt, Condition], code: RecordedCode) -> list[ast.stmt]:
    """The statements after `one` that run under the same test, with those between that only name something."""
    block = code.block(one)
    group = [one]
    between: list[ast.stmt] = []
    for other in block[block.index(one) + 1 :]:
        if other in tests and tests[other].text == tests[one].text:
            group += [*between, other]
            between = []
        elif isinstance(other, ast.Assign) and is_path(other.value) and isinstance(other.targets[0], ast.Name):
            between.append(other)
        else:
            break
    return group


def _is_bound_else(group: list[ast.stmt], loop: ast.For, code: RecordedCode) -> bool:
    """Whether each name that the statements assign is bound before the loop, or read by nothing else."""
    scope = code.scope(loop)
    for one in group:
        for target in getattr(one, "targets", [getattr(one, "target", None)]):
            if not isinstance(target, ast.Name):
                continue
            names = [other for other in code.bindings(target.id, scope) if getattr(other, "lineno", 0) < loop.lineno]
            others = [
                node
                for node in _reads(target.id, one, set(group), code)
                if not any(isinstance(above, ast.If) and above in ast.walk(loop) for above in code.around(node))
            ]
            if not names and others:
                return False
    return True


def _is_weaker(test: ast.expr, condition: Condition) -> bool:
    """Whether a test compares the loop's variable alone with a number, so that the new one may take its place."""
    assert condition.loop is not None
    match test:
        case ast.Compare(left=ast.Name(id=name), ops=[_], comparators=[ast.Constant()]):
            return isinstance(condition.loop.target, ast.Name) and condition.loop.target.id == name
    return False


def _with_condition(dead: list[Dead], code: RecordedCode, edits: Edits) -> None:
    """Compute the expressions of a loop only if a test of its variable is true, and give None else."""
    for one in dead:
        condition = _condition(one, code) if one.is_partly else None
        if condition is not None and not condition.calls and not isinstance(one.statement, ast.AugAssign | ast.Expr):
            edits.replace(one.value, f"{_in_parentheses(one.value, code)} if {condition.text} else None")


def _with_flag(dead: list[Dead], code: RecordedCode, edits: Edits) -> None:
    """Give the function a parameter that says whether its result has a use."""
    for one in dead:
        condition = _condition(one, code) if one.is_partly else None
        if condition is None or not condition.calls or isinstance(one.statement, ast.AugAssign):
            continue
        sites = [site for call in condition.calls if isinstance(site := code.node(call), ast.Call)]
        functions = _all_called(sites, code)
        name = PARAMETER
        if functions is None or len(sites) < len(condition.calls) or any(name in names_in(one) for one in functions):
            continue
        for function in functions:
            edits.add_parameter(function, name, "True")
        for number, site in enumerate(sites):
            edits.add_argument(site, name, name if number else condition.text)
        if isinstance(one.statement, ast.Expr):
            edits.guard([one.statement], name)
        else:
            edits.replace(one.value, f"{_in_parentheses(one.value, code)} if {name} else None")


def _all_called(sites: list[ast.Call], code: RecordedCode) -> list[ast.FunctionDef] | None:
    """The functions that calls may reach, also in other runs: for a method, that of every class which has it.

    None if others may be reached: through a variable that holds a function, or in a file that was not recorded and that
    imports one of the changed ones.
    """
    found: dict[ast.FunctionDef, None] = {}
    for site in sites:
        called = {code.function(call) for call in code.executions(site)}
        functions = [one for one in called if isinstance(one, ast.FunctionDef)]
        name = site.func.attr if isinstance(site.func, ast.Attribute) else getattr(site.func, "id", "")
        if len(functions) < len(called) or any(one.name != name for one in functions):
            return None
        found |= dict.fromkeys(functions)
        if any(code.owner(one) is not None for one in functions):
            found |= dict.fromkeys(one for one in code.methods(name) if _takes(one, site))
            if any(f"def {name}(" in text for text in code.texts_of_importers({code.file(one) for one in found})):
                return None
    return [*found]


def _takes(function: ast.FunctionDef, site: ast.Call) -> bool:
    """Whether a method can be called with as many arguments as a call has."""
    held = function.args
    names = [*held.posonlyargs, *held.args]
    given = 1 + len(site.args) + len(site.keywords)
    return len(names) - len(held.defaults) <= given and (given <= len(names) or held.vararg is not None)


def _in_parentheses(node: ast.expr, code: RecordedCode) -> str:
    """The source of an expression, such that it may stand before `if` and fill several lines."""
    text = code.text(node)
    is_plain = isinstance(node, ast.Call | ast.Subscript) or (isinstance(node, ast.BinOp) and "\n" not in text)
    return text if is_plain else f"({text})"


def _with_attribute(dead: list[Dead], code: RecordedCode, edits: Edits) -> None:
    """Let objects on a tape get no gradient if the step makes them of the batch, and no name holds them.

    The statement changes an attribute of an object: ``self.grad = self.grad + g @ W.T``.
    """
    for one in dead:
        target = _changed_attribute(one.statement) if one.is_partly and _is_whole(one) else None
        functions = [above for above in code.around(one.statement) if isinstance(above, ast.FunctionDef)]
        method = next((above for above in functions if code.owner(above) is not None), None)
        kind = code.owner(method) if method is not None else None
        init = next((other for other in code.methods("__init__") if code.owner(other) is kind), None)
        if target is None or method is None or kind is None or init is None or not _stores(init, target.attr):
            continue  # if the class does not set the attribute, the object is of another one
        owner, made = ast.unparse(target.value), _made_of_the_batch(kind, code)
        is_argument = any(owner == name.arg for name in method.args.args)
        is_bound_anew = any(owner in bound_by(node) for node in ast.walk(method) if not isinstance(node, ast.arg))
        if not made or not is_argument or is_bound_anew or _is_made_otherwise(kind, code):
            continue
        receiver = init.args.args[0].arg
        first = init.body[1] if ast.get_docstring(init) is not None and len(init.body) > 1 else init.body[0]
        edits.add_parameter(init, ATTRIBUTE, "True")
        edits.insert_before(first, f"{receiver}.{ATTRIBUTE} = {ATTRIBUTE}")
        edits.guard([one.statement], f"{owner}.{ATTRIBUTE}")
        for call in made:
            edits.add_argument(call, ATTRIBUTE, "False")


def _stores(init: ast.FunctionDef, attribute: str) -> bool:
    """Whether a constructor gives its object an attribute of this name."""
    stored = [node for node in inside(init) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return bool(init.args.args) and any(node.attr == attribute for node in stored)


def _changed_attribute(one: ast.stmt) -> ast.Attribute | None:
    """The attribute of a named object to which a statement adds something."""
    match one:
        case ast.Assign(targets=[ast.Attribute(value=ast.Name()) as target], value=ast.BinOp(left=left)):
            return target if ast.unparse(left) == ast.unparse(target) else None
        case ast.AugAssign(target=ast.Attribute(value=ast.Name()) as target):
            return target
    return None


def _made_of_the_batch(kind: ast.ClassDef, code: RecordedCode) -> list[ast.Call]:
    """Where the step makes objects of a class for one use, outside of the class: no name can lead to them later."""
    within = {*ast.walk(kind)}
    nodes = map(code.node, code.graph.last)
    of_step = {code.scope(node) for node in nodes if node is not None}
    found = []
    for made in code.nodes:
        match made:
            case ast.Call(func=ast.Name(id=name)) if name == kind.name and made not in within:
                above, scope = code.parent(made), code.scope(made)
                is_held_by_none = isinstance(above, ast.BinOp | ast.Attribute) or (
                    isinstance(above, ast.Call) and _keeps_no_argument(above, code)
                )
                if is_held_by_none and scope in of_step and not isinstance(scope, ast.Module):
                    found.append(made)
    return found


def _keeps_no_argument(call: ast.Call, code: RecordedCode) -> bool:
    """Whether what is called is the program's own, and no function outside of a constructor stores a parameter."""
    events = code.executions(call)
    if not events or not all(one.is_own for one in events):
        return False
    for function in (one for one in code.nodes if isinstance(one, ast.FunctionDef) and one.name != "__init__"):
        names = {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}
        for node in inside(function):
            above = code.parent(node)
            if not isinstance(node, ast.Name) or node.id not in names or not isinstance(node.ctx, ast.Load):
                continue
            match above:
                case ast.Assign(targets=targets, value=value) if value is node:
                    if not all(isinstance(one, ast.Name) for one in targets):
                        return False
                case ast.Call(func=ast.Attribute(attr="append" | "add" | "insert" | "setdefault"), args=args):
                    if node in args:
                        return False
    return True


def _is_made_otherwise(kind: ast.ClassDef, code: RecordedCode) -> bool:
    """Whether objects of a class may lack what its `__init__` sets, or a file has the attribute already."""
    for node in code.nodes:
        match node:
            case ast.ClassDef(bases=bases) if any(ast.unparse(base).endswith(kind.name) for base in bases):
                return True
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in ("__new__", "__dict__", ATTRIBUTE):
                return True
            case ast.Import(names=names) if any(one.name in ("copy", "pickle", "dill", "joblib") for one in names):
                return True
            case ast.ImportFrom(module="copy" | "pickle" | "dill" | "joblib"):
                return True
    has_slots = any(isinstance(one, ast.Assign) and "__slots__" in names_in(one) for one in kind.body)
    return has_slots or bool(kind.decorator_list) or any(code.texts_of_importers({code.file(kind)}))
