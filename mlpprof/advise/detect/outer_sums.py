"""Products of every pair of elements, made as an array of three axes and then added up: one product of matrices.

``(A[:, :, None] * D[:, None, :]).sum(axis=0)`` holds an outer product for every sample; ``A.T @ D`` never does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from mlpprof.advise.candidate import CERTAIN, Candidate, by_hand, facts, indices, total
from mlpprof.advise.graph import Graph
from mlpprof.advise.identity import Array
from mlpprof.advise.perform import again
from mlpprof.advise.replay import of_time, saved_share
from mlpprof.advise.trace import Event

Part = tuple[Event, Event, tuple[float, float]]
"""The multiplication, the sum, and what one product saves of both."""

SUMS = ("sum", "mean", "average")

LEAST_SHARE = 0.3
"""Of the time of both operations that the one product must save."""

LEAST_SIZE = 64
"""Elements of the array in between."""

RELATIVE_ERROR = 1e-3
"""Between the two forms, at most: they add in another order, float32 too."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for every line that makes such an array."""
    by_place: dict[tuple[str, int], list[Part]] = defaultdict(list)
    for event in graph.last:
        factors = _factors(event)
        if factors is None:
            continue
        total_of = _only_reader(event, graph)
        if total_of is None:
            continue
        saved = _saved(event, total_of, factors, graph)
        if saved[1] > 0:
            site = graph.site(event)
            by_place[site.file, site.line].append((event, total_of, saved))
    return [_candidate(parts, graph) for parts in by_place.values()]


def _candidate(parts: list[Part], graph: Graph) -> Candidate:
    event, total_of, _ = max(parts, key=lambda part: part[2][1])
    shape = event.result.shape
    here, there = graph.site(event), graph.site(total_of)
    return Candidate(
        category="slow-primitive",
        site=here,
        title=f"{graph.text(event, 50)}: the products of all pairs are made and then added up",
        why=f"the array of shape {shape} exists only to be summed in {graph.shown(there.file)}:{there.line}; a "
        "product of matrices multiplies and adds at once, and leaves it to BLAS",
        cure=by_hand(
            f"in place of the array of {graph.place(here)} and of its sum in {graph.place(there)}, write one product "
            "of matrices: with A of shape (samples, n) and delta of shape (samples, k), `A.T @ delta` is the sum over "
            "the samples; divide it by their number for a mean.",
            "Check the shape of the result, and that no other line reads the array.",
        ),
        confidence=CERTAIN,
        saved_s=total(saved for _, _, saved in parts),
        measured="both operations and the one product performed in turns on the operands of the step",
        covers=indices(one for part in parts for one in part[:2]),
        related=(there,) if there.line != here.line else (),
        evidence=facts(event, len(parts)),
    )


def _factors(event: Event) -> tuple[Array, Array] | None:
    """The operands of a multiplication of each by each, as arrays of three axes."""
    made = event.result
    if event.is_own or not isinstance(made, np.ndarray) or made.ndim != 3 or made.size < LEAST_SIZE:
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
    is_pairs = len(free) == len(other) == 1 and np.broadcast_shapes(A.shape, B.shape) == made.shape
    return (A, B) if is_pairs else None


def _spread(text: str, arrays: list[Any]) -> list[Array]:
    """The operands of an einsum with the axes of its result, where it sums nothing."""
    sides = text.replace(" ", "").split("->")
    names = sides[0].split(",")
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


def _only_reader(event: Event, graph: Graph) -> Event | None:
    """The sum that is all that becomes of an array, until it is written anew; of the step before, too."""
    readers = _readers(event, graph)
    before = [e for e in graph.first if e.site == event.site and e.name == event.name]
    of_same = [e for e in graph.last if e.site == event.site and e.name == event.name]
    if readers is None or len(readers) != 1 or not _is_sum(readers[0]):
        return None
    if len(before) == len(of_same):  # what is read after the last step was not seen; after the first one it was
        found = _readers(before[of_same.index(event)], graph)
        if found is None or [e.site for e in found] != [readers[0].site]:
            return None
    return readers[0]


def _readers(event: Event, graph: Graph) -> list[Event] | None:
    """What reads an array, until the same place writes it again; None where not all of it was seen."""
    root = event.writes[0] if event.writes else event.output.root if event.output is not None else -1
    again_at = (e.index for e in graph.events[event.index + 1 :] if e.site == event.site and root in e.writes)
    end = next(again_at, len(graph.events))
    for index in graph.trace.looks.get(root, ()):  # those that took it, too
        if event.index < index <= end and not _is_between_steps(index, graph):
            return None
    return [graph.events[i] for i in sorted(set(graph.trace.reads.get(root, ()))) if event.index < i < end]


def _is_between_steps(index: int, graph: Graph) -> bool:
    """Whether what has no event of its own happened there: a loader or a bar that can reach the whole model."""
    is_outside = index < len(graph.events) and graph.events[index].is_outside
    return is_outside or any(index == start for start, _ in graph.trace.steps)


def _is_sum(event: Event) -> bool:
    is_add = getattr(event.function, "__self__", None) is np.add and getattr(event.function, "__name__", "") == "reduce"
    return not event.is_own and (event.name in SUMS or is_add) and isinstance(event.result, np.ndarray)


def _saved(event: Event, total_of: Event, factors: tuple[Array, Array], graph: Graph) -> tuple[float, float]:
    """Seconds a step; none where the sum is not that of the product."""
    make, add = again(event), _added(total_of, event.result)
    if make is None or add is None:
        return 0.0, 0.0
    product = _product(factors, is_mean=total_of.name in ("mean", "average"))
    with np.errstate(all="ignore"):
        found, expected = product(), add(make())
    error = np.linalg.norm(found.ravel() - expected.ravel()) if found.size == expected.size else np.inf
    if not error <= RELATIVE_ERROR * np.linalg.norm(expected):
        return 0.0, 0.0
    share = saved_share(lambda: add(make()), product)
    return of_time(share, graph.seconds([event, total_of])) if share[0] >= LEAST_SHARE else (0.0, 0.0)


def _added(total_of: Event, array: Array) -> Callable[[Any], Array] | None:
    """The sum as a function of the array; None where it takes a part of it, or something made of it."""
    options = {
        name: x.copy() if name == "out" and isinstance(x, np.ndarray) else x for name, x in total_of.options.items()
    }
    owner, name = getattr(total_of.function, "__self__", None), getattr(total_of.function, "__name__", "")
    if owner is array:
        return lambda made: np.asarray(getattr(made, name)(*total_of.operands, **options))
    if total_of.operands and total_of.operands[0] is array:
        return lambda made: np.asarray(total_of.function(made, *total_of.operands[1:], **options))
    return None


def _product(factors: tuple[Array, Array], is_mean: bool) -> Callable[[], Array]:
    """The one product, over the axis that both have."""
    A, B = factors
    first = next(axis for axis in range(3) if B.shape[axis] == 1 != A.shape[axis])
    second = next(axis for axis in range(3) if A.shape[axis] == 1 != B.shape[axis])
    summed = 3 - first - second
    left, right = (A, B) if first < second else (B, A)
    left = np.moveaxis(left, summed, 0).reshape(left.shape[summed], -1)
    right = np.moveaxis(right, summed, 0).reshape(right.shape[summed], -1)
    return lambda: left.T @ right / len(left) if is_mean else left.T @ right
