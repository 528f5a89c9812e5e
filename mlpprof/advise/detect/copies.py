"""Copies that protect nothing: neither the copy nor what it was taken from is written to while the copy lives."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from mlpprof.advise.candidate import Candidate, around, by_hand, facts, indices, neighbours
from mlpprof.advise.graph import Graph, Span
from mlpprof.advise.trace import Event

CURES = {
    "astype": "`astype` with `copy=False` copies only where the dtype differs",
    "copy": "the array itself would do in place of its copy",
    "array": "`asarray` in place of `array` copies only what is no array yet",
    "flatten": "`ravel` in place of `flatten` copies only where the elements are scattered",
}

LEAST_SIZE = 1_024
"""Elements of a copy: of less the call costs, and not the copying."""


def needless_copies(graph: Graph, changed: frozenset[int]) -> list[Candidate]:
    """One candidate for every few lines that copy, if all that they copy in a step is safe without.

    changed: arrays that other findings want changed in place.
    """
    if len(graph.trace.steps) < 2 or graph.trace.is_blind:
        return []
    spans: dict[Span, list[Event]] = defaultdict(list)
    for event in graph.first:
        if _is_copy(event):
            spans[graph.span(event.site)].append(event)
    safe = {span for span, events in spans.items() if all(_protects_nothing(event, graph) for event in events)}
    found = [event for event in graph.last if graph.span(event.site) in safe and _is_copy(event)]
    risky = {graph.span(event.site) for event in found if _roots(event) & changed}
    found = [event for event in found if graph.span(event.site) not in risky]
    return [_candidate(group, graph) for group in neighbours(found, graph.site)]


def _is_copy(event: Event) -> bool:
    """Whether it gives the same elements of the same dtype in the same order once more."""
    output = event.output
    if event.name not in CURES or event.is_own or event.is_view or output is None or event.writes:
        return False
    if not event.inputs or output.size < LEAST_SIZE or event.inputs[0].root == output.root:
        return False
    source = event.inputs[0]
    is_alike = (source.dtype, source.is_matrix) == (output.dtype, output.is_matrix) and source.size == output.size
    if event.name == "flatten":
        return is_alike and source.order == "C"
    return is_alike and source.shape == output.shape and source.order == output.order != "?"


def _roots(event: Event) -> set[int]:
    """The buffers of a copy and of what it was taken from."""
    return {event.inputs[0].root} | ({event.output.root} if event.output is not None else set())


def _protects_nothing(event: Event, graph: Graph) -> bool:
    """Whether the copy was gone by the end of the next step, or used in it, and both were left alone till then."""
    assert event.output is not None
    held = _roots(event)
    start, stop = graph.trace.steps[1]
    end = graph.trace.died.get(event.output.root)
    if end is None and any(index >= start for index in graph.read_later(event)):
        end = stop  # the recording itself holds what the last step has read
    if end is None or end > stop:
        return False
    if any(graph.is_taken(root, event) for root in held):
        return False
    if any(event.index <= index < end for root in held for index in graph.trace.stores.get(root, ())):
        return False
    for other in graph.events[event.index + 1 : end]:
        is_unknown = other.effect is None and not other.is_own
        if held & set(other.writes) or (is_unknown and held & {value.root for value in other.inputs}):
            return False
    # the later turns of a long loop were not seen
    return not any(run.is_cut and run.first_event < end and event.index < run.end for run in graph.trace.loops)


def _candidate(events: list[Event], graph: Graph) -> Candidate:
    head = max(events, key=lambda event: graph.seconds([event]))
    sites = [graph.site(event) for event in events]
    size = sum(event.output.nbytes for event in events if event.output is not None)
    return Candidate(
        category="temporaries",
        site=replace(sites[0], end_line=max(site.end_line for site in sites)),
        title=f"{graph.text(head, 50)} copies an array that nobody changes, {size / 1e6:.1f} MB a step",
        why="it is of this dtype and order already, and neither the copy nor the array that it was taken from is "
        "written to for as long as the copy is held",
        cure=by_hand(
            f"in {graph.place(graph.site(head))} {CURES[head.name]}.",
            "Check first that nothing writes into the array or into its copy in steps other than the two recorded.",
        ),
        saved_s=around(graph.seconds(events)),
        measured="the time of the copying in the step",
        covers=indices(events),
        evidence={**facts(head, len(events)), "bytes_allocated": size},
    )
