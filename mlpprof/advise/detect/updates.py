"""Statements that replace an array by what is computed from it, as ``v = mu * v + g``, beside the same in place.

Operation by operation nothing would be saved: each writes as much as before. In place the statement as a whole touches
fewer arrays, so the whole is performed both ways, natively, since NumPy has its own way with temporaries.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from mlpprof.advise.detect.elementwise import elementwise
from mlpprof.advise.detect.in_place import Forms, Kind
from mlpprof.advise.detect.kept import Kept
from mlpprof.advise.graph import Graph
from mlpprof.advise.identity import Array
from mlpprof.advise.places import functions
from mlpprof.advise.replay import Action
from mlpprof.advise.trace import Event, Turn
from mlpprof.instrument.rewriting import IN_PLACE_OPERATORS
from mlpprof.instrument.semantics_table import COPY

Execution = tuple[tuple[int, ...], tuple[Turn, ...]]
"""The calls and the turns of loops that a statement is executed in."""


@dataclass(frozen=True)
class Update:
    """One execution of a statement: its operations, both ways to do it, and the new text of the statement.

    changed: buffers of the array that it replaces and of the one that it puts there, if it is not in place already.
    """

    events: tuple[Event, ...]
    changed: frozenset[int]
    slow: Action
    fast: Action
    cure: tuple[str, ...]


def updates(graph: Graph, least_bytes: int) -> list[Update]:
    """The updates of the last step, of arrays of a size, that may be done in place: nobody looks at the old one."""
    found = []
    kept: dict[Kind, Array] = {}
    names = Kept(graph)
    by_line: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in graph.last:
        site = graph.trace.sites[event.site]
        by_line[site.file, site.line].append(event)
    for path in {file for file, _ in by_line if not graph.is_ours(file)}:
        for node in ast.walk(graph.trees[path]):
            if isinstance(node, ast.AugAssign) or (isinstance(node, ast.Assign) and len(node.targets) == 1):
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                inside = [
                    event for line in lines for event in by_line.get((path, line), ()) if _is_in(node, event, graph)
                ]
                for events in _executions(inside).values():
                    if any(isinstance(e.result, np.ndarray) and e.result.nbytes >= least_bytes for e in events):
                        one = _update(node, path, events, kept, names, graph)
                        found += [one] if one is not None else []
    return found


def _is_in(node: ast.stmt, event: Event, graph: Graph) -> bool:
    site = graph.trace.sites[event.site]
    start, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return start <= (site.line, site.column) and (site.end_line, site.end_column) <= end


def _executions(events: list[Event]) -> dict[Execution, list[Event]]:
    """The operations of each execution of a statement; not those of functions that it calls."""
    found: dict[Execution, list[Event]] = defaultdict(list)
    for event in events:
        found[event.calls, event.loops].append(event)
    return found


def _update(
    statement: ast.Assign | ast.AugAssign,
    file: str,
    events: list[Event],
    kept: dict[Kind, Array],
    names: Kept,
    graph: Graph,
) -> Update | None:
    target = statement.target if isinstance(statement, ast.AugAssign) else statement.targets[0]
    places = {graph.span(event.site)[1:]: event for event in events if elementwise(event) is not None}
    forms = Forms(places, target, kept, lambda node, event, number: _is_given(node, event, number, file, names, graph))
    store = next((event for event in events if event.effect is not None and event.name == "store"), None)
    if isinstance(statement, ast.AugAssign):
        top = next((event for event in events if event.function in IN_PLACE_OPERATORS), None)
        array = top.operands[0] if top is not None else None
        is_done = top is not None and forms.augmented(statement, top)
    else:
        top = forms.event_of(statement.value)
        if top is None:
            return None
        if store is not None:
            array = _region(store, top)
            is_done = array is not None and forms.stored(statement, array)
        elif any(event.name == "fill" for event in events):  # a part of an array is set to a number
            return None
        else:
            array = forms.replaced(statement.value)
            is_done = array is not None and forms.assigned(statement)
            is_done = is_done and _is_free(forms, statement, top, file, graph)
    if top is None or not is_done or not isinstance(array, np.ndarray):
        return None
    slow, fast = forms.actions(array)
    used = [event for event in events if elementwise(event) is not None or event in (top, store)]
    changed = {event.inputs[_array_number(event, number)].root for event, number in forms.scaled}
    if isinstance(statement, ast.Assign) and store is None and forms.place_of_target is not None:
        reader, number = forms.place_of_target
        changed |= {reader.inputs[number].root} | ({top.output.root} if top.output is not None else set())
    return Update(tuple(used), frozenset(changed), slow, fast, tuple(forms.text))


def _region(store: Event, top: Event) -> Array | None:
    """The view that is stored into, if the result fits it as it is."""
    container, key, value = store.operands
    keys = key if isinstance(key, tuple) else (key,)
    if value is not top.result or not all(isinstance(k, int | slice | type(...) | np.integer) for k in keys):
        return None
    region = container[key]
    fits = type(region) is np.ndarray and region.shape == value.shape and region.dtype == value.dtype
    return region if fits and store.kind == COPY else None


def _is_free(forms: Forms, statement: ast.Assign, top: Event, file: str, graph: Graph) -> bool:
    """Whether each array that the statement has replaced in the first recorded step was not looked at again.

    What a function was handed belongs to its caller: it must have been freed at once.
    """
    if len(graph.trace.steps) < 2 or graph.trace.is_blind:
        return False
    end = graph.trace.steps[1][1]
    is_handed = _is_argument(statement.targets[0], file, graph)
    tops = [event for event in graph.first if graph.span(event.site) == graph.span(top.site)]
    assert forms.place_of_target is not None
    reader, number = forms.place_of_target
    for event in tops:
        siblings = (
            e for e in graph.first if (e.calls, e.loops) == (event.calls, event.loops) and e.index <= event.index
        )
        reads = [e for e in siblings if graph.span(e.site) == graph.span(reader.site)]
        if not reads or number >= len(reads[-1].inputs):
            return False
        root = reads[-1].inputs[number].root
        if not _is_last_look(root, event, event.index + 1 if is_handed else end, graph):
            return False
    return bool(tops)


def _is_given(node: ast.expr, event: Event, number: int, file: str, names: Kept, graph: Graph) -> bool:
    """Whether the step has made an operand itself, and nobody looks at it after the operation."""
    if len(graph.trace.steps) < 2 or graph.trace.is_blind or _is_argument(node, file, graph):
        return False
    if names.is_named_unseen(file, node):
        return False
    end, place = graph.trace.steps[1][1], _array_number(event, number)
    same = [one for one in graph.first if graph.span(one.site) == graph.span(event.site)]
    made = {one.output.root for one in graph.first if one.output is not None and not one.is_view}
    roots = [(one.inputs[place].root if place < len(one.inputs) else -1, one) for one in same]
    return bool(roots) and all(root in made and _is_last_look(root, one, end, graph) for root, one in roots)


def _array_number(event: Event, number: int) -> int:
    """The number among the inputs of an event, arrays first, of an operand that is an array."""
    return sum(isinstance(x, np.ndarray) for x in event.operands[:number])


def _is_last_look(root: int, event: Event, end: int, graph: Graph) -> bool:
    """Whether nobody looks at a buffer after an event, and it was freed before another one."""
    died = graph.trace.died.get(root)
    if died is None or died > end or graph.is_taken(root, event) or graph.is_unseen_between(event.index, died):
        return False
    return not any(index > event.index for index in graph.trace.reads.get(root, ()))


def _is_argument(node: ast.expr, file: str, graph: Graph) -> bool:
    name = node.id if isinstance(node, ast.Name) else ""
    around = [
        one for _, one in functions(graph.trees[file]) if one.lineno <= node.lineno <= (one.end_lineno or one.lineno)
    ]
    return any(
        name == one.arg for node in around for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    )
