"""Work on the whole data set in every batch: gathers, shuffles, conversions of which a slice is used; one-hot rows."""

from __future__ import annotations

import numpy as np

from mlpprof.advise.candidate import Candidate, around, by_hand, facts, indices
from mlpprof.advise.graph import Graph
from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, FILL, PRODUCT
from mlpprof.programs.record.trace import Event

MOST_USED = 0.6
"""Of a result; with more it is no waste."""

LEAST_SIZE = 1_024


def detect(graph: Graph) -> list[Candidate]:
    """Results of which only a part is looked at, and labels that are encoded in every batch."""
    found = [_partly(event, graph) for event in graph.turn if _is_partly_used(event, graph)]
    found += [_shuffled(event, graph) for event in graph.turn if _is_shuffle(event, graph)]
    return [*found, *_taken_twice(graph), *_one_hot(graph)]


def _taken_twice(graph: Graph) -> list[Candidate]:
    """Rows that a step takes from the set once more, though it has them."""
    found, first_of = [], dict[tuple[int, int], Event]()
    for event in graph.turn:
        if event.name != "gather" or len(event.inputs) < 2 or event.output is None or event.output.size < LEAST_SIZE:
            continue
        rows = (event.inputs[0].root, hash(tuple(value.content for value in event.inputs[1:])))
        first = first_of.setdefault(rows, event)
        if first is event or first.loops != event.loops or graph.is_changed(rows[0], first, event):
            continue
        site, before = graph.site(event), graph.site(first)
        found.append(
            Candidate(
                category="gather",
                site=site,
                title=f"{graph.text(event, 50)} takes the rows of line {before.line} once more",
                why="an index array copies the rows every time; nothing has changed them in between",
                cure=by_hand(
                    f"keep the result of `{graph.text(first, 40)}` of {graph.place(before)} under a name of its own, "
                    f"and use it in {graph.place(site)}.",
                    "Check first that nothing writes into these rows in between.",
                ),
                saved_s=around(graph.seconds([event])),
                measured="the time of the expression in the step",
                covers=indices([event]),
                related=(before,),
                evidence=facts(event, 1),
            )
        )
    return found


def _is_partly_used(event: Event, graph: Graph) -> bool:
    output = event.output
    if event.is_own or event.is_view or output is None or not output.is_array or output.size < LEAST_SIZE:
        return False
    if event.kind not in (COPY, ARITHMETIC) and event.name not in ("permutation",):
        return False
    sizes = [
        value.size
        for reader in graph.turn
        if reader.index > event.index and not reader.is_view and not reader.is_own
        for value in reader.inputs
        if value.root == output.root
    ]
    return bool(sizes) and sum(sizes) <= MOST_USED * output.size


def _partly(event: Event, graph: Graph) -> Candidate:
    site = graph.site(event)
    output = event.output
    assert output is not None
    return Candidate(
        category="gather",
        site=site,
        title=f"{graph.text(event, 50)} works on the whole set, of which the step uses a part",
        why=f"{output.shape[0]} rows are made, and no more than {MOST_USED:.0%} of them are looked at in the step",
        cure=by_hand(
            f"take the rows of the batch first, and do the work of {graph.place(site)} with them alone.",
            "Check first that no later step needs the rest of its result.",
        ),
        saved_s=around(graph.seconds([event])),
        measured="the time of the expression in the step",
        covers=indices([event]),
        evidence=facts(event, 1),
    )


def _rows(graph: Graph) -> int:
    """Samples in the batch: the larger side that the data of the products have beside the weights."""
    rows = [
        max(value.shape)
        for event in graph.last
        if event.kind == PRODUCT and event.output is not None and event.output.is_array
        for value in event.inputs
        if value.is_array and value.root not in graph.parameters
    ]
    return max(rows, default=0)


def _is_shuffle(event: Event, graph: Graph) -> bool:
    arrays = [value for value in event.inputs if value.is_array]
    return event.name == "shuffle" and bool(arrays) and arrays[0].shape[0] > 2 * max(1, _rows(graph))


def _shuffled(event: Event, graph: Graph) -> Candidate:
    site = graph.site(event)
    return Candidate(
        category="gather",
        site=site,
        title="the whole set is shuffled in every step",
        why="one permutation an epoch gives every batch its own rows",
        cure=by_hand(
            f"in place of the shuffling in {graph.place(site)}, draw one permutation of the indices an epoch, and take "
            "the rows of each batch by their part of it.",
            "The batches then hold other samples than today, each sample once an epoch.",
        ),
        saved_s=around(graph.seconds([event])),
        measured="the time of the call in the step",
        covers=indices([event]),
        evidence=facts(event, 1),
    )


def _one_hot(graph: Graph) -> list[Candidate]:
    found: list[Candidate] = []
    for event in graph.turn:
        makers = _one_hot_parts(event, graph)
        if not makers:
            continue
        site = graph.site(event)
        found.append(
            Candidate(
                category="gather",
                site=site,
                title="labels are encoded as one-hot rows in every batch",
                why="the labels do not change: the whole set can be encoded once, before training",
                cure=by_hand(
                    f"encode all labels once, before the training, and take the rows of the batch in "
                    f"{graph.place(site)}."
                ),
                saved_s=around(graph.seconds(makers)),
                measured="the time of these expressions in the step",
                covers=indices(makers),
                related=tuple(graph.site(e) for e in makers if graph.site(e).line != site.line),
                evidence=facts(event, 1),
            )
        )
    return found


def _one_hot_parts(event: Event, graph: Graph) -> list[Event]:
    """The events that make one-hot rows, if this is the last of them: ``np.eye(n)[y]``, or ones stored into zeros."""
    if event.name == "gather" and event.operands:
        made = [e for e in graph.makers(event.inputs[0].root, event.index) if e.name in ("eye", "identity")]
        return [*made, event] if made else []
    if event.name in ("fill", "setitem", "store") and event.writes and len(event.operands) == 3:
        _, key, value = event.operands
        keys = key if isinstance(key, tuple) else ()
        integers = [k for k in keys if isinstance(k, np.ndarray) and k.dtype.kind in "iu"]
        if len(keys) == 2 and integers and np.ndim(value) == 0 and value == 1:
            made = [
                e for e in graph.makers(event.writes[0], event.index) if e.kind == FILL and e.name.startswith("zero")
            ]
            return [*made, event] if made else []
    return []
