"""Python loops that array operations could do at once: which there are, and what each would save.

A loop can be done at once if a turn needs nothing of the turn before but sums that grow. A loop over layers needs the
layer before, and online learning needs the weights that the sample before has changed; neither is a flaw.
"""

from __future__ import annotations

import ast
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from mlpprof.advise.candidate import Candidate, facts
from mlpprof.advise.cures.one_hot import stored_ones
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.advise.syntax import last_name
from mlpprof.instrument.numpy_costs import ARITHMETIC, EVALUATION, FILL, PRODUCT
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph, shortened
from mlpprof.programs.record.replay import seconds_of
from mlpprof.programs.record.trace import Event, LoopRun, Turn

Category = Literal["sample-loop", "neuron-loop"]

REMAINING_FACTORS = (2.0, 0.5)
"""What remains is the time of one turn, and that of its array operations on the data of all turns. In the step it takes
at most the first factor and at least the second factor times as long."""

MOST_SHARE = 0.995
"""A loop never saves more than this share of the step, because something must compute the result."""

LEAST_TURNS = 4
"""A loop over arrays with fewer turns is too short to be a loop over samples or neurons."""

MAPS = frozenset(("map", "starmap"))
"""Library functions that call a function for each item."""

LONGEST_HEADER = 50
"""A title shows no more characters of the loop's first line."""

LEAST_TURNS_OF_NUMBERS = 2
"""A loop that computes with single numbers needs at least so many turns."""


@dataclass(frozen=True)
class PythonLoop:
    """A loop that array operations could do at once.

    executions: all its executions in the last recorded step. longest: the one with the most turns.
    turns: the recorded events of each turn of the longest execution.
    """

    category: Category
    site: Site
    executions: list[LoopRun]
    longest: LoopRun
    turns: list[list[Event]]


@dataclass(frozen=True)
class Words:
    """What a finding on a loop says. cures: as in `Candidate`."""

    title: str
    why: str
    cure: str
    cures: tuple[Cure, ...] = ()


def python_loops(graph: Graph) -> list[PythonLoop]:
    """The loops over samples and over neurons in the last recorded step."""
    start, stop = graph.trace.steps[-1]
    runs = [run for run in graph.trace.loops if start <= run.first_event <= stop and run.step == graph.last_step]
    by_site: dict[int, list[LoopRun]] = defaultdict(list)
    for run in runs:
        by_site[run.site].append(run)
    found: list[PythonLoop] = []
    for site, executions in by_site.items():
        longest = max(executions, key=lambda run: run.turns)
        is_of_numbers = longest.scalars > 0 and longest.turns >= LEAST_TURNS_OF_NUMBERS
        if not is_of_numbers and (longest.turns < LEAST_TURNS or longest.recorded < 3):
            continue
        turns = graph.turns(longest)
        category = _category(longest, turns, graph, runs)
        if category is not None and stored_ones(site, graph) is None:
            found.append(PythonLoop(category, graph.trace.sites[site], executions, longest, turns))
    samples = batch_sizes(graph) | {loop.longest.turns for loop in found if loop.category == "sample-loop"}
    # Another outermost loop with as many turns goes over the samples too, though it does not use the weights.
    found = [
        PythonLoop("sample-loop", loop.site, loop.executions, loop.longest, loop.turns)
        if loop.longest.turns in samples and not loop.longest.loops
        else loop
        for loop in found
    ]
    return [*found, *_repeated_calls(graph)]


def batch_sizes(graph: Graph) -> set[int]:
    """The numbers of samples that products with weights take at once."""
    found = set()
    for event in graph.last:
        if event.kind != PRODUCT or len(event.inputs) != 2 or any(len(value.shape) != 2 for value in event.inputs):
            continue
        left, right = event.inputs
        are_weights = left.root in graph.parameters, right.root in graph.parameters
        if are_weights == (False, True):
            found.add(left.shape[0])
        elif are_weights == (True, False):
            found.add(right.shape[1])
    return found


def _repeated_calls(graph: Graph) -> Iterator[PythonLoop]:
    """Samples one by one without a loop statement: by `map`, by `itertools.starmap`, by recursion."""
    by_turn: dict[tuple[Turn, ...], list[Event]] = defaultdict(list)
    for event in graph.last:
        by_turn[event.loops].append(event)
    for loose in by_turn.values():
        yield from _repeated_among(loose, graph)


