"""A Python loop over the samples of a batch."""

from __future__ import annotations

from mlpprof.advise.candidate import Candidate, by_hand
from mlpprof.advise.cures.all_at_once import at_once
from mlpprof.advise.cures.sample_loop import Attempt, attempt
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.advise.loops import PythonLoop, Words, candidates, header
from mlpprof.programs.record.graph import Graph

MOST_ALTERNATIVES = 3
"""So many forms of an edit are offered, because each one that is tried takes a run of the program."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each loop that goes through the samples one by one."""
    return candidates(graph, "sample-loop", _words)


def _words(loop: PythonLoop, graph: Graph) -> Words:
    tried = attempt(loop.site, loop.turns, loop.longest.length, graph)
    cures = [tried.cure] if tried.cure is not None else []
    cures += at_once(code_of(graph).node_of(loop.site), loop.executions, graph)
    return Words(
        title=f"`{header(loop, graph)}` takes the {loop.longest.turns} samples one by one",
        why="For every sample, Python calls all the NumPy functions again, and NumPy reads all the weights again. One "
        "matrix product can process the whole batch.",
        cure=_edited(loop, graph, tried) if cures else _in_words(loop, tried, graph),
        cures=tuple(cures[:MOST_ALTERNATIVES]),
    )


def _edited(loop: PythonLoop, graph: Graph, tried: Attempt) -> str:
    if tried.cure is None:
        return f"Replace the loop in {graph.place(loop.site)} by operations on the arrays of all samples."
    return (
        f"Stack the samples in {graph.place(loop.site)} into one array, and run the statements of the loop once. What "
        "still has a gradient for each sample is summed over the samples."
    )


def _in_words(loop: PythonLoop, tried: Attempt, graph: Graph) -> str:
    return by_hand(
        f"replace the loop in {graph.place(loop.site)}: put the whole batch into one array X of shape (samples, "
        "features), and compute with all rows at once.",
        "If W has the shape (outputs, inputs), the weighted sums are `X @ W.T + b`. The gradient of W, summed over "
        "the samples, is `delta.T @ A`, and the gradient of b is `delta.sum(axis=0)`. Divide both by the number "
        "of samples if your update uses means.",
        f"mlpprof makes no edit here, because it cannot write {tried.why_not} for all samples at once.",
        "Compare the gradients of one batch with those of the loop.",
    )
