"""Double precision where single precision would do: everywhere, or from one accidental conversion."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np

from mlpprof.advise.candidate import CERTAIN, LIKELY, SMALL, Candidate, by_hand, facts, indices, total
from mlpprof.advise.cures.float64 import InSingle, in_float32
from mlpprof.instrument.numpy_costs import FILL
from mlpprof.programs.record.arrays import Value
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, nothing_if_impossible, of_time, saved_share, seconds_of
from mlpprof.programs.record.trace import Event

MOST_REPLAYS = 24
"""No more operations are performed again in both precisions; the others are assumed to save as much."""

LEAST_FAULTS, LEAST_FAULTING_BYTES = 20, 128 * 1024
"""If a step has so many page faults, the system provides new memory for arrays of at least so many bytes."""

MOST_RELATED = MOST_PLACES = 6
"""A finding names no more other places."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate, at the place where float64 comes from."""
    doubles = [e for e in graph.last if e.kind and e.kind != FILL and _is_double(e) and not e.is_own]
    if not doubles:
        return []
    timed = sorted(filter(_is_large, doubles), key=lambda e: -graph.seconds([e]))
    if not timed:
        return []
    replayed = timed[:MOST_REPLAYS]
    faulted = bool(graph.trace.times.faults) and median(graph.trace.times.faults) >= LEAST_FAULTS
    saved = total(_saved(event, faulted, graph) for event in replayed)
    rest = graph.seconds(timed[MOST_REPLAYS:])
    done = graph.seconds(replayed)
    factor = (1 + rest / done if done else 1.0) * graph.unclocked  # what is freed is smaller as well
    # What makes the batches moves half of the bytes, but it is not seen how much of its time that takes.
    fed_s = median(graph.trace.times.fed_s or [0.0])
    first = next((e for e in graph.last if _makes_double(e)), doubles[0])
    is_source = not _has_double_weights(graph) and (_is_upcast(first) or first.kind == FILL)
    upcast = first if is_source else None
    edited = in_float32(graph)
    places = list(edited.places if edited is not None else ())  # those that make weights come first
    head = upcast or timed[0]
    if upcast is not None and _is_made_here(upcast, graph):
        site = graph.site(upcast)
    else:
        site = next(iter(places), graph.site(head))
    title = f"the step {graph.step_name} computes in float64"
    if upcast is not None:
        flaw = "makes an array of float64" if upcast.kind == FILL else "turns float32 into float64"
        title = f"`{graph.text(upcast, 50)}` {flaw}"
    return [
        Candidate(
            category="float64",
            site=site,
            title=title,
            why="float32 is precise enough for training. It halves the memory traffic and doubles the numbers per CPU "
            "instruction. If one operand is float64, NumPy converts the result to float64, so you must change all of "
            "them." + (f" Here `{graph.text(upcast)}` makes the first float64." if upcast else ""),
            cure=_edited(edited, graph) if edited is not None else _by_hand(graph),
            cures=edited.cures if edited is not None else (),
            saved_s=(saved[0] * factor, saved[1] * factor + fed_s / 2),
            measured=f"{len(replayed)} operations performed again in both precisions on their own operands",
            confidence=CERTAIN if upcast is not None else LIKELY,
            covers=indices([head]),
            related=tuple(place for place in (*places, graph.site(timed[0])) if place is not site)[:MOST_RELATED],
            evidence=facts(head, len(doubles)),
        )
    ]


@nothing_if_impossible
def _saved(event: Event, faulted: bool, graph: Graph) -> tuple[float, float]:
    """What an operation saves in float32. faulted: whether large arrays of the step get new memory."""
    slow, fast = again(event), again(event, _single)
    if slow is None or fast is None:
        return 0.0, 0.0
    seconds = graph.seconds([event])
    low, high = of_time(saved_share(slow, fast), seconds)
    if faulted and event.output is not None and event.output.nbytes >= LEAST_FAULTING_BYTES:
        # The rest of the time goes into new pages. Arrays of half the size need half of them, or none.
        high = max(high, seconds - seconds_of(fast))
        low = max(low, (low + high) / 2)
    return low, high


def _edited(edited: InSingle, graph: Graph) -> str:
    number = len(edited.places)
    where = "the one place where the program makes" if number == 1 else f"the {number} places where the program makes"
    return (
        f"Make float32 in {where} the float64 that the step reads or computes. The results differ by the rounding of "
        "float32, so check the accuracy after the training."
        + "".join(
            f"\nIn {graph.place(site)}, the text does not show that the call gives an array: leave out this edit if it "
            "does not."
            for site in edited.unsure
        )
    )


def _by_hand(graph: Graph) -> str:
    """The cure in words: where the step makes float64, and where it reads float64 that comes from outside."""
    made: dict[int, Event] = {}
    read: dict[int, tuple[Event, Value]] = {}
    for event in graph.turn:
        doubles = [value for value in event.inputs if value.is_array and value.dtype == "float64"]
        if _makes_double(event) and not doubles:
            made.setdefault(event.site, event)
        for value in doubles:
            if value.size >= SMALL and not graph.makers(value.root, event.index):
                read.setdefault(value.root, (event, value))
    sentences = [
        f"`{graph.text(e, 50)}` of {graph.place(graph.site(e))} makes float64 in every step." for e in made.values()
    ]
    sentences += [
        f"{graph.place(graph.site(event))} reads float64 of shape {value.shape} that comes from outside the step."
        for event, value in read.values()
    ]
    return by_hand(
        "make every array of the step float32 where you create it. If one operand stays float64, the results are "
        "float64 again and nothing is saved.",
        *dict.fromkeys(sentences[:MOST_PLACES]),
        "Check the dtype of the parameters and of the data after a step, and the accuracy after the training.",
    )


def _is_made_here(upcast: Event, graph: Graph) -> bool:
    """Whether the float64 of an operation is a number or an array of this step, and not a weight or the data."""
    doubles = [value for value in upcast.inputs if value.is_array and value.dtype == "float64"]
    return not doubles or any(graph.makers(value.root, upcast.index) for value in doubles)


def _is_double(event: Event) -> bool:
    values = (*event.inputs, *([event.output] if event.output is not None else []))
    return any(value.is_array and value.dtype == "float64" and value.size > 1 for value in values)


def _is_large(event: Event) -> bool:
    """Whether an array of it has so many elements that their size matters."""
    values = (*event.inputs, *([event.output] if event.output is not None else []))
    return max(value.size for value in values if value.is_array) >= SMALL


def _has_double_weights(graph: Graph) -> bool:
    return any(
        value.dtype == "float64" and value.size > 1 and value.root in graph.parameters
        for event in graph.last
        for value in event.inputs
    )


def _makes_double(event: Event) -> bool:
    """Whether its result is a new float64 array with more than one element."""
    output = event.output
    is_double = output is not None and output.is_array and output.dtype == "float64" and output.size > 1
    return is_double and bool(event.kind) and not event.is_own and not event.is_view


def _is_upcast(event: Event) -> bool:
    """Whether the result is float64 although an operand is float32."""
    large = [value for value in event.inputs if value.is_array and value.dtype.startswith("float")]
    output = event.output
    is_double = output is not None and output.is_array and output.dtype == "float64"
    return is_double and bool(large) and any(value.dtype == "float32" for value in large) and event.name != "astype"


def _single(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype != np.float64:
        return array
    order: Any = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return array.astype(np.float32, order=order)
