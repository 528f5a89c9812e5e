"""A row or a column of ones that every step stacks onto an array, for the biases."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import numpy as np

from mlpprof.advise.candidate import LEAST_SHARE, Candidate, around, by_hand, facts, indices
from mlpprof.advise.cures.bias_stacking import with_slices
from mlpprof.instrument.numpy_costs import COPY, FILL, PRODUCT
from mlpprof.programs.record.arrays import upright
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import seconds_of
from mlpprof.programs.record.trace import Event

TRIMMED = ((slice(0, 1),), (slice(-1, None),), (slice(None), slice(0, 1)), (slice(None), slice(-1, None)))
"""The row or column that each of `Value.trims` leaves out."""

SLICED = (
    "`W[:, 1:] @ A + W[:, :1]`",
    "`W[:, :-1] @ A + W[:, -1:]`",
    "`A @ W[1:] + W[0]`",
    "`A @ W[:-1] + W[-1]`",
)
"""The product without the ones, for each row or column of `TRIMMED`: rows are stacked where the samples are columns."""

LEAST_SHARE_OF_ONE = 0.002
"""One of several stacking lines must take this share of the step to be reported with the others."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each line that stacks."""
    seen: set[int] = set()
    weighed: dict[int, bool] = {}
    stacks: dict[int, tuple[list[Event], str]] = {}
    for event in graph.last:
        for number, value in enumerate(event.inputs):
            is_weighed = bool(value.trims) and any(_is_weights(other.root, event, graph) for other in event.inputs)
            if value.trims and (value.root not in stacks or (is_weighed and not weighed.get(value.root))):
                places = [_ones(event, number, k) for k, trim in enumerate(value.trims) if trim in seen]
                place = next((place for place in places if place is not None), None)
                makers = graph.makers(value.root, event.index)
                if place is not None and makers:
                    # A product without the weights is that of a gradient, which takes the transpose.
                    stacks[value.root] = (makers, SLICED[place if is_weighed else (place + 2) % 4])
                    weighed[value.root] = is_weighed
        for value in (*event.inputs, *([event.output] if event.output is not None else [])):
            if value.content and value.is_array:
                seen.add(value.content)
    by_place: dict[tuple[str, int], list[Event]] = defaultdict(list)
    forms: dict[tuple[str, int], str] = {}
    added_s: dict[tuple[str, int], float] = defaultdict(float)
    for root, (makers, form) in stacks.items():
        head = max(makers, key=lambda e: (e.kind != FILL, e.effect.bytes_moved if e.effect else 0))
        site = graph.site(head)
        by_place[site.file, site.line] += makers
        forms.setdefault((site.file, site.line), form)
        added_s[site.file, site.line] += _without_stacking_s(root, graph)
    whole = graph.seconds(maker for makers in by_place.values() for maker in makers)
    return [_candidate(makers, forms[place], whole, added_s[place], graph) for place, makers in by_place.items()]


def _is_weights(root: int, event: Event, graph: Graph) -> bool:
    """Whether a buffer holds weights, or weights and biases that the step has stacked."""
    stacks = (maker for maker in graph.makers(root, event.index) if maker.kind == COPY and not maker.writes)
    return root in graph.parameters or any(one.root in graph.parameters for maker in stacks for one in maker.inputs)


def _without_stacking_s(root: int, graph: Graph) -> float:
    """Seconds per step of what the cure adds: sums of products and biases, and the sums that are their gradients."""
    seconds = 0.0
    for event in graph.last:
        operands = [x for x in event.operands if isinstance(x, np.ndarray) and x.ndim == 2]
        is_product = event.kind == PRODUCT and len(operands) == len(event.inputs) == 2
        roots = [value.root for value in event.inputs]
        if not is_product or root not in roots or not isinstance(event.result, np.ndarray):
            continue
        other = operands[1 - roots.index(root)]
        if _is_weights(roots[1 - roots.index(root)], event, graph):
            seconds += seconds_of(partial(np.add, event.result, event.result[:1]))
        else:
            seconds += seconds_of(partial(np.sum, other, axis=0))
    return seconds


def _ones(event: Event, number: int, trim: int) -> int | None:
    """Where in an operand the stacked ones are, as a place in `TRIMMED`; None if they are no ones."""
    arrays = [x for x in event.operands if isinstance(x, np.ndarray)]
    owner = getattr(event.function, "__self__", None)
    if isinstance(owner, np.ndarray):
        arrays.insert(0, owner)
    if number >= len(arrays) or arrays[number].ndim != 2:
        return None
    array = arrays[number]
    lying = upright(array)
    part = lying[TRIMMED[trim]]
    # The sigmoid of a stacked row of ones is constant too, but only a row of ones itself was stacked.
    is_ones = bool(part.size) and bool(np.all(part == 1))
    return (trim if lying is array else (trim + 2) % 4) if is_ones else None  # a row of the transpose is a column


def _candidate(makers: list[Event], form: str, whole_s: float, added_s: float, graph: Graph) -> Candidate:
    head = max(makers, key=lambda e: (e.kind != FILL, graph.seconds([e])))
    site, added = graph.site(head), "row" if form in SLICED[:2] else "column"
    seconds = graph.seconds(makers)
    related = {graph.site(e).line: graph.site(e) for e in makers if graph.site(e).line != site.line}
    callers = [graph.events[e.calls[-1]] for e in makers if e.calls]
    related |= {graph.site(e).line: graph.site(e) for e in callers}
    cure = with_slices(head, graph) if head.output is not None else None
    return Candidate(
        category="bias-stacking",
        site=site,
        title=f"`{graph.text(head, 50)}` copies a whole array to add a {added} of ones for the biases",
        why=f"To add one {added}, NumPy copies the whole array.",
        cures=(cure,) if cure is not None else (),
        cure="Leave out the stacking. Multiply by the weights without the biases, and add the biases to the product. "
        "The gradient of the biases is a sum over the samples."
        if cure is not None
        else by_hand(
            f"leave out the stacking in {graph.place(site)}, and add the biases after the product: {form}, with the "
            "weights W and the activations A without the ones.",
            "The gradient of the biases is then the sum of delta over the samples. Compare it with the present one.",
        ),
        saved_s=around(max(0.0, seconds - added_s)),
        measured="the time of the stacking in the step, less that of adding the biases and of summing their gradients",
        covers=indices(makers),
        related=tuple(related.values()),
        evidence=facts(head, len(makers)),
        # One cure concerns all lines, so they must be worth it together.
        least_share=max(LEAST_SHARE_OF_ONE, LEAST_SHARE * seconds / whole_s if whole_s else LEAST_SHARE),
    )
