"""Double precision where single would do: throughout, by an accidental conversion, or from weights or data alone."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np

from mlpprof.advise.candidate import CERTAIN, LIKELY, Candidate, facts, indices, total
from mlpprof.advise.detect.double_sources import cure, sources
from mlpprof.advise.graph import Graph
from mlpprof.advise.identity import Value
from mlpprof.advise.perform import again
from mlpprof.advise.replay import of_time, saved_share, seconds_of
from mlpprof.advise.trace import Event
from mlpprof.instrument.rewriting import Site
from mlpprof.instrument.semantics_table import FILL

MOST_REPLAYS = 24
LEAST_SIZE = 256
FEW_FAULTS = 20
"""Page faults a step, with which memory is handed out anew in every step; `FAULTING_BYTES`: of an array that is."""
FAULTING_BYTES = 128 * 1024


def detect(graph: Graph) -> list[Candidate]:
    """One candidate: where float64 comes from."""
    doubles = [e for e in graph.last if e.kind and e.kind != FILL and _is_double(e) and not e.is_own]
    if not doubles:
        return []
    timed = sorted(filter(_is_large, doubles), key=lambda e: -graph.seconds([e]))
    if not timed:
        return []
    replayed = timed[:MOST_REPLAYS]
    parts = []
    faulted = bool(graph.trace.times.faults) and median(graph.trace.times.faults) >= FEW_FAULTS
    for event in replayed:
        slow, fast = again(event), again(event, _single)
        if slow is not None and fast is not None:
            seconds = graph.seconds([event])
            low, high = of_time(saved_share(slow, fast), seconds)
            if faulted and event.output is not None and event.output.nbytes >= FAULTING_BYTES:
                # the rest of the time goes into new pages: arrays of half the size need half of them, or none
                high = max(high, seconds - seconds_of(fast))
                low = max(low, (low + high) / 2)
            parts.append((low, high))
    saved = total(parts)
    rest = graph.seconds(timed[MOST_REPLAYS:])
    done = graph.seconds(replayed)
    factor = (1 + rest / done if done else 1.0) * graph.unclocked  # what is freed is smaller as well
    first = next((e for e in graph.last if _makes_double(e)), doubles[0])
    is_source = not _has_double_weights(graph) and (_is_upcast(first) or first.kind == FILL)
    upcast = first if is_source else None
    places = list(sources(graph))  # of weights before others, of their own file's order
    head = upcast or timed[0]
    if upcast is not None and _is_made_here(upcast, graph):
        site = graph.site(upcast)
    else:
        site = next(iter(places), graph.site(head))
    what = "the step computes in float64"
    if upcast is not None:
        what = "an array of float64 is made" if upcast.kind == FILL else "an operation turns float32 into float64"
    return [
        Candidate(
            category="float64",
            site=site,
            title=what,
            why="training needs no more than the 24 bits of float32, which moves half the bytes and does twice the "
            "elements in a vector instruction; every array that meets another has to be float32, or float64 is back"
            + (f"; here {graph.text(upcast)} brings float64 in, and it spreads from here" if upcast else ""),
            cure=cure([site, *(place for place in places if place != site)], list(_also_double(site, graph)), graph),
            saved_s=(saved[0] * factor, saved[1] * factor),
            measured=f"{len(replayed)} operations performed again in both precisions on their own operands",
            confidence=CERTAIN if upcast is not None else LIKELY,
            covers=indices([head]),
            related=tuple(place for place in (*places, graph.site(timed[0])) if place is not site)[:6],
            evidence=facts(head, len(doubles)),
        )
    ]


def _also_double(told: Site, graph: Graph) -> Iterator[str]:
    """Sentences on what the step makes of float64 out of nothing such, and on data of float64 that it reads."""
    made: dict[int, Event] = {}
    data: dict[int, tuple[Event, Value]] = {}
    for event in graph.turn:
        doubles = [value for value in event.inputs if value.is_array and value.dtype == "float64"]
        if _makes_double(event) and not doubles and not _is_asked_for(event) and graph.site(event).line != told.line:
            made.setdefault(event.site, event)
        for value in doubles:
            if value.size >= LEAST_SIZE and value.root not in graph.parameters:
                data.setdefault(value.root, (event, value))
    for event in made.values():
        yield f"In {graph.place(graph.site(event))}, `{graph.text(event, 50)}` makes float64 in every step."
    for root, (event, value) in data.items():
        if not graph.makers(root, event.index):
            yield (
                f"{graph.place(graph.site(event))} reads data of float64, of shape {value.shape}: make them float32 "
                "where they are loaded, if no line above does."
            )


def _is_asked_for(event: Event) -> bool:
    """Whether an array is made with the dtype that something else has."""
    has_dtype = "dtype" in event.options or (event.name in ("zeros", "ones", "empty") and len(event.operands) > 1)
    return has_dtype or event.name.endswith("_like")


def _is_made_here(upcast: Event, graph: Graph) -> bool:
    """Whether the float64 in an operation is a number, or an array of this step; else weights or data are float64."""
    doubles = [value for value in upcast.inputs if value.is_array and value.dtype == "float64"]
    return not doubles or any(graph.makers(value.root, upcast.index) for value in doubles)


def _is_double(event: Event) -> bool:
    values = (*event.inputs, *([event.output] if event.output is not None else []))
    return any(value.is_array and value.dtype == "float64" and value.size > 1 for value in values)


def _is_large(event: Event) -> bool:
    """Whether an array of it has elements enough for their size to show beside the call."""
    values = (*event.inputs, *([event.output] if event.output is not None else []))
    return max(value.size for value in values if value.is_array) >= LEAST_SIZE


def _has_double_weights(graph: Graph) -> bool:
    return any(
        value.dtype == "float64" and value.size > 1 and value.root in graph.parameters
        for event in graph.last
        for value in event.inputs
    )


def _makes_double(event: Event) -> bool:
    """Whether its result is the first float64 array of a size, also where it is made out of nothing."""
    output = event.output
    is_double = output is not None and output.is_array and output.dtype == "float64" and output.size > 1
    return is_double and bool(event.kind) and not event.is_own and not event.is_view


def _is_upcast(event: Event) -> bool:
    """Whether all arrays of a size are float32 and the result is float64."""
    large = [value for value in event.inputs if value.is_array and value.dtype.startswith("float")]
    output = event.output
    is_double = output is not None and output.is_array and output.dtype == "float64"
    return is_double and bool(large) and any(value.dtype == "float32" for value in large) and event.name != "astype"


def _single(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype != np.float64:
        return array
    order: Any = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return array.astype(np.float32, order=order)