def _repeated_among(loose: list[Event], graph: Graph) -> Iterator[PythonLoop]:
    """Those among the operations of one turn of the loops around them."""
    sites = [event.site for event in loose]
    next_at: dict[int, int] = {}
    following = [0] * len(sites)
    for place in reversed(range(len(sites))):
        following[place] = next_at.get(sites[place], 0)
        next_at[sites[place]] = place
    at = 0
    while at < len(loose):
        period = following[at] - at
        turns = _repetition(sites, at, period) if period > 0 else 1
        if turns < LEAST_TURNS:
            at += 1
            continue
        parts = [loose[at + turn * period : at + (turn + 1) * period] for turn in range(turns)]
        work = [[event for event in part if event.kind] for part in parts]
        is_of_matrices = any(event.kind == PRODUCT and _is_of_matrices(event) for event in work[1])
        if work[1] and not is_of_matrices and not _carries(parts) and (category := _of_arrays(work, graph)) is not None:
            first, last = parts[0][0], parts[-1][-1]
            run = LoopRun(first.site, 0, graph.last_step, first.index, first.loops, first.calls, turns, turns, turns)
            run.end = last.index + 1
            yield PythonLoop(category, _caller(first, graph), [run], run, parts)
        at += turns * period


def _repetition(sites: list[int], at: int, period: int) -> int:
    """How often so many places are passed again in the same order, without anything between."""
    part = sites[at : at + period]
    turns = 1
    while sites[at + turns * period : at + (turns + 1) * period] == part:
        turns += 1
    return turns


def _caller(first: Event, graph: Graph) -> Site:
    """The place that calls the function again and again: `map(...)`, or the outermost call of a recursion."""
    site = graph.site(first)
    functions = [
        node
        for node in ast.walk(graph.trees[site.file])
        if isinstance(node, ast.FunctionDef | ast.Lambda) and node.lineno <= site.line <= (node.end_lineno or 0)
    ]
    inner = max(functions, key=lambda node: node.lineno, default=None)
    for file, tree in graph.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and last_name(node.func) in MAPS and inner is not None:
                called = node.args[0]
                if called is inner or last_name(called) == getattr(inner, "name", ""):
                    return Site.of(file, node)
    calls = [graph.events[index] for index in first.calls]
    return graph.site(next((call for call in calls if call.function is calls[-1].function), first))


def candidates(graph: Graph, category: Category, words_of: Callable[[PythonLoop, Graph], Words]) -> list[Candidate]:
    """One candidate for each outermost loop of a category. words_of: makes the words of the finding."""
    loops = [loop for loop in python_loops(graph) if loop.category == category]
    outermost = [loop for loop in loops if not any(_runs_within(loop, other) for other in loops)]
    return list(_without_inner([_candidate(loop, words_of(loop, graph), graph) for loop in outermost]))


def _runs_within(loop: PythonLoop, other: PythonLoop) -> bool:
    """Whether a loop runs only in turns of another one."""
    around = {run.site for run in other.executions}
    return loop is not other and all(any(turn.site in around for turn in run.loops) for run in loop.executions)


def _category(run: LoopRun, turns: list[list[Event]], graph: Graph, runs: list[LoopRun]) -> Category | None:
    work = [[event for event in turn if event.kind] for turn in turns]
    if any(work):
        alike = _alike(work)
        if alike is None or _carries(turns):
            return None
        pairs = zip(alike[1], alike[2], strict=False)
        if any(e.kind == PRODUCT and _is_of_matrices(e) and e.inputs != other.inputs for e, other in pairs):
            return None  # small batches, and layers
        return _of_arrays(alike, graph)
    return "neuron-loop" if _is_of_numbers(run, runs) else None


def _of_arrays(work: list[list[Event]], graph: Graph) -> Category | None:
    """The category of turns that do the same: with the same weights, or with the rows of an array."""
    if _uses_same_weights(work, graph.parameters):
        return "sample-loop"
    return "neuron-loop" if _takes_rows(work) else None


def _alike(work: list[list[Event]]) -> list[list[Event]] | None:
    """The first turn, and two later ones that do the same; the others may have taken another branch."""
    for number, turn in enumerate(work[1:], 1):
        for other in work[number + 1 :]:
            if turn and [event.site for event in turn] == [event.site for event in other]:
                return [work[0], turn, other]
    return None


def _is_of_numbers(run: LoopRun, runs: list[LoopRun]) -> bool:
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
        written |= {e.output.root for e in before if e.output is not None and _is_new(e)}
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


