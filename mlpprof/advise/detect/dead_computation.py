"""Results that nothing uses, as the delta of the input layer, and calls of which nothing is needed."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from functools import partial

import numpy as np

from mlpprof.advise.added_zeros import added_zeros
from mlpprof.advise.candidate import Candidate, around, by_hand, facts, indices, total
from mlpprof.advise.cures.dead_computation import cures, open_turn
from mlpprof.advise.cures.slow_primitive import expression_cure, renamed
from mlpprof.advise.cures.work_in_step import is_read_later
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.advise.unused import is_in_last_turn, made_by, unused_events
from mlpprof.instrument.numpy_costs import FILL, PRODUCT
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.reads import SHOWING, is_record
from mlpprof.programs.record.replay import again, nothing_if_impossible, of_time, saved_share
from mlpprof.programs.record.trace import Event

EMPTY = {"zeros": "empty", "ones": "empty", "zeros_like": "empty_like", "ones_like": "empty_like"}
"""Functions that fill a new array -> those that leave it as it is."""

LAST_TURN = (
    "mlpprof recorded only some turns of the loop around it: keep it in the last turn if later code reads what that "
    "turn leaves."
)
"""What is added to the words if the last turn may need a result that the recorded ones do not."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each place where a chain of unused results begins, and for each unused call."""
    dead = unused_events(graph)
    calls = _idle_calls(dead, graph)
    chains: dict[tuple[int, ...], list[Event]] = defaultdict(list)
    for chain in _chains([event for event in dead if not calls.keys() & {*event.calls}], graph):
        chains[tuple(sorted({event.site for event in chain}))] += chain  # in all turns of a loop
    found = []
    for chain in [*chains.values(), *_by_site(calls.values())]:
        seen = {_spot(event, graph) for event in chain}
        again = [e for e in graph.last if _spot(e, graph) in seen]
        costly = [e for e in again if e.is_own or e.kind != FILL]
        if costly or _is_replaced(again, graph):
            found.append(_candidate(costly or again, again, graph))
    return [*found, *_overwritten(graph), *added_zeros(graph)]


def _overwritten(graph: Graph) -> list[Candidate]:
    """Zeros or ones in new arrays that the step overwrites as a whole before anything reads them."""
    if len(graph.trace.steps) < 2 or graph.trace.is_blind:
        return []
    fills: dict[int, list[Event]] = defaultdict(list)
    for event in graph.first:
        if event.name in EMPTY and not event.is_own and event.output is not None:
            fills[event.site].append(event)
    sites = {site for site, events in fills.items() if all(_is_overwritten(event, graph) for event in events)}
    found = []
    for site in sites:
        events = [event for event in graph.last if event.site == site and event.name in EMPTY]
        saved = [_saved_by_empty(event, graph) for event in events]
        if not events or total(saved)[1] <= 0:
            continue
        head = events[0]
        here = graph.site(head)
        edit = expression_cure([(event, renamed(EMPTY)) for event in events], graph)
        words = f"In {graph.place(here)}, make the array with NumPy's {EMPTY[head.name]}, which writes nothing into it."
        found.append(
            Candidate(
                category="dead-computation",
                site=here,
                title=f"`{graph.text(head)}` fills an array that is overwritten before anything reads it",
                why="The step writes every element of the array before it reads one.",
                cure=words if edit is not None else by_hand(words[0].lower() + words[1:]),
                cures=(edit,) if edit is not None else (),
                saved_s=total(saved),
                measured="arrays made with and without their values alternately",
                covers=indices(events),
                evidence=facts(head, len(events)),
            )
        )
    return found


def _is_overwritten(event: Event, graph: Graph) -> bool:
    """Whether the first operation on a new array writes all of it and reads none of it."""
    assert event.output is not None
    root = event.output.root
    reads = [index for index in graph.trace.reads.get(root, ()) if index > event.index]
    writer = next((e for e in graph.events[event.index + 1 :] if root in e.writes), None)
    value = None if writer is None else writer.output if writer.output is not None else writer.region
    if writer is None or value is None or graph.is_cut_short(event) or (reads and min(reads) <= writer.index):
        return False
    is_whole = (value.root, value.start, value.shape) == (root, event.output.start, event.output.shape)
    is_seen = not graph.is_read_between(root, event, writer.index) and not graph.is_taken(root, event)
    return is_whole and is_seen and not graph.is_origin_unknown_between(event.index, writer.index)


@nothing_if_impossible
def _saved_by_empty(event: Event, graph: Graph) -> tuple[float, float]:
    slow, result = again(event), event.result
    if slow is None or not isinstance(result, np.ndarray):
        return 0.0, 0.0
    return of_time(saved_share(slow, partial(np.empty_like, result)), graph.seconds([event]))


def _is_replaced(fills: list[Event], graph: Graph) -> bool:
    """Whether nothing was ever stored into arrays that were only filled: other arrays have taken their places."""
    roots = {event.output.root for event in fills if event.output is not None}
    return not any(root in roots for event in graph.events for root in event.writes)


