"""Slow operations that NumPy has a faster form for: calls, sums of outer products, stores through masks.

Both forms are performed on the step's own operands.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mlpprof.advise.array_calls import (
    FasterForm,
    additions_at,
    deletions,
    is_packing,
    packed_vectors,
    searched_paths,
)
from mlpprof.advise.candidate import (
    CERTAIN,
    LEAST_GAIN,
    LIKELY,
    SMALL,
    Candidate,
    around,
    by_hand,
    facts,
    indices,
    total,
)
from mlpprof.advise.cures.slow_primitive import (
    as_product,
    by_mask,
    by_tanh,
    called,
    exponential,
    expression_cure,
    larger_one,
    mask_cure,
    of_the_array,
    of_whole_array,
    power_as,
    product_cure,
    product_of,
    sum_cure,
    unwritten,
    with_arange,
    with_slice,
    without_vectorize,
)
from mlpprof.advise.off_blas import off_blas
from mlpprof.advise.outer_broadcast import broadcasts
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, of_time, saved_share
from mlpprof.programs.record.trace import Event

LEAST_RANGE = 8
"""A range used as an index must have so many numbers for an array made in advance to be worth it."""

MOST_MATRIX_OPERATIONS = 16
"""No more operations on np.matrix are performed again."""

MOST_RELATED = 8
"""A finding names no more other places."""


def _slow_calls(graph: Graph) -> list[Candidate]:
    """One candidate for each line and flaw."""
    by_place: dict[tuple[str, int, str], list[tuple[Event, FasterForm, tuple[float, float]]]] = defaultdict(list)
    for event in graph.turn:
        for other in _faster_forms(event):
            saved = _saved_by_call(event, other, graph)
            if saved[1] > 0:
                site = graph.site(event)
                by_place[site.file, site.line, other.flaw].append((event, other, saved))
    found = [_call_candidate(parts, graph) for parts in by_place.values()]
    return [*found, *_matrices(graph)]


def _call_candidate(parts: list[tuple[Event, FasterForm, tuple[float, float]]], graph: Graph) -> Candidate:
    event, other, _ = max(parts, key=lambda part: part[2][1])
    site = graph.site(event)
    edit = expression_cure([(event, other.written) for event, other, _ in parts], graph)
    return Candidate(
        category="slow-primitive",
        site=site,
        title=f"`{graph.text(event, 50)}` {other.flaw}",
        why=other.why,
        cure=f"In {graph.place(site)}, {other.words}"
        if edit is not None
        else by_hand(f"in {graph.place(site)}, {other.words}"),
        cures=(edit,) if edit is not None else (),
        saved_s=total(saved for _, _, saved in parts),
        measured="both forms performed alternately on the operands of the step",
        confidence=other.confidence,
        covers=indices(e for e, _, _ in parts),
        evidence=facts(event, len(parts)),
    )


def _saved_by_call(event: Event, other: FasterForm, graph: Graph) -> tuple[float, float]:
    seconds = graph.seconds_with_callbacks(event) if is_of_python(event.function) else graph.seconds([event])
    if other.perform is None:
        return around(seconds)
    slow = again(event)
    if slow is None:
        return 0.0, 0.0
    share = saved_share(slow, other.perform)
    return of_time(share, seconds) if share[0] >= LEAST_GAIN else (0.0, 0.0)


def _faster_forms(event: Event) -> Iterator[FasterForm]:
    if event.is_own:
        return
    yield from _ranges(event)
    if event.function is operator.setitem:
        return
    for forms in (_powers, _calls, _indices, deletions, additions_at, searched_paths):
        yield from forms(event)


def _powers(event: Event) -> Iterator[FasterForm]:
    if event.name not in ("power", "float_power") or len(event.operands) != 2:
        return
    base, exponent = event.operands
    if isinstance(base, np.ndarray) and isinstance(exponent, int | float) and float(exponent) in (3.0, 4.0, 1.5):
        forms: dict[float, tuple[str, Callable[[], object]]] = {
            3.0: ("({x} * {x} * {x})", lambda: base * base * base),
            4.0: ("{np}.square({np}.square({x}))", lambda: np.square(np.square(base))),
            1.5: ("({x} * {np}.sqrt({x}))", lambda: base * np.sqrt(base)),
        }
        form, perform = forms[float(exponent)]

        yield FasterForm(
            "computes a small power with the general function",
            "The general power function computes a logarithm and an exponential for every element. A few products or "
            "square roots give the same power.",
            f"give the base of the power a name, say x, and write `{form.format(x='x', np='numpy')}`.",
            perform,
            power_as(form),
        )
    if isinstance(exponent, np.ndarray) and isinstance(base, float) and abs(base - np.e) < 1e-12:
        yield FasterForm(
            "computes a power of e",
            "The general power function is slower than np.exp.",
            "use NumPy's exp.",
            lambda: np.exp(exponent),
            exponential,
        )


def _calls(event: Event) -> Iterator[FasterForm]:
    function, operands = event.function, event.operands
    arrays = [x for x in operands if isinstance(x, np.ndarray)]
    if is_of_python(function) and arrays:
        whole, maker = _whole(event), "np.vectorize" if isinstance(function, np.vectorize) else "np.frompyfunc"
        yield FasterForm(
            "calls a Python function for every element",
            f"{maker} makes a Python loop that calls the function once per element.",
            f"call the function itself, without {maker}. It works on whole arrays without any change."
            if whole is not None
            else "write the function with NumPy's functions (exp, where, maximum), which work on whole arrays. Compare "
            "both on a few values, also at the borders between its cases.",
            whole or (lambda: 1.0 / (1.0 + np.exp(-arrays[0]))),
            without_vectorize if whole is not None else unwritten,
        )
    elif (function is np.where and len(operands) == 3) or (function is np.max and event.options == {"axis": 0}):
        yield from _larger_ones(event)
    elif function is np.apply_along_axis and len(operands) == 3 and not event.options and arrays:
        yield from _along_an_axis(*operands, event.result)
    elif event.name in ("array", "asarray") and not arrays and operands and _is_of_numbers(operands[0], event.result):
        yield FasterForm(
            "makes an array of a list, number by number",
            "A list holds an object for every number, and NumPy converts them one by one.",
            "make the array of what the list was made of, or keep an array in place of the list from the beginning.",
            None,
            of_the_array(event.result.dtype == np.float64),
        )
    elif function is np.einsum and len(operands) == 3 and event.options.keys() <= {"optimize"}:
        yield from _einsums(event)
    elif function is builtins.sum and operands:
        yield from _sums(operands[0])
    elif function in (builtins.max, builtins.min) and len(operands) == 1 and arrays:
        reduce = np.max if function is builtins.max else np.min
        yield FasterForm(
            "compares the elements one by one in Python",
            "NumPy's function does the same loop in compiled code.",
            f"use NumPy's {reduce.__name__}.",
            lambda: reduce(arrays[0]),
            called(function.__name__),
        )
    elif event.name == "append" and function is np.append and not is_packing(event):
        yield FasterForm(
            "copies the whole array to append to it",
            "Every call of np.append allocates a new array and copies all elements, so the time of a loop grows with "
            "the square of its length.",
            "collect the parts in a list and concatenate them once, or write into an array that you allocate once. "
            "Check that no line reads the array before it is complete.",
            None,
            confidence=LIKELY,
        )
    elif event.name == "expit" and arrays and arrays[0].dtype == np.float32:
        half = np.float32(0.5)
        yield FasterForm(
            "does not use vector instructions in float32",
            "SciPy's expit computes float32 numbers one by one. np.tanh uses vector instructions, and sigmoid(z) is "
            "0.5 tanh(0.5 z) + 0.5.",
            "write sigmoid(z) as 0.5 tanh(0.5 z) + 0.5.",
            lambda: half * np.tanh(half * arrays[0]) + half,
            unwritten if event.options else by_tanh,
        )


def _einsums(event: Event) -> Iterator[FasterForm]:
    subscripts, *arrays = event.operands
    product = product_of(subscripts) if isinstance(subscripts, str) else None
    if product is not None and all(isinstance(x, np.ndarray) for x in arrays):
        why = (
            "Python searches for the best order of the operations in every call."
            if event.options.get("optimize")
            else "Without `optimize`, einsum of two operands loops over the elements by itself."
        )
        yield FasterForm(
            "is a matrix product, which einsum does not do directly",
            f"{why} A matrix product calls BLAS at once.",
            f"write `{product.text('A', 'B')}` for the operands A and B.",
            lambda: product.of(*arrays),
            as_product,
        )
    elif not event.options:
        yield FasterForm(
            "does not use BLAS",
            "Without `optimize`, einsum of two operands loops over the elements by itself. A matrix product uses BLAS.",
            "add `optimize=True` to the call, or write it as a product of matrices.",
            lambda: np.einsum(*event.operands, optimize=True),
            as_product,
        )


def _larger_ones(event: Event) -> Iterator[FasterForm]:
    """The larger one of two at every place, by a mask or by an array of both."""
    pair = list(event.operands[1:] if event.name == "where" else event.operands[0])
    is_pair = len(pair) == 2 and all(isinstance(x, np.ndarray | int | float) for x in pair)
    if is_pair and _gives(lambda: np.maximum(*pair), event.result):
        yield FasterForm(
            "takes the larger one of two at every place",
            "np.maximum does that at once, without a mask and without an array of both.",
            "use NumPy's maximum of both.",
            lambda: np.maximum(*pair),
            larger_one,
            LIKELY,
        )


def is_of_python(function: Any) -> bool:
    """Whether a function of NumPy calls a Python function for every element."""
    is_of_objects = isinstance(function, np.ufunc) and all(set(kinds) <= set("O->") for kinds in function.types)
    return isinstance(function, np.vectorize) or is_of_objects


def _along_an_axis(function: Callable[..., Any], axis: int, array: Array, result: Any) -> Iterator[FasterForm]:
    """One call of the function with the whole array, if it gives the same."""
    forms: tuple[tuple[Callable[[], Any], str], ...] = (
        (lambda: function(array, axis=axis), ", axis={axis}"),
        (lambda: function(array), ""),
    )
    for perform, options in forms:
        if _gives(perform, result):
            yield FasterForm(
                "calls a function for every row or column",
                "np.apply_along_axis is a Python loop that calls the function once per row or column.",
                f"call the function once with the whole array{' and `axis`' if options else ''}.",
                perform,
                of_whole_array(options),
            )
            return


def _is_of_numbers(operand: Any, result: Any) -> bool:
    """Whether a large array of floating-point numbers is made of a list, or of lists in a list, of numbers."""
    while isinstance(operand, list) and operand and isinstance(operand[0], list):
        operand = operand[0]
    is_list = isinstance(operand, list) and bool(operand) and isinstance(operand[0], int | float)
    return is_list and isinstance(result, np.ndarray) and result.dtype.kind == "f" and result.size >= SMALL


def _whole(event: Event) -> Callable[[], object] | None:
    """The function within np.vectorize, called once with the arrays; None if that gives another result."""
    function = getattr(event.function, "pyfunc", None)
    if function is None or event.options:
        return None

    def perform() -> object:
        return function(*event.operands)

    return perform if _gives(perform, event.result) else None


def _gives(perform: Callable[[], object], expected: Any) -> bool:
    """Whether a function gives an array that is the expected one up to rounding."""
    if not isinstance(expected, np.ndarray):
        return False
    try:
        with np.errstate(all="ignore"):
            found = perform()
            return isinstance(found, np.ndarray) and found.shape == expected.shape and np.allclose(found, expected)
    except Exception:  # noqa: BLE001 - a function of numbers may raise anything when it is given arrays
        return False


def _sums(operand: Any) -> Iterator[FasterForm]:
    if isinstance(operand, np.ndarray):
        yield FasterForm(
            "adds the rows one by one in Python",
            "np.sum does the same loop in compiled code.",
            "use NumPy's sum with `axis=0`.",
            lambda: np.sum(operand, axis=0),
            called("sum", ", axis=0"),
        )
    elif isinstance(operand, list | tuple) and len(operand) > 3 and isinstance(operand[0], np.ndarray):
        yield FasterForm(
            "makes a new array for every term of the sum",
            "Python's sum() allocates a new array for each partial sum.",
            "use NumPy's sum with `axis=0`. One matrix product that sums over the samples is better still.",
            lambda: np.add.reduce(operand),
            called("sum", ", axis=0"),
        )


INDICES = (np.ndarray, list, range)
"""What takes rows by their numbers."""


def _indices(event: Event) -> Iterator[FasterForm]:
    """An index array with equal steps, where a slice would be a view that copies nothing."""
    if event.name != "gather" or event.function is not operator.getitem:
        return
    container, key = event.operands
    keys = key if isinstance(key, tuple) else (key,)
    lists = [k for k in keys if isinstance(k, INDICES)]
    if len(lists) != 1:
        return
    index = np.asarray(lists[0])
    if index.ndim != 1 or index.dtype.kind not in "iu" or index.size < 3:
        return
    steps = np.diff(index)
    if steps[0] > 0 and bool(np.all(steps == steps[0])):
        view = slice(int(index[0]), int(index[-1]) + 1, int(steps[0]))
        replaced = tuple(view if isinstance(k, INDICES) else k for k in keys)
        yield FasterForm(
            "uses an index array where a slice is enough",
            "An index array copies the rows. A slice of the same rows is a view and copies nothing.",
            f"use a slice of {index.size} rows in place of the index array. The slice is a view: check first that "
            "nothing writes into the rows, or into the array, while both are in use.",
            lambda: container[replaced],
            with_slice,
            LIKELY,
        )


def _ranges(event: Event) -> Iterator[FasterForm]:
    """A range among the indices, `A[range(n), y]`, which NumPy converts to an array each time."""
    if event.function not in (operator.getitem, operator.setitem):
        return
    container, key, *value = event.operands
    keys = key if isinstance(key, tuple) else (key,)
    if not value and sum(isinstance(k, INDICES) for k in keys) == 1:
        return  # a slice is better still
    longest = max((len(k) for k in keys if isinstance(k, range)), default=0)
    if not isinstance(container, np.ndarray) or longest < LEAST_RANGE:
        return
    replaced = tuple(np.arange(k.start, k.stop, k.step) if isinstance(k, range) else k for k in keys)
    target = container.copy() if value else container  # the program's own array must not change

    def perform() -> object:
        return target.__setitem__(replaced, value[0]) if value else container[replaced]

    yield FasterForm(
        "uses a range as an index",
        "NumPy converts the range to an array each time, number by number.",
        "use an array of these numbers (NumPy's arange) in place of the range, and make it once before the training.",
        perform,
        with_arange,
    )


def _matrices(graph: Graph) -> list[Candidate]:
    """Operations on np.matrix, each of which goes through Python code of that class."""
    events = [e for e in graph.last if not e.is_own and any(v.is_matrix for v in e.inputs)]
    if not events:
        return []
    parts = []
    for event in sorted(events, key=lambda e: -graph.seconds([e]))[:MOST_MATRIX_OPERATIONS]:
        slow = again(event)
        fast = again(event, lambda x: x.view(np.ndarray)) if event.name != "multiply" else None
        if slow is not None and fast is not None:
            parts.append(of_time(saved_share(slow, fast), graph.seconds([event])))
    low, high = total(parts)
    head = max(events, key=lambda e: graph.seconds([e]))
    makers = list(_calls_of(graph, MATRIX_MAKERS))
    site = makers[0] if makers else graph.site(head)
    return [
        Candidate(
            category="slow-primitive",
            site=site,
            title=f"`{graph.text(head, 50)}` uses np.matrix, which NumPy advises against",
            why="Every operation on an np.matrix runs Python code that keeps the result two-dimensional.",
            cure=by_hand(
                f"make two-dimensional arrays in place of the matrices of {graph.place(site)}.",
                "For arrays, `*` multiplies element by element, `@` is the matrix product, and a row has one "
                "dimension. Check every product and every index that reads them.",
            ),
            saved_s=(low, high),
            measured=f"{len(parts)} operations performed alternately on matrices and on arrays",
            covers=indices(events),
            related=tuple(
                {graph.site(e).line: graph.site(e) for e in events if graph.site(e).line != site.line}.values()
            )[:MOST_RELATED],
            evidence=facts(head, len(events)),
        )
    ]


def _where_as_index(graph: Graph) -> Iterator[Candidate]:
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
            cure=f"U{words[1:]}" if edit is not None else by_hand(f"in {graph.place(site)}, {words}"),
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


COMPARISONS = frozenset(("less", "less_equal", "greater", "greater_equal"))
UNIFORM = frozenset(("rand", "random", "random_sample", "uniform"))


def _random_masks(graph: Graph) -> Iterator[Candidate]:
    """Masks of zeros and ones at random, as for dropout, that a generator of NumPy's new kind draws faster."""
    drawn = {id(event.result): event for event in graph.turn if _is_large_draw(event) and event.name in UNIFORM}
    for event in graph.turn:
        of_draw = next((drawn[id(x)] for x in event.operands if id(x) in drawn), None)
        if event.name in COMPARISONS and of_draw is not None and _is_legacy(of_draw) and of_draw.index < event.index:
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


