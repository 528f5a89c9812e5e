"""Results that nothing uses, as the delta of the input layer.

A result is unused if nothing read its values before it was freed or replaced, apart from operations whose own results
are unused. It must have been freed or replaced before the following step ended: code that runs later may read a result
that lives on.
"""

from __future__ import annotations

from mlpprof.advise.kept_buffers import KeptBuffers
from mlpprof.programs.record.arrays import Value
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


def unused_events(graph: Graph) -> list[Event]:
    """The events of the first recorded step whose results nothing used."""
    trace = graph.trace
    if len(trace.steps) < 2 or trace.is_blind:
        return []
    end = trace.steps[1][1]
    dead: set[int] = set()
    kept = KeptBuffers(graph)
    for event in reversed(graph.first):
        if _is_dead(event, graph, dead, end, kept):
            dead.add(event.index)
    return [event for event in graph.first if event.index in dead]


def made_by(event: Event) -> Value | None:
    """The array that an event has computed: its result, or the part of another array that it has stored."""
    return event.output if event.output is not None else event.region


def _is_dead(event: Event, graph: Graph, dead: set[int], end: int, kept: KeptBuffers) -> bool:
    made = made_by(event)
    if event.is_own or event.is_view or event.is_opaque or not event.kind or made is None or not made.is_array:
        return False
    if (event.writes and made.root not in event.writes) or is_in_last_turn(event, graph):
        return False
    died = graph.trace.died.get(made.root)
    if died is None or died > end:
        died = kept.replaced(event, made)
    if died is None or graph.is_read_between(made.root, event, died) or graph.is_unseen_between(event.index, died):
        return False
    if graph.is_origin_unknown_between(event.index, died):
        return False
    reads = graph.trace.reads.get(made.root, ())
    is_unread = all(index in dead for index in reads if event.index < index < died)
    returning = [call for index in event.calls if _gives(call := graph.events[index], made)]
    return is_unread and not any(kept.is_read_unseen(one) for one in (event, *returning))


def _gives(call: Event, made: Value) -> bool:
    """Whether a call returns an array, or a view of it."""
    return call.output is not None and call.output.root == made.root


def is_in_last_turn(event: Event, graph: Graph) -> bool:
    """Whether it is in the last recorded turn of a loop: later turns, which were not recorded, may read the result."""
    for turn in event.loops:
        for run in graph.trace.loops:
            if (run.site, run.execution) == (turn.site, turn.execution):
                if run.is_cut and turn.turn >= run.recorded - 1:
                    return True
                break
    return False
