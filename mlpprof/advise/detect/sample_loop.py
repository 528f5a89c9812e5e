"""A Python loop over the samples of a batch."""

from __future__ import annotations

from mlpprof.advise.candidate import Candidate, by_hand
from mlpprof.advise.loops import PythonLoop, Words, candidates, header
from mlpprof.programs.record.graph import Graph


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each loop that goes through the samples one by one."""
    return candidates(graph, "sample-loop", _words)


def _words(loop: PythonLoop, graph: Graph) -> Words:
    return Words(
        title=f"`{header(loop, graph)}` takes the {loop.longest.turns} samples one by one",
        why="For every sample, Python calls all the NumPy functions again, and NumPy reads all the weights again. One "
        "matrix product can process the whole batch.",
        cure=by_hand(
            f"replace the loop in {graph.place(loop.site)}: put the whole batch into one array X of shape (samples, "
            "features), and compute with all rows at once.",
            "If W has the shape (outputs, inputs), the weighted sums are `X @ W.T + b`. The gradient of W, summed over "
            "the samples, is `delta.T @ A`, and the gradient of b is `delta.sum(axis=0)`. Divide both by the number "
            "of samples if your update uses means.",
            "Compare the gradients of one batch with those of the loop.",
        ),
    )
