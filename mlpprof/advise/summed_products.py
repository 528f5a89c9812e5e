"""Sums of products that one matrix product computes without an array for the single products.

``(A[:, :, None] * D[:, None, :]).sum(axis=0)`` makes an outer product for every sample, and ``A.T @ D`` computes the
same sum without them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mlpprof.advise.candidate import CERTAIN, LEAST_GAIN, SMALL, Candidate, by_hand, facts, indices, total
from mlpprof.advise.cures.slow_primitive import product_cure, sum_cure
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, nothing_if_impossible, of_time, saved_share
from mlpprof.programs.record.trace import Event

OuterSum = tuple[Event, Event, tuple[float, float]]
"""The multiplication, the sum, and what one product saves of both."""

SUMS = ("sum", "mean", "average")

MOST_ERROR = 1e-3
"""The two forms add in another order, so their results may differ by this relative error, also in float32."""


def outer_sums(graph: Graph) -> list[Candidate]:
    """One candidate for each line that makes such an array."""
    by_place: dict[tuple[str, int], list[OuterSum]] = defaultdict(list)
    for event in graph.last:
        products = _products(event)
        total_of = _only_reader(event, graph, _is_sum) if products else None
        if total_of is None:
            continue
        saved = max((_saved_by_product(event, total_of, product, graph) for product in products), default=(0.0, 0.0))
        if saved[1] > 0:
            site = graph.site(event)
            by_place[site.file, site.line].append((event, total_of, saved))
    return [_outer_candidate(parts, graph) for parts in by_place.values()]


def summed_products(graph: Graph) -> list[Candidate]:
    """Sums of all elements of a product of two arrays, which one call adds without an array for the product."""
    by_place: dict[tuple[str, int], list[OuterSum]] = defaultdict(list)
    for event in graph.last:
        if event.name not in ("multiply", "power", "square") or not _is_plain(event.result):
            continue
        total_of = _only_reader(event, graph, _is_sum_of_all)
        if total_of is None:
            continue
        pair = _multiplied(event)
        make, add = again(event), _added(total_of, event.result)
        if pair is None or make is None or add is None:
            continue
        base, factor = pair
        share = saved_share(partial(_performed, make, add), partial(np.vdot, base, factor))
        if share[0] >= LEAST_GAIN:
            site = graph.site(event)
            by_place[site.file, site.line].append((event, total_of, of_time(share, graph.seconds([event, total_of]))))
    return [_sum_candidate(parts, graph) for parts in by_place.values()]


def _multiplied(event: Event) -> tuple[Array, Array] | None:
    """The two arrays of one shape that an operation multiplies element by element; a square has the same one twice."""
    match event.name, event.operands:
        case "multiply", (np.ndarray() as left, np.ndarray() as right) if left.shape == right.shape:
            return left, right
        case ("square", (np.ndarray() as base, *_)) | ("power", (np.ndarray() as base, int(2) | float(2.0))):
            return base, base
    return None


def _performed(make: Callable[[], object], add: Callable[[Any], Array]) -> Array:
    return add(make())


def _is_sum_of_all(event: Event) -> bool:
    is_of_all = not event.options and len(event.operands) <= 1 and not isinstance(event.result, np.ndarray)
    return not event.is_own and event.name == "sum" and is_of_all


def _is_plain(made: Any) -> bool:
    return type(made) is np.ndarray and made.dtype.kind == "f" and made.size >= SMALL


def _sum_candidate(parts: list[OuterSum], graph: Graph) -> Candidate:
    event, total_of, _ = max(parts, key=lambda part: part[2][1])
    here, there = graph.site(event), graph.site(total_of)
    edit = sum_cure([part[:2] for part in parts], graph)
    words = "the sum of products by NumPy's vdot of both arrays, which makes no array for the products."
    return Candidate(
        category="slow-primitive",
        site=here,
        title=f"`{graph.text(total_of, 50)}` makes an array of products only to sum it",
        why="The array of products is written to memory and read again. NumPy's vdot multiplies and adds at once.",
        cure=f"Replace {words}" if edit is not None else by_hand(f"in {graph.place(there)}, replace {words}"),
        cures=(edit,) if edit is not None else (),
        confidence=CERTAIN,
        saved_s=total(saved for _, _, saved in parts),
        measured="both forms performed alternately on the operands of the step",
        covers=indices(one for part in parts for one in part[:2]),
        related=(there,) if there.line != here.line else (),
        evidence=facts(event, len(parts)),
    )


def _outer_candidate(parts: list[OuterSum], graph: Graph) -> Candidate:
    event, total_of, _ = max(parts, key=lambda part: part[2][1])
    shape = event.result.shape
    here, there = graph.site(event), graph.site(total_of)
    edit = product_cure([part[:2] for part in parts], graph)
    return Candidate(
        category="slow-primitive",
        site=here,
        title=f"`{graph.text(event, 50)}` makes all products of pairs in one array, only to sum them",
        why=f"The array of shape {shape} is used only for the sum in {graph.place(there)}. A matrix product multiplies "
        "and adds in one call of BLAS.",
        cure=f"Replace the array of {graph.place(here)} and its sum in {graph.place(there)} by one matrix product."
        if edit is not None
        else by_hand(
            f"replace the array of {graph.place(here)} and its sum in {graph.place(there)} by one matrix product. If A "
            "has the shape (samples, n) and delta the shape (samples, k), `A.T @ delta` is the sum over the samples. "
            "Divide it by the number of samples for a mean.",
            "Check the shape of the result, and that no other line reads the array.",
        ),
        cures=(edit,) if edit is not None else (),
        confidence=CERTAIN,
        saved_s=total(saved for _, _, saved in parts),
        measured="both operations and the matrix product performed alternately on the operands of the step",
        covers=indices(one for part in parts for one in part[:2]),
        related=(there,) if there.line != here.line else (),
        evidence=facts(event, len(parts)),
    )


def _products(event: Event) -> list[Callable[[], Array]]:
    """The products that may be the sum of a multiplication of all pairs, or of a matrix by a vector."""
    factors = _factors(event)
    if factors is not None:
        return [_product(factors)]
    made, arrays = event.result, [x for x in event.operands if isinstance(x, np.ndarray)]
    if event.name != "multiply" or not _is_plain(made) or made.ndim != 2 or len(arrays) != 2:
        return []
    A, v = sorted(arrays, key=lambda x: -x.size)
    if A.shape != made.shape or v.size not in A.shape or v.size == A.size:
        return []
    flat = v.ravel()
    return [partial(np.matmul, *pair) for pair in ((A, flat), (flat, A)) if pair[0].shape[-1] == pair[1].shape[0]]


def _factors(event: Event) -> tuple[Array, Array] | None:
    """The operands of a multiplication of all pairs, as arrays of three axes."""
    made = event.result
    if event.is_own or not isinstance(made, np.ndarray) or made.ndim != 3 or made.size < SMALL:
        return None
    if made.dtype.kind != "f":
        return None
    if event.name == "einsum" and event.operands and isinstance(event.operands[0], str):
        arrays = _spread(event.operands[0], list(event.operands[1:]))
    elif event.name in ("multiply", "matmul"):
        arrays = list(event.operands[:2])
    else:
        return None
    if len(arrays) != 2 or not all(isinstance(x, np.ndarray) and 2 <= x.ndim <= 3 for x in arrays):
        return None
    A, B = (x.reshape((1,) * (3 - x.ndim) + x.shape) if x.ndim < 3 else x for x in arrays)
    free = [axis for axis in range(3) if A.shape[axis] == 1 != B.shape[axis]]
    other = [axis for axis in range(3) if B.shape[axis] == 1 != A.shape[axis]]
    # A matrix product whose inner axis is longer than 1 sums already, and its operands need not broadcast.
    is_pairs = len(free) == len(other) == 1 and made.shape == tuple(map(max, A.shape, B.shape))
    return (A, B) if is_pairs else None


def _spread(text: str, arrays: list[Any]) -> list[Array]:
    """The operands of an einsum with the axes of its result, where it sums nothing."""
    sides = text.replace(" ", "").split("->")
    names = sides[0].split(",")
    if "." in text:  # an ellipsis stands for any number of axes
        return []
    if len(sides) != 2 or len(names) != 2 or len(arrays) != 2 or not all(isinstance(x, np.ndarray) for x in arrays):
        return []
    spread = []
    for name, array in zip(names, arrays, strict=True):
        if not set(name) <= set(sides[1]) or len(set(name)) != array.ndim:
            return []
        ordered = array.transpose([name.index(axis) for axis in sides[1] if axis in name])
        sizes = iter(ordered.shape)
        spread.append(ordered.reshape([next(sizes) if axis in name else 1 for axis in sides[1]]))
    return spread


def _only_reader(event: Event, graph: Graph, is_wanted: Callable[[Event], bool]) -> Event | None:
    """The sum, if it is the only reader of an array in both recorded steps."""
    readers = _readers(event, graph)
    before = [e for e in graph.first if e.site == event.site and e.name == event.name]
    of_same = [e for e in graph.last if e.site == event.site and e.name == event.name]
    if readers is None or len(readers) != 1 or not is_wanted(readers[0]):
        return None
    if len(before) == len(of_same):  # reads after the last step were not recorded
        found = _readers(before[of_same.index(event)], graph)
        if found is None or [e.site for e in found] != [readers[0].site]:
            return None
    return readers[0]


def _readers(event: Event, graph: Graph) -> list[Event] | None:
    """What reads an array until the same place writes it again; None if not all reads were recorded."""
    root = event.writes[0] if event.writes else event.output.root if event.output is not None else -1
    again_at = (e.index for e in graph.events[event.index + 1 :] if e.site == event.site and root in e.writes)
    end = next(again_at, len(graph.events))
    for index in graph.trace.looks.get(root, ()):  # those that took it, too
        if event.index < index <= end and not _is_between_steps(index, graph):
            return None
    return [graph.events[i] for i in sorted(set(graph.trace.reads.get(root, ()))) if event.index < i < end]


def _is_between_steps(index: int, graph: Graph) -> bool:
    """Whether an index lies between the steps, where a loader or a progress bar may reach the whole model."""
    is_outside = index < len(graph.events) and graph.events[index].is_outside
    return is_outside or any(index == start for start, _ in graph.trace.steps)


def _is_sum(event: Event) -> bool:
    is_add = getattr(event.function, "__self__", None) is np.add and getattr(event.function, "__name__", "") == "reduce"
    return not event.is_own and (event.name in SUMS or is_add) and isinstance(event.result, np.ndarray)


@nothing_if_impossible
def _saved_by_product(event: Event, total_of: Event, sums: Callable[[], Array], graph: Graph) -> tuple[float, float]:
    """Saved seconds per step; (0, 0) if the product gives another result."""
    make, add = again(event), _added(total_of, event.result)
    if make is None or add is None:
        return 0.0, 0.0
    with np.errstate(all="ignore"):
        found, expected = sums(), add(make())
    terms = max(1, event.result.size // max(1, found.size)) if total_of.name in ("mean", "average") else 1

    def product() -> Array:
        return sums() / terms if terms > 1 else sums()

    found = found / terms
    error = np.linalg.norm(found.ravel() - expected.ravel()) if found.size == expected.size else np.inf
    if not error <= MOST_ERROR * np.linalg.norm(expected):
        return 0.0, 0.0
    share = saved_share(lambda: add(make()), product)
    return of_time(share, graph.seconds([event, total_of])) if share[0] >= LEAST_GAIN else (0.0, 0.0)


def _added(total_of: Event, array: Array) -> Callable[[Any], Array] | None:
    """The sum as a function of the array; None if it sums only a part, or something made of the array."""
    options = {
        name: x.copy() if name == "out" and isinstance(x, np.ndarray) else x for name, x in total_of.options.items()
    }
    owner, name = getattr(total_of.function, "__self__", None), getattr(total_of.function, "__name__", "")
    if owner is array:
        return lambda made: np.asarray(getattr(made, name)(*total_of.operands, **options))
    if total_of.operands and total_of.operands[0] is array:
        return lambda made: np.asarray(total_of.function(made, *total_of.operands[1:], **options))
    return None


def _product(factors: tuple[Array, Array]) -> Callable[[], Array]:
    """The matrix product that sums over the axis that both factors have."""
    A, B = factors
    first = next(axis for axis in range(3) if B.shape[axis] == 1 != A.shape[axis])
    second = next(axis for axis in range(3) if A.shape[axis] == 1 != B.shape[axis])
    summed = 3 - first - second
    left, right = (A, B) if first < second else (B, A)
    left = np.moveaxis(left, summed, 0).reshape(left.shape[summed], -1)
    right = np.moveaxis(right, summed, 0).reshape(right.shape[summed], -1)
    return lambda: left.T @ right