def _is_new(event: Event) -> bool:
    """Whether the event makes a new array: what an array of objects holds is not new."""
    if event.output is None or not event.output.is_array or event.is_view:
        return False
    return not (event.function is operator.getitem and event.inputs and event.inputs[0].dtype == "object")


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
        if is_outer and any(value.size == max(value.shape, default=1) for value in moved):  # not those of a batch
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


def header(loop: PythonLoop, graph: Graph) -> str:
    """The first line of a loop, as the user wrote it, without the colon."""
    return shortened(graph.line_text(loop.site.file, loop.site.line).removesuffix(":"), LONGEST_HEADER)


def _candidate(loop: PythonLoop, words: Words, graph: Graph) -> Candidate:
    longest, turns = loop.longest, loop.turns
    sums = _sums_of_all(loop, graph)
    seconds = loop_seconds(loop.site, loop.executions, graph) + graph.seconds(sums)
    # Python runs one turn's statements in any case; then come the operations on the data of all turns.
    at_once = seconds / max(1, longest.turns)
    if len(turns) > 1:
        at_once += _at_once_s(turns[1], longest.turns) * len(loop.executions)
    most_s = MOST_SHARE * graph.step_s
    low, high = (min(max(0.0, seconds - factor * at_once), most_s) for factor in REMAINING_FACTORS)
    all_turns = sum(run.turns for run in loop.executions)
    work = [event for turn in turns[1:2] for event in turn]
    head = next((e for e in work if e.kind == PRODUCT), work[0] if work else None)
    evidence = facts(head, all_turns) if head is not None else {"times_per_step": all_turns}
    return Candidate(
        category=loop.category,
        site=loop.site,
        title=words.title,
        why=words.why,
        cure=words.cure,
        saved_s=(low, high),
        measured="the time of the loop in the step, less the time of one turn and of its array operations on the data "
        "of all turns",
        covers=frozenset(event.index for turn in [*turns, sums] for event in turn),
        evidence={**evidence, "turns": longest.turns},
        cures=words.cures,
    )


def _sums_of_all(loop: PythonLoop, graph: Graph) -> list[Event]:
    """What adds the results of all turns after the loop, as ``np.sum(gradients, axis=0)``: a product gives the sum."""
    code = code_of(graph)
    node = code.node_of(loop.site)
    above = code.parent(node) if node is not None else None
    if isinstance(above, ast.Call) and above.args[:1] == [node]:  # what goes through a generator adds in its own time
        return [event for event in code.executions(above) if not event.is_own and not event.is_outside]
    made = [{e.output.root for e in turn if e.output is not None and _is_new(e)} for turn in loop.turns]
    last = max(event.index for turn in loop.turns for event in turn) if any(loop.turns) else len(graph.events)
    found = []
    for event in graph.last:
        if event.index > last and event.name in ("sum", "mean", "array", "stack", "average"):
            roots = {value.root for value in event.inputs if value.is_array}
            if made and all(turn & roots for turn in made):
                found.append(event)
    return found


def loop_seconds(site: Site, runs: list[LoopRun], graph: Graph) -> float:
    """The time of a loop: of its statements and of the functions that they call, but not of what is around it."""
    inside = {index for run in runs for index in range(run.first_event, run.end)}
    around = {call for run in runs for call in run.calls}
    by_events = graph.seconds(e for e in graph.last if e.index in inside)
    others_s = graph.seconds(e for e in graph.last if e.index not in inside | around)
    seconds = max(by_events, graph.lines_seconds(site.file, site.line, site.end_line)) * graph.unclocked
    return min(seconds, max(by_events, graph.step_s - others_s))


def _at_once_s(turn: list[Event], m: int) -> float:
    """Seconds for the operations of one turn, on m samples at once.

    One thread is enough for these small products; if other programs use the CPU, several wait for each other.
    """
    with threadpool_limits(1, "blas"):
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
        elif output is not None and event.kind in (ARITHMETIC, FILL):  # as large for all samples as for one
            x = random.random(output.size).astype(dtype)
            yield partial(np.add, x, x)


def _without_inner(found: list[Candidate]) -> Iterator[Candidate]:
    """The loops that are not within another one, by their lines or by their events."""
    kept: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: -c.saved_s[1]):
        is_inside = any(
            candidate.site.is_within(other.site) or (candidate.covers and candidate.covers < other.covers)
            for other in kept
        )
        if not is_inside:
            kept.append(candidate)
            yield candidate
