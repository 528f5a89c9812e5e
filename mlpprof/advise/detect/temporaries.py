"""Large arrays that are allocated anew in every step, where `out=` or an operation in place would use one again.

The system hands large blocks out as pages that are not there yet: the first write to each is a page fault.
"""

from __future__ import annotations

import ctypes
import mmap
import operator
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np

from mlpprof.advise.candidate import Candidate, around, by_hand, facts, indices, neighbours, total
from mlpprof.advise.graph import Graph, Span
from mlpprof.advise.in_place import Update, elementwise, updates
from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, EVALUATION, OPERATOR_NAMES, PRODUCT
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.replay import Action, again, of_time, saved_share
from mlpprof.programs.record.trace import Event

# Copies that protect nothing: neither the copy nor what it was taken from is written to while the copy lives.


CURES = {
    "astype": "`astype` with `copy=False` copies only where the dtype differs",
    "copy": "the array itself would do in place of its copy",
    "array": "`asarray` in place of `array` copies only what is no array yet",
    "flatten": "`ravel` in place of `flatten` copies only where the elements are scattered",
}

LEAST_SIZE = 1_024
"""Elements of a copy: of less the call costs, and not the copying."""


def needless_copies(graph: Graph, changed: frozenset[int]) -> list[Candidate]:
    """One candidate for every few lines that copy, if all that they copy in a step is safe without.

    changed: arrays that other findings want changed in place.
    """
    if len(graph.trace.steps) < 2 or graph.trace.is_blind:
        return []
    spans: dict[Span, list[Event]] = defaultdict(list)
    for event in graph.first:
        if _is_copy(event):
            spans[graph.span(event.site)].append(event)
    safe = {span for span, events in spans.items() if all(_protects_nothing(event, graph) for event in events)}
    found = [event for event in graph.last if graph.span(event.site) in safe and _is_copy(event)]
    risky = {graph.span(event.site) for event in found if _roots(event) & changed}
    found = [event for event in found if graph.span(event.site) not in risky]
    return [_copy_candidate(group, graph) for group in neighbours(found, graph.site)]


def _is_copy(event: Event) -> bool:
    """Whether it gives the same elements of the same dtype in the same order once more."""
    output = event.output
    if event.name not in CURES or event.is_own or event.is_view or output is None or event.writes:
        return False
    if not event.inputs or output.size < LEAST_SIZE or event.inputs[0].root == output.root:
        return False
    source = event.inputs[0]
    is_alike = (source.dtype, source.is_matrix) == (output.dtype, output.is_matrix) and source.size == output.size
    if event.name == "flatten":
        return is_alike and source.order == "C"
    return is_alike and source.shape == output.shape and source.order == output.order != "?"


def _roots(event: Event) -> set[int]:
    """The buffers of a copy and of what it was taken from."""
    return {event.inputs[0].root} | ({event.output.root} if event.output is not None else set())


def _protects_nothing(event: Event, graph: Graph) -> bool:
    """Whether the copy was gone by the end of the next step, or used in it, and both were left alone till then."""
    assert event.output is not None
    held = _roots(event)
    start, stop = graph.trace.steps[1]
    end = graph.trace.died.get(event.output.root)
    if end is None and any(index >= start for index in graph.read_later(event)):
        end = stop  # the recording itself holds what the last step has read
    if end is None or end > stop:
        return False
    if any(graph.is_taken(root, event) for root in held):
        return False
    if any(event.index <= index < end for root in held for index in graph.trace.stores.get(root, ())):
        return False
    for other in graph.events[event.index + 1 : end]:
        is_unknown = other.effect is None and not other.is_own
        if held & set(other.writes) or (is_unknown and held & {value.root for value in other.inputs}):
            return False
    # the later turns of a long loop were not seen
    return not any(run.is_cut and run.first_event < end and event.index < run.end for run in graph.trace.loops)


