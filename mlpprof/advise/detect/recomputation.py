"""The same function of the same values, evaluated again; also a whole second forward pass.

Values are compared, not names. A row of ones that was stacked onto an array in between is seen through. Two samples
that happen to be equal look the same, so both evaluations must be in the same turn of every loop that they share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from mlpprof.advise.candidate import LEAST_SHARE, Candidate, around, by_hand, facts, indices
from mlpprof.advise.graph import Graph, Span
from mlpprof.instrument.numpy_costs import ARITHMETIC, EVALUATION, PRODUCT, REDUCTIONS
from mlpprof.programs.record.trace import Event

LEAST_SIZE = 8
"""Elements: less is not worth keeping."""

LEAST_OF_ARITHMETIC = 0.03
"""Of the step: a product with a number that is written twice is often easier to read than a name for it."""

SMALL_S = 5e-6
"""An expression so short is overestimated: the clock around it is a good part of its time."""


@dataclass(frozen=True)
class Repeat:
    """An evaluation that has a first one on the same values. parts: repeats within its expression, which go with it."""

    again: Event
    first: Event
    parts: list[Event]

    @property
    def events(self) -> list[Event]:
        """All that need not be done again."""
        return [self.again, *self.parts]


def _same_values(graph: Graph) -> list[Candidate]:
    """Second forward passes, then whatever else is evaluated again."""
    repeats = _repeats(graph)
    found = _second_forward(graph, repeats)
    taken = frozenset().union(*(one.covers for one in found)) if found else frozenset()
    by_place: dict[tuple[str, int, str], list[Repeat]] = defaultdict(list)
    for one in _outermost(repeats, graph):
        if one.again.index not in taken:
            site = graph.site(one.again)
            by_place[site.file, site.line, _what(one.again)].append(one)
    for of_place in by_place.values():
        found.append(_candidate(of_place, graph))
    return found


def _candidate(repeats: list[Repeat], graph: Graph) -> Candidate:
    head = max(repeats, key=lambda one: graph.seconds(one.events))
    again, first = head.again, head.first
    events = [event for one in repeats for event in one.events]
    seconds = graph.seconds(events)
    here, there = graph.site(again), graph.site(first)
    text = graph.text(again)
    where = f"of line {there.line}" if there.line != here.line else "of the same line"
    return Candidate(
        category="recomputation",
        site=here,
        title=f"{text} is evaluated again on the values {where}",
        why=f"{_what(again)} of exactly these values is known since {graph.shown(there.file)}:{there.line} "
        f"({graph.text(first)}): nothing has changed them in between",
        cure=_cure(again, first, graph),
        saved_s=(0.6 * seconds, 1.1 * seconds) if seconds < SMALL_S * len(events) else around(seconds),
        measured="the time of the repeated expressions in the step",
        covers=indices(events),
        related=(there,),
        evidence=facts(again, len(repeats)),
        least_share=LEAST_OF_ARITHMETIC if all(map(_is_arithmetic, head.events)) else LEAST_SHARE,
    )


def _is_arithmetic(event: Event) -> bool:
    return not event.is_own and event.kind == ARITHMETIC


def _cure(again: Event, first: Event, graph: Graph) -> str:
    name = _what(again)
    sentences = [
        f"keep the result of `{graph.text(first, 40)}` of {graph.place(graph.site(first))}, and use it in "
        f"{graph.place(graph.site(again))}, where the same is evaluated again."
    ]
    if name in ("sigmoid", "expit", "tanh") or name.endswith("sigmoid"):
        derivative = "`A * (1 - A)`" if "tanh" not in name else "`1 - A * A`"
        sentences.append(f"If it is there for the derivative, the activation A alone gives that: {derivative}.")
    sentences.append("Check first that nothing writes into the result that is kept.")
    return by_hand(*sentences)


def _what(event: Event) -> str:
    return str(getattr(event.function, "__name__", event.name)) if event.is_own else event.name


def _repeats(graph: Graph) -> list[tuple[Event, Event]]:
    """(again, first) of the last step."""
    known: dict[Hashable, list[Event]] = defaultdict(list)
    found = []
    for event in graph.last:
        if not _is_worthwhile(event):
            continue
        keys = _keys(event)
        first = next((e for key in keys for e in known[key] if _is_same_turn(event, e) and e.end <= event.index), None)
        if first is not None and not is_constant(event) and _computes(event, graph):
            found.append((event, first))
        for key in keys:
            known[key].append(event)
    return found


def _computes(event: Event, graph: Graph) -> bool:
    """Whether an operation, or something within a call, computes; numbers are not recorded one by one."""
    if not event.is_own or not any(value.is_array for value in event.inputs):
        return True
    return any(e.kind in (PRODUCT, EVALUATION, ARITHMETIC) for e in graph.events[event.index + 1 : event.end])


def _is_worthwhile(event: Event) -> bool:
    arrays = [value for value in event.inputs if value.is_array]
    if event.is_own and event.inputs and not arrays:
        return event.output is not None and not event.output.is_array  # a function of single numbers
    if not arrays or event.writes or event.is_view or max(value.size for value in arrays) < LEAST_SIZE:
        return False
    if event.is_own:
        return event.output is not None
    # what only moves elements, and what a generator of random numbers gives, is no function of values
    return event.kind in (PRODUCT, EVALUATION, ARITHMETIC) and event.output is not None


def _keys(event: Event) -> list[Hashable]:
    """What says that two events are the same; of elementwise functions also without a row or a column."""
    contents = tuple(value.content for value in event.inputs)
    if event.is_own:
        assert event.output is not None
        code = getattr(getattr(event.function, "__func__", event.function), "__code__", id(event.function))
        return [(code, contents, event.output.content)]
    keys: list[Hashable] = [(event.name, contents)]
    if event.kind == EVALUATION and event.name not in REDUCTIONS and len(event.inputs) == 1:
        keys += [(event.name, (trim,)) for trim in event.inputs[0].trims]
    return keys


def _is_same_turn(one: Event, other: Event) -> bool:
    """Whether no loop that both are in has turned between them."""
    turns = {(turn.site, turn.execution): turn.turn for turn in other.loops}
    return all(turns.get((turn.site, turn.execution), turn.turn) == turn.turn for turn in one.loops)


def is_constant(event: Event) -> bool:
    """Whether all elements of an operand are the same: zeros are equal without a common origin."""
    operands = (getattr(event.function, "__self__", None), *event.operands)  # of a method its array, too
    arrays = [x for x in operands if isinstance(x, np.ndarray) and x.size > 1 and x.dtype.kind in "fiub"]
    with np.errstate(all="ignore"):
        return any(bool(np.all(x == x.flat[0])) for x in arrays)


def _outermost(pairs: list[tuple[Event, Event]], graph: Graph) -> list[Repeat]:
    """Without those inside a call that is itself repeated; parts of a repeated expression go with the whole."""
    again = {event.index for event, _ in pairs}
    found: list[Repeat] = []
    for event, first in sorted(pairs, key=lambda pair: -_width(pair[0], graph)):
        if any(call in again for call in event.calls):
            continue
        whole = next((one for one in found if _is_part(event, one.again, graph)), None)
        if whole is not None:
            whole.parts.append(event)
        else:
            found.append(Repeat(event, first, []))
    return found


def _is_part(event: Event, whole: Event, graph: Graph) -> bool:
    """Whether an expression stands within another, and was evaluated for it."""
    inner, outer = graph.site(event), graph.site(whole)
    starts_within = (outer.line, outer.column) <= (inner.line, inner.column)
    ends_within = (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)
    is_within = inner.file == outer.file and starts_within and ends_within
    return is_within and event.calls == whole.calls and event.loops[: len(whole.loops)] == whole.loops


def _width(event: Event, graph: Graph) -> int:
    site = graph.site(event)
    return (site.end_line - site.line) * 1000 + site.end_column - site.column


def _second_forward(graph: Graph, repeats: list[tuple[Event, Event]]) -> list[Candidate]:
    """A call that multiplies the data by the weights once more: with the same weights, or with those just updated."""
    again = {event.index: first for event, first in repeats}
    products = [e for e in graph.last if e.kind == PRODUCT and not e.is_own]
    first_of: dict[tuple[int, tuple[int, ...]], Event] = {}
    hits: dict[Span, dict[int, Event]] = defaultdict(dict)
    starts: dict[Span, Event] = {}
    for event in products:
        data = [v for v in event.inputs if v.is_array and v.root not in graph.parameters and len(v.shape) == 2]
        weights = [v for v in event.inputs if v.is_array and v.root in graph.parameters]
        if len(data) != 1 or not weights:
            continue
        key = (data[0].content, weights[0].shape)
        before = first_of.setdefault(key, event)
        if before is not event and _is_same_turn(event, before) and _has_its_weights(event, before, graph):
            call = _own_branch(event, before)
            if call is not None:
                place = graph.span(graph.events[call].site)  # a loop makes the same call many times
                hits[place].setdefault(call, event)
                starts.setdefault(place, before)
    found = []
    for place, of_calls in hits.items():
        calls, events = [graph.events[call] for call in of_calls], [*of_calls.values()]
        outer = calls[0]
        inside = [e for e in graph.events[outer.index : outer.end] if e.kind == PRODUCT]
        if len(inside) < 2 or not all(_is_forward(e, graph) for e in inside):
            continue  # it makes gradients too, and what it repeats of the first pass is told by itself
        seconds = graph.seconds(calls)
        here, there = graph.site(outer), graph.site(starts[place])
        is_same = events[0].index in again
        found.append(
            Candidate(
                category="second-forward",
                site=here,
                title=f"{graph.text(outer)} propagates the batch forward a second time",
                why=f"the step has already multiplied this batch by the weights in line {there.line}"
                + ("" if is_same else "; this pass, with the new weights, serves no update"),
                cure=by_hand(
                    f"take what {graph.place(here)} needs from the activations of the first pass, and leave out the "
                    "second one.",
                    "Check first that no line needs what the second pass stores.",
                ),
                saved_s=around(seconds),
                measured="the time of the call in the step",
                covers=indices(calls),
                related=(there,),
                evidence=facts(events[0], len(events)),
            )
        )
    return found


def _is_forward(event: Event, graph: Graph) -> bool:
    """Whether data are multiplied by weights, and not data by data, as for a gradient."""
    of_weights = [value.root in graph.parameters for value in event.inputs if value.is_array]
    return any(of_weights) and not all(of_weights)


def _has_its_weights(event: Event, before: Event, graph: Graph) -> bool:
    """Whether the weights are those of the first pass, or what the step has made of them: not another network's."""
    roots = {value.root for value in before.inputs}
    return any(
        value.root in roots or any(maker.index > before.index for maker in graph.makers(value.root, event.index))
        for value in event.inputs
        if value.root in graph.parameters
    )


