"""Results that nothing uses, as the delta of the input layer.

A result is dead if nothing looked at its values, until it was freed or replaced, but operations whose own results are
dead. It must have been freed or replaced before the following step ended: what lives on may be read by somebody later.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

from mlpprof.advise.candidate import Candidate, around, by_hand, facts, indices
from mlpprof.advise.graph import Graph
from mlpprof.instrument.numpy_costs import FILL, PRODUCT
from mlpprof.programs.record.arrays import Value
from mlpprof.programs.record.reads import SHOWING
from mlpprof.programs.record.trace import Event

# Results in buffers that a program keeps from step to step: when such a result is replaced without a reader.
#
# A buffer that is kept can be read by code that did not run while the step was recorded, as in every hundredth step. So
# the place that holds it must be known from the source, and nothing that has not run may mention it.


MAKERS = frozenset(("empty", "zeros", "ones", "full", "empty_like", "zeros_like", "ones_like", "full_like", "copy"))
"""Functions that give an array that nothing else holds."""

FORMAL = frozenset(("shape", "ndim", "size", "dtype", "nbytes"))
"""What is known of an array without a look at its values."""

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


class Kept:
    """The kept buffers of a recorded step."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def replaced(self, event: Event, made: Value) -> int | None:
        """The index of the event that writes over the whole of a result without looking at it; None if unknown."""
        graph = self._graph
        if made.root not in event.writes or made.root in graph.trace.shared:
            return None
        for later in graph.events[event.index + 1 : graph.trace.steps[1][1]]:
            if made.root in later.writes and self._is_over(later, made):
                is_seen = not self._is_cut_between(event, later) and self._is_private(event)
                return later.index if is_seen else None
        return None

    def is_read_unseen(self, event: Event) -> bool:
        """Whether code that did not run while the step was recorded reads the name that a result was given."""
        site = self._graph.trace.sites[event.site]
        place = site.line, site.column
        for node in ast.walk(self._graph.trees[site.file]) if site.file in self._graph.trees else ():
            if isinstance(node, ast.Assign) and (node.value.lineno, node.value.col_offset) == place:
                return any(self.is_named_unseen(site.file, target) for target in node.targets)
        return False

    def is_named_unseen(self, file: str, node: ast.expr) -> bool:
        """Whether code that did not run while the step was recorded reads a name or an attribute."""
        match node:
            case ast.Name(id=name):
                scope: Scope | None = self._scope(file, node.lineno)
            case ast.Attribute(attr=name):
                scope = None
            case _:
                return False
        return any(self._is_unseen(path, mention) for path, mention in self._mentions(file, name, scope))

    def _is_over(self, later: Event, made: Value) -> bool:
        value = later.output if later.output is not None else later.region
        covers = value is not None and (value.root, value.start, value.shape) == (made.root, made.start, made.shape)
        return covers and later.index not in self._graph.trace.reads.get(made.root, ())

    def _is_cut_between(self, event: Event, later: Event) -> bool:
        """Whether a loop between them ran on unseen."""
        runs = (run for run in self._graph.trace.loops if run.is_cut)
        return any(run.first_event <= later.index and run.end >= event.index for run in runs)

    def _is_private(self, event: Event) -> bool:
        """Whether all code that can name the buffer has run."""
        holder = self._holder(event)
        return holder is not None and not any(self._is_unseen(file, node) for file, node in self._mentions(*holder))

    def _holder(self, event: Event) -> tuple[str, str, Scope | None] | None:
        """File, name and scope (None of an attribute) of what holds the buffer that an event writes."""
        site = self._graph.trace.sites[event.site]
        target = _target(self._graph.trees.get(site.file), site.line, site.column)
        while isinstance(target, ast.Subscript):
            target = target.value
        if isinstance(target, ast.Attribute):
            values = [
                value for tree in self._graph.trees.values() for value in _assigned(tree, target.attr, ast.Attribute)
            ]
            return (site.file, target.attr, None) if _are_fresh(values) else None
        if not isinstance(target, ast.Name):
            return None
        for scope in (self._scope(site.file, site.line), self._graph.trees[site.file]):
            values = [*_assigned(scope, target.id, ast.Name)]
            if values:
                return (site.file, target.id, scope) if _are_fresh(values) else None
        return None

    def _scope(self, file: str, line: int) -> Scope:
        tree = self._graph.trees[file]
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.lineno <= line <= _end(n)]
        return max(functions, key=lambda n: n.lineno, default=tree)

    def _mentions(self, file: str, name: str, scope: Scope | None) -> Iterator[tuple[str, ast.expr]]:
        """Where the name is read."""
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ((file, node) for node in _loads(scope, name, (ast.Name,)))
            return
        for path, tree in self._graph.trees.items():
            is_global = scope is not None and path == file
            kinds = (ast.Attribute, ast.Name) if is_global else (ast.Attribute,)
            yield from ((path, node) for node in _loads(tree, name, kinds))

    def _is_unseen(self, file: str, mention: ast.expr) -> bool:
        """Whether a mention stands in a line, or in a body, of which nothing was recorded."""
        for first, last, is_function in [(mention.lineno, mention.lineno, False), *self._bodies(file, mention.lineno)]:
            spots = [line for line in self._spots.get(file, ()) if first <= line <= last]
            if spots:
                return not any((file, line) in self._ran for line in spots)
            if is_function:
                return True  # as of a function that only returns the buffer
        return False

    def _bodies(self, file: str, line: int) -> list[tuple[int, int, bool]]:
        """First and last lines of the bodies that a line is in, and whether of a function, the innermost first."""
        found = []
        for node in ast.walk(self._graph.trees[file]):
            for field in ("body", "orelse", "finalbody"):
                body = getattr(node, field, None)
                if isinstance(body, list) and body and body[0].lineno <= line <= _end(body[-1]):
                    found.append((body[0].lineno, _end(body[-1]), isinstance(node, ast.FunctionDef)))
        return sorted(found, key=lambda body: (-body[0], body[1]))

    @cached_property
    def _spots(self) -> dict[str, frozenset[int]]:
        """The lines of each file on which something could have been recorded."""
        lines: dict[str, set[int]] = {}
        for site in self._graph.trace.sites:
            lines.setdefault(site.file, set()).add(site.line)
        return {file: frozenset(found) for file, found in lines.items()}

    @cached_property
    def _ran(self) -> frozenset[tuple[str, int]]:
        """The lines on which something was."""
        sites = (self._graph.trace.sites[event.site] for event in self._graph.events)
        return frozenset((site.file, site.line) for site in sites)


