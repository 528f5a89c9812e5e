"""Evaluations of the same function on the same values within a step, and second forward passes.

Values are compared, not names. A row of ones that was stacked onto an array in between is ignored. Two different
samples may be equal by chance, so both evaluations must be in the same turn of every loop that they share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from mlpprof.advise.candidate import indices
from mlpprof.instrument.numpy_costs import ARITHMETIC, EVALUATION, PRODUCT, REDUCTIONS
from mlpprof.programs.record.arrays import Value, content_of
from mlpprof.programs.record.graph import Graph, Span
from mlpprof.programs.record.trace import Event

LEAST_SIZE = 8
"""Results with fewer elements are cheaper to compute again than to keep."""


def repeats_of(graph: Graph) -> list[tuple[Event, Event]]:
    """Pairs (again, first) of the last recorded step."""
    known: dict[Hashable, list[Event]] = defaultdict(list)
    found = []
    for event in graph.last:
        if not _is_worthwhile(event):
            continue
        keys = _keys(event)
        first = next((e for key in keys for e in known[key] if is_same_turn(event, e) and e.end <= event.index), None)
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
        keys += [(event.name, (trim,)) for trim in event.inputs[0].trims if trim not in _empty(event.inputs[0])]
    return keys


def _empty(value: Value) -> set[int]:
    """The contents of a matrix of one row or one column without that row or column: all of them are equal."""
    rows, columns = value.shape
    shapes = ((0, columns), (rows, 0), (0, rows), (columns, 0))
    return {content_of(np.empty(shape, value.dtype)) for shape in shapes}


def is_same_turn(one: Event, other: Event) -> bool:
    """Whether no loop that both are in has turned between them."""
    turns = {(turn.site, turn.execution): turn.turn for turn in other.loops}
    return all(turns.get((turn.site, turn.execution), turn.turn) == turn.turn for turn in one.loops)


def is_constant(event: Event) -> bool:
    """Whether all elements of an operand are the same: zeros are equal without a common origin."""
    operands = (getattr(event.function, "__self__", None), *event.operands)  # of a method its array, too
    arrays = [x for x in operands if isinstance(x, np.ndarray) and x.size > 1 and x.dtype.kind in "fiub"]
    with np.errstate(all="ignore"):
        return any(bool(np.all(x == x.flat[0])) for x in arrays)


@dataclass(frozen=True)
class SecondPass:
    """A call that multiplies the batch by the weights once more.

    calls: its executions. products: the first repeated product of each. first: the product of the first pass.
    is_same: whether the weights are those of the first pass, and not those that the step has just updated.
    """

    calls: list[Event]
    products: list[Event]
    first: Event
    is_same: bool

    @property
    def covers(self) -> frozenset[int]:
        """The indices of all events of the second pass."""
        return indices(self.calls)


def second_passes(graph: Graph, repeats: list[tuple[Event, Event]]) -> list[SecondPass]:
    """Calls that multiply the data by the weights once more, with the same weights or with those just updated."""
    again = {event.index for event, _ in repeats}
    first_of: dict[tuple[int, tuple[int, ...]], Event] = {}
    products_at: dict[Span, dict[int, Event]] = defaultdict(dict)
    first_at: dict[Span, Event] = {}
    for event in (e for e in graph.last if e.kind == PRODUCT and not e.is_own):
        data = [v for v in event.inputs if v.is_array and v.root not in graph.parameters and len(v.shape) == 2]
        weights = [v for v in event.inputs if v.is_array and v.root in graph.parameters]
        if len(data) != 1 or not weights:
            continue
        first = first_of.setdefault((data[0].content, weights[0].shape), event)
        if first is not event and is_same_turn(event, first) and _has_its_weights(event, first, graph):
            call = _own_branch(event, first)
            if call is not None:
                span = graph.span(graph.events[call].site)  # a loop makes the same call many times
                products_at[span].setdefault(call, event)
                first_at.setdefault(span, first)
    found = []
    for span, product_of in products_at.items():
        calls, products = [graph.events[call] for call in product_of], [*product_of.values()]
        inside = [e for e in graph.events[calls[0].index : calls[0].end] if e.kind == PRODUCT]
        # A call that computes gradients too is no forward pass; recomputation reports what it repeats.
        if len(inside) >= 2 and all(_is_forward(e, graph) for e in inside):
            found.append(SecondPass(calls, products, first_at[span], products[0].index in again))
    return found


def _is_forward(event: Event, graph: Graph) -> bool:
    """Whether data are multiplied by weights, and not data by data, as for a gradient."""
    of_weights = [value.root in graph.parameters for value in event.inputs if value.is_array]
    return any(of_weights) and not all(of_weights)


def _has_its_weights(event: Event, first: Event, graph: Graph) -> bool:
    """Whether the weights are those of the first pass, or what the step has made of them: not another network's."""
    roots = {value.root for value in first.inputs}
    return any(
        value.root in roots or any(maker.index > first.index for maker in graph.makers(value.root, event.index))
        for value in event.inputs
        if value.root in graph.parameters
    )


def _own_branch(event: Event, first: Event) -> int | None:
    """The outermost call that the second pass is in and the first is not."""
    return next((call for call in event.calls if call not in first.calls), None)