def _candidate(costly: list[Event], again: list[Event], graph: Graph) -> Candidate:
    head = max(costly, key=lambda e: (e.kind == PRODUCT, e.effect.flop if e.effect else 0))
    here = graph.site(head)
    others = sorted({graph.site(e).line for e in again if graph.site(e).file == here.file})
    where = _where(head, again, graph)
    turn, rest = open_turn(again, graph), "it is used everywhere else"
    if turn is not None and not where:
        where = f"in the only turn of the loop in {graph.place(graph.trace.sites[turn.site])}"
        rest = "a network with more layers needs it in the other turns"
    edits = cures(again, graph)
    return Candidate(
        category="dead-computation",
        site=here,
        title=f"the array of `{graph.text(head)}` is replaced before anything reads it"
        if head.kind == FILL
        else f"nothing reads the result of `{graph.text(head)}`{' ' if where else ''}{where}",
        why="In the recorded steps, nothing reads this result, or what is computed from it, before it is "
        f"overwritten or freed ({'line' if len(others) == 1 else 'lines'} {', '.join(map(str, others))})."
        + (" The step needs its other executions." if where and turn is None else ""),
        cure=_words(head, f"{where}; {rest}" if where else "", bool(edits), graph),
        cures=tuple(edits),
        saved_s=around(graph.seconds(again)),
        measured="the time of these expressions in the step",
        covers=indices(again),
        related=tuple(graph.site(e) for e in again if graph.site(e).line != here.line),
        evidence=facts(head, len(again)),
    )


def _where(head: Event, again: list[Event], graph: Graph) -> str:
    """The calls or turns of loops in which an expression is not used; '' if it is used in none."""
    numbers = {event.index for event in again}
    same = [e for e in graph.last if e.site == head.site and e.is_own == head.is_own]
    needed = [e for e in same if e.index not in numbers and not is_in_last_turn(e, graph)]
    if not needed:
        return ""
    apart = dict.fromkeys(_apart(e, needed, graph) for e in same if e.index in numbers)
    return " and ".join(apart)


def _apart(event: Event, needed: list[Event], graph: Graph) -> str:
    """What distinguishes an execution from those that are needed: the call that it is in, or the turn of a loop."""
    path = _path(event, graph)
    for depth in range(len(path)):
        if all(_path(other, graph)[: depth + 1] != path[: depth + 1] for other in needed):
            call = graph.events[event.calls[depth]]
            return f"in the call `{graph.text(call, 40)}` of {graph.place(graph.site(call))}"
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
    """What identifies an event in each of the steps: its place, its callers and the turns of its loops."""
    return event.site, _path(event, graph), tuple((turn.site, turn.turn) for turn in event.loops), event.is_own


def _by_site(calls: Iterable[Event]) -> list[list[Event]]:
    found: dict[int, list[Event]] = defaultdict(list)
    for call in calls:
        found[call.site].append(call)
    return list(found.values())


def _idle_calls(dead: list[Event], graph: Graph) -> dict[int, Event]:
    """The outermost calls of which nothing is used although other calls of the function are needed, by index.

    There the cure is to leave out the call; the body of the function must stay.
    """
    numbers = {event.index for event in dead}
    calls = [event for event in graph.first if event.is_own]
    idle = {call.index for call in calls if any(i in numbers for i in range(call.index, call.end))}
    idle -= {call for event in graph.first if event.index not in numbers and _does(event) for call in event.calls}
    made = {value.root for event in dead if (value := made_by(event)) is not None}
    # A call that returns another object, or nothing, may do other things that are needed.
    holding = {_spot(event, graph) for event in graph.last if event.is_own and _is_dropped(event, graph)}
    idle = {
        index
        for index in idle
        if _spot(call := graph.events[index], graph) in holding
        or (call.output is not None and call.output.root in made)
    }
    serving = {call.function for call in calls if call.index not in idle}
    found = {}
    for event in dead:
        around_it = [call for call in event.calls if call in idle]
        if any(graph.events[call].function in serving for call in around_it):
            found[around_it[0]] = graph.events[around_it[0]]
    return found


def _is_dropped(call: Event, graph: Graph) -> bool:
    """Whether a call returns a record or a tuple that gets a name which nothing reads, or none."""
    if not (type(call.result) is tuple or is_record(type(call.result))):
        return False
    code = code_of(graph)
    node = code.node(call)
    match code.parent(node) if node is not None else None:
        case ast.Expr():
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) as statement:
            return is_read_later(statement, name, code) is False
    return False


def _does(event: Event) -> bool:
    """Whether an event has an effect, and is not a view or a call whose parts are events."""
    is_silent = event.is_own or event.is_view or not (event.kind or event.writes or event.is_opaque)
    return not is_silent or event.name in SHOWING


def _words(head: Event, where: str, is_edit: bool, graph: Graph) -> str:
    """The cure in words: code that did not run may need the result, and a line may do other things as well.

    where: where it is not used, and where it is; '' if it is used nowhere.
    """
    text, place = graph.text(head, 50), graph.place(graph.site(head))
    last_turn = [LAST_TURN] if graph.is_cut_short(head) else []
    if is_edit and head.kind == FILL:
        return f"Write `None` in place of `{text}` in {place}: other arrays take the places."
    if is_edit and where:
        return f"Compute `{text}` of {place} only where it is used. It is not used {where}."
    if is_edit:
        return f"Leave out `{text}` of {place}."
    if where:
        return by_hand(
            f"compute `{text}` of {place} only where its result is used. It is not used {where}.",
            "Check that all gradients stay the same.",
        )
    if head.is_own:
        return by_hand(
            f"leave out the call `{text}` of {place}. Nothing uses its results there.",
            "Keep the function if other code calls it, and check first that the call does nothing else.",
            *last_turn,
        )
    return by_hand(
        f"leave out `{text}` of {place}, and what is computed from it alone.",
        "Check first that no line that did not run in the recorded steps reads the result, and that all gradients stay "
        "the same.",
        *last_turn,
    )


def _chains(dead: list[Event], graph: Graph) -> list[list[Event]]:
    """Groups of unused events that use each other's results."""
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