def _target(tree: ast.Module | None, line: int, column: int) -> ast.expr | None:
    """What the expression or the assignment at a place writes into."""
    for node in ast.walk(tree) if tree is not None else ():
        if (getattr(node, "lineno", 0), getattr(node, "col_offset", -1)) != (line, column):
            continue
        if isinstance(node, ast.Call):
            out = [one.value for one in node.keywords if one.arg == "out"]
            if out:
                return out[0]
            if isinstance(node.func, ast.Attribute) and node.func.attr == "copyto" and node.args:
                return node.args[0]
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript):
            return node.targets[0]
        if isinstance(node, ast.AugAssign):
            return node.target
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            return node
    return None


def _assigned(tree: ast.AST, name: str, kind: type[ast.Attribute | ast.Name]) -> Iterator[ast.expr | None]:
    """What a name or an attribute is set to; None where that cannot be told."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if _is_named(target, name, kind):
                    yield node.value
                elif isinstance(target, ast.Tuple | ast.List) and any(_is_named(x, name, kind) for x in target.elts):
                    yield None
        elif isinstance(node, ast.arg | ast.Global | ast.Nonlocal) and kind is ast.Name:
            names = [node.arg] if isinstance(node, ast.arg) else node.names
            if name in names:
                yield None
        elif isinstance(node, ast.For | ast.comprehension | ast.NamedExpr):
            yield from (None for x in ast.walk(node.target) if _is_named(x, name, kind))


def _is_named(node: ast.AST, name: str, kind: type[ast.expr]) -> bool:
    return isinstance(node, kind) and name in (getattr(node, "id", None), getattr(node, "attr", None))


def _loads(tree: ast.AST, name: str, kinds: tuple[type[ast.Attribute | ast.Name], ...]) -> Iterator[ast.expr]:
    nodes = [*ast.walk(tree)]
    formal = {id(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr in FORMAL}
    for node in nodes:
        if id(node) in formal:
            continue
        if isinstance(node, kinds) and isinstance(node.ctx, ast.Load) and _is_named(node, name, type(node)):
            yield node


def _are_fresh(values: list[ast.expr | None]) -> bool:
    return bool(values) and all(value is not None and _is_fresh(value) for value in values)


def _is_fresh(value: ast.expr) -> bool:
    """Whether an expression gives a new array, or a container of such, that has no other name."""
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in MAKERS
        case ast.ListComp(elt=inner) | ast.DictComp(value=inner):
            return _is_fresh(inner)
        case ast.List(elts=inner) | ast.Tuple(elts=inner) | ast.Dict(values=inner):
            return all(map(_is_fresh, inner))
        case ast.BinOp(left=ast.List(elts=inner), op=ast.Mult()):
            return all(map(_is_fresh, inner))
        case ast.Constant(value=None):
            return True
    return False


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def dead_events(graph: Graph) -> list[Event]:
    """The events of the first recorded step whose results nothing used."""
    trace = graph.trace
    if len(trace.steps) < 2 or trace.is_blind:
        return []
    end = trace.steps[1][1]
    dead: set[int] = set()
    kept = Kept(graph)
    for event in reversed(graph.first):
        if _is_dead(event, graph, dead, end, kept):
            dead.add(event.index)
    return [event for event in graph.first if event.index in dead]


def made_by(event: Event) -> Value | None:
    """The array that an event has computed: its result, or the part of another array that it has stored."""
    return event.output if event.output is not None else event.region


def _is_dead(event: Event, graph: Graph, dead: set[int], end: int, kept: Kept) -> bool:
    made = made_by(event)
    if event.is_own or event.is_view or event.is_opaque or not event.kind or made is None or not made.is_array:
        return False
    if (event.writes and made.root not in event.writes) or _is_last_turn(event, graph):
        return False
    died = graph.trace.died.get(made.root)
    if died is None or died > end:
        died = kept.replaced(event, made)
    if died is None or graph.is_looked_at(made.root, event, died) or graph.is_unseen_between(event.index, died):
        return False
    if graph.is_origin_unknown_between(event.index, died):
        return False
    reads = graph.trace.reads.get(made.root, ())
    is_unread = all(index in dead for index in reads if event.index < index < died)
    return is_unread and not kept.is_read_unseen(event)


def _is_last_turn(event: Event, graph: Graph) -> bool:
    """Whether it is in the last recorded turn of a loop that ran on unseen, where a reader may have been."""
    for turn in event.loops:
        for run in graph.trace.loops:
            if (run.site, run.execution) == (turn.site, turn.execution):
                if run.is_cut and turn.turn >= run.recorded - 1:
                    return True
                break
    return False


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for every place where a chain of dead results begins, and for every call that is idle."""
    dead = dead_events(graph)
    calls = _idle_calls(dead, graph)
    chains: dict[tuple[int, ...], list[Event]] = defaultdict(list)
    for chain in _chains([event for event in dead if not calls.keys() & {*event.calls}], graph):
        chains[tuple(sorted({event.site for event in chain}))] += chain  # of all turns of a loop
    found = []
    for chain in [*chains.values(), *_by_site(calls.values())]:
        seen = {_spot(event, graph) for event in chain}
        again = [e for e in graph.last if _spot(e, graph) in seen]
        costly = [e for e in again if e.is_own or e.kind != FILL]
        if costly:
            found.append(_candidate(costly, again, graph))
    return found


