"""One-hot vectors that a loop writes one by one around the step, where one indexed assignment writes all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial

import numpy as np

from mlpprof.advise.candidate import Candidate, indices
from mlpprof.advise.cures.one_hot import numbers_at_once, stored_numbers, vectors_at_once
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.advise.loops import REMAINING_FACTORS, loop_seconds
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import seconds_of

LEAST_TURNS = 16
"""A shorter loop takes no longer than the call of NumPy that replaces it."""

CLASSES = 10
"""What remains is measured with so many classes; their number hardly matters."""


def one_hot_loops(graph: Graph) -> Iterator[Candidate]:
    """One candidate for each loop of the recorded statement that does nothing but write one-hot vectors."""
    code = code_of(graph)
    for site in dict.fromkeys(run.site for run in graph.trace.loops):
        runs = [run for run in graph.trace.loops if run.site == site]
        turns = max(run.turns for run in runs)
        loop = code.node_at(site)
        if turns < LEAST_TURNS or not isinstance(loop, ast.For) or loop.orelse:
            continue
        place = graph.trace.sites[site]
        stored = stored_numbers(site, graph)
        written = numbers_at_once(stored, graph) if stored is not None else vectors_at_once(loop, graph)
        if written is None:
            continue
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
            cure=f"Write all one-hot vectors at once, by an index with `{written[1]}`.",
            saved_s=(low, high),
            measured="the time of the loop in the step, less that of one assignment of as many numbers",
            covers=indices(event for run in runs for event in graph.events[run.first_event : run.end]),
            evidence={"turns": turns},
            cures=(written[0],),
        )


def _write_all(rows: np.ndarray, labels: np.ndarray) -> None:
    rows[np.arange(len(labels)), labels] = 1
