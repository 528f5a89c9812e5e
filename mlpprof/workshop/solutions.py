"""my_mlp.py at the start and after every exercise, made from the catalog's rungs, so that it cannot drift from them."""

from __future__ import annotations

import ast
import textwrap

from mlpprof.catalog import Entry, ladder
from mlpprof.errors import VariantError
from mlpprof.workshop.exercises import EXERCISES, exercise

RUNGS = ("per_sample", "naive", "float32", "no_input_delta", "cached", "sliced", "buffered", "buffered")
"""The rung that solves each exercise, by number; where the last exercise leads to is the learner's own."""

STACKING = "add_bias_row"
"""The helper that `contiguous` changed: exercise 4 comes before that, exercise 5 goes beyond it."""

LINE = 116

START_DOCSTRING = '''"""My multi-layer perceptron: a first version, to be made fast.

One sample at a time: matrix times vector, in a Python loop over the batch. Nothing in it is wrong, and it is slow.

The five methods fetch_batch, forward, loss, backward and update make one training step; mlpprof times each of them. A
statement that ends in a comment `# phase: gradient` is clocked by itself; without mlpprof it is a comment. Rename, add
and remove such labels as you like.

    mlpprof profile ./my_mlp.py --workload workshop    where the time goes
    mlpprof workshop check                             whether you are there yet
"""'''


def start_text() -> str:
    """my_mlp.py as a learner gets it."""
    return _adapted(ladder()[RUNGS[0]], START_DOCSTRING)


def solution_text(number: int) -> str:
    """my_mlp.py as it is when that exercise is solved; raises UsageError where there is no such exercise."""
    chosen = exercise(number)
    known = ladder()
    rung = known[RUNGS[number]]
    title = f"Exercise {number}, solved: {chosen.title}. In the ladder it is the rung `{rung.name}`."
    if number == EXERCISES[4].number:
        title = title.removesuffix(".") + f", here without the memory order of `{known[rung.name].parent}`."
    if chosen.is_free:
        title = f"Exercise {number} begins where exercise {number - 1} ends: with the rung `{rung.name}`."
    docstring = ast.get_docstring(ast.parse(rung.source()), clean=False) or ""
    adapted = _adapted(rung, f'"""{textwrap.fill(title, LINE)}\n\n{docstring}"""')
    return _with_function(adapted, STACKING, known["no_input_delta"]) if number == 4 else adapted


def _adapted(rung: Entry, docstring: str) -> str:
    """A rung's source with another docstring and without its PARENT: a learner's file stands for itself."""
    source = rung.source()
    lines = source.splitlines()
    first, *others = ast.parse(source).body
    parent = next(node for node in others if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARENT")
    assert first.end_lineno is not None
    assert parent.end_lineno is not None
    before, after = lines[first.end_lineno : parent.lineno - 1], lines[parent.end_lineno :]
    if before and not before[-1].strip():
        before = before[:-1]  # the blank line above it goes too
    return "\n".join([docstring, *before, *after]) + "\n"


def _with_function(source: str, name: str, rung: Entry) -> str:
    """The source with one of its functions as another rung has it."""
    ours, theirs = (_function(text, name, rung) for text in (source, rung.source()))
    assert source.count(ours) == 1
    return source.replace(ours, theirs)


def _function(source: str, name: str, rung: Entry) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_source_segment(source, node) or ""
    raise VariantError(f"no function {name} beside {rung.name}; the ladder has changed and the workshop has not")
