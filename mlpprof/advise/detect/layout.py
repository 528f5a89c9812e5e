"""Memory orders that do not fit: C and F in one elementwise expression or copy, and operands that BLAS must copy."""

from __future__ import annotations

import ast
import operator
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np

from mlpprof.advise.candidate import CERTAIN, LARGE, LEAST_GAIN, SMALL, Candidate, by_hand, facts, indices, total
from mlpprof.advise.cures.layout import in_one_order, once_contiguous
from mlpprof.advise.detect.temporaries import is_only_multiplied
from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, EVALUATION, PRODUCT
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.arrays import Value
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, nothing_if_impossible, of_time, saved_share
from mlpprof.programs.record.trace import Event

TURNING = frozenset(("copyto", "ascontiguousarray", "copy", "array", "flatten", "ravel", "reshape"))
"""Functions that may copy an array into the other memory order."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each line whose operation is faster if all operands have one memory order."""
    by_place: dict[tuple[str, int], list[tuple[Event, tuple[float, float]]]] = defaultdict(list)
    for event in graph.turn:
        if event.is_own or (event.is_outside and event.name != "gather"):  # the loop around the step may take the rows
            continue
        is_of_set = event.kind == COPY and _is_of_strided_set(event, graph)
        is_of_product = event.kind == COPY and is_only_multiplied(event, graph)
        if is_of_set or (_collides(event) and not is_of_product):
            saved = _saved(event, graph)
            if saved[1] > 0:
                site = graph.site(event)
                by_place[site.file, site.line].append((event, saved))
    return [_candidate(parts, graph) for parts in by_place.values()]


def _candidate(parts: list[tuple[Event, tuple[float, float]]], graph: Graph) -> Candidate:
    head = max(parts, key=lambda part: part[1][1])[0]
    site = graph.site(head)
    values = [v for v in head.inputs if v.is_array and v.size >= (SMALL if head.kind == PRODUCT else LARGE)]
    orders = ", ".join(_order_texts(head, values))
    makers = [graph.site(e) for value in values for e in graph.makers(value.root, head.index)[:1]]
    if head.kind == PRODUCT:
        why = (
            "The elements of one operand are not next to each other in memory, so NumPy copies it before each call of "
            "BLAS."
        )
        cure = by_hand(
            f"use `ascontiguousarray` where the operand of {graph.place(site)} is created whose elements are not next "
            "to each other in memory.",
            "Check first that nothing relies on it being a view of the other array.",
        )
    else:
        why = "NumPy must read one operand across its memory order, so every element comes from a different cache line."
        cure = by_hand(
            f"keep both operands of {graph.place(site)} in one memory order: let the samples be rows everywhere, or "
            "columns everywhere.",
            "Check the order of the factors in every product that reads them.",
        )
    edit = in_one_order(head, graph) if head.kind != PRODUCT else None
    if edit is not None:
        cure = "Give the array that comes from outside the step the memory order of the other operand, once."
    low, high = total(saved for _, saved in parts)
    strided = next((v for v in values if v.order == "?"), None)
    if strided is not None and not graph.makers(strided.root, head.index):
        source = _strided_source(graph)
        if source is not None:  # the array came into the step like this
            makers.insert(0, site)
            site = source
            edit = once_contiguous(site, graph)
            cure = by_hand(
                f"make the array of {graph.place(site)} contiguous once before the training, with `ascontiguousarray`.",
                "Check first that nothing relies on it being a view of the other array.",
            )
            if edit is not None:
                cure = "Make the array contiguous once, before the training."
    return Candidate(
        category="layout",
        site=site,
        title=f"`{graph.text(head, 50)}` {_flaw(head, values)}: {orders}",
        why=why,
        cures=(edit,) if edit is not None else (),
        cure=cure,
        saved_s=(low, high),
        confidence=CERTAIN,
        measured="the operation performed again with all operands in one order; what reads the result may gain as well",
        covers=indices(event for event, _ in parts),
        related=tuple(makers),
        evidence=facts(head, len(parts)),
    )


