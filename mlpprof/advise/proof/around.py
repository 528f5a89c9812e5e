"""Is an edit around the step proven? Both versions must compute the same values in those lines, and the new one faster.

The lines are the finding's own, as they are and as edited. The values are those of the variables that they leave to
other code of their function, or of their file outside functions; and what they return.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlpprof.advise.editing.cure import Cure, LineEdit, applied
from mlpprof.advise.editing.recorded_code import Comprehension
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.values import RETURN, Lines, statements_of
from mlpprof.results.advice import Finding

Executed = tuple[list[dict[str, Array]], list[float]]
"""The values of each execution of some lines, by name, and its seconds."""

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module


@dataclass(frozen=True)
class Outcome:
    """Whether an edit is proven, and in words what was compared, or what is not as it should be."""

    is_proven: bool
    words: str


def lines_before_and_after(finding: Finding, cure: Cure, texts: Mapping[str, str]) -> tuple[Lines, Lines] | None:
    """The lines of the finding as they are and as edited; None if they leave nothing that could be compared."""
    for file, text in applied(texts, [cure]).items():
        edits = [edit for edit in cure.edits if edit.file == file]
        own = [edit for edit in edits if edit.start <= finding.end_line and edit.stop >= finding.line - 1]
        if not own or Path(file).name != Path(finding.file).name or finding.cell is not None:
            continue
        first = min(finding.line, *(edit.start + 1 for edit in own))
        last = max(finding.end_line, *(edit.stop for edit in own))
        shift = _added(edit for edit in edits if edit.stop < first and edit not in own)
        tree, new_tree = ast.parse(texts[file]), ast.parse(text)
        if not statements_of(new_tree, first + shift, last + shift + _added(own))[0]:
            last = _end_of_next(tree, first, last)
        names = _left(tree, first, last)
        new_first, new_last = first + shift, last + shift + _added(own)
        if names and statements_of(new_tree, new_first, new_last)[0]:
            return Lines(file, first, last, names), Lines(file, new_first, new_last, names)
    return None


def _added(edits: Iterable[LineEdit]) -> int:
    return sum(len(edit.lines) - (edit.stop - edit.start) for edit in edits)


def _end_of_next(tree: ast.Module, first: int, last: int) -> int:
    """The last line of the statement after some lines, to which a cure moves what they do."""
    inside, block = statements_of(tree, first, last)
    after = block[block.index(inside[-1]) + 1 :] if inside else []
    return (after[0].end_lineno or after[0].lineno) if after else last


def _left(tree: ast.Module, first: int, last: int) -> tuple[str, ...]:
    """The variables that lines leave to other code; none if they leave something else, such as an attribute."""
    inside, _ = statements_of(tree, first, last)
    nodes = [node for one in inside for node in _within(one)]
    if any(isinstance(node, ast.Yield | ast.YieldFrom | ast.Break | ast.Continue) for node in nodes):
        return ()
    written = {name for node in nodes for name in _written(node)}
    if None in written or not inside:
        return ()
    within = {id(node) for one in inside for node in ast.walk(one)}
    scope = _scope(tree, inside[0])
    read = {node.id for node in _named(scope) if id(node) not in within}
    returned = [RETURN] if any(isinstance(node, ast.Return) for node in nodes) else []
    return (*sorted(name for name in written if name in read and name is not None), *returned)


def _within(node: ast.AST) -> Iterable[ast.AST]:
    """A node and what is in it; the variables of comprehensions and inner functions are their own."""
    yield node
    if not isinstance(node, Comprehension | ast.Lambda | ast.FunctionDef):
        for child in ast.iter_child_nodes(node):
            yield from _within(child)


def _named(node: ast.AST, own: frozenset[str] = frozenset()) -> Iterable[ast.Name]:
    """The names in a node, but for the variables of the comprehensions that they stand in (own)."""
    if isinstance(node, ast.Name):
        if node.id not in own:
            yield node
    elif isinstance(node, Comprehension):
        first = node.generators[0].iter  # it does not see the variables
        yield from _named(first, own)
        targets = (name for one in node.generators for name in ast.walk(one.target))
        own = own | {name.id for name in targets if isinstance(name, ast.Name)}
        inner = (part for one in node.generators for part in (one.target, one.iter, *one.ifs) if part is not first)
        results = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        for part in (*inner, *results):
            yield from _named(part, own)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _named(child, own)


def _written(node: ast.AST) -> Iterable[str | None]:
    """The names of what a node changes; None for what has no name of its own."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
            yield name
        case ast.Subscript(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
            yield None
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            yield name


def _scope(tree: ast.Module, statement: ast.stmt) -> Scope:
    found: Scope = tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(one is statement for one in ast.walk(node)):
            found = node  # inner functions come later
    return found


def outcome(names: Sequence[str], old: Executed, new: Executed) -> Outcome:
    """The comparison of both versions."""
    count = min(len(old[0]), len(new[0]))
    for number, (ours, theirs) in enumerate(zip(old[0], new[0], strict=False), start=1):
        for name in names:
            shown = "what is returned" if name == RETURN else f"`{name}`"
            if name not in ours or name not in theirs:
                return Outcome(False, f"mlpprof cannot compare {shown}, which is no array of numbers")
            if not _is_same(ours[name], theirs[name]):
                return Outcome(False, f"{shown} is different in execution {number}")
    old_s, new_s = (float(np.median(seconds[:count])) for seconds in (old[1], new[1]))
    times = f"{old_s / new_s:.3g} times as fast ({1e3 * old_s:.3g} ms -> {1e3 * new_s:.3g} ms)"
    if not np.quantile(new[1], 0.75) < np.quantile(old[1], 0.25):
        return Outcome(False, f"these lines compute the same, but are not certainly faster: {times}")
    executions = "one execution" if count == 1 else f"{count} executions"
    listed = " and ".join("what they return" if name == RETURN else f"`{name}`" for name in names)
    return Outcome(True, f"these lines give the same {listed} in {executions}, {times}")


def _is_same(one: Array, other: Array) -> bool:
    if one.shape != other.shape or (one.dtype.kind in "biu") != (other.dtype.kind in "biu"):
        return False
    if one.dtype.kind in "biu":
        return bool(np.array_equal(one, other))
    # Sums in another order differ in the last digits; half of the digits have to be the same.
    rounding = float(np.sqrt(max(np.finfo(one.dtype).eps, np.finfo(other.dtype).eps)))
    scale = float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=rounding, atol=rounding * scale, equal_nan=True))
