"""Results that nothing uses, as the delta of the input layer.

A result is dead if nothing looked at its values, until it was freed or replaced, but operations whose own results are
dead. It must have been freed or replaced before the following step ended: what lives on may be read by somebody later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from mlpprof.advise.called import SHOWING
from mlpprof.advise.candidate import Candidate, around, by_hand, facts, indices
from mlpprof.advise.detect.kept import Kept
from mlpprof.advise.graph import Graph
from mlpprof.advise.identity import Value
from mlpprof.advise.trace import Event
from mlpprof.instrument.semantics_table import FILL, PRODUCT


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
