"""Slow operations that NumPy has a faster form for: its calls here, and what the files of `advise` find.

Both forms are performed on the step's own operands.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
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
from mlpprof.advise.cures.all_at_once import at_once
from mlpprof.advise.cures.matrix_class import arrays_for_matrices
from mlpprof.advise.cures.slow_primitive import (
    as_product,
    by_tanh,
    called,
    exponential,
    expression_cure,
    first_operand,
    half_of_sum,
    larger_one,
    of_the_array,
    of_whole_array,
    positive_part,
    power_as,
    product_of,
    times_the_mask,
    unwritten,
    with_arange,
    with_slice,
    without_vectorize,
)
from mlpprof.advise.cures.vectorized_function import for_whole_arrays
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.advise.loops import loop_seconds
from mlpprof.advise.masks import mask_stores, random_masks, where_as_index, zeros_by_mask
from mlpprof.advise.off_blas import off_blas
from mlpprof.advise.outer_broadcast import broadcasts
from mlpprof.advise.rows_one_by_one import reduction_of_rows
from mlpprof.advise.summed_products import outer_sums, summed_products
from mlpprof.instrument.numpy_costs import ARITHMETIC
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, nothing_if_impossible, of_time, saved_share
from mlpprof.programs.record.trace import Event, LoopRun

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
        if reduction_of_rows(event, graph) is not None:
            continue  # one call for all rows takes the place of this list
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
    words, saved_s = other.words, total(saved for _, _, saved in parts)
    if edit is None and is_of_python(event.function):
        edit = for_whole_arrays(event, graph)
    elif edit is None and event.function is np.append and (runs := _innermost_loop(event, graph)):
        edit = next(iter(at_once(code_of(graph).node_at(runs[0].site), runs, graph)), None)
        if edit is not None:
            words = "make the array of all parts at once, in place of the loop."
            saved_s = around(loop_seconds(graph.trace.sites[runs[0].site], runs, graph))
    return Candidate(
        category="slow-primitive",
        site=site,
        title=f"`{graph.text(event, 50)}` {other.flaw}",
        why=other.why,
        cure=f"In {graph.place(site)}, {words}" if edit is not None else by_hand(f"in {graph.place(site)}, {words}"),
        cures=(edit,) if edit is not None else (),
        saved_s=saved_s,
        measured="both forms performed alternately on the operands of the step",
        confidence=other.confidence,
        covers=indices(one for e, _, _ in parts for one in _with_its_list(e, graph)),
        evidence=facts(event, len(parts)),
    )


def _innermost_loop(event: Event, graph: Graph) -> list[LoopRun]:
    """The executions, in the step of an event, of the loop that it runs in."""
    site = event.loops[-1].site if event.loops else None
    return [run for run in graph.trace.loops if (run.site, run.step) == (site, event.step)]


def _with_its_list(event: Event, graph: Graph) -> list[Event]:
    """An event, and the one that has made the list which it makes an array of."""
    first = event.operands[0] if event.operands else None
    return [*(one for one in graph.turn if isinstance(first, list) and one.result is first), event]


@nothing_if_impossible
def _saved_by_call(event: Event, other: FasterForm, graph: Graph) -> tuple[float, float]:
    seconds = graph.seconds_with_callbacks(event) if is_of_python(event.function) else graph.seconds([event])
    if other.perform is None:
        return around(graph.seconds(_with_its_list(event, graph)))
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
        larger = [*_larger_ones(event)]
        yield from larger or _masked_ones(event)
    elif function is np.apply_along_axis and len(operands) == 3 and not event.options and arrays:
        yield from _along_an_axis(*operands, event)
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
    if event.name == "where" and len({*np.unique(event.operands[0]).astype(bool)}) < 2:
        return  # the mask took one of them everywhere, so it shows nothing about where it takes the other
    is_pair = len(pair) == 2 and all(isinstance(x, np.ndarray | int | float) for x in pair)
    if is_pair and _gives(lambda: np.maximum(*pair), event):
        yield FasterForm(
            "takes the larger one of two at every place",
            "np.maximum does that at once, without a mask and without an array of both.",
            "use NumPy's maximum of both.",
            lambda: np.maximum(*pair),
            larger_one,
            LIKELY,
        )


def _masked_ones(event: Event) -> Iterator[FasterForm]:
    """What a mask selects, and 0 elsewhere: a product with the mask."""
    if event.name != "where":
        return
    mask, value, other = event.operands
    is_of_mask = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and isinstance(value, np.ndarray)
    if is_of_mask and isinstance(other, int | float) and other == 0 and _gives(lambda: value * mask, event):
        yield FasterForm(
            "selects by a mask what a product with the mask gives",
            "np.where looks at the mask element by element. A product with it has no branches.",
            "multiply by the mask.",
            lambda: value * mask,
            times_the_mask,
            LIKELY,
        )


def is_of_python(function: Any) -> bool:
    """Whether a function of NumPy calls a Python function for every element."""
    is_of_objects = isinstance(function, np.ufunc) and all(set(kinds) <= set("O->") for kinds in function.types)
    return isinstance(function, np.vectorize) or is_of_objects


def _along_an_axis(function: Callable[..., Any], axis: int, array: Array, event: Event) -> Iterator[FasterForm]:
    """One call of the function with the whole array, if it gives the same."""
    forms: tuple[tuple[Callable[[], Any], str], ...] = (
        (lambda: function(array, axis=axis), ", axis={axis}"),
        (lambda: function(array), ""),
    )
    for perform, options in forms:
        if _gives(perform, event):
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

    return perform if _gives(perform, event) else None


def _gives(perform: Callable[[], object], event: Event) -> bool:
    """Whether a function gives the array that an operation gave, up to rounding.

    The step may have stored something else into the operands since then: then the operation is performed again.
    """
    if not isinstance(event.result, np.ndarray):
        return False
    try:
        with np.errstate(all="ignore"):
            found = perform()
            if not isinstance(found, np.ndarray) or found.shape != event.result.shape:
                return False
            slow = again(event)
            return np.allclose(found, event.result) or (slow is not None and np.allclose(found, np.asarray(slow())))
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


def _half_sums(graph: Graph) -> Iterator[Candidate]:
    """``(np.abs(Z) + Z) / 2``, which is the larger one of Z and 0."""
    code = code_of(graph)
    for event in graph.turn:
        node = code.node(event)
        operand = half_of_sum(node, code) if event.name in ("divide", "multiply") else None
        if operand is None:
            continue
        assert node is not None
        inner = {*ast.walk(node)}
        events = [one for one in graph.turn if code.node(one) in inner and one.calls == event.calls]
        values = [x for one in events for x in one.operands if one.name in ("abs", "absolute")]
        actions = [action for one in events if (action := again(one)) is not None]
        if len(values) != 1 or len(actions) != len(events):
            continue
        fast, slow = partial(np.maximum, values[0], 0), partial(_performed, actions)
        if not _gives(fast, event):
            continue
        other = FasterForm(
            "makes the positive part of an array in three operations",
            "np.maximum does that in one.",
            "use NumPy's maximum of the array and 0.",
            None,
            positive_part,
        )
        share = saved_share(slow, fast)
        if share[0] >= LEAST_GAIN:
            yield _call_candidate([(event, other, of_time(share, graph.seconds(events)))], graph)


def _performed(actions: list[Callable[[], object]]) -> None:
    for action in actions:
        action()


def _repeated_rows(graph: Graph) -> Iterator[Candidate]:
    """Rows or columns that are repeated only to be added to a matrix: NumPy repeats them by itself."""
    for event in graph.turn:
        operand, output = event.operands[0] if event.operands else None, event.output
        if event.name not in ("tile", "repeat") or not isinstance(operand, np.ndarray) or output is None:
            continue
        made = event.result
        if made.ndim != 2 or made.size < SMALL or not _repeats(operand, made):
            continue
        later = graph.turn[graph.turn.index(event) + 1 :]
        readers = [one for one in later if any(value.root == output.root for value in one.inputs)]
        is_broadcast = readers and all(one.kind == ARITHMETIC and len(one.inputs) == 2 for one in readers)
        others = [x.shape for one in readers for x in one.operands if isinstance(x, np.ndarray) and x is not made]
        if is_broadcast and all(shape == made.shape for shape in others) and len(others) == len(readers):
            other = FasterForm(
                "copies the same row or column again and again",
                "In a sum or a product with a matrix, NumPy repeats a row or a column by itself, without a copy.",
                "use the row or the column itself.",
                None,
                first_operand,
            )
            yield _call_candidate([(event, other, around(graph.seconds([event])))], graph)


def _repeats(operand: Array, made: Array) -> bool:
    """Whether a matrix has the operand, as it was then, in every row or every column."""
    if operand.shape in (made.shape[1:], (1, made.shape[1])):
        return bool(np.all(made == made[:1]))
    return operand.shape == (len(made), 1) and bool(np.all(made == made[:, :1]))


def _matrices(graph: Graph) -> list[Candidate]:
    """Operations on np.matrix, each of which goes through Python code of that class."""
    events = [e for e in graph.last if not e.is_own and any(v.is_matrix for v in e.inputs)]
    if not events:
        return []
    parts = []
    for event in sorted(events, key=lambda e: -graph.seconds([e]))[:MOST_MATRIX_OPERATIONS]:
        slow = again(event)
        fast = again(event, lambda x: x.view(np.ndarray))
        if event.function is operator.mul and all(isinstance(x, np.matrix) for x in event.operands):
            left, right = (x.view(np.ndarray) for x in event.operands)
            fast = partial(np.matmul, left, right)
        if slow is not None and fast is not None:
            parts.append(of_time(saved_share(slow, fast), graph.seconds([event])))
    low, high = total(parts)
    head = max(events, key=lambda e: graph.seconds([e]))
    makers = list(_calls_of(graph, MATRIX_MAKERS))
    site = makers[0] if makers else graph.site(head)
    edit = arrays_for_matrices(graph)
    return [
        Candidate(
            category="slow-primitive",
            site=site,
            title=f"`{graph.text(head, 50)}` uses np.matrix, which NumPy advises against",
            why="Every operation on an np.matrix runs Python code that keeps the result two-dimensional.",
            cures=(edit,) if edit is not None else (),
            cure="Make two-dimensional arrays in place of the matrices, and write `@` for the product of two of them."
            if edit is not None
            else by_hand(
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
                    yield Site.of(path, node)


def detect(graph: Graph) -> list[Candidate]:
    """Slow calls, sums of products, and stores through masks."""
    return [
        *_slow_calls(graph),
        *_half_sums(graph),
        *_repeated_rows(graph),
        *outer_sums(graph),
        *summed_products(graph),
        *mask_stores(graph),
        *zeros_by_mask(graph),
        *where_as_index(graph),
        *random_masks(graph),
        *packed_vectors(graph),
        *off_blas(graph),
        *broadcasts(graph),
    ]
