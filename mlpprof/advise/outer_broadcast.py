"""Outputs minus labels where a column meets a row: (m, 1) - (m,) has the shape (m, m), and is hardly ever meant."""

from __future__ import annotations

import ast

from mlpprof.advise.candidate import LARGE, Candidate, around, by_hand, facts, indices
from mlpprof.advise.syntax import node_at
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


def broadcasts(graph: Graph) -> list[Candidate]:
    """One candidate for each place with such a difference; what is computed from it is part of its cost."""
    first: dict[int, Event] = {}
    for event in graph.last:
        if _meets(event) and not _is_meant(node_at(event, graph)):
            first.setdefault(event.site, event)
    return [_candidate(event, graph) for event in first.values()]


def _meets(event: Event) -> bool:
    """Whether as many outputs as labels give an array of all pairs."""
    shapes = sorted((value.shape for value in event.inputs if value.is_array), key=len)
    if event.is_own or event.name != "subtract" or len(shapes) != 2 or event.output is None:
        return False
    m = shapes[0][0] if len(shapes[0]) == 1 else 0
    return shapes == [(m,), (m, 1)] and event.output.shape == (m, m) and m * m >= LARGE


def _is_meant(node: ast.AST | None) -> bool:
    """Whether the expression itself makes an axis, so that all pairs are wanted."""
    return node is None or any(
        (isinstance(one, ast.Constant) and one.value is None) or getattr(one, "attr", "") in ("newaxis", "reshape")
        for one in ast.walk(node)
    )


def _candidate(event: Event, graph: Graph) -> Candidate:
    assert event.output is not None
    m = event.output.shape[0]
    events, roots = [event], {event.output.root}
    for later in graph.last[graph.last.index(event) + 1 :]:
        if not later.is_own and any(v.root in roots and v.shape == (m, m) for v in later.inputs):
            events.append(later)
            if later.output is not None and later.output.shape == (m, m):
                roots.add(later.output.root)
    site = graph.site(event)
    low, high = around(graph.seconds(events))
    column, row = sorted((value.shape for value in event.inputs if value.is_array), key=len, reverse=True)
    return Candidate(
        category="slow-primitive",
        site=site,
        title=f"`{graph.text(event, 50)}` of shapes ({column[0]}, 1) and ({row[0]},) makes an array of ({m}, {m})",
        why="NumPy pairs every row of the column with every element of the row. The result contains each output minus "
        "each label, and not only its own, so the gradients are probably wrong as well.",
        cure=by_hand(
            f"give both operands of {graph.place(site)} the same shape: make the labels a column once, with "
            "`reshape(-1, 1)`.",
            "The loss and the gradients change: compare them with finite differences.",
        ),
        saved_s=(low * (1 - 1 / m), high * (1 - 1 / m)),
        measured="the time of the expressions on arrays of this shape in the step, of which one row remains",
        covers=indices(events),
        evidence=facts(event, 1),
    )
