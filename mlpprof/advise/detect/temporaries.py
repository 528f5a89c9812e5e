"""Large arrays that every step allocates, where `out=` or an operation in place would reuse one array; needless copies.

The operating system does not map the pages of a large new block before they are used: the first write to each page is
a page fault.
"""

from __future__ import annotations

import ast
import mmap
import operator
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np

from mlpprof.advise.candidate import SMALL, Candidate, around, by_hand, facts, indices, neighbours, total
from mlpprof.advise.cures.kept_results import kept_results
from mlpprof.advise.cures.temporaries import in_place, lines_in_place, without_copies
from mlpprof.advise.heap import more_faults_s, trim
from mlpprof.advise.in_place import Update, elementwise, updates
from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, EVALUATION, OPERATOR_NAMES, PRODUCT
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph, Span
from mlpprof.programs.record.replay import Action, again, of_time, saved_share
from mlpprof.programs.record.trace import Event

CURES_OF_COPIES = {
    "astype": "use `astype` with `copy=False`, which copies only if the dtype differs",
    "copy": "use the array itself in place of its copy",
    "array": "use `asarray` in place of `array`, because it does not copy an array",
    "flatten": "use `ravel` in place of `flatten`, because it copies only if it must",
    "ascontiguousarray": "use the array itself, because a product takes both memory orders",
    "asfortranarray": "use the array itself, because a product takes both memory orders",
}
"""The name of a copying function -> what to do instead."""


def needless_copies(graph: Graph, changed: frozenset[int]) -> list[Candidate]:
    """One candidate for neighbouring lines whose copies protect nothing: nothing writes to the copy or its original.

    changed: arrays that other findings suggest to change in place.
    """
    if len(graph.trace.steps) < 2 or graph.trace.is_blind:
        return []
    spans: dict[Span, list[Event]] = defaultdict(list)
    for event in graph.first:
        if _is_copy(event, graph):
            spans[graph.span(event.site)].append(event)
    safe = {span for span, events in spans.items() if all(_protects_nothing(event, graph) for event in events)}
    found = [event for event in graph.last if graph.span(event.site) in safe and _is_copy(event, graph)]
    risky = {graph.span(event.site) for event in found if _roots(event) & changed}
    found = [event for event in found if graph.span(event.site) not in risky]
    return [_copy_candidate(group, graph) for group in neighbours(found, graph.site)]


def _is_copy(event: Event, graph: Graph) -> bool:
    """Whether it copies the same elements with the same dtype and memory order, or with one that does not matter."""
    output = event.output
    if event.name not in CURES_OF_COPIES or event.is_own or event.is_view or output is None or event.writes:
        return False
    if not event.inputs or output.size < SMALL or event.inputs[0].root == output.root:
        return False
    source = event.inputs[0]
    is_alike = (source.dtype, source.is_matrix) == (output.dtype, output.is_matrix) and source.size == output.size
    if event.name == "flatten":
        order = next((x for x in (*event.operands, event.options.get("order")) if isinstance(x, str)), "C")
        return is_alike and (source.order == order or _is_turned_back(event, graph))
    if not is_alike or source.shape != output.shape or "?" in source.order + output.order:
        return False
    return source.order == output.order or is_only_multiplied(event, graph)


def _is_turned_back(event: Event, graph: Graph) -> bool:
    """Whether products alone read the elements, in the shape and the order that they had before."""
    output, source = event.output, event.inputs[0]
    read = [
        value
        for one in graph.events[event.index + 1 :]
        if one.kind == PRODUCT
        for value in one.inputs
        if output is not None and value.root == output.root
    ]
    is_same = bool(read) and all((value.shape, value.content) == (source.shape, source.content) for value in read)
    return is_same and is_only_multiplied(event, graph)


def is_only_multiplied(event: Event, graph: Graph) -> bool:
    """Whether nothing but products of matrices reads a copy: BLAS takes the elements in both orders."""
    if event.output is None:
        return False
    root = event.output.root
    readers = [
        one
        for one in graph.events[event.index + 1 : graph.trace.died.get(root, len(graph.events))]
        if not one.is_own and not one.is_view and one.name != "len" and any(value.root == root for value in one.inputs)
    ]
    return bool(readers) and all(one.kind == PRODUCT for one in readers)


