"""A Python loop over neurons, weights or single elements."""

from __future__ import annotations

from collections.abc import Iterator

from mlpprof.advise.candidate import Candidate, by_hand
from mlpprof.advise.cures.all_at_once import at_once
from mlpprof.advise.cures.evaluation import ANSWERS_AT_ONCE, answers_before_the_loop
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.advise.loops import PythonLoop, Words, batch_sizes, candidates, header
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each loop that goes through neurons, weights or elements one by one."""
    return candidates(graph, "neuron-loop", _words)


def _words(loop: PythonLoop, graph: Graph) -> Words:
    window = next(_windows(loop), None)
    if window is not None:
        return _of_windows(loop, window, graph)
    widths = {side for e in graph.last for v in e.inputs if v.root in graph.parameters for side in v.shape}
    is_of_samples = loop.longest.turns in batch_sizes(graph) - widths
    what = "samples" if is_of_samples else "neurons, weights or elements"
    all_at_once = (
        "what a turn does to one row or column, they do to all of them"
        if is_of_samples
        else "`W @ A + b` gives the weighted sums of all neurons, and the outer product of delta and A is the gradient "
        "of all weights"
    )
    whole = at_once(code_of(graph).node_of(loop.site), loop.executions, graph)
    answers = answers_before_the_loop(loop, graph) if not whole else ()
    return Words(
        title=f"`{header(loop, graph)}` takes {loop.longest.turns} {what} one by one",
        why="Python's interpreter handles every single number. One operation on the whole array does the same loop in "
        "compiled code.",
        cure=f"Replace the loop in {graph.place(loop.site)} by operations on whole arrays."
        if whole
        else ANSWERS_AT_ONCE
        if answers
        else by_hand(
            f"replace the loop in {graph.place(loop.site)} by operations on whole arrays: {all_at_once}.",
            "Compare the results of one step with those of the loop.",
        ),
        cures=(*whole, *answers),
    )


def _windows(loop: PythonLoop) -> Iterator[Event]:
    """Views of one array that move from turn to turn and have rows and columns, as the window of a convolution."""
    events = [event for turn in loop.turns for event in turn if event.is_view and event.output is not None]
    last: dict[int, Event] = {}
    for event in events:
        before = last.get(event.site)
        last[event.site] = event
        if before is None or before.output is None or event.output is None or len(event.output.shape) < 2:
            continue
        is_same_array = event.output.root == before.output.root and event.output.shape == before.output.shape
        is_part = event.inputs and event.output.size < event.inputs[0].size and min(event.output.shape[-2:]) > 1
        if is_same_array and is_part and event.output.start != before.output.start:
            yield event


def _of_windows(loop: PythonLoop, window: Event, graph: Graph) -> Words:
    assert window.output is not None
    shape = ", ".join(map(str, window.output.shape))
    return Words(
        title=f"`{header(loop, graph)}` takes the windows of an image one by one",
        why=f"For each window `{graph.text(window)}` of shape ({shape}), Python calls the NumPy functions again. One "
        "product of all windows with all kernels does the same loop in compiled code.",
        cure=by_hand(
            f"replace the loop in {graph.place(loop.site)}: `np.lib.stride_tricks.sliding_window_view` gives all "
            "windows as one view, without a copy. Multiply it by the kernels with `np.tensordot` over the axes of the "
            "window.",
            "Compare the results of one step with those of the loop.",
        ),
    )