def _copy_candidate(events: list[Event], graph: Graph) -> Candidate:
    head = max(events, key=lambda event: graph.seconds([event]))
    sites = [graph.site(event) for event in events]
    size = sum(event.output.nbytes for event in events if event.output is not None)
    return Candidate(
        category="temporaries",
        site=replace(sites[0], end_line=max(site.end_line for site in sites)),
        title=f"{graph.text(head, 50)} copies an array that nobody changes, {size / 1e6:.1f} MB a step",
        why="it is of this dtype and order already, and neither the copy nor the array that it was taken from is "
        "written to for as long as the copy is held",
        cure=by_hand(
            f"in {graph.place(graph.site(head))} {CURES[head.name]}.",
            "Check first that nothing writes into the array or into its copy in steps other than the two recorded.",
        ),
        saved_s=around(graph.seconds(events)),
        measured="the time of the copying in the step",
        covers=indices(events),
        evidence={**facts(head, len(events)), "bytes_allocated": size},
    )


@dataclass(frozen=True)
class Part:
    """Operations, what the cure saves of them, and for each line the statements that change its array in place.

    No statements: its result is to be written into an array that is kept.
    """

    events: tuple[Event, ...]
    saved: tuple[float, float]
    cures: dict[int, tuple[str, ...]]


LONG_AFTER = 8
"""Operations after which a result that lives is one that is kept."""

LEAST_GAIN = 0.03
"""Of an update's time, in the middle of what is measured, for it to be told."""

MOST_LINES = 4
"""Of a finding whose cures are told."""

LEAST_BYTES = 64 * 1024
LEAST_OF_GATHER = 1024 * 1024
FRESH_INDICES = 16

LEAST_FAULTED = 0.05
LEAST_EACH = 0.003
LEAST_TOTAL = 0.015
"""Of the step, for all of them together: less is not worth the code."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for every few lines of them, if they are worth it together."""
    needed = _needed_beside_the_next(graph)
    large = [event for event in graph.last if _is_large(event) and (event.site, event.name) not in needed]
    faulted = _faulted_share(large, graph)
    found = updates(graph, LEAST_BYTES)
    worthwhile = [one for one in found if graph.seconds(one.events) > LEAST_EACH * graph.step_s]
    parts = [_together(group, faulted, graph) for group in neighbours(worthwhile, _line_of(graph))]
    parts = [part for part in parts if part.saved[1] > 0]
    told = indices(event for part in parts for event in part.events)
    kept = _kept_sites(graph)
    for event in large:
        if event.index not in told and graph.seconds([event]) > LEAST_EACH * graph.step_s:
            slow, fast = _gathers(event) or (again(event), _into(event))
            if slow is not None and fast is not None:
                if (event.site, event.name) in kept:
                    slow = _keeping(slow)
                saved = of_time(_share(slow, fast, faulted), graph.seconds([event]))
                if saved[0] > 0:
                    parts.append(Part((event,), saved, {graph.site(event).line: ()}))
    _, high = total(part.saved for part in parts)
    changed = frozenset(root for one in found for root in one.changed)
    worth = neighbours(parts, _line_of(graph)) if high >= LEAST_TOTAL * graph.step_s else []
    return [*(_candidate(group, graph) for group in worth), *needless_copies(graph, changed)]


def _kept_sites(graph: Graph) -> set[tuple[int, str]]:
    """Operations whose results outlive what follows, as those that stay in an attribute until the next step."""
    died = graph.trace.died
    return {
        (event.site, event.name)
        for event in graph.first
        if event.output is not None and died.get(event.output.root, len(graph.events)) > event.index + LONG_AFTER
    }


def _needed_beside_the_next(graph: Graph) -> set[tuple[int, str]]:
    """Operations whose last result is still read when the next one is there: one array would not do for both."""
    made = {event.output.root: (event.site, event.name) for event in graph.first if event.output is not None}
    again: dict[tuple[int, str], int] = {}
    for event in graph.last:
        again.setdefault((event.site, event.name), event.index)
    never = len(graph.events)
    reads = ((event.index, made.get(value.root)) for event in graph.last for value in event.inputs)
    return {place for index, place in reads if place is not None and index > again.get(place, never)}


