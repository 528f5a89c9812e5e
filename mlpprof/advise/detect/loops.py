"""Python loops over samples, and over neurons or weights, that array operations could do at once.

A loop can be done at once if a turn needs nothing of the turn before but sums that grow. Layers need the layer before
them, and online learning needs the weights that the sample before has changed: those are no findings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import numpy as np

from mlpprof.advise.candidate import Candidate, by_hand, facts
from mlpprof.advise.graph import Graph
from mlpprof.instrument.numpy_costs import ARITHMETIC, EVALUATION, PRODUCT
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.replay import seconds_of
from mlpprof.programs.record.trace import Event, LoopRun

REMAINS = (2.0, 0.5)
"""What the array operations will take, as factors of what they take here one by one: at most, at least."""

MOST_SHARE = 0.995
LEAST_TURNS = 4
FEWEST_NUMBERS = 2
"""Turns of a loop that computes with single numbers."""


def detect(graph: Graph) -> list[Candidate]:
    """Loops over samples, then loops over neurons that are in none of them."""
    start, stop = graph.trace.steps[-1]
    runs = [run for run in graph.trace.loops if start <= run.first_event <= stop and run.step == graph.last_step]
    by_site: dict[int, list[LoopRun]] = defaultdict(list)
    for run in runs:
        by_site[run.site].append(run)
    found: list[Candidate] = []
    kinds: list[tuple[str, int, list[LoopRun], LoopRun, list[list[Event]]]] = []
    for site, of_site in by_site.items():
        longest = max(of_site, key=lambda run: run.turns)
        is_scalar = longest.scalars > 0 and longest.turns >= FEWEST_NUMBERS
        if not is_scalar and (longest.turns < LEAST_TURNS or longest.recorded < 3):
            continue
        turns = graph.turns(longest)
        kind = _kind(longest, turns, graph, runs)
        if kind is not None:
            kinds.append((kind, site, of_site, longest, turns))
    samples = {longest.turns for kind, _, _, longest, _ in kinds if kind == "sample-loop"}
    for kind, site, of_site, longest, turns in kinds:
        # another loop over the samples, which meets no weights
        is_samples = longest.turns in samples and not longest.loops
        found.append(_candidate("sample-loop" if is_samples else kind, site, of_site, longest, turns, graph))
    return list(_without_inner(found, graph))


def _kind(run: LoopRun, turns: list[list[Event]], graph: Graph, runs: list[LoopRun]) -> str | None:
    work = [[event for event in turn if event.kind] for turn in turns]
    if any(work):
        if len(work) < 3 or not work[1] or [e.name for e in work[1]] != [e.name for e in work[2]] or _carries(turns):
            return None
        if any(event.kind == PRODUCT and _is_of_matrices(event) for event in work[1]):
            return None  # small batches, and layers
        if _uses_same_weights(work, graph.parameters):
            return "sample-loop"
        return "neuron-loop" if _takes_rows(work) else None
    return "neuron-loop" if _is_scalar(run, runs) else None


def _is_scalar(run: LoopRun, runs: list[LoopRun]) -> bool:
    """Whether its turns, or those of the loops right within it, compute alike with single numbers and no arrays."""
    if run.scalars > 0:
        return len(set(run.signatures[1:])) == 1  # others go through unlike things, as the nodes of a graph
    return any(
        inner.scalars > 0
        and inner.loops[: len(run.loops) + 1][-1:] != ()
        and len(inner.loops) == len(run.loops) + 1
        and (inner.loops[-1].site, inner.loops[-1].execution) == (run.site, run.execution)
        for inner in runs
    )


def _carries(turns: list[list[Event]]) -> bool:
    """Whether a turn reads what the turn before has written, other than to add to it."""
    for before, turn in pairwise(turns):
        written = {root for e in before for root in e.writes}
        written |= {e.output.root for e in before if e.output is not None and e.output.is_array and not e.is_view}
        grown = {e.output.root for e in before if e.output is not None and e.name == "add"}
        for event in turn:
            if event.is_own or event.is_view or (event.effect is not None and not event.kind):
                continue  # what only passes arrays on, as zip() and append()
            read = {value.root for value in event.inputs if value.is_array}
            for root in read & written:
                is_sum = event.name == "add" and (root in grown or root in event.writes)
                if not is_sum and not _is_part_of_sum(event, root, before):
                    return True
    return False


def _is_part_of_sum(event: Event, root: int, before: list[Event]) -> bool:
    """Whether the turn before did the same at the same place to another part of the array: rows that are filled."""
    if root not in event.writes:
        return False
    starts = {v.start for e in before if e.site == event.site for v in e.inputs if v.root == root}
    return all(value.start not in starts for value in event.inputs if value.root == root)


def _uses_same_weights(work: list[list[Event]], parameters: frozenset[int]) -> bool:
    """Whether all turns multiply different vectors by the same weights, or make outer products of them."""
    for event, following in zip(work[1], work[2], strict=True):
        if event.site != following.site:
            return False
        pairs = list(zip(event.inputs, following.inputs, strict=False))
        same = [a for a, b in pairs if a.root in parameters and min(a.shape, default=1) > 1 and a.content == b.content]
        moved = [a for a, b in pairs if a.is_array and (a.start != b.start or a.content != b.content)]
        vectors = [a for a in moved if len(a.shape) < 2 or min(a.shape) <= 1]
        if event.kind == PRODUCT and same and vectors:
            return True
        is_outer = event.name == "outer" or (event.kind == PRODUCT and _inner_size(event) == 1)
        if is_outer and moved:
            return True
    return False


def _is_of_matrices(event: Event) -> bool:
    return event.effect is not None and len(event.effect.shape) == 3 and min(event.effect.shape) > 1


def _inner_size(event: Event) -> int:
    return event.effect.shape[1] if event.effect is not None and len(event.effect.shape) == 3 else 0


def _takes_rows(work: list[list[Event]]) -> bool:
    """Whether the turns go through the rows, columns or elements of one array."""
    regions = [event.region for event in work[1]], [event.region for event in work[2]]
    if any(
        a is not None and b is not None and a.root == b.root and a.start != b.start
        for a, b in zip(*regions, strict=True)
    ):
        return True
    for event, following in zip(work[1], work[2], strict=True):
        for a, b in zip(event.inputs, following.inputs, strict=False):
            is_next = a.is_array and a.root == b.root and a.start != b.start and a.shape == b.shape
            if is_next and (len(a.shape) < 2 or min(a.shape) <= 1):
                return True
    return False


def _candidate(
    kind: str, site: int, runs: list[LoopRun], longest: LoopRun, turns: list[list[Event]], graph: Graph
) -> Candidate:
    place = graph.trace.sites[site]
    seconds = _loop_seconds(place, runs, graph) * graph.unclocked
    at_once = _at_once_s(turns[1], longest.turns) * len(runs) if len(turns) > 1 else 0.0
    most_s = MOST_SHARE * graph.step_s
    low, high = (min(max(0.0, seconds - factor * at_once), most_s) for factor in REMAINS)
    turned = sum(run.turns for run in runs)
    if kind == "sample-loop":
        title = f"a Python loop propagates the {longest.turns} samples one by one"
        why = (
            "every sample costs all the calls of NumPy again, and reads all the weights again: one product of matrices "
            "does the whole batch"
        )
        cure = by_hand(
            f"in place of the loop in {graph.place(place)}, compute with the whole batch as one array X, of shape "
            "(samples, features), and do everything for all rows at once.",
            "With W of shape (outputs, inputs) the weighted sums are `X @ W.T + b`, the gradient of W is the sum over "
            "the samples, `delta.T @ A`, and that of b is `delta.sum(axis=0)`; divide them by the number of samples if "
            "your update takes means.",
            "Check the gradients of one batch against those of the loop.",
        )
    else:
        title = f"a Python loop goes through {longest.turns} neurons, weights or elements one by one"
        why = "every number passes through Python's interpreter: one operation on the whole array does the loop in C"
        cure = by_hand(
            f"in place of the loop in {graph.place(place)}, compute with whole arrays: `W @ A + b` gives the weighted "
            "sums of all neurons, and the outer product of delta and A the gradient of all weights.",
            "Check the results of one step against those of the loop.",
        )
    work = [event for turn in turns[1:2] for event in turn]
    head = next((e for e in work if e.kind == PRODUCT), work[0] if work else None)
    evidence = facts(head, turned) if head is not None else {"times_per_step": turned}
    return Candidate(
        category=kind,
        site=place,
        title=title,
        why=why,
        cure=cure,
        saved_s=(low, high),
        measured="the time of the loop in the step, less that of its array operations performed once on all turns",
        covers=frozenset(event.index for turn in turns for event in turn),
        evidence={**evidence, "turns": longest.turns},
    )


def _loop_seconds(place: Site, runs: list[LoopRun], graph: Graph) -> float:
    """Of the expressions in its lines and of the functions that they call: their share of the step's clocks."""
    inside = {index for run in runs for index in range(run.first_event, run.end)}
    by_events = graph.seconds(e for e in graph.last if e.index in inside)
    return max(by_events, graph.lines_seconds(place.file, place.line, place.end_line))


