"""Expressions that take much of the step, also once all findings are cured: what they are, and what is known of them.

So the most expensive operation of a step is named in any case. For what NumPy and BLAS already do as fast as they can,
the report says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import starmap
from typing import Any

import numpy as np

from mlpprof.advise.candidate import Candidate, facts
from mlpprof.advise.off_blas import is_off_blas, reason
from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, EVALUATION, FILL, PRODUCT
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.notebook import place_of
from mlpprof.programs.record.graph import Graph, Span
from mlpprof.programs.record.replay import BUDGET, again, saved_share, seconds_of
from mlpprof.programs.record.trace import Event
from mlpprof.results.advice import Expensive

LARGE_SHARE = 0.2
"""An expression is named if more than this share of the step remains of it, once the findings are cured."""

MUCH_SLOWER = 0.33
"""If a plain form of the same size surely saves no more than this share of an operation's time, the operation is fast.
"""

MUCH_LONGER = 3.0
"""An operation that takes more than so many times as long in the step as alone is slow because of what is around it."""

WHOLE_STEP = frozenset(("float64", "small-product"))
"""Categories that concern the whole step, so that they do not explain why one of its expressions is expensive."""

LONGEST = 80
"""An expression is shown with no more characters."""

NO_FASTER_FORM = "mlpprof knows no faster form of it."
"""What is said of an operation that is as fast as another one of its size: another algorithm may still be faster."""


def uncovered(graph: Graph, found: Sequence[Candidate]) -> list[Expensive]:
    """The expensive expressions of the step that the findings do not explain, the most expensive one first."""
    at: dict[Span, list[Event]] = defaultdict(list)
    for event in graph.last:
        at[graph.span(event.site)].append(event)
    cured_s = _cured_s(found, at, graph)
    large = [
        (span, seconds) for span, seconds in graph.own_s.items() if seconds - cured_s[span] > LARGE_SHARE * graph.step_s
    ]
    return [_described(span, seconds, at[span], graph) for span, seconds in sorted(large, key=lambda one: -one[1])]


def _cured_s(found: Sequence[Candidate], at: Mapping[Span, Sequence[Event]], graph: Graph) -> dict[Span, float]:
    """Expression -> what the findings may save of it; a finding's payoff is divided among its expressions."""
    cured_s: dict[Span, float] = defaultdict(float)
    for one in found:
        if one.category in WHOLE_STEP:
            continue
        events = [graph.events[index] for index in one.covers]
        spans = {graph.span(site) for event in events for site in (event.site, *event.singles)}
        spans |= {span for span in graph.own_s if span not in at and _is_within(span, one.site)}
        if one.is_outside and not events:  # it is in what the loop around the step runs over
            spans |= {graph.span(number) for number in graph.trace.times.feeds}
        whole_s = sum(graph.own_s.get(span, 0.0) for span in spans)
        for span in spans:
            cured_s[span] += one.saved_s[1] * graph.own_s.get(span, 0.0) / whole_s if whole_s else 0.0
    return cured_s


def _is_within(span: Span, site: Site) -> bool:
    return span[0] == site.file and site.line <= span[1] and span[3] <= site.end_line


def _described(span: Span, seconds: float, events: list[Event], graph: Graph) -> Expensive:
    head = max(events, key=lambda event: _work(event) or 0, default=None)
    site = graph.site(head) if head is not None else None
    file, line, column = (site.file, site.line, site.column) if site is not None else span[:3]
    place = place_of(file, line, graph.shown(file))
    effects = [event.effect for event in events if event.effect is not None]
    evidence = facts(head, len(events)) if head is not None else {}
    evidence |= {"flop": sum(one.flop for one in effects), "bytes_moved": sum(one.bytes_moved for one in effects)}
    return Expensive(
        file=place.file,
        line=place.line,
        column=column + 1,
        text=graph.text(head, LONGEST) if head is not None else graph.span_text(span, LONGEST),
        seconds=seconds,
        share=min(1.0, seconds / graph.step_s),
        known=" ".join(_known(head, seconds, events)),
        evidence=evidence,
        cell=place.cell,
    )


def _work(event: Event) -> int:
    return event.effect.flop + event.effect.bytes_moved if event.effect is not None else 0


