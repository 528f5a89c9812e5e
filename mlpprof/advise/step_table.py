"""The recorded step as a table of its expressions and phases, which `mlpprof profile FILE.py --step` shows.

Phases come from the ``# phase:`` comments of a file; if there are none, from the calls that the step makes; else they
are the step's own lines. If two phases call a function, its time is divided by what it computed for each.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import Any

from mlpprof.instrument.clocks import labels_of
from mlpprof.programs.record.graph import Graph, Span
from mlpprof.programs.record.trace import Event

STEP_ITSELF = "(the step itself)"
"""The phase of what is in the step but in none of its calls."""


def step_table(graph: Graph) -> dict[str, Any]:
    """The fields of a `StepProfile`, as JSON."""
    times = graph.trace.times
    events: dict[Span, list[Event]] = defaultdict(list)
    for event in graph.last:
        events[graph.span(event.site)].append(event)
    spans: dict[Span, list[tuple[float, int]]] = defaultdict(list)
    for number, step in enumerate(times.sites):
        for site, (seconds, count, _) in step.items():
            held = spans[graph.span(site)]
            held += [(0.0, 0)] * (number + 1 - len(held))
            held[number] = (held[number][0] + seconds, held[number][1] + count)
    steps = len(times.sites)
    phase_of, source = _phases(graph)
    phases: dict[str, list[float]] = defaultdict(lambda: [0.0] * steps)
    expressions = []
    for span, measured in spans.items():
        measured += [(0.0, 0)] * (steps - len(measured))
        shares = _shares(span, events[span], phase_of)
        for phase, share in shares.items():
            for number, (seconds, _) in enumerate(measured):
                phases[phase][number] += share * seconds
        expressions.append(_expression(graph, span, measured, events[span], max(shares, key=lambda name: shares[name])))
    order = sorted(phases, key=lambda name: -sum(phases[name]))
    return {
        "step": graph.step_name,
        "step_s": times.plain_s,
        "clocked_s": times.clocked_s,
        "phases": {name: phases[name] for name in order},
        "phases_from": source,
        "expressions": sorted(expressions, key=lambda one: -sum(one["seconds"])),
        "notes": graph.trace.notes,
    }


class _PhaseOf:
    """Finds the phase of an event, or of a place without events."""

    def __init__(self, graph: Graph, labels: dict[str, dict[int, str]]) -> None:
        self._graph, self._labels = graph, labels
        self._blocks = {path: _labelled_blocks(tree, labels.get(path, {})) for path, tree in graph.trees.items()}

    def event(self, event: Event) -> str:
        """The phase by the first comment on the way from the step to the event, else by the step's call."""
        for index in (*event.calls, event.index):
            site = self._graph.trace.sites[self._graph.events[index].site]
            if (label := self.place(site.file, site.line)) is not None:
                return label
        if self._labels:
            return STEP_ITSELF
        calls = (*event.calls, event.index) if event.is_own else event.calls
        return _call_name(self._graph.events[calls[0]]) if calls else STEP_ITSELF

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
            header = last if not isinstance(node, ast.For | ast.While | ast.If | ast.With) else node.lineno
            if header in labels:
                blocks.append((node.lineno, last, labels[header]))
    return sorted(blocks, key=lambda block: block[1] - block[0])


def _call_name(event: Event) -> str:
    name = getattr(event.function, "__qualname__", None) or getattr(event.function, "co_qualname", "call")
    return str(name)


def _shares(span: Span, events: list[Event], phase_of: _PhaseOf) -> dict[str, float]:
    if not events:
        return {phase_of.place(span[0], span[1]) or STEP_ITSELF: 1.0}
    weights: dict[str, float] = defaultdict(float)
    for event in events:
        effect = event.effect
        weights[phase_of.event(event)] += 1.0 + (effect.flop + effect.bytes_moved if effect is not None else 0)
    whole = sum(weights.values())
    return {phase: weight / whole for phase, weight in weights.items()}


def _expression(
    graph: Graph, span: Span, measured: list[tuple[float, int]], events: list[Event], phase: str
) -> dict[str, Any]:
    effects = [event.effect for event in events if event.effect is not None and event.effect.name]
    largest = max(effects, key=lambda effect: effect.flop + effect.bytes_moved, default=None)
    recorded = sum(1 for event in events)
    times = max((count for _, count in measured), default=0)
    scale = times / recorded if recorded and times > recorded else 1.0  # only the first turns of a loop are recorded
    is_call = any(event.is_own for event in events)
    return {
        "file": graph.shown(span[0]),
        "line": span[1],
        "column": span[2] + 1,
        "text": graph.span_text(span),
        "phase": phase,
        "times": times,
        "seconds": [seconds for seconds, _ in measured],
        "kind": largest.kind if largest is not None else ("call" if is_call else "python"),
        "name": largest.name if largest is not None else "",
        "dtype": largest.dtype if largest is not None else "",
        "shape": list(largest.shape) if largest is not None else [],
        "orders": largest.orders if largest is not None else "",
        "flop": int(scale * sum(effect.flop for effect in effects)),
        "bytes_moved": int(scale * sum(effect.bytes_moved for effect in effects)),
        "bytes_allocated": int(scale * sum(effect.bytes_allocated for effect in effects)),
    }