def _roots(event: Event) -> set[int]:
    """The buffers of a copy and of what it was taken from."""
    return {event.inputs[0].root} | ({event.output.root} if event.output is not None else set())


def _protects_nothing(event: Event, graph: Graph) -> bool:
    """Whether nothing wrote to the copy or its original until the copy was freed, or used in the next step."""
    assert event.output is not None
    held = _roots(event)
    start, stop = graph.trace.steps[1]
    end = graph.trace.died.get(event.output.root)
    if end is None and any(index >= start for index in graph.read_later(event)):
        end = stop  # the recording itself keeps what the last step has read
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
    # The later turns of a long loop were not recorded.
    return not any(run.is_cut and run.first_event < end and event.index < run.end for run in graph.trace.loops)


def _copy_candidate(events: list[Event], graph: Graph) -> Candidate:
    head = max(events, key=lambda event: graph.seconds([event]))
    sites = [graph.site(event) for event in events]
    size = sum(event.output.nbytes for event in events if event.output is not None)
    cure = without_copies(events, graph)
    is_turned = head.output is not None and head.output.order != head.inputs[0].order
    alike = "A product takes both memory orders" if is_turned else "The array already has this dtype and memory order"
    return Candidate(
        category="temporaries",
        site=replace(sites[0], end_line=max(site.end_line for site in sites)),
        title=f"`{graph.text(head, 50)}` copies an array that nothing changes, {_bytes(size)} per step",
        why=f"{alike}, and nothing writes to the array or to its copy while the copy is used.",
        cures=(cure,) if cure is not None else (),
        cure=f"In {graph.place(graph.site(head))}, {CURES_OF_COPIES[head.name]}."
        if cure is not None
        else by_hand(
            f"in {graph.place(graph.site(head))}, {CURES_OF_COPIES[head.name]}.",
            "Check first that nothing writes into the array or into its copy in steps other than the two recorded.",
        ),
        saved_s=around(graph.seconds(events)),
        measured="the time of the copying in the step",
        covers=indices(events),
        evidence={**facts(head, len(events)), "bytes_allocated": size},
    )


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= SHOWN_AS_MB else f"{size / 1e3:.1f} kB"


SHOWN_AS_MB = 50_000
"""From so many bytes on, a size is shown in megabytes with one digit after the point."""


@dataclass(frozen=True)
class Reuse:
    """Operations, what the cure saves, and for each line the statements that change its array in place.

    A line without statements should write its result into an array that is kept. updates: the statements that an edit
    can change.
    """

    events: tuple[Event, ...]
    saved: tuple[float, float]
    cures: dict[int, tuple[str, ...]]
    updates: tuple[Update, ...] = ()


LONG_AFTER = 8
"""If a result is still alive so many operations later, the program keeps it."""

LEAST_GAIN_IN_PLACE = 0.03
"""Changing an array in place must save this share of an update's time, in the middle of what is measured."""

MOST_LINES = 4
"""The cure of a finding names no more lines."""

LEAST_BYTES, LEAST_BYTES_OF_GATHER = 64 * 1024, 1024 * 1024
"""Smaller results, and smaller gathers, are not considered: the allocator keeps their memory."""

WORTH_A_CLASS = 0.1
"""The edit that keeps arrays must save this share of the step: it adds a class, and makes formulas hard to read."""

FRESH_INDICES = 16
"""A gather is performed again with so many different index arrays, so that its rows are not in cache."""

LEAST_FAULTED = 0.05
"""If less than this share of the results' bytes was on new pages, page faults do not matter."""

