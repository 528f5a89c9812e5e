"""Masks of booleans: stores through them, the places where they are true as an index, and random ones.

For a store through a mask, as ``X[X < 0] = 0``, a function of the whole array needs no branches. The time of the store
depends on the mask, so the store is performed again with the mask of the step.
"""

from __future__ import annotations

import ast
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mlpprof.advise.candidate import (
    CERTAIN,
    LEAST_GAIN,
    LIKELY,
    SMALL,
    Candidate,
    by_hand,
    edit_in_words,
    facts,
    indices,
    total,
)
from mlpprof.advise.cures.slow_primitive import by_mask, expression_cure, mask_cure
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import code_of, is_path
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, of_time, saved_share
from mlpprof.programs.record.trace import Event

EXCHANGED = {"less": "greater", "less_equal": "greater_equal", "greater": "less", "greater_equal": "less_equal"}
"""Comparison -> the same comparison with its sides exchanged."""


@dataclass(frozen=True)
class MaskStore:
    """A number stored where a comparison of the array with a number (`bound`) is true. name: of the comparison."""

    event: Event
    target: Array
    number: float
    test: Event
    name: str
    bound: float

    @property
    def events(self) -> list[Event]:
        """The events that another form would replace."""
        return [self.test, self.event]


@dataclass(frozen=True)
class UnmaskedForm:
    """Another form of one or two stores: the NumPy function that does the same, and how to perform it."""

    stores: list[MaskStore]
    name: str
    perform: Callable[[], object]


def mask_stores(graph: Graph) -> list[Candidate]:
    """One candidate for each line with such a store."""
    stores = _stores(graph)
    by_place: dict[tuple[str, int], list[tuple[UnmaskedForm, tuple[float, float]]]] = defaultdict(list)
    for form in _forms(stores):
        actions = [action for store in form.stores for e in store.events if (action := again(e)) is not None]

        def slow(actions: list[Callable[[], object]] = actions) -> None:
            for action in actions:
                action()

        share = saved_share(slow, form.perform)
        if share[0] >= LEAST_GAIN:
            site = graph.site(form.stores[0].event)
            events = [e for store in form.stores for e in store.events]
            by_place[site.file, site.line].append((form, of_time(share, graph.seconds(events))))
    return [_mask_candidate(parts, graph) for parts in by_place.values()]


def _stores(graph: Graph) -> list[MaskStore]:
    tests = {id(event.result): event for event in graph.last if event.name in EXCHANGED and not event.is_own}
    return [store for event in graph.last if (store := _store(event, tests, graph)) is not None]


def _mask_candidate(parts: list[tuple[UnmaskedForm, tuple[float, float]]], graph: Graph) -> Candidate:
    form, _ = max(parts, key=lambda part: part[1][1])
    edit = mask_cure([([store.event for store in one.stores], one.name) for one, _ in parts], graph)
    sites = list(dict.fromkeys(graph.site(store.event) for store in form.stores))
    return Candidate(
        category="slow-primitive",
        site=sites[0],
        title=f"`{graph.text(form.stores[0].event, 50)}` stores through a mask of booleans",
        why="NumPy tests the mask element by element, and the CPU cannot predict the branches. A function of the whole "
        "array has no branches.",
        cure=_words(form, edit is not None, graph),
        cures=(edit,) if edit is not None else (),
        confidence=CERTAIN,
        saved_s=total(saved for _, saved in parts),
        measured="both forms performed alternately on the operands and the masks of the step",
        covers=indices(e for form, _ in parts for store in form.stores for e in store.events),
        related=tuple(sites[1:]),
        evidence=facts(form.stores[0].event, len(parts)),
    )


def _words(form: UnmaskedForm, is_edit: bool, graph: Graph) -> str:
    store = form.stores[0]
    place = graph.place(graph.site(store.event))
    if len(form.stores) == 1:
        words = f"the store in {place} by NumPy's {form.name} of the array and {store.bound:g}"
        check = "Check first that no other line needs the mask."
    else:
        other = graph.place(graph.site(form.stores[1].event))
        words = f"the stores in {place} and {other} by NumPy's {form.name} of the array and 0"
        check = "Check first that no line between them reads the array or needs the masks."
    words += ", with the array itself as `out`."
    return f"Replace {words}" if is_edit else by_hand(f"replace {words}", check)


def _forms(stores: list[MaskStore]) -> list[UnmaskedForm]:
    """The other form of each store, or of two stores together."""
    found: list[UnmaskedForm] = []
    left = list(stores)
    while left:
        one = left.pop(0)
        if left and _is_step_function(one, left[0]):
            found.append(_step_function([one, left.pop(0)]))
        elif (form := _form(one)) is not None:
            found.append(form)
    return found


