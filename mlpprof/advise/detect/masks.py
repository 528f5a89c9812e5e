"""``X[X < 0] = 0``: a store through a mask of booleans, where a function of the whole array does it without branches.

How slow the store is depends on how the mask looks: it is performed again with the mask of the step.
"""

from __future__ import annotations

import ast
import operator
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.advise.candidate import CERTAIN, Candidate, by_hand, facts, indices, total
from mlpprof.advise.detect.edits import edit, is_simple, node_at, numpy_name
from mlpprof.advise.graph import Graph
from mlpprof.advise.identity import Array
from mlpprof.advise.perform import again
from mlpprof.advise.replay import of_time, saved_share
from mlpprof.advise.trace import Event

TURNED = {"less": "greater", "less_equal": "greater_equal", "greater": "less", "greater_equal": "less_equal"}
"""Comparisons, and what they are with their sides exchanged."""

LEAST_SHARE = 0.3
"""Of the operations' time that the other form must save."""

LEAST_SIZE = 256


@dataclass(frozen=True)
class Store:
    """A number stored where a comparison of the array with a number (`bound`) is true. name: of the comparison."""

    event: Event
    target: Array
    number: float
    test: Event
    name: str
    bound: float

    @property
    def events(self) -> list[Event]:
        """What another form would replace."""
        return [self.test, self.event]


@dataclass(frozen=True)
class Form:
    """Another form of some stores: the function of NumPy that does it, and how to perform it."""

    stores: list[Store]
    name: str
    perform: Callable[[], object]


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for every line with such a store."""
    tests = {id(event.result): event for event in graph.last if event.name in TURNED and not event.is_own}
    stores = [store for event in graph.last if (store := _store(event, tests, graph)) is not None]
    by_place: dict[tuple[str, int], list[tuple[Form, tuple[float, float]]]] = defaultdict(list)
    for form in _forms(stores):
        actions = [action for store in form.stores for e in store.events if (action := again(e)) is not None]

        def slow(actions: list[Callable[[], object]] = actions) -> None:
            for action in actions:
                action()

        share = saved_share(slow, form.perform)
        if share[0] >= LEAST_SHARE:
            site = graph.site(form.stores[0].event)
            events = [e for store in form.stores for e in store.events]
            by_place[site.file, site.line].append((form, of_time(share, graph.seconds(events))))
    return [_candidate(parts, graph) for parts in by_place.values()]


def _candidate(parts: list[tuple[Form, tuple[float, float]]], graph: Graph) -> Candidate:
    form, _ = max(parts, key=lambda part: part[1][1])
    sites = list(dict.fromkeys(graph.site(store.event) for store in form.stores))
    return Candidate(
        category="slow-primitive",
        site=sites[0],
        title=f"{graph.text(form.stores[0].event, 50)}: a store through a mask of booleans",
        why="the store looks at one boolean after the other and branches at each, which no processor foresees; a "
        "function of the whole array has no branches",
        cure=_cure(form, graph),
        confidence=CERTAIN,
        saved_s=total(saved for _, saved in parts),
        measured="both forms performed in turns on the operands and the masks of the step",
        covers=indices(e for form, _ in parts for store in form.stores for e in store.events),
        related=tuple(sites[1:]),
        evidence=facts(form.stores[0].event, len(parts)),
    )


def _cure(form: Form, graph: Graph) -> str:
    """An edit of the one store, where its statement names all that is in it."""
    store = form.stores[0]
    place = graph.place(graph.site(store.event))
    file, node = graph.trace.sites[store.event.site].file, node_at(store.event, graph)
    name = numpy_name(file, graph) if file in graph.trees else None
    match node:
        case ast.Assign(
            targets=[ast.Subscript(value=target, slice=ast.Compare(left=left, comparators=[bound]))], value=number
        ) if name is not None and len(form.stores) == 1:
            array, stored = ast.unparse(target), ast.unparse(number)
            if sorted((array, stored)) == sorted(map(ast.unparse, (left, bound))) and is_simple(target):
                written = f"{name}.{form.name}({array}, {stored}, out={array})"
                edited = edit(store.event, written, graph)
                if edited is not None:
                    return edited
    if len(form.stores) == 1:
        return by_hand(
            f"in place of the store in {place}, use NumPy's {form.name} of the array and {store.bound:g}, with the "
            "array itself as `out`.",
            "Check first that no other line needs the mask.",
        )
    other = graph.place(graph.site(form.stores[1].event))
    return by_hand(
        f"in place of the stores in {place} and {other}, use NumPy's {form.name} of the array and 0, with the array "
        "itself as `out`.",
        "Check first that no line between them reads the array or needs the masks.",
    )


def _forms(stores: list[Store]) -> list[Form]:
    """The other form of each, or of two together."""
    found: list[Form] = []
    left = list(stores)
    while left:
        one = left.pop(0)
        if left and _is_step_function(one, left[0]):
            found.append(_step_function([one, left.pop(0)]))
        elif (form := _form(one)) is not None:
            found.append(form)
    return found


def _form(store: Store) -> Form | None:
    x, bound = store.target.copy(order="K"), store.bound
    if store.number == bound:
        function = np.maximum if store.name.startswith("less") else np.minimum
        return Form([store], function.__name__, lambda: function(x, bound, out=x))
    return None


def _is_step_function(one: Store, other: Store) -> bool:
    """Whether two stores make 1 of what is above a bound of 0, and 0 of the rest, in either order."""
    above, below = (one, other) if one.name == "greater" else (other, one)
    is_step = above.name == "greater" and above.number == 1 and below.name.startswith("less") and below.number == 0
    is_together = one.event.calls == other.event.calls and one.event.loops == other.event.loops
    return is_step and one.target is other.target and is_together and above.bound == below.bound == 0


def _step_function(stores: list[Store]) -> Form:
    x = stores[0].target.copy(order="K")
    return Form(stores, "greater", lambda: np.greater(x, 0, out=x))


def _store(event: Event, tests: dict[int, Event], graph: Graph) -> Store | None:
    if event.is_own or event.function is not operator.setitem or len(event.operands) != 3:
        return None
    target, mask, number = event.operands
    is_plain = type(target) is np.ndarray and target.dtype.kind == "f" and target.size >= LEAST_SIZE
    if not is_plain or not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != target.shape:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float | np.number):
        return None
    test = tests.get(id(mask))
    if test is None or test.index > event.index or len(test.operands) != 2:
        return None
    if any(index != event.index for index in graph.read_later(test)):
        return None  # a mask that is kept for the way back
    left, right = test.operands
    name = test.name
    if not isinstance(left, np.ndarray):
        left, right, name = right, left, TURNED[name]
    if not isinstance(right, int | float | np.number) or not _is_same(left, target):
        return None
    is_changed = graph.is_changed(event.writes[0], test, event)
    return None if is_changed else Store(event, target, float(number), test, name, float(right))


def _is_same(one: Any, other: Array) -> bool:
    if not isinstance(one, np.ndarray):
        return False
    lies, other_lies = one.__array_interface__, other.__array_interface__
    return (lies["data"], one.shape, one.strides) == (other_lies["data"], other.shape, other.strides)
