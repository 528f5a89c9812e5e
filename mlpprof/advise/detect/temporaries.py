"""Large arrays that are allocated anew in every step, where `out=` or an operation in place would use one again.

The system hands large blocks out as pages that are not there yet: the first write to each is a page fault.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from mlpprof.advise.candidate import Candidate, facts, indices, total
from mlpprof.advise.graph import Graph
from mlpprof.advise.perform import again
from mlpprof.advise.replay import of_time, saved_share
from mlpprof.advise.trace import Event
from mlpprof.instrument.semantics_table import ARITHMETIC, COPY, EVALUATION, OPERATOR_NAMES, PRODUCT

LEAST_BYTES = 64 * 1024
LEAST_TOTAL = 0.05
"""Of the step, for all of them together: less is not worth the code."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for all of them, at the line where most is saved."""
    parts: list[tuple[Event, tuple[float, float]]] = []
    for event in graph.last:
        if _is_large(event):
            slow, fast = again(event), _into(event)
            if slow is not None and fast is not None:
                saved = of_time(saved_share(slow, fast), graph.seconds([event]))
                if saved[0] > 0:
                    parts.append((event, saved))
    low, high = total(saved for _, saved in parts)
    if not parts or high < LEAST_TOTAL * graph.step_s:
        return []
    by_line: dict[tuple[str, int], float] = defaultdict(float)
    for event, saved in parts:
        by_line[graph.site(event).file, graph.site(event).line] += saved[1]
    best = max(by_line, key=lambda place: by_line[place])
    head = next(e for e, _ in parts if (graph.site(e).file, graph.site(e).line) == best)
    related = {(graph.site(e).file, graph.site(e).line): graph.site(e) for e, _ in parts}
    related.pop(best)
    size = sum(e.output.nbytes for e, _ in parts if e.output is not None)
    line = graph.line_text(*best)
    return [
        Candidate(
            category="temporaries",
            site=graph.site(head),
            title=f"{len(parts)} large results are allocated anew in every step, {size / 1e6:.1f} MB in all",
            why="fresh memory has to be found, and its pages faulted in, before anything can be written to it; arrays "
            "that are allocated once stay in cache",
            cure=f"- {line}\n+ # allocate once before training, then: {_out_form(head)}",
            saved_s=(low, high),
            measured=f"{len(parts)} operations performed again with and without an array for the result",
            covers=indices(event for event, _ in parts),
            related=tuple(related.values()),
            evidence={**facts(head, len(parts)), "bytes_allocated": size},
        )
    ]


def _out_form(event: Event) -> str:
    return {
        "gather": "np.take(X, index, axis=0, out=X_batch, mode='clip')",
        "matmul": "np.matmul(A, W, out=Z)",
        "dot": "np.dot(A, W, out=Z)",
    }.get(event.name, f"np.{event.name}(..., out=result)")


def _is_large(event: Event) -> bool:
    output = event.output
    if event.is_own or event.is_view or output is None or not output.is_array or event.writes:
        return False
    if event.kind not in (ARITHMETIC, EVALUATION, PRODUCT, COPY) or any(v.root == output.root for v in event.inputs):
        return False
    return output.nbytes >= LEAST_BYTES


def _into(event: Event) -> Callable[[], object] | None:
    """The same into an array that is there."""
    result = event.result
    if not isinstance(result, np.ndarray) or isinstance(result, np.matrix):
        return None
    out = np.empty_like(result)
    if event.name == "gather" and event.function is operator.getitem:
        container, key = event.operands
        if isinstance(key, np.ndarray) and key.dtype.kind in "iu" and key.ndim == 1:
            return lambda: np.take(container, key, axis=0, out=out, mode="clip")
        return None
    function = _function(event)
    if function is None:
        return None
    operands, options = event.operands, dict(event.options)
    if "out" in options:
        return None
    return lambda: function(*operands, **options, out=out)


def _function(event: Event) -> Callable[..., Any] | None:
    """NumPy's function for the operation, if it takes `out`."""
    if event.function in OPERATOR_NAMES:
        found = getattr(np, OPERATOR_NAMES[event.function])
        return found if isinstance(found, np.ufunc) else None
    if isinstance(event.function, np.ufunc) or event.function in (np.dot, np.clip):
        return event.function
    return None