def _own_branch(event: Event, before: Event) -> int | None:
    """The outermost call that the second pass is in and the first is not."""
    return next((call for call in event.calls if call not in before.calls), None)


# The same function of the same values in every step: of data that no step changes, so that once would do.
#
# Both recorded steps have evaluated it, on arrays that lie where they lay and hold what they held, which neither step
# has
# written, or on what was made of such arrays in the same way. So it depends on no parameter and on no batch.


LEAST_SIZE_IN_EVERY_STEP = 1024
"""Elements of the largest operand: a small one is equal by chance, or not worth a name."""

LEAST_SHARE_IN_EVERY_STEP = 0.05
"""Of the step, of all that one function makes of them."""


def _in_every_step(graph: Graph) -> list[Candidate]:
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
    return [_every_step_candidate(events, graph) for events in by_call.values()]


def _every_step_candidate(events: list[Event], graph: Graph) -> Candidate:
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
        least_share=LEAST_SHARE_IN_EVERY_STEP,
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
        is_large = max(value.size for value in arrays) >= LEAST_SIZE_IN_EVERY_STEP
        is_work = event.kind in (PRODUCT, EVALUATION, ARITHMETIC) and not event.is_outside
        if is_work and is_large and not is_constant(event):
            found.append(event)
    return found


def detect(graph: Graph) -> list[Candidate]:
    """Equal values within a step, then values that are equal in every step."""
    return [*_same_values(graph), *_in_every_step(graph)]