def _known(head: Event | None, seconds: float, events: list[Event]) -> list[str]:
    """Sentences on what the most expensive execution computes, and how that compares with a plain form of its size."""
    if head is None or not head.kind or head.effect is None:
        called = (
            "It calls a function that" if head is not None and head.output is not None else "It is Python code that"
        )
        return [
            f"{called} mlpprof cannot look into. mlpprof profile shows its time, and a profiler of calls its parts."
        ]
    done = sum(map(_work, events)) if head.kind != PRODUCT else sum(e.effect.flop for e in events if e.effect)
    unit = "GFLOP/s" if head.kind == PRODUCT else "GB/s"
    if head.kind == PRODUCT:
        size = " x ".join(map(str, head.effect.shape))
        what = f"It is a product of {size} in {head.effect.dtype}"
    elif head.kind == EVALUATION:
        done, unit = sum(e.output.size for e in events if e.output is not None), "G elements/s"
        what = f"It evaluates {head.name} for {_size(head):,} elements of {head.effect.dtype}"
    elif head.kind in (COPY, FILL):
        what = f"It makes or moves {_size(head):,} elements of {head.effect.dtype}"
    else:
        what = f"It computes {head.name} for {_size(head):,} elements of {head.effect.dtype}"
    speed = f", at {done / seconds / 1e9:.3g} {unit}." if done and seconds > 0 else "."
    return [what + speed, *_verdict(head, seconds / len(events))]


def _size(event: Event) -> int:
    return event.output.size if event.output is not None else max((v.size for v in event.inputs), default=0)


def _verdict(event: Event, seconds: float) -> list[str]:
    """Whether the operation is as fast as the machine allows, and what makes it slower if it is not.

    seconds: what it took in the step.
    """
    sentences = []
    if event.kind == PRODUCT and is_off_blas(event):
        sentences.append(reason(event))
    spread = _spread(event)
    if spread is not None:
        sentences.append(
            f"Operands of {spread[0]} and {spread[1]} make a result of {spread[2]}: check that this is what you want."
        )
    if event.kind == PRODUCT and any(value.order == "?" for value in event.inputs if len(value.shape) > 1):
        sentences.append("The elements of an operand are not next to each other in memory, so it is copied for BLAS.")
    if event.kind == COPY and event.output is not None and not any(value.is_array for value in event.inputs):
        sentences.append("NumPy reads these elements one by one from Python objects. Keep them in arrays.")
    if event.kind == EVALUATION:
        return sentences or [NO_FASTER_FORM]
    slow, plain = again(event), _plain(event)
    if slow is None or plain is None or BUDGET.left_s <= 0:
        return sentences
    least, most = saved_share(slow, plain[1])
    if least >= MUCH_SLOWER:
        return [*sentences, f"It takes {1 / (1 - min(least, 0.999)):.1f} times as long as {plain[0]}."]
    if most >= MUCH_SLOWER:
        return [*sentences, f"Other programs disturbed the comparison with {plain[0]}."]
    if sentences:
        return sentences
    alone_s = seconds_of(slow)
    if alone_s > 0 and seconds > MUCH_LONGER * alone_s:
        return [
            f"That is {seconds / alone_s:.1f} times as long as the same operation takes when nothing else of the step "
            "runs: the machine was busy, or the operands were no longer in the cache."
        ]
    return [f"That is about as fast as {plain[0]}. {NO_FASTER_FORM}"]


def _spread(event: Event) -> tuple[str, str, str] | None:
    """The shapes of two operands and of a result that has far more elements than both."""
    arrays = [value for value in event.inputs if value.is_array]
    is_pair = event.kind in (ARITHMETIC, EVALUATION) and len(arrays) == 2 and event.name != "outer"
    if not is_pair or event.output is None:
        return None
    if event.output.size < 8 * sum(value.size for value in arrays):
        return None
    first, second, result = (f"({', '.join(map(str, v.shape))})" for v in (*arrays, event.output))
    return first, second, result


def _plain(event: Event) -> tuple[str, Callable[[], object]] | None:
    """A form of the same size that the machine does at full speed: for products BLAS, for the rest a copy."""
    effect = event.effect
    if effect is None:
        return None
    if event.kind == PRODUCT and len(effect.shape) == 3:
        p, k, q = effect.shape
        flop = 2 * p * k * q
        if effect.flop not in (0, flop) or not flop:
            return None  # a stack of products, whose sizes say less
        dtype = effect.dtype if effect.dtype in ("float32", "float64", "complex64", "complex128") else "float32"
        A, B = starmap(partial(_random, dtype), ((p, k), (k, q)))
        return f"a product of arrays of these sizes in {dtype} by BLAS", partial(np.matmul, A, B)
    if event.kind in (ARITHMETIC, COPY) and effect.bytes_moved:
        source = np.ones(max(1, effect.bytes_moved // 16))
        return "a copy of as many bytes", partial(np.copyto, np.empty_like(source), source)
    return None


def _random(dtype: str, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random(shape).astype(dtype)
