"""Products that BLAS cannot do, because of the dtype of their operands, and operands that each product converts.

BLAS multiplies float32, float64 and complex numbers. For all others NumPy has a plain loop.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import numpy as np

from mlpprof.advise.candidate import LEAST_GAIN, SMALL, Candidate, by_hand, facts, indices, total
from mlpprof.advise.cures.off_blas import cast_at_source
from mlpprof.advise.editing.cure import Cure
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.programs.record.arrays import Array, Value
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, nothing_if_impossible, of_time, saved_share
from mlpprof.programs.record.trace import Event

BLAS_DTYPES = frozenset(("float32", "float64", "complex64", "complex128"))

MOST_RELATED = 8
"""A finding names no more other places."""


def is_off_blas(event: Event) -> bool:
    """Whether NumPy multiplies in a loop of its own."""
    return event.output is not None and event.output.dtype not in BLAS_DTYPES


def reason(event: Event) -> str:
    """Why a product does not reach BLAS."""
    return (
        f"BLAS multiplies float32, float64 and complex numbers only. For {_dtype(event)}, NumPy uses a plain loop over "
        "the elements."
    )


def off_blas(graph: Graph) -> list[Candidate]:
    """One candidate for all products of one dtype that BLAS cannot do, and one for those that convert an operand."""
    found: dict[str, list[tuple[Event, tuple[float, float]]]] = defaultdict(list)
    for event in graph.last:
        saved = _saved(event, graph) if event.kind == PRODUCT and not event.is_own else (0.0, 0.0)
        if saved[1] > 0:
            found[_dtype(event)].append((event, saved))
    return [_candidate(dtype, parts, graph) for dtype, parts in found.items()]


def _dtype(event: Event) -> str:
    """The dtype that BLAS cannot multiply: that of the result, or that of the operand that is converted."""
    assert event.output is not None
    if is_off_blas(event):
        return event.output.dtype
    return next((value.dtype for value in _converted(event)), "")


def _converted(event: Event) -> list[Value]:
    """Large operands that have another dtype than the result."""
    assert event.output is not None
    return [value for value in event.inputs if value.size >= SMALL and value.dtype != event.output.dtype]


@nothing_if_impossible
def _saved(event: Event, graph: Graph) -> tuple[float, float]:
    """What the same product saves if its operands have been converted before."""
    if event.output is None or not event.output.is_array or not (is_off_blas(event) or _converted(event)):
        return 0.0, 0.0
    target = _better(event)
    slow, fast = again(event), again(event, partial(_in_dtype, target))
    if slow is None or fast is None:
        return 0.0, 0.0
    share = saved_share(slow, fast)
    return of_time(share, graph.seconds([event])) if share[0] >= LEAST_GAIN else (0.0, 0.0)


def _better(event: Event) -> str:
    """The dtype to multiply in: float64 contains every integer that occurs in practice."""
    assert event.output is not None
    if not is_off_blas(event):
        return event.output.dtype
    return "float32" if event.output.dtype == "float16" else "float64"


def _cast(events: list[Event], target: str, graph: Graph) -> Cure | None:
    """The edit that makes the operands in a dtype that BLAS knows, if the products have the same values then."""
    if target != "float32" and not all(_is_same(event, target) for event in events):
        return None  # as for small integers, whose products overflow, or for bool, which has no sums
    dtype = _dtype(events[0])
    wrong = [
        (
            event,
            frozenset(
                number
                for number, operand in enumerate(_factors(event))
                if isinstance(operand, np.ndarray) and operand.dtype != target
            ),
        )
        for event in events
    ]
    return cast_at_source(wrong, dtype, target, graph)


def _factors(event: Event) -> list[object]:
    owner = getattr(event.function, "__self__", None)
    return [*([owner] if isinstance(owner, np.ndarray) else []), *event.operands]


def _is_same(event: Event, target: str) -> bool:
    slow, fast = again(event), again(event, partial(_in_dtype, target))
    return slow is not None and fast is not None and np.array_equal(slow(), fast())  # type: ignore[arg-type]  # arrays


def _in_dtype(dtype: str, array: Array) -> Array:
    return array.astype(dtype, order="K")


def _candidate(dtype: str, parts: list[tuple[Event, tuple[float, float]]], graph: Graph) -> Candidate:
    head = max(parts, key=lambda part: part[1][1])[0]
    site, events = graph.site(head), [event for event, _ in parts]
    text, target = graph.text(head, 50), _better(head)
    cure = _cast(events, target, graph)
    more = f" and {len(parts) - 1} other product{'s' if len(parts) > 2 else ''}" if len(parts) > 1 else ""
    if is_off_blas(head):
        one = "multiplies" if not more else "multiply"
        title = f"`{text}`{more} {one} {dtype}, which BLAS cannot do"
        why = reason(head)
    else:
        one = "converts" if not more else "convert"
        title = f"`{text}`{more} {one} {dtype} to {target} in every step"
        why = f"BLAS multiplies numbers of one dtype, so NumPy makes an array of {target} from the one of {dtype}."
    return Candidate(
        category="slow-primitive",
        site=site,
        title=title,
        why=why,
        cures=() if cure is None else (cure,),
        cure=f"Make the operands {target} where the program creates them. {_caution(dtype, target)}"
        if cure is not None
        else by_hand(
            f"make the operands {target} where you create them, once before the training, and not in the step.",
            _caution(dtype, target),
        ),
        saved_s=total(saved for _, saved in parts),
        measured="the products performed alternately on the operands of the step, and on the same in " + target,
        covers=indices(events),
        related=tuple({graph.site(e).line: graph.site(e) for e in events if graph.site(e).line != site.line}.values())[
            :MOST_RELATED
        ],
        evidence=facts(head, len(parts)),
    )


def _caution(dtype: str, target: str) -> str:
    """What to check if a program computes in another dtype."""
    if np.dtype(dtype).kind in "iuO" and target == "float64":
        return "Integers of more than 53 bits do not fit into a float64. Check the results of one step."
    return "Check the accuracy after the training."
