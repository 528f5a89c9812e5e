"""Work on the whole data set in every batch: gathers, shuffles, conversions of which a slice is used; one-hot rows."""

from __future__ import annotations

import operator
from functools import partial

import numpy as np

from mlpprof.advise.candidate import LEAST_GAIN, SMALL, Candidate, around, by_hand, facts, indices
from mlpprof.advise.cures.gather import (
    kept_identity,
    rows_first,
    taken_once,
)
from mlpprof.advise.fed_batches import fed_batches
from mlpprof.advise.rows_one_by_one import listed_rows, ones_one_by_one
from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, FILL, PRODUCT
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import of_time, saved_share
from mlpprof.programs.record.trace import Event

MOST_BYTES = 64_000_000
"""To compare columns with rows, no more bytes of the set are turned."""

MOST_USED = 0.6
"""If the step reads more than this share of a result, making all of it is no waste."""


def detect(graph: Graph) -> list[Candidate]:
    """Results of which the step reads only a part, rows that are gathered twice, and labels encoded in every batch."""
    found = [_partly(event, graph) for event in graph.turn if _is_partly_used(event, graph)]
    found += [_shuffled(event, graph) for event in graph.turn if _is_shuffle(event, graph)]
    found += [*_taken_twice(graph), *_columns(graph), *_one_hot(graph), *listed_rows(graph)]
    return [*found, *ones_one_by_one(graph), *fed_batches(graph)]


def _columns(graph: Graph) -> list[Candidate]:
    """Samples that are taken as columns of the set, so that the elements of one are far apart in memory."""
    found = []
    for event in graph.turn:
        if event.name != "gather" or event.function is not operator.getitem:
            continue
        container, key = event.operands
        keys = key if isinstance(key, tuple) else (key,)
        axis = next(
            (axis for axis, one in enumerate(keys) if isinstance(one, np.ndarray) and one.dtype.kind in "iu"), 0
        )
        # With indices on both axes, as in `P[range(n), labels]`, it takes one element of each sample.
        is_plain = isinstance(container, np.ndarray) and container.ndim == 2 and len(keys) == axis + 1
        is_plain = is_plain and all(isinstance(one, slice) for one in keys[:axis])
        if not is_plain or abs(container.strides[axis]) > abs(container.strides[1 - axis]):
            continue
        part = (container if axis else container.T)[: MOST_BYTES // max(1, container[0].nbytes)]
        samples, rows = np.ascontiguousarray(part.T), keys[axis]
        columns, by_row = partial(operator.getitem, part, (slice(None), rows)), partial(operator.getitem, samples, rows)
        share = saved_share(columns, by_row)
        if share[0] < LEAST_GAIN:
            continue
        site = graph.site(event)
        found.append(
            Candidate(
                category="gather",
                site=site,
                title=f"`{graph.text(event, 50)}` takes samples whose elements are far apart in memory",
                why="Each sample is a column of the array, so that every element lies in another cache line.",
                cure=by_hand(
                    f"keep the samples of `{graph.text(event, 50)}` in {graph.place(site)} as rows: turn the set once "
                    "before the training, with `np.ascontiguousarray(X.T)`, and take its rows.",
                    "The transpose `.T` of these rows is a view that has the shape that the step expects.",
                ),
                saved_s=of_time(share, graph.seconds([event])),
                measured="columns and rows of the same elements taken alternately",
                covers=indices([event]),
                evidence=facts(event, 1),
            )
        )
    return found


def _taken_twice(graph: Graph) -> list[Candidate]:
    """Rows that a step gathers from the set although it has gathered them already."""
    found, first_of = [], dict[tuple[int, int], Event]()
    for event in graph.turn:
        if event.name != "gather" or len(event.inputs) < 2 or event.output is None or event.output.size < SMALL:
            continue
        rows = (event.inputs[0].root, hash(tuple(value.content for value in event.inputs[1:])))
        first = first_of.setdefault(rows, event)
        if first is event or first.loops != event.loops or graph.is_changed(rows[0], first, event):
            continue
        site, before = graph.site(event), graph.site(first)
        where = graph.place_of(before).words
        edit = taken_once(first, event, graph)
        found.append(
            Candidate(
                category="gather",
                site=site,
                title=f"`{graph.text(event, 50)}` gathers again the rows that {where} has gathered",
                why="Indexing with an array copies the rows each time. Nothing has changed them in between.",
                cures=(edit,) if edit is not None else (),
                cure="Take the rows once, and use them again."
                if edit is not None
                else by_hand(
                    f"give the result of `{graph.text(first, 40)}` in {graph.place(before)} a name, and use it in "
                    f"{graph.place(site)}.",
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
    if event.is_own or event.is_view or output is None or not output.is_array or output.size < SMALL:
        return False
    if event.kind not in (COPY, ARITHMETIC) and event.name not in ("permutation",):
        return False
    readers = [
        reader
        for reader in graph.turn
        if reader.index > event.index and not reader.is_view and not reader.is_own and _reads(reader, output.root)
    ]
    if any(map(graph.is_cut_short, readers)):
        return False  # the turns that were not recorded may read the rest
    sizes = [
        reader.output.size if reader.name == "gather" and reader.output is not None and number == 0 else value.size
        for reader in readers
        for number, value in enumerate(reader.inputs)
        if value.root == output.root
    ]
    return bool(sizes) and sum(sizes) <= MOST_USED * output.size


def _reads(event: Event, root: int) -> bool:
    return any(value.root == root for value in event.inputs)


def _partly(event: Event, graph: Graph) -> Candidate:
    site = graph.site(event)
    output = event.output
    assert output is not None
    edit = rows_first(event, graph)
    return Candidate(
        category="gather",
        site=site,
        title=f"`{graph.text(event, 50)}` processes the whole data set, but the step uses only a part of the result",
        why=f"It makes {output.shape[0]} rows. The step reads at most {MOST_USED:.0%} of them.",
        cures=(edit,) if edit is not None else (),
        cure="Take the rows of the batch first, and do the work with these rows only."
        if edit is not None
        else by_hand(
            f"take the rows of the batch first, and do the work of {graph.place(site)} with these rows only.",
            "Check first that no later step needs the rest of its result.",
        ),
        saved_s=around(graph.seconds([event])),
        measured="the time of the expression in the step",
        covers=indices([event]),
        evidence=facts(event, 1),
    )


def _rows(graph: Graph) -> int:
    """The number of samples in the batch: the longer side of the data that are multiplied by weights."""
    rows = [
        max(value.shape, default=1)
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
        title=f"`{graph.text(event, 50)}` shuffles the whole data set in every step",
        why="One permutation per epoch is enough to give every batch its own rows.",
        cure=by_hand(
            f"replace the shuffling in {graph.place(site)}: draw one permutation of the indices per epoch, and let "
            "each batch take the rows of its part of the permutation.",
            "The batches then contain other samples than now, each sample once per epoch.",
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
        edit = kept_identity(makers[0], graph)
        found.append(
            Candidate(
                category="gather",
                site=site,
                title=f"`{graph.text(event, 50)}` encodes the labels as one-hot rows in every batch",
                why="The labels do not change, so all of them can be encoded once before the training.",
                cures=(edit,) if edit is not None else (),
                cure="Make the matrix whose rows are taken only once, and not in every batch."
                if edit is not None
                else by_hand(
                    f"encode all labels once before the training, and only take the rows of the batch in "
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
