"""Evaluation and printing within the step: what no update needs."""

from __future__ import annotations

from collections import defaultdict

from mlpprof.advise.candidate import CERTAIN, LIKELY, Candidate, around, facts, indices
from mlpprof.advise.graph import Graph
from mlpprof.advise.trace import Event
from mlpprof.instrument.semantics_table import PRODUCT

WRITERS = frozenset(("print", "write", "info", "debug", "warning", "savefig", "show", "dump", "save", "savetxt"))


def detect(graph: Graph) -> list[Candidate]:
    """Calls that print or write, and calls with products whose results reach no parameter."""
    return [*_printing(graph), *_evaluations(graph)]


def _printing(graph: Graph) -> list[Candidate]:
    by_place: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in graph.last:
        if event.name in WRITERS and not event.is_own:
            site = graph.site(event)
            by_place[site.file, site.line].append(event)
    return [
        Candidate(
            category="work-in-step",
            site=graph.site(events[0]),
            title=f"{graph.text(events[0], 50)} in every step",
            why="writing goes through the terminal or the disk, and waits for it",
            cure=f"- {graph.line_text(*place)}\n+ # once an epoch, or every so many steps",
            saved_s=around(graph.seconds(events), 0.5),
            measured="the time of the call in the step, its output going to a file",
            confidence=CERTAIN,
            covers=indices(events),
            evidence=facts(events[0], len(events)),
        )
        for place, events in by_place.items()
    ]


def useful_events(graph: Graph) -> frozenset[int]:
    """Events of the first recorded step from which a parameter of the following step comes."""
    if len(graph.trace.steps) < 2:
        return frozenset(event.index for event in graph.first)
    start, stop = graph.trace.steps[1]
    later = {value.root for event in graph.events[start:stop] for value in event.inputs if value.is_array}
    made = {e.output.root for e in graph.first if e.output is not None and e.output.is_array and not e.is_view}
    changed = {root for e in graph.first for root in e.writes}
    roots = later & (made | changed)
    numbers: set[int] = set()
    useful: set[int] = set()
    for event in reversed(graph.first):
        if event.is_own:
            continue
        output = event.output
        gives = any(root in roots for root in event.writes)
        if output is not None:
            gives = gives or (output.root in roots if output.is_array else output.content in numbers)
        if gives:
            useful.add(event.index)
            roots |= {value.root for value in event.inputs if value.is_array}
            numbers |= {value.content for value in event.inputs if not value.is_array}
    return frozenset(useful)


def _evaluations(graph: Graph) -> list[Candidate]:
    useful = useful_events(graph)
    idle = [e for e in graph.first if not e.is_own and e.kind == PRODUCT and e.index not in useful]
    calls: dict[tuple[str, int, int], list[Event]] = defaultdict(list)
    for event in idle:
        outer = next((graph.events[c] for c in event.calls if not _has_useful(graph.events[c], useful)), None)
        if outer is not None:
            calls[graph.span(outer.site)[:3]].append(event)
    found = []
    for place, products in calls.items():
        again = [e for e in graph.last if e.is_own and graph.span(e.site)[:3] == place]
        inside = [e for outer in again for e in graph.events[outer.index : outer.end] if e.kind == PRODUCT]
        if not again or not inside or not _is_forward(inside, graph):
            continue
        head = again[0]
        site = graph.site(head)
        found.append(
            Candidate(
                category="work-in-step",
                site=site,
                title=f"{graph.text(head, 50)} evaluates the network within the step",
                why=f"its {len(products)} products reach no parameter: it is work for the reader, not for the training",
                cure=f"- {graph.line_text(site.file, site.line)}\n+ # once an epoch",
                saved_s=around(graph.seconds(again)),
                measured="the time of the call in the step",
                confidence=LIKELY,
                covers=indices(again),
                evidence=facts(inside[0], len(inside)),
            )
        )
    return found


def _has_useful(call: Event, useful: frozenset[int]) -> bool:
    return any(index in useful for index in range(call.index, call.end))


def _is_forward(products: list[Event], graph: Graph) -> bool:
    """Whether the weights are multiplied by something."""
    return any(value.root in graph.parameters for event in products for value in event.inputs if value.is_array)
