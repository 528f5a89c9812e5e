"""Rows that Python takes or makes one by one: lists of rows that become an array, and one-hot rows."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mlpprof.advise.candidate import LEAST_GAIN, Candidate, around, by_hand, edit_in_words, facts, indices
from mlpprof.advise.cures.gather import loop_of_list, rows_at_once
from mlpprof.advise.cures.one_hot import numbers_at_once, rows_of_identity, stored_ones
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.advise.loops import LONGEST_HEADER, loop_seconds
from mlpprof.advise.syntax import last_name
from mlpprof.instrument.numpy_costs import FILL
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import of_time, saved_share, seconds_of
from mlpprof.programs.record.trace import Event, LoopRun

LEAST_ROWS = 8
"""A list of fewer rows may be a list of layers."""


def ones_one_by_one(graph: Graph) -> Iterator[Candidate]:
    """Loops that store the ones of one-hot rows."""
    by_site: dict[int, list[LoopRun]] = defaultdict(list)
    for run in graph.trace.loops:
        if run.step == graph.last_step and run.turns >= LEAST_ROWS:
            by_site[run.site].append(run)
    for number, runs in by_site.items():
        site = graph.trace.sites[number]
        stored = stored_ones(number, graph)
        if stored is None:
            continue
        written = numbers_at_once(stored, graph)
        edit = written[0] if written is not None else None
        turns = max(run.turns for run in runs)
        header = graph.line_text(site.file, site.line).removesuffix(":")[:LONGEST_HEADER]
        words = "store all ones at once: the indices are the numbers of the rows and the labels."
        yield Candidate(
            category="gather",
            site=site,
            title=f"`{header}` stores the {turns} ones of one-hot rows one by one",
            why="Python stores every single number by a call of its own. NumPy stores all of them in one call, if the "
            "indices are two arrays.",
            cures=(edit,) if edit is not None else (),
            cure=edit_in_words(edit, words, graph.place(site)),
            saved_s=around(loop_seconds(site, runs, graph) * (1 - 1 / turns)),
            measured="the time of the loop in the step, less the time of one turn",
            covers=frozenset(index for run in runs for index in range(run.first_event, run.end)),
            evidence={"times_per_step": sum(run.turns for run in runs)},
        )


JOINING = frozenset(("array", "asarray", "stack", "vstack", "row_stack"))
"""Functions that make an array of a list of rows."""


def listed_rows(graph: Graph) -> list[Candidate]:
    """Arrays that are made of a list of rows of another array."""
    found: list[Candidate] = []
    for event in graph.turn:
        held = event.operands[0] if event.operands and event.name in JOINING and not event.is_own else None
        if not isinstance(held, list | tuple) or len(held) < LEAST_ROWS or event.output is None:
            continue
        made = [one for value in event.inputs for one in graph.makers(value.root, event.index)]
        if (reduced := _reduced(event, held, graph)) is not None:
            found.append(reduced)
            continue
        if made:  # the step has computed the rows
            found += _one_hot_rows(event, made, graph)
            continue
        where = loop_of_list(event, graph)
        forms = _forms_of_rows(held, event, graph) if where is not None else None
        if where is None or forms is None:
            continue
        container, rows, is_slice = forms
        slow, fast = _listing(event.function, container, rows), _taking(container, rows, is_slice)
        share = saved_share(slow, fast)
        if share[0] < LEAST_GAIN:
            continue
        edit = rows_at_once(event, graph)
        seconds = sum(map(graph.seconds_within, where)) * graph.unclocked
        site = graph.site(event)
        found.append(
            Candidate(
                category="gather",
                site=site,
                title=f"`{graph.text(event, 50)}` is made of {len(held)} rows that Python takes one by one",
                why="Python makes an object for every row, and NumPy looks at every one of them to copy it. An index "
                "takes all rows in one call, and a slice copies nothing.",
                cures=(edit,) if edit is not None else (),
                cure="Take all rows at once, by a slice or by an array of indices."
                if edit is not None
                else by_hand(
                    f"keep the samples in one array, and take all rows of {graph.place(site)} at once: `X[start:stop]` "
                    "for rows that follow each other, `X[rows]` for an array of indices."
                ),
                saved_s=of_time(share, seconds),
                measured="the rows of the step taken one by one and at once alternately",
                covers=indices([event]),
                evidence=facts(event, len(held)),
            )
        )
    return found


REDUCTIONS = frozenset(("sum", "mean", "max", "min", "prod", "std", "var", "argmax", "argmin"))
"""Functions of NumPy that give one number for every row with `axis=1`."""

BUILT_IN = frozenset(("sum", "max", "min"))
"""Python has built-in functions with these names too."""


@dataclass(frozen=True)
class Reduction:
    """A call for each row, which becomes one call for all rows.

    each: the call for one row. name: of the function. text: the call for all rows.
    """

    each: ast.Call
    name: str
    text: str


def reduction_of_rows(event: Event, graph: Graph) -> Reduction | None:
    """What an array of a list reduces one by one, as in ``np.array([sum(row) for row in rows])``."""
    code = code_of(graph)
    node = code.node(event) if event.name in JOINING else None
    match node:
        case ast.Call(
            args=[
                ast.ListComp(
                    elt=ast.Call(func=called, args=[ast.Name(id=row)], keywords=[]) as each,
                    generators=[ast.comprehension(target=ast.Name(id=target), iter=over, ifs=[])],
                )
            ],
            keywords=[] | [ast.keyword(arg="dtype")] as options,
        ) if row == target and getattr(event.result, "ndim", 0) == 1:  # np.vstack gives a column
            pass
        case _:
            return None
    alias, name = code.numpy_name(code.file(node)), last_name(called)
    is_built_in = isinstance(called, ast.Name) and name in BUILT_IN
    is_numpy = isinstance(called, ast.Attribute) and code.text(called.value) == alias and name in REDUCTIONS
    executions = code.executions(each)
    rows = [one.operands[0] for one in executions if one.operands]
    is_of_rows = bool(rows) and all(isinstance(one, np.ndarray) and one.shape == rows[0].shape for one in rows)
    if alias is None or not (is_built_in or is_numpy) or not is_of_rows or rows[0].ndim != 1:
        return None
    if any(one.is_own for one in executions) or not _is_sequence(over, code):
        return None
    # the cure of float64 may have given the array a dtype
    dtype = "".join(f".astype({code.text(one.value)})" for one in options)
    return Reduction(each, name, f"{alias}.{name}({code.text(over)}, axis=1){dtype}")


def _is_sequence(over: ast.expr, code: RecordedCode) -> bool:
    """Whether what a comprehension runs over is an array or a list: NumPy takes no `map`, `zip` or generator."""
    match over:
        case ast.GeneratorExp():
            return False
        case ast.Call():
            results = [one.result for one in code.executions(over)]
            return bool(results) and all(isinstance(one, np.ndarray | list | tuple) for one in results)
    return True


def _reduced(event: Event, held: Sequence[Any], graph: Graph) -> Candidate | None:
    """The finding on rows that are reduced one by one."""
    reduction = reduction_of_rows(event, graph)
    if reduction is None:
        return None
    code, name, text = code_of(graph), reduction.name, reduction.text
    node, executions = code.node(event), code.executions(reduction.each)
    assert isinstance(node, ast.Call)
    rows = [one.operands[0] for one in executions if one.operands]
    matrix = np.stack([rows[number % len(rows)] for number in range(len(held))])
    function, join = executions[0].function, event.function
    share = saved_share(lambda: join([function(one) for one in matrix]), lambda: getattr(np, name)(matrix, axis=1))
    if share[0] < LEAST_GAIN:
        return None
    edits = Edits(code)
    edits.replace(node, text)
    cure = edits.cure()
    site = graph.site(event)
    return Candidate(
        category="slow-primitive",
        site=site,
        title=f"`{graph.text(event, 50)}` calls {name} for {len(held)} rows one by one",
        why="Python makes an object for every row and calls the function again. NumPy does it for all rows at once.",
        cures=(cure,) if cure is not None else (),
        cure=edit_in_words(cure, f"use `{text}`.", graph.place(site)),
        saved_s=of_time(share, graph.seconds_within(graph.span(event.site)) * graph.unclocked),
        measured="the rows of the step reduced one by one and at once alternately",
        covers=indices([event, *executions]),
        evidence=facts(executions[0], len(held)),
    )


def _one_hot_rows(event: Event, made: list[Event], graph: Graph) -> Iterator[Candidate]:
    """A list of rows of zeros with a one each. made: the operations that have made the rows."""
    rows = event.result.reshape(len(event.result), -1)
    is_one_hot = rows.dtype.kind in "fiu" and np.all((rows == 0) | (rows == 1)) and np.all(rows.sum(axis=1) == 1)
    if not is_one_hot or rows.shape[1] < 2 or not any(one.kind == FILL for one in made):
        return
    first = min(one.calls[-1] if one.calls[: len(event.calls)] != one.calls else one.index for one in made)
    events = [one for one in graph.turn if first <= one.index <= event.index]
    labels, number = rows.argmax(axis=1), rows.shape[1]
    at_once_s = seconds_of(lambda: np.eye(number, dtype=rows.dtype)[labels])
    edit = rows_of_identity(event, graph)
    site = graph.site(event)
    words = "take the rows of an identity matrix: `np.eye(classes)[labels]` encodes all labels at once."
    yield Candidate(
        category="gather",
        site=site,
        title=f"`{graph.text(event, 50)}` makes {len(rows)} one-hot rows one by one",
        why="For every label, Python makes an array of zeros and stores a one. The rows of an identity matrix are the "
        "same rows, and one index takes all of them.",
        cures=(edit,) if edit is not None else (),
        cure=edit_in_words(edit, words, graph.place(site)),
        saved_s=around(max(0.0, graph.seconds(events) * graph.unclocked - at_once_s)),
        measured="the time of making the rows in the step, less the time of taking them from an identity matrix",
        covers=indices(events),
        evidence=facts(event, len(rows)),
    )


def _forms_of_rows(held: Sequence[Any], event: Event, graph: Graph) -> tuple[Any, list[int], bool] | None:
    """The array that the items of a list are rows of, their numbers, and whether a slice takes them."""
    first = held[0]
    if all(isinstance(one, np.generic) for one in held):
        return event.result, list(range(len(held))), True
    if not all(isinstance(one, np.ndarray) and one.shape == first.shape for one in held):
        return None
    container = next((x for x in _containers(event, graph) if _row_of(first, x) is not None), None)
    if container is None:
        return (event.result, list(range(len(held))), True) if first.ndim == 1 else None
    numbers = [_row_of(one, container) for one in held]
    rows = [number for number in numbers if number is not None]
    steps = {later - one for one, later in pairwise(rows)}
    return (container, rows, steps == {1}) if len(rows) == len(held) else None


def _containers(event: Event, graph: Graph) -> list[Any]:
    """The arrays that an index has taken rows of, the latest first."""
    return [one.operands[0] for one in reversed(graph.turn) if one.index < event.index and one.name == "getitem"]


def _row_of(row: Any, container: Any) -> int | None:
    """The number of a row of an array; None if it is no row of it."""
    if not isinstance(container, np.ndarray) or container.ndim != row.ndim + 1 or container.shape[1:] != row.shape:
        return None
    beside, step = row.__array_interface__["data"][0] - container.__array_interface__["data"][0], container.strides[0]
    number, rest = divmod(beside, step) if step else (-1, 0)
    is_row = rest == 0 and 0 <= number < len(container) and row.strides == container.strides[1:]
    return int(number) if is_row else None


def _listing(function: Callable[..., Any], container: Any, rows: Sequence[int]) -> Callable[[], object]:
    return lambda: function([container[row] for row in rows])


def _taking(container: Any, rows: Sequence[int], is_slice: bool) -> Callable[[], object]:
    taken = slice(rows[0], rows[-1] + 1) if is_slice else np.array(rows)
    return lambda: container[taken]
