"""Calls that rebuild whole arrays, or go through them element by element: np.delete, np.add.at, packing of vectors."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from mlpprof.advise.candidate import CERTAIN, LARGE, LIKELY, Candidate, around, by_hand, facts, indices
from mlpprof.advise.cures.slow_primitive import Text, Written, in_parentheses, product_of, unwritten
from mlpprof.programs.record.arrays import Array, Value
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


@dataclass(frozen=True)
class FasterForm:
    """A faster form: the flaw of the slow one, the cure in words, and how to perform the fast one.

    perform: None if the fast form takes no time at all. written: makes the expression that replaces the slow one.
    """

    flaw: str
    why: str
    words: str
    perform: Callable[[], object] | None
    written: Written = unwritten
    confidence: str = CERTAIN


def deletions(event: Event) -> Iterator[FasterForm]:
    """``np.delete`` of the first or the last row or column."""
    if event.function is not np.delete or not isinstance(event.operands[0], np.ndarray):
        return
    given = dict(zip(("arr", "obj", "axis"), event.operands, strict=False)) | dict(event.options)
    array, place, axis = event.operands[0], given.get("obj"), given.get("axis")
    if not isinstance(place, int | np.integer) or not isinstance(axis, int):
        return
    size = array.shape[axis]
    ends = {0: slice(1, None), -size: slice(1, None), size - 1: slice(None, -1), -1: slice(None, -1)}
    kept = ends.get(int(place))
    if kept is None:
        return
    keys = (slice(None),) * (axis % array.ndim) + (kept,)
    text = ", ".join(":" if key == slice(None) else "1:" if key.start else ":-1" for key in keys)

    def written(node: ast.expr, source: Text, name: str) -> str | None:
        return f"{in_parentheses(node.args[0], source)}[{text}]" if isinstance(node, ast.Call) and node.args else None

    yield FasterForm(
        "copies the array to leave out one end of it",
        "np.delete makes a new array and copies all that stays. A slice is a view, which copies nothing.",
        f"use the slice `[{text}]` in place of np.delete.",
        lambda: array[keys],
        written,
        LIKELY,
    )


def additions_at(event: Event) -> Iterator[FasterForm]:
    """``np.add.at(A, rows, values)``, which adds element by element."""
    if event.name != "add.at" or len(event.operands) != 3:
        return
    target, rows, values = event.operands
    if not isinstance(target, np.ndarray) or not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iu":
        return
    yield FasterForm(
        "adds the elements one by one",
        "np.add.at looks up each index by itself. A product with a sparse matrix that has a one for each index adds "
        "the same values in a compiled loop.",
        "multiply by a sparse matrix: for n indices, `M = scipy.sparse.csr_matrix((np.ones(n), index, "
        "np.arange(n + 1)))`, and `M.T @ values` has the sums by row. For numbers in one dimension, use NumPy's "
        "bincount with `weights`.",
        lambda: _added_at(target, rows.ravel(), np.broadcast_to(values, rows.shape + target.shape[1:])),
    )


def _added_at(target: Array, rows: Array, values: Array) -> Array:
    """The array with the values added to its rows."""
    flat, n = values.reshape(len(rows), -1), len(rows)
    if target.ndim == 1:
        return target + np.bincount(rows, flat[:, 0], len(target))
    chosen = csr_matrix((np.ones(n, flat.dtype), rows, np.arange(n + 1)), (n, len(target)))
    return target + np.reshape(chosen.T @ flat, target.shape)


def searched_paths(event: Event) -> Iterator[FasterForm]:
    """An einsum that looks for the best order of its operations in every call."""
    optimize = event.options.get("optimize")
    operands = event.operands
    if event.function is not np.einsum or not isinstance(optimize, bool | str) or not optimize:
        return
    if len(operands) == 3 and isinstance(operands[0], str) and product_of(operands[0]) is not None:
        return  # a product is better still
    path: Any = np.einsum_path(*operands, optimize=optimize)[0]
    yield FasterForm(
        "searches for the best order of its products in every call",
        "With `optimize`, np.einsum looks for the order in Python before it computes. The shapes are the same in every "
        "step, so the order is, too.",
        "find the order once before the training with NumPy's einsum_path, and give it as `optimize`.",
        lambda: np.einsum(*operands, optimize=path),
    )


JOINS = frozenset(("concatenate", "hstack", "append"))
FLATTENERS = frozenset(("flatten", "ravel", "reshape"))


def packed_vectors(graph: Graph) -> list[Candidate]:
    """Matrices, as weights or gradients, that are copied into one vector in every step."""
    flat: dict[tuple[int, int], Event] = {}
    by_place: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in graph.last:
        output = event.output
        if event.is_own or output is None or len(output.shape) != 1:
            continue
        if event.name in FLATTENERS and event.inputs and len(event.inputs[0].shape) > 1:
            flat[output.root, output.start] = event
        parts = [value for value in event.inputs if _is_matrix(value) or (value.root, value.start) in flat]
        if event.name in JOINS and output.size >= LARGE and len(parts) > 1:
            copies = [
                flat[key] for value in parts if (key := (value.root, value.start)) in flat and not flat[key].is_view
            ]
            site = graph.site(event)
            by_place[site.file, site.line] += [event, *copies]
    return [_packed_candidate(events, graph) for events in by_place.values()]


def _is_matrix(value: Value) -> bool:
    return value.is_array and len(value.shape) > 1


def is_packing(event: Event) -> bool:
    """Whether np.append joins matrices as a vector."""
    return "axis" not in event.options and len(event.operands) == 2 and all(map(_is_matrix, event.inputs))


def _packed_candidate(events: list[Event], graph: Graph) -> Candidate:
    head = events[0]
    site = graph.site(head)
    return Candidate(
        category="slow-primitive",
        site=site,
        title=f"`{graph.text(head, 50)}` copies matrices into one vector in every step",
        why="All elements are copied only to stand next to each other. A matrix can be a view of its part of the "
        "vector, and then nothing has to be copied.",
        cure=by_hand(
            f"allocate the vector of {graph.place(site)} once, and make each matrix a view of a part of it, as "
            "`vector[:n].reshape(rows, columns)`.",
            "Write the results into the views, with `out=` or `view[...] =`. Check first that nothing keeps the vector "
            "of the step before.",
        ),
        saved_s=around(graph.seconds(events)),
        measured="the time of the copying in the step",
        covers=indices(events),
        evidence=facts(head, len(events)),
    )