LEAST_EACH, LEAST_TOTAL = 0.003, 0.015
"""Each operation must take this share of the step, and all together must save this share of it, to be worth the
change."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each group of neighbouring lines, if all together are worth it; then needless copies."""
    needed = _needed_beside_the_next(graph)
    large = [event for event in graph.last if _is_large(event) and (event.site, event.name) not in needed]
    faulted = _faulted_share(large, graph)
    found = updates(graph, LEAST_BYTES)
    worthwhile = [one for one in found if graph.seconds(one.events) > LEAST_EACH * graph.step_s]
    editable = [one for one in worthwhile if lines_in_place(one)]
    others = [one for one in worthwhile if not lines_in_place(one)]
    groups = [*neighbours(editable, _line_of(graph)), *neighbours(others, _line_of(graph))]
    parts = [_together(group, faulted, graph) for group in groups]
    parts = [part for part in parts if part.saved[1] > 0]
    reported = indices(event for part in parts for event in part.events)
    kept = _kept_sites(graph)
    for event in large:
        if event.index not in reported and graph.seconds([event]) > LEAST_EACH * graph.step_s:
            slow, fast = _gathers(event) or (again(event), _into(event))
            if slow is not None and fast is not None:
                if (event.site, event.name) in kept:
                    slow = _keeping(slow)
                saved = of_time(_share(slow, fast, faulted), graph.seconds([event]))
                if saved[0] > 0:
                    parts.append(Reuse((event,), saved, {graph.site(event).line: ()}))
    _, high = total(part.saved for part in parts)
    changed = frozenset(root for one in found for root in one.changed)
    worth = []
    if high >= LEAST_TOTAL * graph.step_s:
        worth = neighbours([part for part in parts if part.updates], _line_of(graph))
        worth += neighbours([part for part in parts if not part.updates], _line_of(graph))
    return [*(_candidate(group, graph) for group in worth), *needless_copies(graph, changed)]


def _kept_sites(graph: Graph) -> set[tuple[int, str]]:
    """Operations whose results are kept, for instance in an attribute until the next step."""
    died = graph.trace.died
    return {
        (event.site, event.name)
        for event in graph.first
        if event.output is not None and died.get(event.output.root, len(graph.events)) > event.index + LONG_AFTER
    }


def _needed_beside_the_next(graph: Graph) -> set[tuple[int, str]]:
    """Operations whose last result is still read when the next one exists, so that one array is not enough for both."""
    made = {event.output.root: (event.site, event.name) for event in graph.first if event.output is not None}
    again: dict[tuple[int, str], int] = {}
    for event in graph.last:
        again.setdefault((event.site, event.name), event.index)
    never = len(graph.events)
    reads = ((event.index, made.get(value.root)) for event in graph.last for value in event.inputs)
    return {place for index, place in reads if place is not None and index > again.get(place, never)}


def _keeping(action: Action) -> Action:
    """The action with its result kept until the next one exists, so that two arrays alternate as in the program."""
    held: list[object] = [None]

    def again_kept() -> None:
        held[0] = action()

    return again_kept


def _line_of(graph: Graph) -> Callable[[Reuse | Update], Site]:
    """The place of the last operation of a part."""
    return lambda part: graph.site(part.events[-1])


def _together(group: list[Update], faulted: float, graph: Graph) -> Reuse:
    """Neighbouring updates one after the other, as in the step, because all their arrays share the caches."""

    def slow() -> None:
        for one in group:
            one.slow()

    def fast() -> None:
        for one in group:
            one.fast()

    events = tuple(event for one in group for event in one.events)
    cures = {graph.site(one.events[-1]).line: one.cure for one in group}
    share = _share(slow, fast, faulted)
    # In place, fewer arrays are touched, so a negative saving is a disturbance of the measurement.
    saved = of_time(share, graph.seconds(events)) if sum(share) / 2 > LEAST_GAIN_IN_PLACE else (0.0, 0.0)
    return Reuse(events, saved, cures, tuple(one for one in group if lines_in_place(one)))