def _keeping(action: Action) -> Action:
    """The action with its result kept until the next one is there: two arrays take turns, as in the program."""
    held: list[object] = [None]

    def again_kept() -> None:
        held[0] = action()

    return again_kept


def _line_of(graph: Graph) -> Callable[[Part | Update], Site]:
    """Where the last operation of a part stands."""
    return lambda part: graph.site(part.events[-1])


def _together(group: list[Update], faulted: float, graph: Graph) -> Part:
    """Neighbouring updates one after the other, as in the step: the arrays of all of them share the caches."""

    def slow() -> None:
        for one in group:
            one.slow()

    def fast() -> None:
        for one in group:
            one.fast()

    events = tuple(event for one in group for event in one.events)
    cures = {graph.site(one.events[-1]).line: one.cure for one in group}
    share = _share(slow, fast, faulted)
    # in place fewer arrays are touched: what is measured may be disturbed, but is not below nothing
    saved = of_time(share, graph.seconds(events)) if sum(share) / 2 > LEAST_GAIN else (0.0, 0.0)
    return Part(events, saved, cures)


def _candidate(parts: list[Part], graph: Graph) -> Candidate:
    parts = sorted(parts, key=lambda part: -part.saved[1])
    events = [event for part in parts for event in part.events]
    sites = sorted((graph.site(event) for event in events), key=lambda site: site.line)
    whole = replace(sites[0], end_line=max(site.end_line for site in sites))
    made = [event.output.nbytes for event in events if event.output is not None and not event.writes]
    cures = [(line, text) for part in parts for line, text in part.cures.items()]
    return Candidate(
        category="temporaries",
        site=whole,
        title=_title(len(made), sum(made)),
        why="fresh memory has to be found, and its pages faulted in, before anything can be written to it; arrays "
        "that are allocated once stay in cache",
        cure=_cure(graph.shown(whole.file), dict(cures[:MOST_LINES])),
        saved_s=total(part.saved for part in parts),
        measured="performed again as it stands, and with arrays for the results that are kept or changed in place",
        covers=indices(events),
        evidence={**facts(parts[0].events[0], len(made)), "bytes_allocated": sum(made)},
    )


def _cure(file: str, cures: dict[int, tuple[str, ...]]) -> str:
    """In words: who else holds an array, and would see it change, was not seen in all of the program."""
    kept = [line for line, text in cures.items() if not text]
    sentences = []
    if kept:
        where = " and ".join(f"{file}:{line}" for line in sorted(kept))
        sentences.append(
            f"allocate an array for the result in {where} once, before the training, and have NumPy write into it with "
            "`out` (rows that an index array takes: NumPy's take with `mode='clip'`)."
        )
    for line, text in sorted(cures.items()):
        if text:
            statements = " and then ".join(f"`{one.partition('  # ')[0]}`" for one in text)
            sentences.append(f"write {statements} in {file}:{line}, which changes the array in place.")
    if any("out=scratch" in one for one in sentences):
        sentences.append("`scratch` is an array of that shape and dtype, allocated once before the training.")
    sentences.append(
        "Check first that nothing else holds an array that is written into: another name, a list, a view of it, a "
        "result that was returned, or the caller whose argument it is would see it change."
    )
    return by_hand(sentences[0], *(one[0].upper() + one[1:] for one in sentences[1:-1]), sentences[-1])


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
    if event.function is operator.pow:
        power = elementwise(event)
        return None if power is None else lambda *operands, out: power(*operands[: power.nin], out=out)
    if event.function in OPERATOR_NAMES:
        found = getattr(np, OPERATOR_NAMES[event.function])
        return found if isinstance(found, np.ufunc) else None
    if isinstance(event.function, np.ufunc) or event.function in (np.dot, np.clip):
        return event.function
    return None
