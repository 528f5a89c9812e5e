"""A Python loop over neurons, weights or single elements."""

from __future__ import annotations

from mlpprof.advise.candidate import Candidate, by_hand
from mlpprof.advise.loops import PythonLoop, Words, candidates, header
from mlpprof.programs.record.graph import Graph


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each loop that goes through neurons, weights or elements one by one."""
    return candidates(graph, "neuron-loop", _words)


def _words(loop: PythonLoop, graph: Graph) -> Words:
    return Words(
        title=f"`{header(loop, graph)}` takes {loop.longest.turns} neurons, weights or elements one by one",
        why="Python's interpreter handles every single number. One operation on the whole array does the same loop in "
        "compiled code.",
        cure=by_hand(
            f"replace the loop in {graph.place(loop.site)} by operations on whole arrays: `W @ A + b` gives the "
            "weighted sums of all neurons, and the outer product of delta and A is the gradient of all weights.",
            "Compare the results of one step with those of the loop.",
        ),
    )
