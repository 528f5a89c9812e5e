"""Slow ways to say what NumPy has a fast way for; both are performed on the step's own operands."""

from __future__ import annotations

import ast
import builtins
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.advise.candidate import CERTAIN, LIKELY, Candidate, around, by_hand, facts, indices, total
from mlpprof.advise.detect.edits import edit, is_simple, node_at, numpy_name
from mlpprof.advise.detect.elementwise import operands_of
from mlpprof.advise.graph import Graph
from mlpprof.advise.perform import again
from mlpprof.advise.replay import of_time, saved_share
from mlpprof.advise.trace import Event
from mlpprof.instrument.rewriting import Site

LEAST_SHARE = 0.15
"""Of an operation's time that the other form must save."""

LEAST_RANGE = 8
"""Numbers in an index that are worth an array made in advance."""


def _unwritten(operands: list[ast.expr], name: str) -> str | None:
    """No expression of this file can be put in the place of what is slow."""
    return None


@dataclass(frozen=True)
class Other:
    """A faster form: what it is called, the cure in words, and how to perform it (None: its time is nothing).

    written: the expression that stands in the place of one with these operands, with NumPy's name; None if none does.
    """

    title: str
    why: str
    words: str
    perform: Callable[[], object] | None
    written: Callable[[list[ast.expr], str], str | None] = _unwritten
    confidence: str = CERTAIN


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for every line and kind of slowness."""
    by_place: dict[tuple[str, int, str], list[tuple[Event, Other, tuple[float, float]]]] = defaultdict(list)
    for event in graph.turn:
        for other in _others(event):
            saved = _saved(event, other, graph)
            if saved[1] > 0:
                site = graph.site(event)
                by_place[site.file, site.line, other.title].append((event, other, saved))
    found = [_candidate(parts, graph) for parts in by_place.values()]
    return [*found, *_matrices(graph)]


def _candidate(parts: list[tuple[Event, Other, tuple[float, float]]], graph: Graph) -> Candidate:
    event, other, _ = max(parts, key=lambda part: part[2][1])
    site = graph.site(event)
    return Candidate(
        category="slow-primitive",
        site=site,
        title=f"{graph.text(event, 50)}: {other.title}",
        why=other.why,
        cure=_edited(event, other, graph) or by_hand(f"in {graph.place(site)} {other.words}"),
        saved_s=total(saved for _, _, saved in parts),
        measured="both forms performed in turns on the operands of the step",
        confidence=other.confidence,
        covers=indices(e for e, _, _ in parts),
        evidence=facts(event, len(parts)),
    )


def _edited(event: Event, other: Other, graph: Graph) -> str | None:
    """The line with the faster form in it, where that can be written with the names of the file."""
    node, file = node_at(event, graph), graph.trace.sites[event.site].file
    name = numpy_name(file, graph) if file in graph.trees else None
    if not isinstance(node, ast.expr) or name is None:
        return None
    if isinstance(node, ast.Call) and any(isinstance(one, ast.Starred) for one in node.args):
        return None
    written = other.written(operands_of(node), name)
    return edit(event, written, graph) if written is not None else None


def _saved(event: Event, other: Other, graph: Graph) -> tuple[float, float]:
    is_calling_back = isinstance(event.function, np.vectorize)
    seconds = graph.seconds_with_callbacks(event) if is_calling_back else graph.seconds([event])
    if other.perform is None:
        return around(seconds)
    slow = again(event)
    if slow is None:
        return 0.0, 0.0
    share = saved_share(slow, other.perform)
    return of_time(share, seconds) if share[0] >= LEAST_SHARE else (0.0, 0.0)


def _others(event: Event) -> Iterator[Other]:
    if event.is_own:
        return
    yield from _ranges(event)
    if event.function is operator.setitem:
        return
    yield from _powers(event)
    yield from _calls(event)
    yield from _indices(event)


def _powers(event: Event) -> Iterator[Other]:
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

        def written(operands: list[ast.expr], name: str) -> str | None:
            if len(operands) != 2 or not is_simple(operands[0]):
                return None
            text = ast.unparse(operands[0])
            x = text if isinstance(operands[0], ast.Name | ast.Attribute | ast.Subscript) else f"({text})"
            return form.format(x=x, np=name)

        yield Other(
            "a power by the general function",
            "a general power is a logarithm and an exponential for every element; a small whole one is a few products",
            f"give the base of the power a name, say x, and write `{form.format(x='x', np='numpy')}`.",
            perform,
            written,
        )
    if isinstance(exponent, np.ndarray) and isinstance(base, float) and abs(base - np.e) < 1e-12:
        yield Other("a power of e", "np.exp is made for it", "use NumPy's exp.", lambda: np.exp(exponent))


def _calls(event: Event) -> Iterator[Other]:
    function, operands = event.function, event.operands
    arrays = [x for x in operands if isinstance(x, np.ndarray)]
    if isinstance(function, np.vectorize) and arrays:
        whole = _whole(event)
        yield Other(
            "np.vectorize calls Python for every element",
            "it is a loop in Python, whatever its name: one call of a Python function an element",
            "call the function itself, without np.vectorize: it takes whole arrays without any change."
            if whole is not None
            else "write the function with NumPy's own (exp, where, maximum), which take whole arrays. Check both on a "
            "few values, also at the ends of its cases.",
            whole or (lambda: 1.0 / (1.0 + np.exp(-arrays[0]))),
        )
    elif function is np.einsum and len(operands) == 3:
        yield Other(
            "a contraction that BLAS can do",
            "einsum of two operands loops by itself, where a product of matrices goes to BLAS",
            "add `optimize=True` to the call, or write it as a product of matrices.",
            lambda: np.einsum(*operands, optimize=True),
            _unwritten if event.options else _optimized,
        )
    elif function is builtins.sum and operands:
        yield from _sums(operands[0])
    elif function in (builtins.max, builtins.min) and len(operands) == 1 and arrays:
        reduce = np.max if function is builtins.max else np.min
        yield Other(
            "Python looks at every element",
            "NumPy's own does it in C",
            f"use NumPy's own {reduce.__name__}.",
            lambda: reduce(arrays[0]),
            lambda operands, name: f"{name}.{function.__name__}({ast.unparse(operands[0])})",
        )
    elif event.name == "append" and function is np.append:
        yield Other(
            "the whole array is copied to append to it",
            "every call allocates a new array, so a loop of appends is quadratic",
            "collect the parts in a list and concatenate them once, or write into an array that is allocated once. "
            "Check that no line reads the array before it is whole.",
            None,
            confidence=LIKELY,
        )
    elif event.name == "expit" and arrays and arrays[0].dtype == np.float32:
        half = np.float32(0.5)
        yield Other(
            "scipy's expit has no vector form in float32",
            "np.tanh has one: sigmoid(z) = 0.5 tanh(0.5 z) + 0.5",
            "write sigmoid(z) as 0.5 tanh(0.5 z) + 0.5.",
            lambda: half * np.tanh(half * arrays[0]) + half,
            _unwritten if event.options else _by_tanh,
        )


def _optimized(operands: list[ast.expr], name: str) -> str | None:
    arguments = ", ".join(map(ast.unparse, operands))
    return f"{name}.einsum({arguments}, optimize=True)"


def _by_tanh(operands: list[ast.expr], name: str) -> str | None:
    return f"(0.5 * {name}.tanh(0.5 * ({ast.unparse(operands[0])})) + 0.5)" if len(operands) == 1 else None


def _summed(operands: list[ast.expr], name: str) -> str | None:
    return f"{name}.sum({ast.unparse(operands[0])}, axis=0)" if len(operands) == 1 else None


def _whole(event: Event) -> Callable[[], object] | None:
    """The function within np.vectorize, called once with the arrays; None where that gives something else."""
    function, expected = getattr(event.function, "pyfunc", None), event.result
    if function is None or event.options or not isinstance(expected, np.ndarray):
        return None
    try:
        with np.errstate(all="ignore"):
            found = function(*event.operands)
            is_same = isinstance(found, np.ndarray) and found.shape == expected.shape and np.allclose(found, expected)
    except Exception:  # noqa: BLE001 - a function of numbers may raise anything when it is given arrays
        return None
    return (lambda: function(*event.operands)) if is_same else None


def _sums(operand: Any) -> Iterator[Other]:
    if isinstance(operand, np.ndarray):
        yield Other(
            "Python adds element by element",
            "np.sum does it in C",
            "use NumPy's sum with `axis=0`.",
            lambda: np.sum(operand, axis=0),
            _summed,
        )
    elif isinstance(operand, list | tuple) and len(operand) > 3 and isinstance(operand[0], np.ndarray):
        yield Other(
            "sum() of a list makes a new array for every term",
            "every partial sum is an array of its own",
            "use NumPy's sum with `axis=0`; one product that sums over the samples is better still.",
            lambda: np.add.reduce(operand),
            _summed,
        )


def _indices(event: Event) -> Iterator[Other]:
    """An index array that is an arithmetic progression: a slice is a view, and copies nothing."""
    if event.name != "gather" or event.function is not operator.getitem:
        return
    container, key = event.operands
    keys = key if isinstance(key, tuple) else (key,)
    lists = [k for k in keys if isinstance(k, np.ndarray | list)]
    if len(lists) != 1:
        return
    index = np.asarray(lists[0])
    if index.ndim != 1 or index.dtype.kind not in "iu" or index.size < 3:
        return
    steps = np.diff(index)
    if steps[0] > 0 and bool(np.all(steps == steps[0])):
        view = slice(int(index[0]), int(index[-1]) + 1, int(steps[0]))
        replaced = tuple(view if isinstance(k, np.ndarray | list) else k for k in keys)
        yield Other(
            "an index array where a slice serves",
            "consecutive rows are a view, which costs nothing; an index array copies them",
            f"take a slice of {index.size} rows in place of the index array. The slice is a view: check first that "
            "nothing writes into the rows, or into the array, while both are in use.",
            lambda: container[replaced],
            confidence=LIKELY,
        )


def _ranges(event: Event) -> Iterator[Other]:
    """A range among the indices, `A[range(n), y]`, which NumPy turns into an array number by number in every use."""
    if event.function not in (operator.getitem, operator.setitem):
        return
    container, key, *value = event.operands
    keys = key if isinstance(key, tuple) else (key,)
    longest = max((len(k) for k in keys if isinstance(k, range)), default=0)
    if not isinstance(container, np.ndarray) or longest < LEAST_RANGE:
        return
    replaced = tuple(np.arange(k.start, k.stop, k.step) if isinstance(k, range) else k for k in keys)
    target = container.copy() if value else container  # the program's own array is not written to

    def perform() -> object:
        return target.__setitem__(replaced, value[0]) if value else container[replaced]

    yield Other(
        "a range as an index",
        "NumPy makes an array of it in every use, number by number",
        "use an array of these numbers (NumPy's arange), made once before the training, in place of the range.",
        perform,
    )


def _matrices(graph: Graph) -> list[Candidate]:
    """np.matrix: every operation goes through Python's wrapper of the class."""
    events = [e for e in graph.last if not e.is_own and any(v.is_matrix for v in e.inputs)]
    if not events:
        return []
    parts = []
    for event in sorted(events, key=lambda e: -graph.seconds([e]))[:16]:
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
            title="np.matrix: a class that NumPy advises against",
            why="every operation on it passes through Python code that keeps it two-dimensional",
            cure=by_hand(
                f"make arrays of two dimensions in place of the matrices of {graph.place(site)}.",
                "For arrays `*` multiplies element by element and `@` is the product of matrices, and a row of an "
                "array has one dimension: check every product and every index that reads them.",
            ),
            saved_s=(low, high),
            measured=f"{len(parts)} operations performed in turns on matrices and on arrays",
            covers=indices(events),
            related=tuple(
                {graph.site(e).line: graph.site(e) for e in events if graph.site(e).line != site.line}.values()
            )[:8],
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
                    end = node.end_lineno or node.lineno
                    yield Site(path, node.lineno, node.col_offset, None, end, node.end_col_offset or 0)
