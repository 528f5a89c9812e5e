"""Results that nothing uses, as the delta of the input layer.

A result is dead if, until it was freed, nothing looked at its values but operations whose own results are dead. It
must have been freed before the following step ended: what lives on may be read by somebody later.
"""

from __future__ import annotations

from collections import defaultdict

from mlpprof.advise.candidate import Candidate, around, facts, indices
from mlpprof.advise.graph import Graph
from mlpprof.advise.trace import Event
from mlpprof.instrument.semantics_table import FILL, PRODUCT

UNSURE = ("append", "print", "list", "tuple")


def dead_events(graph: Graph) -> list[Event]:
    """The events of the first recorded step whose results nothing used."""
    trace = graph.trace
    if len(trace.steps) < 2:
        return []
    end = trace.steps[1][1]
    dead: set[int] = set()
    for event in reversed(graph.first):
        if _is_dead(event, graph, dead, end):
            dead.add(event.index)
    return [event for event in graph.first if event.index in dead]


def _is_dead(event: Event, graph: Graph, dead: set[int], end: int) -> bool:
    if event.is_own or event.is_view or event.output is None or not event.output.is_array or not event.kind:
        return False
    root = event.output.root
    died = graph.trace.died.get(root)
    if died is None or died > end or _is_last_turn(event, graph):
        return False
    if event.writes and root not in event.writes:
        return False
    return all(index in dead for index in graph.read_later(event))


def _is_last_turn(event: Event, graph: Graph) -> bool:
    """Whether it is in the last recorded turn of a loop that ran on unseen, where a reader may have been."""
    for turn in event.loops:
        for run in graph.trace.loops:
            if (run.site, run.execution) == (turn.site, turn.execution):
                if run.turns > run.recorded and turn.turn >= run.recorded - 1:
                    return True
                break
    return False


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for every place where a chain of dead results begins."""
    chains: dict[tuple[int, ...], list[Event]] = defaultdict(list)
    for chain in _chains(dead_events(graph), graph):
        chains[tuple(sorted({event.site for event in chain}))] += chain  # of all turns of a loop
    found = []
    for chain in chains.values():
        seen = {(event.site, event.loops and event.loops[-1].turn, len(event.calls)) for event in chain}
        again = [e for e in graph.last if (e.site, e.loops and e.loops[-1].turn, len(e.calls)) in seen and not e.is_own]
        costly = [e for e in again if e.kind != FILL]
        if not costly:
            continue
        head = max(costly, key=lambda e: (e.kind == PRODUCT, e.effect.flop if e.effect else 0))
        seconds = graph.seconds(again)
        text = graph.text(head)
        others = sorted({graph.site(e).line for e in again if graph.site(e).file == graph.site(head).file})
        found.append(
            Candidate(
                category="dead-computation",
                site=graph.site(head),
                title=f"the result of {text} is never used",
                why=f"its values, and what is computed from them, are freed without anybody having looked at them "
                f"({'line' if len(others) == 1 else 'lines'} {', '.join(map(str, others))})",
                cure=_cure(head, graph),
                saved_s=around(seconds),
                measured="the time of these expressions in the step",
                covers=indices(again),
                related=tuple(graph.site(e) for e in again if graph.site(e).line != graph.site(head).line),
                evidence=facts(head, len(again)),
            )
        )
    return found


def _cure(head: Event, graph: Graph) -> str:
    line = graph.line_text(graph.site(head).file, graph.site(head).line)
    if head.kind == PRODUCT and head.loops:
        return f"  # only where the result is needed: not for the layer next to the input\n+ if l > 1:\n      {line}"
    return f"- {line}"


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
        assert event.output is not None
        made[event.output.root] = event.index
    return list(chains.values())
