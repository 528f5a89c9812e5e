"""Evaluation and printing within the step, which no update needs."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from mlpprof.advise.candidate import Candidate, around, by_hand, edit_in_words, facts, indices
from mlpprof.advise.cures.shown_attributes import shown_attributes, under_the_tests
from mlpprof.advise.cures.work_in_step import after_the_loop, cure, rarely_read, unread_numbers, without
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.advise.tested import tested_events
from mlpprof.advise.unused import unused_events
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

LEAST_SHARE_OF_PRINTING = 0.003
"""Printing must take this share of the step to be reported. Here it goes to a file; a terminal is many times slower."""

WRITERS = frozenset(("print", "write", "info", "debug", "warning", "savefig", "show", "dump", "save", "savetxt"))

Weights = tuple[frozenset[int], frozenset[int]]
"""Two sets of buffers: those that are certainly weights, and the same with what the makers of weights have made."""


def detect(graph: Graph) -> list[Candidate]:
    """Calls that print or write, and calls with products whose results reach no parameter."""
    return [
        *_printing(graph),
        *_evaluations(graph),
        *_rarely_read(graph),
        *_shown_attributes(graph),
        *_unread_numbers(graph),
    ]


def _unread_numbers(graph: Graph) -> Iterator[Candidate]:
    """Losses and accuracies that no update needs, and that at most the code after the loop reads."""
    for one in unread_numbers(graph):
        head = max(one.events, key=lambda event: graph.seconds([event]))
        site = graph.site(one.events[0])
        edit = without(one, graph)
        reader = "only the code after the loop reads it" if one.is_later else "nothing reads it"
        yield Candidate(
            category="work-in-step",
            site=site,
            title=f"`{one.name}` is computed in every step, and {reader}",
            why=f"No update needs `{one.name}`.",
            cure=f"{'Compute' if one.is_later else 'Leave out'} `{one.name}` of {graph.place(site)}"
            f"{' after the loop' if one.is_later else ''}."
            if edit is not None
            else by_hand(
                f"compute `{one.name}` of {graph.place(site)} after the loop, with the arrays of its last turn."
            ),
            cures=(edit,) if edit is not None else (),
            saved_s=around(graph.seconds(one.events)),
            measured="the time of the expressions in the step",
            covers=indices(one.events),
            evidence=facts(head, len(one.events)),
        )


def _rarely_read(graph: Graph) -> Iterator[Candidate]:
    """Losses and the like that are computed in every step, and read only in every hundredth, for instance."""
    for one in rarely_read(graph):
        if not one.events:
            continue
        head = one.events[0]
        edit = cure(one, graph)
        place = graph.place(graph.site(head))
        file = graph.site(head).file
        readers = " or ".join(graph.place_of_line(file, reader.lineno).words for reader in one.readers)
        (name,) = (ast.unparse(target) for target in one.statement.targets)
        words = f"compute `{name}` of {place} only if the test in {readers} is true."
        yield Candidate(
            category="work-in-step",
            site=graph.site(head),
            title=f"`{graph.text(head, 50)}` is computed in every step, and read only where the test in {readers} is "
            "true",
            why=f"Nothing but the statements under the test in {readers} reads `{name}`. They did not run in the "
            "recorded steps.",
            cure=edit_in_words(edit, words),
            cures=(edit,) if edit is not None else (),
            saved_s=around(graph.seconds(one.events)),
            measured="the time of the expression in the step",
            covers=indices(one.events),
            related=(),
            evidence=facts(head, len(one.events)),
        )


def _shown_attributes(graph: Graph) -> Iterator[Candidate]:
    """Losses that a method stores in every step, and that only some steps show."""
    for one in shown_attributes(graph):
        edit = under_the_tests(one, graph)
        head = max(one.events, key=lambda event: graph.seconds([event]))
        site = graph.site(one.events[0])
        code = code_of(graph)
        readers = [graph.place_of_line(code.file(reader), reader.lineno) for reader in one.readers]
        tests = " or ".join(reader.text for reader in readers)
        yield Candidate(
            category="work-in-step",
            site=site,
            title=f"`{one.name}` is computed in every step, and read only where the test in {tests} is true",
            why=f"Only the statements under that test read `{one.name}`. They did not run in the recorded step.",
            cure=edit_in_words(
                edit, f"compute `{one.name}` of {graph.place(site)} only if the test in {tests} is true."
            ),
            cures=(edit,) if edit is not None else (),
            saved_s=around(graph.seconds(one.events)),
            measured="the time of the expressions in the step",
            covers=indices(one.events),
            evidence=facts(head, len(one.events)),
        )


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
            title=f"`{graph.text(events[0], 50)}` runs in every step",
            why="The step waits for the terminal or the disk.",
            cure=by_hand(f"run {graph.place(graph.site(events[0]))} once per epoch, or every hundred steps."),
            saved_s=around(graph.seconds(events), 0.5),
            measured="the time of the call in the step, with its output in a file",
            covers=indices(events),
            evidence=facts(events[0], len(events)),
            least_share=LEAST_SHARE_OF_PRINTING,
        )
        for events in by_place.values()
    ]


def useful_events(graph: Graph) -> frozenset[int]:
    """Events of the first recorded step that the parameters of the following step, or a test, depend on."""
    tested = tested_events(graph)  # a test may accept the step, or end the training
    useful = _useful(graph, [], frozenset())
    products = frozenset(index for index in useful if graph.events[index].kind == PRODUCT)
    # Single numbers are not followed through a call, so all of it is needed, unless it trains as well.
    calls = [event for event in tested if event.is_own and not _has_useful(event, products)]
    deciding = frozenset(index for event in calls for index in range(event.index, event.end))
    return _useful(graph, tested, deciding | {event.index for event in tested}) if tested else useful


def _useful(graph: Graph, tested: list[Event], deciding: frozenset[int]) -> frozenset[int]:
    """The events that the following step depends on, or that tested numbers or the deciding events depend on."""
    if len(graph.trace.steps) < 2 or graph.trace.is_blind:
        return frozenset(event.index for event in graph.first)
    start, stop = graph.trace.steps[1]
    later = {value.root for event in graph.events[start:stop] for value in event.inputs if value.is_array}
    made = {e.output.root for e in graph.first if e.output is not None and e.output.is_array and not e.is_view}
    changed = {root for e in graph.first for root in e.writes}
    roots = later & (made | changed | graph.trace.stores.keys())
    numbers = {event.output.content for event in tested if event.output is not None and not event.output.is_array}
    useful: set[int] = set()
    unknown = frozenset(graph.of_unknown_origin)
    first_taker = len(graph.events)  # a useful one of these may have read any array
    for event in reversed(graph.first):
        if event.is_own:
            continue
        output = event.output
        # Nothing is known of what later turns of a loop read.
        gives = graph.is_cut_short(event) or event.is_opaque or event.index in deciding
        gives = gives or any(root in roots or graph.is_taken(root, event) for root in event.writes)
        if output is not None:
            # Single numbers that are computed and then put into arrays are not followed.
            stored = max((index for root in roots for index in graph.trace.stores.get(root, ())), default=-1)
            if output.is_array:
                gives = gives or output.root in roots or graph.is_taken(output.root, event)
                gives = gives or graph.is_read_between(output.root, event, stored)
                gives = gives or (
                    first_taker < len(graph.events) and graph.trace.died.get(output.root, first_taker) >= first_taker
                )
            else:
                gives = gives or output.content in numbers or stored > event.index
        if gives:
            useful.add(event.index)
            if event.index in unknown:
                first_taker = event.index
            roots |= {value.root for value in event.inputs if value.is_array}
            numbers |= {value.content for value in event.inputs if not value.is_array}
    return frozenset(useful)


def _evaluations(graph: Graph) -> list[Candidate]:
    useful, weights = useful_events(graph), _weights(graph)
    dead = {event.index for event in unused_events(graph)}  # nothing reads them, so they are no evaluation
    idle = [e for e in graph.first if not e.is_own and e.kind == PRODUCT and e.index not in useful | dead]
    calls: dict[tuple[str, int, int], list[Event]] = defaultdict(list)
    loose: list[Event] = []
    for event in idle:
        outer = next((graph.events[c] for c in event.calls if not _has_useful(graph.events[c], useful)), None)
        if outer is not None:
            calls[graph.span(outer.site)[:3]].append(event)
        else:
            loose.append(event)
    # A product that the step needs in other executions belongs to the passes through the network.
    needed = {graph.span(graph.events[index].site) for index in useful}
    loose = [event for event in loose if graph.span(event.site) not in needed]
    found = []
    for place, products in calls.items():
        again = [e for e in graph.last if e.is_own and graph.span(e.site)[:3] == place]
        inside = [e for outer in again for e in graph.events[outer.index : outer.end] if e.kind == PRODUCT]
        if not again or not inside or not _is_forward(inside, weights):
            continue
        head = again[0]
        site = graph.site(head)
        edit = _moved(head, graph)
        found.append(
            Candidate(
                category="work-in-step",
                site=site,
                title=f"`{graph.text(head, 50)}` evaluates the network in every step",
                why=f"This computes accuracy or loss only: no parameter depends on its {len(products)} "
                f"{'product' if len(products) == 1 else 'products'}. You can do it once per epoch.",
                cure=_once_an_epoch(head, edit, graph),
                cures=(edit,) if edit is not None else (),
                saved_s=around(graph.seconds(again)),
                measured="the time of the call in the step",
                covers=indices(again),
                evidence=facts(inside[0], len(inside)),
            )
        )
    return [*found, *_loose_evaluation(loose, useful, weights, graph)]


def _moved(head: Event, graph: Graph) -> Cure | None:
    node = code_of(graph).node(head)
    return after_the_loop(code_of(graph).statement(node), code_of(graph)) if node is not None else None


def _once_an_epoch(head: Event, edit: Cure | None, graph: Graph) -> str:
    if edit is not None:
        return (
            f"Run `{graph.text(head, 50)}` of {graph.place(graph.site(head))} once, after the loop over the batches. "
            "What it prints then comes once per epoch."
        )
    return by_hand(
        f"run `{graph.text(head, 50)}` of {graph.place(graph.site(head))} once per epoch, not in every step.",
        "Check first that no update, no learning rate and no stopping rule depends on it.",
    )


def _loose_evaluation(products: list[Event], useful: frozenset[int], weights: Weights, graph: Graph) -> list[Candidate]:
    """Products in the step itself that no parameter depends on, with what is computed from them."""
    forward = {graph.span(e.site) for e in graph.last if e.kind == PRODUCT and _is_forward([e], weights)}
    heads = [e for e in products if graph.span(e.site) in forward]
    if not heads:
        return []
    roots = {e.output.root for e in heads if e.output is not None}
    spans = {graph.span(e.site) for e in heads}
    for event in graph.first:
        if event.is_own or event.index in useful or event.index <= heads[0].index:
            continue
        if roots & {value.root for value in event.inputs if value.is_array}:
            spans.add(graph.span(event.site))
            if event.output is not None and event.output.is_array:
                roots.add(event.output.root)
    again = [e for e in graph.last if graph.span(e.site) in spans]
    head = next((e for e in again if graph.span(e.site) == graph.span(heads[0].site)), None)
    if head is None:
        return []
    site = graph.site(head)
    edit = _moved(head, graph)
    return [
        Candidate(
            category="work-in-step",
            site=site,
            title=f"`{graph.text(head, 50)}` evaluates the network in every step",
            why="This computes accuracy or loss only: no parameter depends on it. You can do it once per epoch.",
            cure=_once_an_epoch(head, edit, graph),
            cures=(edit,) if edit is not None else (),
            saved_s=around(graph.seconds(again)),
            measured="the time of these expressions in the step",
            covers=indices(again),
            related=tuple(
                {graph.site(e).line: graph.site(e) for e in again if graph.site(e).line != site.line}.values()
            ),
            evidence=facts(head, len(heads)),
        )
    ]


def _has_useful(call: Event, useful: frozenset[int]) -> bool:
    return any(index in useful for index in range(call.index, call.end))


def _is_forward(products: list[Event], weights: Weights) -> bool:
    """Whether something that is not a weight is multiplied by weights; the norm of the weights is no forward pass."""
    for known in weights:
        sides = [{v.root in known for v in event.inputs if v.is_array} for event in products]
        if any(len(side) == 2 for side in sides):
            return True
    return False


def _weights(graph: Graph) -> Weights:
    """The parameters; and the parameters with the arrays that the step has made where it makes parameters."""
    makers = {graph.span(e.site) for e in graph.first if _gives(e) & graph.parameters}
    made = {root for e in graph.last if graph.span(e.site) in makers for root in _gives(e)}
    return graph.parameters, graph.parameters | made


def _gives(event: Event) -> set[int]:
    """The buffer of a new result, if there is one."""
    return {event.output.root} if event.output is not None and event.output.is_array and not event.is_view else set()
