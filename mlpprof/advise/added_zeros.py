"""Sums with an array of zeros that the step has just made, as those of a loop over samples that runs only once."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from mlpprof.advise.candidate import CERTAIN, LIKELY, SMALL, Candidate, around, edit_in_words, facts, indices
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import Comprehension, RecordedCode, code_of
from mlpprof.instrument.numpy_costs import FILL
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

IN_WORDS = "write the other array in place of the sum, or a copy of it if later code changes the sum in place."


def added_zeros(graph: Graph) -> Iterator[Candidate]:
    """One candidate for each place that adds nothing but zeros to an array, in all its executions."""
    code = code_of(graph)
    by_node: dict[ast.BinOp, list[Event]] = defaultdict(list)
    for event in graph.last:
        node = code.node(event)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and event.name == "add":
            by_node[node].append(event)
    single = {run.site for run in graph.trace.loops if run.turns == 1 and isinstance(code.node_at(run.site), ast.For)}
    for node, events in by_node.items():
        sides = {_zeros_of(event, graph) for event in events}
        # A loop that made a single turn may make more for another batch, and then the sums grow.
        side = node.left if 0 in sides else node.right
        # An attribute may gather several gradients in another network, as `self.grad` of a node that is used twice.
        may_grow = not isinstance(side, ast.Name) or any(
            turn.site in single for event in events for turn in event.loops
        )
        if len(sides) != 1 or None in sides or may_grow:
            continue
        largest = max(events, key=lambda event: event.output.size if event.output is not None else 0)
        if largest.output is None or largest.output.size < SMALL:
            continue
        other = node.right if 0 in sides else node.left
        edits = Edits(code)
        # The sum is a new array, so what takes its place must be one as well.
        if isinstance(other, ast.BinOp | ast.UnaryOp) and isinstance(side, ast.Name) and _is_always_made(side, code):
            edits.replace(node, code.text(other))
        edit, site = edits.cure() if edits else None, graph.site(largest)
        yield Candidate(
            category="dead-computation",
            site=site,
            title=f"`{graph.text(largest, 50)}` adds an array of zeros",
            why="The step has made the zeros, and nothing has been stored into them, so the sum is the other array.",
            cure=edit_in_words(edit, IN_WORDS, graph.place(site)),
            cures=(edit,) if edit is not None else (),
            confidence=CERTAIN if edit is not None else LIKELY,
            saved_s=around(graph.seconds(events)),
            measured="the time of the expression in the step",
            covers=indices(events),
            evidence=facts(largest, len(events)),
        )


def _is_always_made(side: ast.Name, code: RecordedCode) -> bool:
    """Whether a name holds zeros however the function runs: its one assignment makes them, and nothing uses them first.

    For a variable of a comprehension, this is asked of the list that it goes through.
    """
    own, scope = code.statement(side), code.scope(side)
    name = _listed(side, code)
    if name is None:
        return False
    bound = [one for one in code.bindings(name, scope) if code.statement(one) is not own]
    made = code.statement(bound[0]) if len(bound) == 1 else None
    match made:
        case ast.Assign(targets=[ast.Name()], value=(ast.Call() as call) | ast.ListComp(elt=ast.Call() as call)):
            pass
        case _:
            return False
    loops = [one for one in code.around(side) if isinstance(one, ast.For | ast.While)]
    used = [
        one
        for one in ast.walk(scope)
        if isinstance(one, ast.Name) and one.id == name and code.statement(one) not in (own, made)
    ]
    return (
        any(map(_makes_zeros, code.executions(call)))
        and code.is_before(made, own)
        and all(loop in code.around(made) for loop in loops)
        and not any(code.scope(one) is not scope or made.lineno <= one.lineno <= own.lineno for one in used)
    )


def _listed(side: ast.Name, code: RecordedCode) -> str | None:
    """The name that a name of a comprehension goes through, as `sums` for `s`; else the name itself."""
    for above in code.around(side):
        for one in above.generators if isinstance(above, Comprehension) else ():
            match one:
                case ast.comprehension(target=ast.Name(id=name), iter=ast.Name(id=listed)) if name == side.id:
                    return listed
                case ast.comprehension(
                    target=ast.Tuple(elts=targets), iter=ast.Call(func=ast.Name(id="zip"), args=lists)
                ):
                    for target, given in zip(targets, lists, strict=False):
                        if isinstance(target, ast.Name) and target.id == side.id:
                            return given.id if isinstance(given, ast.Name) else None
            if any(isinstance(part, ast.Name) and part.id == side.id for part in ast.walk(one.target)):
                return None
    return side.id


def _zeros_of(event: Event, graph: Graph) -> int | None:
    """Which operand is an array of zeros as it was made; None if neither is, or if the sum has another dtype."""
    for side, (value, other) in enumerate(zip(event.inputs, reversed(event.inputs), strict=True)):
        makers = graph.makers(value.root, event.index) if value.is_array else []
        is_same = isinstance(event.result, np.ndarray) and other.shape == event.result.shape
        if makers and all(map(_makes_zeros, makers)) and is_same and other.dtype == str(event.result.dtype):
            return side
    return None


def _makes_zeros(event: Event) -> bool:
    return event.kind == FILL and event.name.startswith("zeros")
