"""The same function of the same values, evaluated again within a step or in every step."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from mlpprof.advise.candidate import LARGE, LEAST_SHARE, Candidate, around, by_hand, facts, indices
from mlpprof.advise.cures.recomputation import cures
from mlpprof.advise.editing.computed_once import once
from mlpprof.advise.repeats import is_constant, repeats_of, second_passes
from mlpprof.instrument.numpy_costs import ARITHMETIC, EVALUATION, PRODUCT
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

LEAST_SHARE_OF_ARITHMETIC = 0.03
"""Arithmetic that is written twice must take this share of the step to be reported, because the code is often easier
to read that way."""

LEAST_SHARE_OF_EVERY_STEP = 0.05
"""What is computed again in every step must take this share of the step to be reported."""

COMPARISONS = frozenset(("greater", "greater_equal", "less", "less_equal"))
"""A mask of booleans has a name of its own in most programs, so it is easy to keep."""

SHORT_S = 5e-6
"""The clock takes a good part of the measured time of an expression that is shorter than this."""


@dataclass(frozen=True)
class Repeat:
    """An evaluation on the same values as a first one. parts: repeats within its expression."""

    again: Event
    first: Event
    parts: list[Event]

    @property
    def events(self) -> list[Event]:
        """All events that are not needed."""
        return [self.again, *self.parts]


def detect(graph: Graph) -> list[Candidate]:
    """Values that are computed again within a step, then values that are computed again in every step."""
    return [*_within_a_step(graph), *_in_every_step(graph)]


def _within_a_step(graph: Graph) -> list[Candidate]:
    repeats = repeats_of(graph)
    in_second_pass = frozenset(index for one in second_passes(graph, repeats) for index in one.covers)
    outer = [one for one in _outermost(repeats, graph) if one.again.index not in in_second_pass]
    stuck = {one.again.index for one in outer if _hides_its_parts(one, outer, graph)}
    if stuck:
        rest = [pair for pair in repeats if pair[0].index not in stuck]
        outer = [one for one in _outermost(rest, graph) if one.again.index not in in_second_pass]
    by_place: dict[tuple[str, int, str], list[Repeat]] = defaultdict(list)
    for one in outer:
        site = graph.site(one.again)
        by_place[site.file, site.line, _what(one.again)].append(one)
    pairs = [(one.again, one.first) for one in outer]
    return [_candidate(of_place, pairs, graph) for of_place in by_place.values()]


def _hides_its_parts(one: Repeat, repeats: list[Repeat], graph: Graph) -> bool:
    """Whether an expression cannot be edited but has repeats within it that perhaps can.

    In `sigmoid(z) * (1 - sigmoid(z))`, a loss may have computed `1 - A` before, in a function that keeps nothing.
    """
    if not one.parts or not _is_arithmetic(one.again):
        return False
    return not cures([(one.again, one.first)], [(each.again, each.first) for each in repeats], graph)


def _candidate(repeats: list[Repeat], pairs: list[tuple[Event, Event]], graph: Graph) -> Candidate:
    edits = cures([(one.again, one.first) for one in repeats], pairs, graph)
    staying = [one.again for one in repeats if edits and one.again.index in edits[0][1]]
    if len(staying) < len(repeats):  # where the first evaluation is out of reach, the second one takes its place
        repeats = [_after(one, staying) for one in repeats if one.again not in staying]
    head = max(repeats, key=lambda one: graph.seconds(one.events))
    again, first = head.again, head.first
    events = [event for one in repeats for event in one.events]
    seconds = graph.seconds(events)
    here, there = graph.site(again), graph.site(first)
    text = graph.text(again)
    where = graph.place_of(there).words if there.line != here.line else "the same line"
    return Candidate(
        category="recomputation",
        site=here,
        title=f"`{text}` computes again what {where} has already computed",
        why=f"`{graph.text(first)}` in {graph.place(there)} has already computed {_what(again)} of exactly these "
        "values. Nothing has changed them since then.",
        cure=_words(again, first, bool(edits), graph),
        cures=tuple(cure for cure, _ in edits),
        saved_s=(0.6 * seconds, 1.1 * seconds) if seconds < SHORT_S * len(events) else around(seconds),
        measured="the time of the repeated expressions in the step",
        covers=indices(events),
        related=(there,),
        evidence=facts(again, len(repeats)),
        least_share=LEAST_SHARE_OF_ARITHMETIC if all(map(_is_arithmetic, head.events)) else LEAST_SHARE,
    )


def _after(one: Repeat, staying: list[Event]) -> Repeat:
    """The repeat, as one of an evaluation that stays in the same call and the same turns, if there is one."""
    same = [event for event in staying if (event.calls, event.loops) == (one.again.calls, one.again.loops)]
    return replace(one, first=same[0]) if same else one


def _is_arithmetic(event: Event) -> bool:
    return not event.is_own and event.kind == ARITHMETIC and event.name not in COMPARISONS


def _words(again: Event, first: Event, is_edit: bool, graph: Graph) -> str:
    if is_edit:
        return f"Keep the value of `{graph.text(first, 40)}` in {graph.place(graph.site(first))}, and use it again."
    name = _what(again)
    sentences = [
        f"keep the result of `{graph.text(first, 40)}` in {graph.place(graph.site(first))}, and use it in "
        f"{graph.place(graph.site(again))}, which computes the same."
    ]
    if name in ("sigmoid", "expit", "tanh") or name.endswith("sigmoid"):
        derivative = "`A * (1 - A)`" if "tanh" not in name else "`1 - A * A`"
        sentences.append(
            f"If you need it for the derivative: the activation A alone gives the derivative as {derivative}."
        )
    sentences.append("Check first that nothing writes into the result that you keep.")
    return by_hand(*sentences)


def _what(event: Event) -> str:
    return str(getattr(event.function, "__name__", event.name)) if event.is_own else event.name


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


def _in_every_step(graph: Graph) -> list[Candidate]:
    """One candidate for every call in which it happens, at its most expensive expression."""
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
    edits = once(events, graph)
    return Candidate(
        category="recomputation",
        site=here,
        title=f"`{graph.text(head)}` computes the same result in every step",
        why="Its operands are the same arrays with the same values in one step and in the next. They depend on no "
        "parameter and on no choice of a batch.",
        cure=f"Compute `{graph.text(head)}` of {graph.place(here)} once, and use that result in every step."
        if edits
        else by_hand(
            f"compute `{graph.text(head)}` of {graph.place(here)} once before the training, and use that result.",
            "Check first that no step changes the values of its operands.",
        ),
        cures=tuple(edits),
        saved_s=around(graph.seconds(events)),
        measured=f"the time of {len(events)} expressions in the step",
        covers=indices(events),
        related=tuple(others.values()),
        evidence=facts(head, len(events)),
        least_share=LEAST_SHARE_OF_EVERY_STEP,
    )


def _unchanging(graph: Graph) -> list[Event]:
    """The events of the last step that compute what the step before has computed.

    Both steps have evaluated them on arrays that lie at the same place with the same content and that neither step has
    written, or on what was made of such arrays in the same way.
    """
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
        is_large = max(value.size for value in arrays) >= LARGE
        is_work = event.kind in (PRODUCT, EVALUATION, ARITHMETIC) and not event.is_outside
        if is_work and is_large and not is_constant(event):
            found.append(event)
    return found
