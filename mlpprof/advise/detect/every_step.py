"""The same function of the same values in every step: of data that no step changes, so that once would do.

Both recorded steps have evaluated it, on arrays that lie where they lay and hold what they held, which neither step has
written, or on what was made of such arrays in the same way. So it depends on no parameter and on no batch.
"""

from __future__ import annotations

from collections import defaultdict

from mlpprof.advise.candidate import Candidate, around, by_hand, facts, indices
from mlpprof.advise.detect.repeats import is_constant
from mlpprof.advise.graph import Graph
from mlpprof.advise.trace import Event
from mlpprof.instrument.semantics_table import ARITHMETIC, EVALUATION, PRODUCT

LEAST_SIZE = 1024
"""Elements of the largest operand: a small one is equal by chance, or not worth a name."""

LEAST_SHARE = 0.05
"""Of the step, of all that one function makes of them."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for every call in which it happens, at its dearest expression."""
    if len(graph.trace.steps) < 2:
        return []
    by_call: dict[tuple[str, int], list[Event]] = defaultdict(list)
    known: set[tuple[object, ...]] = set()
    for event in _unchanging(graph):
        key = (event.name, tuple(value.content for value in event.inputs))
        if key not in known:  # else it is a repetition within the step
            call = graph.events[event.calls[-1]].site if event.calls else -1
            by_call[graph.site(event).file, call].append(event)
        known.add(key)
    return [_candidate(events, graph) for events in by_call.values()]


def _candidate(events: list[Event], graph: Graph) -> Candidate:
    head = max(events, key=lambda event: graph.seconds([event]))
    here = graph.site(head)
    others = {graph.site(e).line: graph.site(e) for e in events if graph.site(e).line != here.line}
    return Candidate(
        category="recomputation",
        site=here,
        title=f"{graph.text(head)} is evaluated in every step on values that no step changes",
        why="its operands are the same array with the same values in one step and in the next, and depend on no "
        "parameter and on no choice of a batch",
        cure=by_hand(
            f"compute `{graph.text(head)}` of {graph.place(here)} once, before the training, and use its result there.",
            "Check first that nothing changes the values of its operands in any step.",
        ),
        saved_s=around(graph.seconds(events)),
        measured=f"the time of {len(events)} expressions in the step",
        covers=indices(events),
        related=tuple(others.values()),
        evidence=facts(head, len(events)),
        least_share=LEAST_SHARE,
    )


def _unchanging(graph: Graph) -> list[Event]:
    """The events of the last step that compute what the step before has computed, of data that stays."""
    written = {root for event in graph.events for root in event.writes}
    start, stop = graph.trace.steps[0]
    before = graph.events[start:stop]
    made = {e.output.root for e in graph.events if e.output is not None and e.output.is_array and not e.is_view}
    there = {(v.root, v.content) for e in before for v in e.inputs if v.is_array}
    results = {
        (graph.span(e.site), e.name, tuple(v.content for v in e.inputs), e.output.content)
        for e in before
        if e.output is not None and not e.is_own
    }
    staying: set[int] = set()
    found = []
    for event in graph.turn:
        output = event.output
        if event.is_own or output is None or event.writes:
            continue
        arrays = [value for value in event.inputs if value.is_array]
        is_same = bool(arrays) and all(
            value.root not in written
            and (value.root in staying or (value.root not in made and (value.root, value.content) in there))
            for value in arrays
        )
        key = (graph.span(event.site), event.name, tuple(v.content for v in event.inputs), output.content)
        if not is_same or event.is_view or key not in results:
            continue
        staying.add(output.root)
        is_large = max(value.size for value in arrays) >= LEAST_SIZE
        is_work = event.kind in (PRODUCT, EVALUATION, ARITHMETIC) and not event.is_outside
        if is_work and is_large and not is_constant(event):
            found.append(event)
    return found