MATRIX_MAKERS = frozenset(("matrix", "mat", "asmatrix", "bmat"))


def _calls_of(graph: Graph, names: frozenset[str]) -> Iterator[Site]:
    """Statements of the program that call NumPy functions of these names."""
    for path, tree in graph.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.Return | ast.Expr | ast.AnnAssign):
                called = {
                    c.func.attr for c in ast.walk(node) if isinstance(c, ast.Call) and isinstance(c.func, ast.Attribute)
                }
                if called & names and not graph.is_ours(path):
                    end = node.end_lineno or node.lineno
                    yield Site(path, node.lineno, node.col_offset, None, end, node.end_col_offset or 0)


# Stores through a mask of booleans, as ``X[X < 0] = 0``, where a function of the whole array needs no branches. The
# time of the store depends on the mask, so the store is performed again with the mask of the step.


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


def _mask_stores(graph: Graph) -> list[Candidate]:
    """One candidate for each line with such a store."""
    tests = {id(event.result): event for event in graph.last if event.name in EXCHANGED and not event.is_own}
    stores = [store for event in graph.last if (store := _store(event, tests, graph)) is not None]
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


# Sums of outer products: ``(A[:, :, None] * D[:, None, :]).sum(axis=0)`` makes an outer product for every sample, and
# ``A.T @ D`` computes the same sum without them.

OuterSum = tuple[Event, Event, tuple[float, float]]
"""The multiplication, the sum, and what one product saves of both."""

SUMS = ("sum", "mean", "average")

MOST_ERROR = 1e-3
"""The two forms add in another order, so their results may differ by this relative error, also in float32."""


def _outer_sums(graph: Graph) -> list[Candidate]:
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


def _summed_products(graph: Graph) -> list[Candidate]:
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


def detect(graph: Graph) -> list[Candidate]:
    """Slow calls, sums of products, and stores through masks."""
    return [
        *_slow_calls(graph),
        *_outer_sums(graph),
        *_summed_products(graph),
        *_mask_stores(graph),
        *_where_as_index(graph),
        *_random_masks(graph),
        *packed_vectors(graph),
        *off_blas(graph),
        *broadcasts(graph),
    ]
