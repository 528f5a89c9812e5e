"""A generator of batches that takes all rows of the set in a new order, and then a part of them, for every batch.

The generator runs before the step, so that its operations are not recorded. Its text shows what it does, and the
batches that the step reads show how large the set is: a part of an array knows the array.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from mlpprof.advise.candidate import Candidate, around, edit_in_words
from mlpprof.advise.cures.gather import parts_of_rows, rows_of_parts_first
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import seconds_of


def fed_batches(graph: Graph) -> Iterator[Candidate]:
    """One candidate for each such generator."""
    fed_s = median(graph.trace.times.fed_s) if graph.trace.times.fed_s else 0.0
    wholes = _wholes(graph) if fed_s > 0 else []
    for file, tree in graph.trees.items():
        for function in ast.walk(tree) if fed_s > 0 and not graph.is_ours(file) else ():
            parts = parts_of_rows(function) if isinstance(function, ast.FunctionDef) else []
            if not parts:
                continue
            edit = rows_of_parts_first(parts, file, graph)
            site = Site.of(file, parts[0])
            text = ast.get_source_segment(graph.trace.sources[file], parts[0].value) or ""
            taken_s = min(fed_s, sum(seconds_of(partial(operator.getitem, x, _order(len(x)))) for x in wholes))
            yield Candidate(
                category="gather",
                site=site,
                title=f"`{text}` copies all rows of the set for every batch, which is a part of them",
                why="The rows of the whole set are copied, and the batch uses a few of them.",
                cure=edit_in_words(edit, "take the rows of the batch first.", graph.place(site)),
                cures=(edit,) if edit is not None else (),
                saved_s=around(taken_s) if wholes else (0.0, fed_s),
                measured="the rows of the arrays that the batches are parts of, taken again"
                if wholes
                else "the time in which the loop gets a batch; it is not seen how much of it the copy takes",
                related=tuple(Site.of(file, one) for one in parts[1:] if one.lineno != parts[0].lineno),
                evidence={"shapes": [list(x.shape) for x in wholes]},
            )


def _wholes(graph: Graph) -> list[Array]:
    """The arrays of which batches that the step reads are parts."""
    found: dict[int, Array] = {}
    made = {id(event.result) for event in graph.turn}
    for event in graph.last:
        for operand in event.operands:
            whole: Any = getattr(operand, "base", None)
            if not isinstance(operand, np.ndarray) or not isinstance(whole, np.ndarray) or id(whole) in made:
                continue
            if whole.ndim == operand.ndim and len(whole) > len(operand) and whole.shape[1:] == operand.shape[1:]:
                found[id(whole)] = whole
    return [*found.values()]


def _order(length: int) -> Array:
    return np.random.default_rng(0).permutation(length)
