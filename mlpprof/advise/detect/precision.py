"""Double precision where single would do: throughout, by an accidental conversion, or from weights or data alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np

from mlpprof.advise.candidate import CERTAIN, LIKELY, Candidate, facts, indices, total
from mlpprof.advise.graph import Graph
from mlpprof.advise.perform import again
from mlpprof.advise.replay import of_time, saved_share
from mlpprof.advise.trace import Event
from mlpprof.instrument.rewriting import Site
from mlpprof.instrument.semantics_table import FILL

MOST_REPLAYS = 24
MAKERS = frozenset(
    (
        *("randn", "rand", "standard_normal", "normal", "uniform", "random", "random_sample", "zeros", "ones"),
        *("array", "asarray", "astype", "linspace", "genfromtxt", "loadtxt", "normalvariate"),
    )
)

SCALARS = frozenset(("sqrt", "log", "exp", "power", "float64"))


def detect(graph: Graph) -> list[Candidate]:
    """One candidate: where float64 comes from."""
    doubles = [e for e in graph.last if e.kind and e.kind != FILL and _is_double(e) and not e.is_own]
    if not doubles:
        return []
    timed = sorted(doubles, key=lambda e: -graph.seconds([e]))
    replayed = timed[:MOST_REPLAYS]
    parts = []
    for event in replayed:
        slow, fast = again(event), again(event, _single)
        if slow is not None and fast is not None:
            parts.append(of_time(saved_share(slow, fast), graph.seconds([event])))
    saved = total(parts)
    rest = graph.seconds(timed[MOST_REPLAYS:])
    done = graph.seconds(replayed)
    factor = 1 + rest / done if done else 1.0
    upcast = next((e for e in doubles if _is_upcast(e)), None)
    places = list(_sources(graph))
    head = upcast or timed[0]
    if upcast is not None and _is_made_here(upcast, graph):
        site = graph.site(upcast)
    else:
        site = next(iter(places), graph.site(head))
    line = graph.line_text(site.file, site.line)
    what = "an operation turns float32 into float64" if upcast is not None else "the step computes in float64"
    return [
        Candidate(
            category="float64",
            site=site,
            title=what,
            why="training needs no more than the 24 bits of float32, which moves half the bytes and does twice the "
            "elements in a vector instruction"
            + (f"; here {graph.text(upcast)} brings float64 in, and it spreads from here" if upcast else ""),
            cure=f"- {line}\n+ {_cured(line)}",
            saved_s=(saved[0] * factor, saved[1] * factor),
            measured=f"{len(replayed)} operations performed again in both precisions on their own operands",
            confidence=CERTAIN if upcast is not None else LIKELY,
            covers=indices([head]),
            related=tuple(place for place in (*places, graph.site(timed[0])) if place is not site)[:6],
            evidence=facts(head, len(doubles)),
        )
    ]


def _is_made_here(upcast: Event, graph: Graph) -> bool:
    """Whether the float64 in an operation is a number, or an array of this step; else weights or data are float64."""
    doubles = [value for value in upcast.inputs if value.is_array and value.dtype == "float64"]
    return not doubles or any(graph.makers(value.root, upcast.index) for value in doubles)


def _is_double(event: Event) -> bool:
    values = (*event.inputs, *([event.output] if event.output is not None else []))
    return any(value.is_array and value.dtype == "float64" and value.size > 1 for value in values)


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


def _cured(line: str) -> str:
    if "astype(float)" in line or "np.float64" in line:
        return line.replace("astype(float)", "astype(np.float32)").replace("np.float64", "np.float32")
    if line.endswith(")"):
        return f"{line[:-1]}).astype(np.float32)" if line.count("(") < line.count(")") else f"{line}.astype(np.float32)"
    return f"{line}  # .astype(np.float32)"


def _sources(graph: Graph) -> Iterator[Site]:
    """Statements that make weights or data, in the program's own files: with a call that gives float64 by default."""
    step = {graph.site(e).line for e in graph.last if graph.site(e).file == graph.trace.step_file}
    ranked: list[tuple[int, Site]] = []
    for path, tree in graph.trees.items():
        if graph.is_ours(path):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Return) or node.value is None:
                continue
            if path == graph.trace.step_file and node.lineno in step:
                continue
            names = {_called(one) for one in ast.walk(node.value) if isinstance(one, ast.Call)}
            has_dtype = any(isinstance(one, ast.keyword) and one.arg == "dtype" for one in ast.walk(node.value))
            is_single = has_dtype or "astype" in names or "float32" in ast.unparse(node.value)
            # np.sqrt(2 / n) is a float64, and an array of float32 times it as well
            if names & MAKERS and (not is_single or names & SCALARS):
                is_weight = bool(names & {"randn", "standard_normal", "normal", "uniform", "rand"})
                end = node.end_lineno or node.lineno
                site = Site(path, node.lineno, node.col_offset, None, end, node.end_col_offset or 0)
                ranked.append((0 if is_weight else 1, site))
    yield from (site for _, site in sorted(ranked, key=lambda pair: (pair[0], pair[1].file, pair[1].line)))


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
