"""my_mlp.py at the start and after every exercise, made from the rungs of the ladder so that both always agree."""

from __future__ import annotations

import ast
import textwrap

from mlpprof.catalog import Entry, ladder
from mlpprof.errors import VariantError
from mlpprof.workshop.exercises import EXERCISES, exercise

RUNGS = ("per_sample", "naive", "float32", "no_input_delta", "cached", "sliced", "buffered", "buffered")
"""The rung that solves each exercise, by number. The last exercise has no solution; the learner starts at its rung."""

STACKING = "add_bias_row"
"""The function that the rung `contiguous` changed. Exercise 4 needs its state before that, exercise 5 removes it."""

LINE = 116

START_DOCSTRING = '''"""My multi-layer perceptron: a first version, which you will make fast.

It takes one sample at a time: a Python loop over the batch, and products of a matrix with a vector. The results are
correct, but it is slow.

The five methods fetch_batch, forward, loss, backward and update make one training step; mlpprof measures the time of
each. If a statement ends in a comment such as `# phase: gradient`, mlpprof measures its time separately. Python ignores
the comment. You may rename, add and remove such comments.

    mlpprof profile ./my_mlp.py --workload workshop    shows where the time goes
    mlpprof workshop check                             checks whether an exercise is solved
"""'''


def start_text() -> str:
    """Return my_mlp.py as a learner gets it."""
    return _adapted(ladder()[RUNGS[0]], START_DOCSTRING)


def solution_text(number: int) -> str:
    """Return my_mlp.py as it is when that exercise is solved; raise UsageError if there is no such exercise."""
    chosen = exercise(number)
    known = ladder()
    rung = known[RUNGS[number]]
    title = f"Exercise {number}, solved: {chosen.title}. This is the rung `{rung.name}` of the ladder."
    if number == EXERCISES[4].number:
        title = title.removesuffix(".") + f", but without the memory order of `{known[rung.name].parent}`."
    if chosen.is_free:
        title = f"Exercise {number} starts where exercise {number - 1} ends: with the rung `{rung.name}`."
    docstring = ast.get_docstring(ast.parse(rung.source()), clean=False) or ""
    adapted = _adapted(rung, f'"""{textwrap.fill(title, LINE)}\n\n{docstring}"""')
    return _with_function(adapted, STACKING, known["no_input_delta"]) if number == 4 else adapted


def _adapted(rung: Entry, docstring: str) -> str:
    """Return a rung's source with another docstring, and without PARENT, which only the catalog needs."""
    source = rung.source()
    lines = source.splitlines()
    first, *others = ast.parse(source).body
    parent = next(node for node in others if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARENT")
    assert first.end_lineno is not None
    assert parent.end_lineno is not None
    before, after = lines[first.end_lineno : parent.lineno - 1], lines[parent.end_lineno :]
    if before and not before[-1].strip():
        before = before[:-1]  # the blank line above PARENT goes too
    return "\n".join([docstring, *before, *after]) + "\n"


def _with_function(source: str, name: str, rung: Entry) -> str:
    """Return the source with one of its functions replaced by that of another rung."""
    ours, theirs = (_function(text, name, rung) for text in (source, rung.source()))
    assert source.count(ours) == 1
    return source.replace(ours, theirs)


def _function(source: str, name: str, rung: Entry) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_source_segment(source, node) or ""
    raise VariantError(f"the rung {rung.name} has no function {name}; the workshop no longer fits the ladder")
