"""One-hot vectors that a loop writes one by one around the step, where one indexed assignment writes all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from mlpprof.advise.candidate import Candidate, indices
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import RecordedCode
from mlpprof.advise.loops import REMAINING_FACTORS, loop_seconds
from mlpprof.advise.syntax import is_simple, numpy_name
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import seconds_of

LEAST_TURNS = 16
"""A shorter loop takes no longer than the call of NumPy that replaces it."""

CLASSES = 10
"""What remains is measured with so many classes; their number hardly matters."""


@dataclass(frozen=True)
class _Written:
    """The statement in place of the loop, and the labels as text."""

    statement: str
    labels: str


def one_hot_loops(graph: Graph) -> Iterator[Candidate]:
    """One candidate for each loop of the recorded statement that does nothing but write one-hot vectors."""
    code = RecordedCode(graph)
    for site in dict.fromkeys(run.site for run in graph.trace.loops):
        runs = [run for run in graph.trace.loops if run.site == site]
        turns = max(run.turns for run in runs)
        loop = code.node_at(site)
        if turns < LEAST_TURNS or not isinstance(loop, ast.For) or loop.orelse:
            continue
        name = numpy_name(code.file(loop), graph)
        written = _written(loop, name) if name is not None else None
        if written is None:
            continue
        edits = Edits(code)
        edits.replace_statement(loop, written.statement)
        cure = edits.cure()
        if cure is None:
            continue
        place = graph.trace.sites[site]
        seconds = loop_seconds(place, runs, graph)
        rows, labels = np.zeros((turns, CLASSES)), np.arange(turns) % CLASSES
        at_once = len(runs) * seconds_of(partial(_write_all, rows, labels))
        low, high = (max(0.0, seconds - factor * at_once) for factor in REMAINING_FACTORS)
        yield Candidate(
            category="slow-primitive",
            site=place,
            title=f"a loop writes {turns:,} one-hot vectors one by one",
            why="Python executes the statements of the loop for every label, and NumPy is called for a single number "
            "each time. One assignment with arrays of indices writes all of them in compiled code.",
            cure=f"Write all one-hot vectors at once, by an index with `{written.labels}`.",
            saved_s=(low, high),
            measured="the time of the loop in the step, less that of one assignment of as many numbers",
            covers=indices(event for run in runs for event in graph.events[run.first_event : run.end]),
            evidence={"turns": turns},
            cures=(cure,),
        )


def _write_all(rows: np.ndarray, labels: np.ndarray) -> None:
    rows[np.arange(len(labels)), labels] = 1


def _written(loop: ast.For, name: str) -> _Written | None:
    match loop.body:
        case [ast.Assign(targets=[ast.Subscript() as target], value=ast.Constant() as value)]:
            return _into_rows(loop, target, value, name)
        case [
            ast.Assign(targets=[ast.Name(id=vector)], value=ast.Call() as zeros),
            ast.Assign(
                targets=[ast.Subscript(value=ast.Name(id=indexed), slice=ast.Name(id=label))],
                value=ast.Constant(value=1 | 1.0),
            ),
            ast.Expr(
                value=ast.Call(func=ast.Attribute(value=ast.Name() as held, attr="append"), args=[ast.Name(id=added)])
            ),
        ] if vector == indexed == added:
            is_plain = isinstance(loop.target, ast.Name) and loop.target.id == label and is_simple(loop.iter)
            eye = _eye(zeros, name)
            if is_plain and eye is not None:
                labels = ast.unparse(loop.iter)
                return _Written(f"{held.id}.extend({eye}[{labels}])", labels)
    return None


def _into_rows(loop: ast.For, target: ast.Subscript, value: ast.Constant, name: str) -> _Written | None:
    """``for i in range(n): Y[i, labels[i]] = 1`` and its like, with either index first."""
    match target:
        case ast.Subscript(value=ast.Subscript(value=ast.Name() as array, slice=first), slice=second):
            keys = [first, second]
        case ast.Subscript(value=ast.Name() as array, slice=ast.Tuple(elts=[first, second])):
            keys = [first, second]
        case _:
            return None
    match loop.target, loop.iter:
        case ast.Name(id=row), ast.Call(func=ast.Name(id="range"), args=[stop]):
            found = [_owner(key, row) for key in keys]
            count = ast.unparse(stop)
        case ast.Tuple(elts=[ast.Name(id=row), ast.Name(id=label)]), ast.Call(func=ast.Name(id="enumerate"), args=[of]):
            found = [ast.unparse(of) if ast.unparse(key) == label and is_simple(of) else None for key in keys]
            count = f"len({ast.unparse(of)})"
        case _:
            return None
    labels = next((one for one in found if one is not None), None)
    if labels is None or row not in [ast.unparse(key) for key in keys]:
        return None
    if "range" in ast.unparse(loop.iter) and count != f"len({labels})":
        labels = f"{labels}[:{count}]"
    rows = f"{name}.arange({count})"
    texts = [rows if ast.unparse(key) == row else labels for key in keys]
    return _Written(f"{array.id}[{', '.join(texts)}] = {ast.unparse(value)}", labels)


def _owner(key: ast.expr, row: str) -> str | None:
    """`labels` of `labels[i]`."""
    match key:
        case ast.Subscript(value=owner, slice=ast.Name(id=index)) if index == row and is_simple(owner):
            return ast.unparse(owner)
    return None


def _eye(zeros: ast.Call, name: str) -> str | None:
    """The unit vectors as rows, in the dtype of ``np.zeros(n)``, or as columns for ``np.zeros((n, 1))``."""
    if ast.unparse(zeros.func) != f"{name}.zeros" or len(zeros.args) != 1:
        return None
    options = "".join(f", {one.arg}={ast.unparse(one.value)}" for one in zeros.keywords)
    match zeros.args[0]:
        case ast.Tuple(elts=[size, ast.Constant(value=1)]):
            return f"{name}.eye({ast.unparse(size)}{options})[:, :, None]"
        case ast.Tuple(elts=[size]):
            return f"{name}.eye({ast.unparse(size)}{options})"
        case ast.Tuple():
            return None
    return f"{name}.eye({ast.unparse(zeros.args[0])}{options})"