def _at_once_s(turn: list[Event], m: int) -> float:
    """Seconds for the operations of one turn, on m samples at once."""
    return sum(seconds_of(action) for action in _at_once(turn, m))


def _at_once(turn: list[Event], m: int) -> Iterator[Callable[[], object]]:
    random = np.random.default_rng(0)
    for event in turn:
        effect, output = event.effect, event.output
        if event.is_own or effect is None or not effect.name:
            continue
        dtype = np.float32 if effect.dtype == "float32" else np.float64
        if event.kind == PRODUCT and len(effect.shape) == 3:
            p, k, q = effect.shape
            sizes = (p, m, q) if k == 1 else (p, k, m * q)
            A, B = random.random(sizes[:2]).astype(dtype), random.random(sizes[1:]).astype(dtype)
            yield partial(np.matmul, A, B)
        elif event.kind in (ARITHMETIC, EVALUATION) and output is not None and min(output.shape, default=1) <= 1:
            x = random.random(output.size * m).astype(dtype)
            if event.kind == EVALUATION:
                yield partial(np.exp, x)
            else:
                yield partial(np.add, x, x)


def _without_inner(found: list[Candidate], graph: Graph) -> Iterator[Candidate]:
    """Without loops within a loop of the same kind, by lines or by events."""
    ordered = sorted(found, key=lambda c: -c.saved_s[1])
    kept: list[Candidate] = []
    for candidate in ordered:
        is_inside = any(
            other.category == candidate.category
            and (_is_within(candidate.site, other.site) or (candidate.covers and candidate.covers < other.covers))
            for other in kept
        )
        if not is_inside:
            kept.append(candidate)
            yield candidate


def _is_within(inner: Site, outer: Site) -> bool:
    return inner.file == outer.file and outer.line <= inner.line and inner.end_line <= outer.end_line
