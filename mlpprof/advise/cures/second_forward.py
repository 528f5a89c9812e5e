"""The result of the first forward pass takes the place of the second call."""

from __future__ import annotations

import ast

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.kept_values import kept_as_attribute, kept_by_return, kept_locally
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.advise.repeats import SecondPass
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


def cures(one: SecondPass, graph: Graph) -> list[Cure]:
    """The cures of a second pass with the weights of the first; none if the weights are new."""
    code = code_of(graph)
    pairs = [pair for product in one.products if (pair := _same_calls(product, one, code)) is not None]
    if not one.is_same or not pairs or len(pairs) < len(one.products):
        return []
    firsts, calls = [first for first, _ in pairs], [call for _, call in pairs]
    again = code.node(calls[0])
    if not isinstance(again, ast.Call):
        return []
    found: list[Cure] = []
    for keep in (kept_locally, kept_as_attribute, kept_by_return):
        edits = Edits(code)
        kept = keep(firsts, calls, code, edits)
        if kept is None:
            continue
        statement = code.statement(again)
        if isinstance(statement, ast.Expr):
            edits.remove(statement)  # the second call stores what the first one has stored
        else:
            kept.write()
            edits.replace(again, kept.text)
        cure = edits.cure()
        if cure is not None and cure not in found:
            found.append(cure)
    return found


def _same_calls(product: Event, one: SecondPass, code: RecordedCode) -> tuple[Event, Event] | None:
    """The call that made the first pass, and the call of the same function that makes this product again."""
    events = code.graph.events
    place_of = {code.function(events[index]): events[index] for index in reversed(one.first.calls)}
    for index in product.calls:
        function = code.function(events[index])
        if function is None or function not in place_of or index in one.first.calls:
            continue
        node = code.node(place_of[function])
        earlier = [event for event in code.executions(node) if event.end <= index] if node is not None else []
        return (earlier[-1], events[index]) if earlier else None
    return None