def _form(store: MaskStore) -> UnmaskedForm | None:
    x, bound = store.target.copy(order="K"), store.bound
    if store.number == bound:
        function = np.maximum if store.name.startswith("less") else np.minimum
        return UnmaskedForm([store], function.__name__, lambda: function(x, bound, out=x))
    return None


def _is_step_function(one: MaskStore, other: MaskStore) -> bool:
    """Whether two stores make 1 of what is above a bound of 0, and 0 of the rest, in either order."""
    above, below = (one, other) if one.name == "greater" else (other, one)
    is_step = above.name == "greater" and above.number == 1 and below.name.startswith("less") and below.number == 0
    is_together = one.event.calls == other.event.calls and one.event.loops == other.event.loops
    return is_step and one.target is other.target and is_together and above.bound == below.bound == 0


def _step_function(stores: list[MaskStore]) -> UnmaskedForm:
    x = stores[0].target.copy(order="K")
    return UnmaskedForm(stores, "greater", lambda: np.greater(x, 0, out=x))


def _store(event: Event, tests: dict[int, Event], graph: Graph) -> MaskStore | None:
    if event.is_own or event.function is not operator.setitem or len(event.operands) != 3:
        return None
    target, mask, number = event.operands
    is_plain = type(target) is np.ndarray and target.dtype.kind == "f" and target.size >= SMALL
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
        left, right, name = right, left, EXCHANGED[name]
    if not isinstance(right, int | float | np.number) or not _is_same(left, target):
        return None
    is_changed = graph.is_changed(event.writes[0], test, event)
    return None if is_changed else MaskStore(event, target, float(number), test, name, float(right))


def _is_same(one: Any, other: Array) -> bool:
    if not isinstance(one, np.ndarray):
        return False
    lies, other_lies = one.__array_interface__, other.__array_interface__
    return (lies["data"], one.shape, one.strides) == (other_lies["data"], other.shape, other.strides)


