"""The recorded step of a program as the records of a profile: its samples, phases, expressions and operations.

Phases come from the ``# phase:`` comments of a file; if there are none, from the calls that the step makes. In addition
there is a phase in which the loop around the step gets its next item, such as a batch from a generator. If two
phases call a function, the time of its expressions is divided by what it computed for each. Every expression is a label
of the result.

The clocks take time within the expressions that they measure, and more of it in short ones. `clocks.undisturbed` knows
how much. Each expression's samples are multiplied by one factor, so that its share of the step under clocks becomes its
share of the undisturbed step.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlpprof.instrument.clocks import labels_of
from mlpprof.instrument.numpy_costs import Effect, operation_of
from mlpprof.programs.notebook import place_of
from mlpprof.programs.record.clocks import Rounds
from mlpprof.programs.record.graph import Graph, Span
from mlpprof.programs.record.trace import Event
from mlpprof.results import BatchResult, Expression, LabelSamples, Operation, PhaseSamples, Samples
from mlpprof.results.step_profile import ITERATOR

STEP_ITSELF = "(the step itself)"
"""The phase of what is in the step but in none of its calls."""


@dataclass(frozen=True)
class StepTable:
    """What a recording says about a step. expressions: one for each label of the result, in the same order."""

    phases_from: str
    result: BatchResult
    expressions: tuple[Expression, ...]


@dataclass(frozen=True)
class _Part:
    """An expression in one phase. share: of its time and work that belongs to the phase. events: its own there."""

    span: Span
    phase: str
    share: float
    events: tuple[Event, ...]
    first: int


def step_table(graph: Graph) -> StepTable:
    """The result of a profile, and the expressions behind its labels."""
    times = graph.trace.times
    rounds = Rounds.of(times)
    plain_s, clocked_s = np.array(times.plain_s), np.array(times.clocked_s)
    whole_s: Samples = clocked_s[rounds.clocked] if len(times.sites) else np.empty((1, 0))
    events: dict[Span, list[Event]] = defaultdict(list)
    for event in graph.last:
        events[graph.span(event.site)].append(event)
    seconds, executions = _measured(graph)
    phase_of, source = _phases(graph)
    parts = [part for span in seconds for part in _parts(span, events[span], phase_of)]
    first = {phase: min(part.first for part in parts if part.phase == phase) for phase in {x.phase for x in parts}}
    parts.sort(key=lambda part: (first[part.phase], part.phase, part.first, part.span))
    names = _names(graph, parts)
    labels: list[LabelSamples] = []
    expressions: list[Expression] = []
    operations: list[Operation] = []
    for part, name in zip(parts, names, strict=True):
        samples = part.share * _without_clocks(graph, part.span, seconds[part.span][rounds.clocked], whole_s)
        times_run = executions[part.span]
        recorded = len(events[part.span])
        scale = times_run / recorded if recorded and times_run > recorded else 1.0  # a loop's first turns are recorded
        calls = round(times_run * len(part.events) / recorded) if recorded else times_run
        labels.append(LabelSamples(part.phase, None, name, samples, calls))
        expressions.append(_expression(graph, part, samples, calls, scale))
        operations += _operations(part, name, scale)
    memory = _memory(graph, phase_of)
    phases = {
        phase: PhaseSamples(
            np.sum([label.step_s for label in labels if label.phase == phase], axis=0),
            bytes_allocated=float(sum(x.bytes_allocated for x in expressions if x.phase == phase)),
            peak_bytes=float(memory.get(phase, 0)),
        )
        for phase in sorted(first, key=lambda phase: (first[phase], phase))
    }
    result = BatchResult(
        batch=0,
        steps_per_epoch=0,
        total_s=plain_s[rounds.plain] if len(plain_s) else whole_s,
        phases_pass_s=whole_s,
        labels_pass_s=whole_s,
        phases=phases,
        labels=tuple(labels),
        losses=np.empty(0),
        warmup_steps=max(0, len(plain_s) - rounds.plain.size),
        separable=bool(phases),
        operations=tuple(operations),
        uncounted=tuple(_uncounted(graph)),
    )
    return StepTable(source, result, tuple(expressions))


def _measured(graph: Graph) -> tuple[dict[Span, Samples], dict[Span, int]]:
    """Seconds under clocks, (steps,), and executions in a step, of every expression of the step."""
    steps = len(graph.trace.times.sites)
    seconds: dict[Span, Samples] = defaultdict(lambda: np.zeros(steps))
    counts: dict[Span, Samples] = defaultdict(lambda: np.zeros(steps))
    for number, step in enumerate(graph.trace.times.sites):
        for site, own in step.items():
            seconds[graph.span(site)][number] += own.seconds
            counts[graph.span(site)][number] += own.executions
    return dict(seconds), {span: int(found.max()) for span, found in counts.items()}


def _without_clocks(graph: Graph, span: Span, under_s: Samples, whole_s: Samples) -> Samples:
    """The samples of an expression, times the factor that makes its share that of the undisturbed step."""
    share = graph.own_s.get(span, 0.0) / graph.step_s if graph.step_s > 0 else 0.0
    usual = float(np.median(under_s / whole_s)) if whole_s.size else 0.0
    return under_s * (share / usual) if usual > 0 else under_s


def _parts(span: Span, events: list[Event], phase_of: _PhaseOf) -> Iterator[_Part]:
    """An expression by the phases that it works for, as shares of what it computes and moves."""
    if not events:
        if span in phase_of.feeds:
            yield _Part(span, phase_of.place(span[0], span[1]) or ITERATOR, 1.0, (), -1)
            return
        yield _Part(span, phase_of.unobserved(span[0], span[1]), 1.0, (), len(phase_of.graph.events))
        return
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[phase_of.event(event)].append(event)
    weights = {phase: sum(map(_weight, own)) for phase, own in found.items()}
    whole = sum(weights.values())
    for phase, own in found.items():
        yield _Part(span, phase, weights[phase] / whole, tuple(own), min(event.index for event in own))


def _weight(event: Event) -> float:
    effect = event.effect
    return 1.0 + (effect.flop + effect.bytes_moved if effect is not None else 0)


def _names(graph: Graph, parts: list[_Part]) -> list[str]:
    """The source of each expression; with its line where a phase has the same text twice."""
    texts = [graph.span_text(part.span) for part in parts]
    times = Counter((part.phase, text) for part, text in zip(parts, texts, strict=True))
    lines = Counter((part.phase, text, part.span[1]) for part, text in zip(parts, texts, strict=True))
    names = []
    for part, text in zip(parts, texts, strict=True):
        file, line, column, _, _ = part.span
        where = place_of(file, line).words
        if lines[part.phase, text, line] > 1:
            text = f"{text} ({where}, column {column + 1})"
        elif times[part.phase, text] > 1:
            text = f"{text} ({where})"
        names.append(text)
    return names


def _operations(part: _Part, name: str, scale: float) -> Iterator[Operation]:
    """The operations of an expression in one step; what the network needs of them is not known."""
    effects = Counter(e.effect for e in part.events if e.effect is not None and e.effect.name)
    for effect, recorded in effects.items():
        line = place_of(*part.span[:2]).line
        yield operation_of(effect, scale * recorded, part.phase, None, name, line, is_useful=False)


def _memory(graph: Graph, phase_of: _PhaseOf) -> dict[str, int]:
    """Phase -> the most bytes of arrays that it holds at a time above what was held when it began.

    It follows from the recorded operations: which arrays they made, and when these were freed.
    """
    made = {e.index: e.output for e in graph.last if e.output is not None and e.output.is_array and not e.is_view}
    freed: dict[int, list[int]] = defaultdict(list)
    for root, index in graph.trace.died.items():
        freed[index].append(root)
    held: dict[int, int] = {}
    peaks: dict[str, int] = defaultdict(int)
    phase, before, last = "", 0, -1
    for event in graph.last:
        for index in range(last + 1, event.index + 1):
            for root in freed[index]:
                held.pop(root, None)
        last = event.index
        now = phase_of.event(event)
        if now != phase:
            phase, before = now, sum(held.values())
        if event.index in made:
            output = made[event.index]
            held.setdefault(output.root, output.nbytes)
            peaks[phase] = max(peaks[phase], sum(held.values()) - before)
    return peaks


def _uncounted(graph: Graph) -> Iterator[str]:
    """The names of functions on arrays whose work is not known."""
    unknown = (
        event
        for event in graph.last
        if event.effect is None and not event.is_own and event.output is not None and event.output.is_array
    )
    yield from dict.fromkeys(getattr(e.function, "__name__", type(e.function).__name__) for e in unknown)


class _PhaseOf:
    """Finds the phase of an event, or of a place without events."""

    def __init__(self, graph: Graph, labels: dict[str, dict[int, str]]) -> None:
        self.graph, self._labels = graph, labels
        self.feeds = {graph.span(site) for site in graph.trace.times.feeds}
        """The places of what the loops around the step run over."""
        self._blocks = {path: _labelled_blocks(tree, labels.get(path, {})) for path, tree in graph.trees.items()}

    def event(self, event: Event) -> str:
        """The phase by the first comment on the way from the step to the event, else by the step's call."""
        for index in (*event.calls, event.index):
            site = self.graph.trace.sites[self.graph.events[index].site]
            if (label := self.place(site.file, site.line)) is not None:
                return label
        if self._labels:
            return STEP_ITSELF
        calls = (*event.calls, event.index) if event.is_own else event.calls
        return _call_name(self.graph.events[calls[0]]) if calls else STEP_ITSELF

    def unobserved(self, path: str, line: int) -> str:
        """The phase of an expression without events: that of most events in the same function."""
        if self._labels:
            return self.place(path, line) or STEP_ITSELF
        found = self._phases_within.get((path, self._function(path, line)), Counter({STEP_ITSELF: 1}))
        return found.most_common(1)[0][0]

    @cached_property
    def _phases_within(self) -> dict[tuple[str, int], Counter[str]]:
        """File and first line of a function -> how many events it has in each phase."""
        found: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        for event in self.graph.last:
            if not event.is_own:
                site = self.graph.trace.sites[event.site]
                found[site.file, self._function(site.file, site.line)][self.event(event)] += 1
        return found

    def _function(self, path: str, line: int) -> int:
        """The first line of the innermost function around a line; 0 in none."""
        spans = self._functions.get(path, ())
        return max((first for first, last in spans if first <= line <= last), default=0)

    @cached_property
    def _functions(self) -> dict[str, list[tuple[int, int]]]:
        return {
            path: [
                (node.lineno, node.end_lineno or node.lineno)
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            for path, tree in self.graph.trees.items()
        }

    def place(self, path: str, line: int) -> str | None:
        """The phase by the comment on a statement or a block."""
        for first, last, label in self._blocks.get(path, ()):
            if first <= line <= last:
                return label
        return None


def _phases(graph: Graph) -> tuple[_PhaseOf, str]:
    found = {path: labels_of(source) for path, source in graph.trace.sources.items() if not graph.is_ours(path)}
    labels = {path: lines for path, lines in found.items() if lines}
    if labels:
        return _PhaseOf(graph, labels), "comments"
    has_calls = any(event.is_own for event in graph.last)
    return _PhaseOf(graph, {}), "calls" if has_calls else "statements"


def _labelled_blocks(tree: ast.Module, labels: dict[int, str]) -> list[tuple[int, int, str]]:
    """(first line, last line, label) of labelled statements, the innermost first."""
    blocks = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            last = node.end_lineno or node.lineno
            header = node.lineno if hasattr(node, "body") else last  # a block is labelled on its first line
            if header in labels:
                blocks.append((node.lineno, last, labels[header]))
    return sorted(blocks, key=lambda block: block[1] - block[0])


def _call_name(event: Event) -> str:
    name = getattr(event.function, "__qualname__", None) or getattr(event.function, "co_qualname", "call")
    return str(name)


def _expression(graph: Graph, part: _Part, samples: Samples, calls: int, scale: float) -> Expression:
    effects = [event.effect for event in part.events if event.effect is not None and event.effect.name]
    nothing = Effect("call" if any(event.is_own for event in part.events) else "python", "", "", ())
    largest: Effect = max(effects, key=lambda effect: effect.flop + effect.bytes_moved, default=nothing)
    file, line, column, _, _ = part.span
    place = place_of(file, line, graph.shown(file))
    return Expression(
        file=place.file,
        cell=place.cell,
        line=place.line,
        column=column + 1,
        text=graph.span_text(part.span),
        phase=part.phase,
        times=calls,
        seconds=tuple(samples.ravel().tolist()),
        kind=largest.kind,
        name=largest.name,
        dtype=largest.dtype,
        shape=tuple(largest.shape),
        orders=largest.orders,
        flop=int(scale * sum(effect.flop for effect in effects)),
        bytes_moved=int(scale * sum(effect.bytes_moved for effect in effects)),
        bytes_allocated=int(scale * sum(effect.bytes_allocated for effect in effects)),
        bytes_copied=int(scale * sum(effect.bytes_copied for effect in effects)),
    )