def _candidate(costly: list[Event], again: list[Event], graph: Graph) -> Candidate:
    head = max(costly, key=lambda e: (e.kind == PRODUCT, e.effect.flop if e.effect else 0))
    here = graph.site(head)
    others = sorted({graph.site(e).line for e in again if graph.site(e).file == here.file})
    where = _where(head, again, graph)
    return Candidate(
        category="dead-computation",
        site=here,
        title=f"the result of {graph.text(head)} is never used{' ' if where else ''}{where}",
        why="its values, and what is computed from them, are freed or replaced without anybody having looked at them "
        f"({'line' if len(others) == 1 else 'lines'} {', '.join(map(str, others))})"
        + ("; its other executions in the step are needed" if where else ""),
        cure=_cure(head, where, graph),
        saved_s=around(graph.seconds(again)),
        measured="the time of these expressions in the step",
        covers=indices(again),
        related=tuple(graph.site(e) for e in again if graph.site(e).line != here.line),
        evidence=facts(head, len(again)),
    )


def _where(head: Event, again: list[Event], graph: Graph) -> str:
    """The calls or turns of loops in which an expression is dead that is needed in others; '' if it is in none."""
    numbers = {event.index for event in again}
    same = [e for e in graph.last if e.site == head.site and e.is_own == head.is_own]
    needed = [e for e in same if e.index not in numbers]
    if not needed:
        return ""
    told = dict.fromkeys(_apart(e, needed, graph) for e in same if e.index in numbers)
    return " and ".join(told)