def _candidate(parts: list[Reuse], graph: Graph) -> Candidate:
    parts = sorted(parts, key=lambda part: -part.saved[1])
    events = [event for part in parts for event in part.events]
    sites = sorted((graph.site(event) for event in events), key=lambda site: site.line)
    whole = replace(sites[0], end_line=max(site.end_line for site in sites))
    made = [event.output.nbytes for event in events if event.output is not None and not event.writes]
    cures = [(line, text) for part in parts for line, text in part.cures.items()]
    edit = in_place([one for part in parts for one in part.updates], graph)
    replaced = [
        event for part in parts for one in part.updates if isinstance(one.statement, ast.Assign) for event in one.events
    ]
    low, high = total(part.saved for part in parts)
    is_worth_a_class = (low + high) / 2 >= WORTH_A_CLASS * graph.step_s
    written = kept_results(events, LEAST_BYTES, graph) if edit is None and is_worth_a_class else None
    least_lost_s, most_lost_s = more_faults_s(replaced, graph) if replaced else (0.0, 0.0)
    return Candidate(
        category="temporaries",
        site=whole,
        title=_title(graph.text(parts[0].events[-1], 50), len(made), sum(made)),
        why="NumPy allocates new memory for each of these results in every step, and the operating system must first "
        "map it. An array that is reused stays in the cache.",
        cures=tuple(one for one in (edit, written) if one is not None),
        cure="Change the array in place where the program replaces it by a new one of the same name."
        if edit is not None
        else "Let NumPy write the results into arrays that are made once and used again in every step. The "
        "patch adds a class that keeps these arrays under names."
        if written is not None
        else _cure(lambda line: graph.place(replace(whole, line=line)), dict(cures[:MOST_LINES])),
        saved_s=(low - most_lost_s, high - least_lost_s),
        measured="the operations performed again as they are, and with results in kept arrays or in place"
        + (", and the page faults of its allocations counted with and without these" if replaced else ""),
        covers=indices(events),
        evidence={**facts(parts[0].events[0], len(made)), "bytes_allocated": sum(made)},
    )


def _cure(place: Callable[[int], str], cures: dict[int, tuple[str, ...]]) -> str:
    """The cure in words: other code that did not run may hold an array, and would see it change."""
    kept = [line for line, text in cures.items() if not text]
    sentences = []
    if kept:
        where = " and ".join(map(place, sorted(kept)))
        sentences.append(
            f"allocate an array for the result in {where} once before the training, and let NumPy write into it with "
            "`out` (for rows that an index array selects: NumPy's take with `mode='clip'`)."
        )
    for line, text in sorted(cures.items()):
        if text:
            statements = " and then ".join(f"`{one.partition('  # ')[0]}`" for one in text)
            sentences.append(f"write {statements} in {place(line)}, which changes the array in place.")
    if any("out=scratch" in one for one in sentences):
        sentences.append("`scratch` is an array of that shape and dtype, allocated once before the training.")
    sentences.append(
        "Check first that nothing else uses an array that you write into: another name, a list, a view, a returned "
        "result, or the caller of the function would see it change."
    )
    return by_hand(sentences[0], *(one[0].upper() + one[1:] for one in sentences[1:-1]), sentences[-1])


def _title(first: str, number: int, size: int) -> str:
    if number == 1:
        return f"`{first}` allocates a new large array in every step ({size / 1e6:.1f} MB)"
    others = "one other operation allocate" if number == 2 else f"{number - 1} other operations allocate"
    return f"`{first}` and {others} new large arrays in every step ({size / 1e6:.1f} MB in total)"


def _faulted_share(large: list[Event], graph: Graph) -> float:
    """The share of the bytes of these results that was on new pages, in a usual step."""
    size = sum(event.output.nbytes for event in large if event.output is not None)
    faults = graph.trace.times.faults
    return min(1.0, median(faults) * mmap.PAGESIZE / size) if faults and size else 0.0


def _share(slow: Action, fast: Action, faulted: float) -> tuple[float, float]:
    """The saved share: with memory that the allocator still has, and with pages that it must ask the system for.

    The page faults of the step show how often the latter happens.
    """
    warm = saved_share(slow, fast)
    release = _release()
    if release is None or faulted < LEAST_FAULTED:
        return warm
    cold = saved_share(slow, fast, before_slow=release)
    low, high = (held + faulted * (max(given, held) - held) for held, given in zip(warm, cold, strict=True))
    return low, high


def _release() -> Action | None:
    """An action that returns the allocator's free memory to the system; None if there is no way to do it."""
    function = trim()
    return None if function is None else partial(function, 0)


def _is_large(event: Event) -> bool:
    output = event.output
    if event.is_own or event.is_view or output is None or not output.is_array or event.writes:
        return False
    if event.kind not in (ARITHMETIC, EVALUATION, PRODUCT, COPY) or any(v.root == output.root for v in event.inputs):
        return False
    return output.nbytes >= (LEAST_BYTES_OF_GATHER if event.name == "gather" else LEAST_BYTES)


def _gathers(event: Event) -> tuple[Action, Action] | None:
    """``X[index]`` without and with an array for the result, with other rows each time."""
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
    """The same operation with its result in an existing array."""
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