INVERSE = {ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<", ast.Eq: "!=", ast.NotEq: "=="}
"""A comparison -> the sign of what is true where it is false."""


def zeros_by_mask(graph: Graph) -> Iterator[Candidate]:
    """Zeros that are stored through a mask of another array: a product with the opposite mask has no branches."""
    known = {store.event.index for store in _stores(graph) if _form(store) is not None}
    for event in graph.turn:
        if event.function is not operator.setitem or event.index in known or event.is_own:
            continue
        target, mask, number = event.operands
        is_mask = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and isinstance(target, np.ndarray)
        if not is_mask or mask.shape != target.shape or target.dtype.kind != "f" or target.size < SMALL:
            continue
        store = again(event)
        if store is None or not isinstance(number, int | float) or number != 0:
            continue
        held = target.copy(order="K")
        share = saved_share(store, partial(_multiplied, held, mask))
        if share[0] < LEAST_GAIN:
            continue
        site = graph.site(event)
        edit = _times_opposite(event, graph)
        words = "multiply the array in place by the opposite mask, which is true where the array stays."
        yield Candidate(
            category="slow-primitive",
            site=site,
            title=f"`{graph.text(event, 50)}` stores zeros through a mask of booleans",
            why="NumPy tests the mask element by element, and the CPU cannot predict the branches. A product with a "
            "mask has no branches.",
            cure=edit_in_words(edit, words, graph.place(site)),
            cures=(edit,) if edit is not None else (),
            saved_s=of_time(share, graph.seconds([event])),
            measured="both forms performed alternately on the array and the mask of the step",
            confidence=LIKELY,
            covers=indices([event]),
            evidence=facts(event, 1),
        )


def _multiplied(array: Array, mask: Array) -> None:
    array *= ~mask


def _times_opposite(event: Event, graph: Graph) -> Cure | None:
    code = code_of(graph)
    node = code.node(event)
    match node:
        case ast.Assign(targets=[ast.Subscript(value=array, slice=mask)]) if is_path(array):
            pass
        case _:
            return None
    match mask:
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in INVERSE:
            opposite = f"{code.text(left)} {INVERSE[type(sign)]} {code.text(right)}"
        case ast.UnaryOp(op=ast.Invert(), operand=held):
            opposite = code.text(held)
        case ast.Name() | ast.Attribute() | ast.Subscript():
            opposite = f"~{code.text(mask)}"
        case _:
            return None
    edits = Edits(code)
    edits.replace_statement(node, f"{code.text(array)} *= {opposite}")
    return edits.cure()


def where_as_index(graph: Graph) -> Iterator[Candidate]:
    """The places where a mask is true used as an index, ``A[np.where(mask)]``, where the mask does it."""
    places = {id(event.result): event for event in graph.turn if event.name in ("where", "nonzero")}
    for event in graph.turn:
        of_mask = places.get(id(event.operands[1])) if event.function in (operator.getitem, operator.setitem) else None
        if of_mask is None or of_mask.index > event.index:
            continue
        target, _, *value = event.operands
        mask = getattr(of_mask.function, "__self__", None)
        if not isinstance(mask, np.ndarray):
            mask = of_mask.operands[0] if len(of_mask.operands) == 1 else None
        if not isinstance(target, np.ndarray) or not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            continue
        share = _saved_by_mask(target, mask, value)
        if share[0] < LEAST_GAIN:
            continue
        edit = expression_cure([(event, by_mask)], graph)
        words = "use the mask itself as the index."
        site = graph.site(event)
        yield Candidate(
            category="slow-primitive",
            site=site,
            title=f"`{graph.text(event, 50)}` looks up where a mask is true, to use these places as an index",
            why="NumPy makes an array of numbers for every axis, and then looks up each place. A mask of booleans is "
            "an index, too.",
            cure=edit_in_words(edit, words, graph.place(site)),
            cures=(edit,) if edit is not None else (),
            saved_s=of_time(share, graph.seconds([of_mask, event])),
            measured="both forms performed alternately on the operands of the step",
            confidence=CERTAIN,
            covers=indices([of_mask, event]),
            evidence=facts(event, 1),
        )


def _saved_by_mask(target: Array, mask: Array, value: list[Any]) -> tuple[float, float]:
    held = target.copy(order="K") if value else target

    def performed(key: Any) -> object:
        return held.__setitem__(key, value[0]) if value else held[key]

    return saved_share(lambda: performed(mask.nonzero()), lambda: performed(mask))


UNIFORM = frozenset(("rand", "random", "random_sample", "uniform"))


def random_masks(graph: Graph) -> Iterator[Candidate]:
    """Masks of zeros and ones at random, as for dropout, that a generator of NumPy's new kind draws faster."""
    drawn = {id(event.result): event for event in graph.turn if _is_large_draw(event) and event.name in UNIFORM}
    for event in graph.turn:
        of_draw = next((drawn[id(x)] for x in event.operands if id(x) in drawn), None)
        if event.name in EXCHANGED and of_draw is not None and _is_legacy(of_draw) and of_draw.index < event.index:
            yield from _mask_of_draws([of_draw, event], graph)
        elif _is_large_draw(event) and _is_of_two(event):
            yield from _mask_of_draws([event], graph)


def _mask_of_draws(events: list[Event], graph: Graph) -> Iterator[Candidate]:
    actions = [action for event in events if (action := _drawn_again(event)) is not None]
    shape, rng = events[-1].result.shape, np.random.default_rng(0)
    share = saved_share(lambda: [action() for action in actions], lambda: rng.random(shape, dtype=np.float32) < 0.5)
    if share[0] < LEAST_GAIN:
        return
    site = graph.site(events[0])
    yield Candidate(
        category="slow-primitive",
        site=site,
        title=f"`{graph.text(events[0], 50)}` draws a random mask by a slow function",
        why="NumPy's older random functions, and those that choose among values, take several times as long for every "
        "element as uniform float32 numbers of a generator.",
        cure=by_hand(
            f"make a generator once, `rng = np.random.default_rng(seed)`, and draw the mask of {graph.place(site)} as "
            "`rng.random(shape, dtype=np.float32) < p`, where p is the probability of a one.",
            "The random numbers are others than now, so the training differs as with another seed.",
        ),
        saved_s=of_time(share, graph.seconds(events)),
        measured="both ways to draw a mask of this shape performed alternately",
        confidence=LIKELY,
        covers=indices(events),
        evidence=facts(events[-1], 1),
    )


def _drawn_again(event: Event) -> Callable[[], object] | None:
    """The operation as a function; the program's own generator must not change."""
    owner = getattr(event.function, "__self__", None)
    if not isinstance(owner, np.random.RandomState | np.random.Generator):
        return again(event)
    kind = np.random.RandomState if isinstance(owner, np.random.RandomState) else np.random.default_rng
    return partial(getattr(kind(0), event.function.__name__), *event.operands, **event.options)


def _is_large_draw(event: Event) -> bool:
    owner, made = getattr(event.function, "__self__", None), event.result
    is_draw = isinstance(owner, np.random.RandomState | np.random.Generator)
    return is_draw and isinstance(made, np.ndarray) and made.size >= SMALL


def _is_legacy(event: Event) -> bool:
    return isinstance(getattr(event.function, "__self__", None), np.random.RandomState)


def _is_of_two(event: Event) -> bool:
    """Whether it chooses one of two values for every element, by `choice` or as a success of one trial."""
    if event.name == "binomial":
        trials = event.operands[0] if event.operands else event.options.get("n")
        return isinstance(trials, int) and trials == 1
    given = {**dict(zip(("a", "size", "replace", "p"), event.operands, strict=False)), **event.options}
    values: Any = given.get("a")
    number = values if isinstance(values, int) else np.size(values)
    return event.name == "choice" and number == 2 and given.get("replace", True) is True