def _apart(event: Event, needed: list[Event], graph: Graph) -> str:
    """What tells an execution from those that are needed: the call that it is in, or the turn of a loop."""
    path = _path(event, graph)
    for depth in range(len(path)):
        if all(_path(other, graph)[: depth + 1] != path[: depth + 1] for other in needed):
            call = graph.events[event.calls[depth]]
            return f"in the call {graph.text(call, 40)} of {graph.place(graph.site(call))}"
    for turn in event.loops:
        if all((turn.site, turn.turn) not in {(one.site, one.turn) for one in other.loops} for other in needed):
            runs = [run for run in graph.trace.loops if (run.site, run.execution) == (turn.site, turn.execution)]
            loop = graph.place(graph.trace.sites[turn.site])
            return f"in turn {turn.turn + 1} of {runs[0].turns if runs else '?'} of the loop in {loop}"
    return "in some of its executions"


def _path(event: Event, graph: Graph) -> tuple[int, ...]:
    """The sites of the calls that an event happens in, the outermost first."""
    return tuple(graph.events[call].site for call in event.calls)


def _spot(event: Event, graph: Graph) -> tuple[object, ...]:
    """What says that an event of one step is that of another: its place, its callers and the turns of its loops."""
    return event.site, _path(event, graph), tuple((turn.site, turn.turn) for turn in event.loops), event.is_own


def _by_site(calls: Iterable[Event]) -> list[list[Event]]:
    found: dict[int, list[Event]] = defaultdict(list)
    for call in calls:
        found[call.site].append(call)
    return list(found.values())


def _idle_calls(dead: list[Event], graph: Graph) -> dict[int, Event]:
    """Calls of which nothing is used, by index: the outermost ones, where the function serves other calls.

    There the cure is not to call it; what stands within the function must stay.
    """
    numbers = {event.index for event in dead}
    calls = [event for event in graph.first if event.is_own]
    idle = {call.index for call in calls if any(i in numbers for i in range(call.index, call.end))}
    idle -= {call for event in graph.first if event.index not in numbers and _does(event) for call in event.calls}
    made = {value.root for event in dead if (value := made_by(event)) is not None}
    # of a call that gives an object, or nothing, the rest that it does may be needed
    idle = {call for call in idle if (value := graph.events[call].output) is not None and value.root in made}
    serving = {call.function for call in calls if call.index not in idle}
    found = {}
    for event in dead:
        around_it = [call for call in event.calls if call in idle]
        if any(graph.events[call].function in serving for call in around_it):
            found[around_it[0]] = graph.events[around_it[0]]
    return found


def _does(event: Event) -> bool:
    """Whether an event has an effect, and is not a view or a call whose parts are events."""
    is_silent = event.is_own or event.is_view or not (event.kind or event.writes or event.is_opaque)
    return not is_silent or event.name in SHOWING


def _cure(head: Event, where: str, graph: Graph) -> str:
    """In words: what did not run in the recorded steps may need it, and a line may do other things as well."""
    text, place = graph.text(head, 50), graph.place(graph.site(head))
    if where:
        return by_hand(
            f"compute `{text}` of {place} only where its result is needed: it is not {where}, and is everywhere else.",
            "Check that all gradients stay the same.",
        )
    if head.is_own:
        return by_hand(
            f"leave out the call `{text}` of {place}: nothing of it is needed there.",
            "Leave the function as it is if others call it, and check first that the call does nothing else.",
        )
    return by_hand(
        f"leave out `{text}` of {place}, and what is computed from it alone.",
        "Check first that no line that did not run in the recorded steps reads the result, and that all gradients stay "
        "the same.",
    )


def _chains(dead: list[Event], graph: Graph) -> list[list[Event]]:
    """Dead events that feed each other, together."""
    chain_of: dict[int, int] = {}
    chains: dict[int, list[Event]] = defaultdict(list)
    made: dict[int, int] = {}
    for event in dead:
        parents = {made[value.root] for value in event.inputs if value.root in made}
        number = min((chain_of[p] for p in parents), default=event.index)
        for parent in parents:
            old = chain_of[parent]
            if old != number:
                for member in chains.pop(old, []):
                    chain_of[member.index] = number
                    chains[number].append(member)
        chain_of[event.index] = number
        chains[number].append(event)
        if (value := made_by(event)) is not None:
            made[value.root] = event.index
    return list(chains.values())