def _flaw(event: Event, values: list[Value]) -> str:
    """What is wrong with the memory orders of some operands."""
    if any(value.order == "?" for value in values):
        return "uses an array whose elements are not next to each other in memory"
    is_copy = event.kind == COPY and event.function is not operator.setitem
    return "copies an array into the other memory order" if is_copy else "mixes memory orders"


ORDERS = {"C": "row-major (C)", "F": "column-major (F)", "": "neither row-major nor column-major"}


def _order_texts(event: Event, values: list[Value]) -> list[str]:
    """The memory orders of the operands; of a store, those of the value and of the array that it goes into."""
    if event.function is operator.setitem and values:
        target = _flow(event.operands[0])
        return [f"the value is {ORDERS[_direction(values[0])]}", f"the array is {ORDERS[target]}"]
    return [f"{' x '.join(map(str, value.shape))} is {ORDERS[_direction(value)]}" for value in values[:2]]


def _strided_source(graph: Graph) -> Site | None:
    """The one assignment in the program that takes every second (or nth) row or column, if there is only one."""
    found = [
        Site.of(path, node)
        for path, tree in graph.trees.items()
        if not graph.is_ours(path)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(_has_step(one) for one in ast.walk(node.value))
    ]
    return found[0] if len(found) == 1 else None


def _has_step(node: ast.AST) -> bool:
    return isinstance(node, ast.Slice) and node.step is not None


def _is_of_strided_set(event: Event, graph: Graph) -> bool:
    """Whether rows with gaps are copied from an array that no step has made: it could be contiguous beforehand."""
    strided = [v for v in event.inputs if v.order == "?" and len(v.shape) == 2 and v.size >= LARGE]
    is_copy = event.name == "gather" or (event.name in TURNING and not event.is_view)
    return is_copy and bool(strided) and not graph.makers(strided[0].root, event.index)


def _collides(event: Event) -> bool:
    matrices = [v for v in event.inputs if v.is_array and len(v.shape) == 2 and min(v.shape) > 1]
    large = [v for v in matrices if v.size >= LARGE]
    if event.kind == PRODUCT:
        return any(v.order == "?" and v.size >= SMALL for v in matrices)
    if event.function is operator.setitem and large:
        target = event.operands[0] if event.operands else None
        return isinstance(target, np.ndarray) and _direction(large[0]) not in ("", _flow(target))
    if event.kind == COPY and event.name in TURNING and large and not event.is_view:
        made = event.operands[0] if event.name == "copyto" else event.result
        order = next((x for x in (*event.operands, event.options.get("order")) if isinstance(x, str)), "")
        source = [v for v in large if event.name != "copyto" or v is not event.inputs[0]]
        flow = order if event.name in ("flatten", "ravel", "reshape") and order else _flow(made)
        return bool(source) and _direction(source[0]) not in ("", flow) and flow != ""
    if event.kind not in (ARITHMETIC, EVALUATION):
        return False
    return len({_direction(v) for v in large} - {""}) > 1 or any(v.order == "?" for v in large)


def _direction(value: Value) -> str:
    return value.order[:1] if value.order[:1] in ("C", "F") else ""


def _flow(array: np.ndarray[Any, Any]) -> str:
    if array.ndim != 2:
        return ""
    return "C" if abs(array.strides[1]) <= abs(array.strides[0]) else "F"


@nothing_if_impossible
def _saved(event: Event, graph: Graph) -> tuple[float, float]:
    """What the faster of all-C and all-F saves."""
    slow = again(event)
    if slow is None:
        return 0.0, 0.0
    shares = []
    for order in ("C", "F"):
        fast = again(event, partial(_ordered, order=order))
        if fast is not None:
            shares.append(saved_share(slow, fast))
    best = max(shares, default=(0.0, 0.0))
    return of_time(best, graph.seconds([event])) if best[0] >= LEAST_GAIN else (0.0, 0.0)


def _ordered(array: np.ndarray[Any, Any], order: str) -> np.ndarray[Any, Any]:
    return np.asarray(array, order="C" if order == "C" else "F") if array.ndim == 2 else array
