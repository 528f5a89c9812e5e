"""Large arrays that are allocated anew in every step, where `out=` or an operation in place would use one again.

The system hands large blocks out as pages that are not there yet: the first write to each is a page fault.
"""

from __future__ import annotations

import ctypes
import mmap
import operator
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np

from mlpprof.advise.candidate import Candidate, facts, indices, total
from mlpprof.advise.graph import Graph
from mlpprof.advise.perform import again
from mlpprof.advise.replay import Action, of_time, saved_share
from mlpprof.advise.trace import Event
from mlpprof.instrument.semantics_table import ARITHMETIC, COPY, EVALUATION, OPERATOR_NAMES, PRODUCT

Part = tuple[Event, tuple[float, float]]
"""An operation, and what `out=` saves of it."""

LONG_AFTER = 8
"""Operations after which a result that lives is one that is kept."""

NEAR = 2
"""Lines between two operations that one finding tells of."""

LEAST_BYTES = 64 * 1024
LEAST_OF_GATHER = 1024 * 1024
FRESH_INDICES = 16

LEAST_FAULTED = 0.05
LEAST_EACH = 0.003
LEAST_TOTAL = 0.015
"""Of the step, for all of them together: less is not worth the code."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for every few lines of them, if they are worth it together."""
    parts: list[Part] = []
    large = [event for event in graph.last if _is_large(event)]
    faulted = _faulted_share(large, graph)
    kept = _kept_sites(graph)
    for event in large:
        if graph.seconds([event]) > LEAST_EACH * graph.step_s:
            slow, fast = _gathers(event) or (again(event), _into(event))
            if slow is not None and fast is not None:
                if (event.site, event.name) in kept:
                    slow = _keeping(slow)
                saved = of_time(_share(slow, fast, faulted), graph.seconds([event]))
                if saved[0] > 0:
                    parts.append((event, saved))
    _, high = total(saved for _, saved in parts)
    if not parts or high < LEAST_TOTAL * graph.step_s:
        return []
    return [_candidate(group, graph) for group in _neighbours(parts, graph)]


def _kept_sites(graph: Graph) -> set[tuple[int, str]]:
    """Operations whose results outlive what follows, as those that stay in an attribute until the next step."""
    died = graph.trace.died
    return {
        (event.site, event.name)
        for event in graph.first
        if event.output is not None and died.get(event.output.root, len(graph.events)) > event.index + LONG_AFTER
    }


def _keeping(action: Action) -> Action:
    """The action with its result kept until the next one is there: two arrays take turns, as in the program."""
    held: list[object] = [None]

    def again_kept() -> None:
        held[0] = action()

    return again_kept


def _neighbours(parts: list[Part], graph: Graph) -> list[list[Part]]:
    """Those of one function on neighbouring lines together."""
    groups: list[list[Part]] = []
    ordered = sorted(parts, key=lambda part: (graph.site(part[0]).file, graph.site(part[0]).line))
    for part in ordered:
        site = graph.site(part[0])
        last = graph.site(groups[-1][-1][0]) if groups else None
        if last is not None and last.file == site.file and site.line <= last.end_line + NEAR:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _candidate(parts: list[Part], graph: Graph) -> Candidate:
    head, _ = max(parts, key=lambda part: part[1][1])
    sites = [graph.site(event) for event, _ in parts]
    first = sites[0]
    whole = replace(first, end_line=max(site.end_line for site in sites))
    size = sum(e.output.nbytes for e, _ in parts if e.output is not None)
    line = graph.line_text(first.file, graph.site(head).line)
    return Candidate(
        category="temporaries",
        site=whole,
        title=_title(len(parts), size),
        why="fresh memory has to be found, and its pages faulted in, before anything can be written to it; arrays "
        "that are allocated once stay in cache",
        cure=f"- {line}\n+ # allocate once before training, then: {_out_form(head)}",
        saved_s=total(saved for _, saved in parts),
        measured=f"{len(parts)} operations performed again with and without an array for the result",
        covers=indices(event for event, _ in parts),
        evidence={**facts(head, len(parts)), "bytes_allocated": size},
    )


def _title(number: int, size: int) -> str:
    if number == 1:
        return f"a large result is allocated anew in every step, {size / 1e6:.1f} MB"
    return f"{number} large results are allocated anew in every step, {size / 1e6:.1f} MB in all"


def _faulted_share(large: list[Event], graph: Graph) -> float:
    """Of the bytes that these results take, how much was on pages that the system had to provide, in a usual step."""
    size = sum(event.output.nbytes for event in large if event.output is not None)
    faults = graph.trace.times.faults
    return min(1.0, median(faults) * mmap.PAGESIZE / size) if faults and size else 0.0


def _share(slow: Action, fast: Action, faulted: float) -> tuple[float, float]:
    """The saved share: with memory that the allocator still holds, and with pages that it has given back.

    Which of the two happens in the step depends on what was freed before; the page faults of the step tell.
    """
    warm = saved_share(slow, fast)
    release = _release()
    if release is None or faulted < LEAST_FAULTED:
        return warm
    cold = saved_share(slow, fast, before_slow=release)
    low, high = (held + faulted * (max(given, held) - held) for held, given in zip(warm, cold, strict=True))
    return low, high


@cache
def _release() -> Action | None:
    """What has the allocator give its free memory back to the system; None where it cannot be told to."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return lambda: trim(0)


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
    return output.nbytes >= (LEAST_OF_GATHER if event.name == "gather" else LEAST_BYTES)


def _gathers(event: Event) -> tuple[Action, Action] | None:
    """``X[index]`` without and with an array for the result; of other rows every time, not in cache."""
    if event.name != "gather" or event.function is not operator.getitem:
        return None
    container, key = event.operands
    is_index = isinstance(key, np.ndarray) and key.dtype.kind in "iu" and key.ndim == 1 and key.size > 0
    if not is_index or not isinstance(event.result, np.ndarray):
        return None
    random = np.random.default_rng(0)
    indices_of_rows = cycle([random.permutation(len(container))[: key.size] for _ in range(FRESH_INDICES)])
    out = np.empty_like(event.result)
    return (
        lambda: container[next(indices_of_rows)],
        lambda: np.take(container, next(indices_of_rows), axis=0, out=out, mode="clip"),
    )


def _into(event: Event) -> Callable[[], object] | None:
    """The same into an array that is there."""
    result = event.result
    if not isinstance(result, np.ndarray) or isinstance(result, np.matrix):
        return None
    out = np.empty_like(result)
    function = _function(event)
    if function is None:
        return None
    operands, options = event.operands, dict(event.options)
    if "out" in options:
        return None
    return lambda: function(*operands, **options, out=out)


def _function(event: Event) -> Callable[..., Any] | None:
    """NumPy's function for the operation, if it takes `out`."""
    if event.name == "square":
        return lambda x, *_, out: np.square(x, out=out)
    if event.function in OPERATOR_NAMES:
        found = getattr(np, OPERATOR_NAMES[event.function])
        return found if isinstance(found, np.ufunc) else None
    if isinstance(event.function, np.ufunc) or event.function in (np.dot, np.clip):
        return event.function
    return None
