"""The exercises: one for each idea of the ladder, with the rung that solves it and the text that goes with it."""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np

from mlpprof.catalog import Entry, ladder
from mlpprof.compare import Procedure
from mlpprof.compare.entrants import Environment
from mlpprof.data import DataSource
from mlpprof.data import load as load_data
from mlpprof.errors import DataError, UsageError, VariantError
from mlpprof.files import write_atomically
from mlpprof.workloads import Workload, resolve

NO_LOOP = "no Python loop over samples"
SINGLE = "no float64 array"
NO_INPUT_DELTA = "nothing as large as the input in backward"
NO_EVALUATION = "no sigmoid in backward"
NO_COPY = "no copy of a batch in forward and backward"
FEW_ARRAYS = "hardly a new array"
"""The structural facts, as a learner reads them."""

OVER_START = "How many times as fast as before this exercise will my_mlp.py be?"


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    name: of its page, behind the number. fact: what has to be true of the code from here on, beside speed.
    share: of the way from the start to the reference, on a logarithmic scale, that has to be reached: the square root
    of the reference's speedup for 0.5; for 0, it is enough to be as fast as the start. question: what the learner
    guesses before it is measured.
    """

    number: int
    name: str
    title: str
    share: float
    fact: str | None = None
    question: str = OVER_START

    @property
    def file_name(self) -> str:
        """Of its page."""
        return f"{self.number}-{self.name}.md"

    @property
    def is_free(self) -> bool:
        """Whether everything goes that is right and not slower than where it starts."""
        return self.number == EXERCISES[-1].number

    @property
    def facts(self) -> tuple[str, ...]:
        """What has to be true of the code: of this exercise and of those before it; the last one is free of them."""
        if self.is_free:
            return ()
        return tuple(e.fact for e in EXERCISES[: self.number + 1] if e.fact is not None)


EXERCISES = (
    Exercise(
        0,
        "measure",
        "Measure first",
        0.0,
        question="How many times as fast as this first version will the last one of the workshop be?",
    ),
    Exercise(1, "per-sample-loop", "The loop over samples", 0.6, NO_LOOP),
    Exercise(2, "float32", "Single precision", 0.6, SINGLE),
    Exercise(3, "input-delta", "The delta that nobody uses", 0.6, NO_INPUT_DELTA),
    Exercise(4, "cached-activations", "What forward knows already", 0.4, NO_EVALUATION),
    Exercise(5, "memory-order", "Memory order and bias slices", 0.4, NO_COPY),
    Exercise(6, "buffers", "Buffers and out=", 0.3, FEW_ARRAYS),
    Exercise(7, "free-style", "Free style: how near the roofline?", 0.0),
)


def exercise(number: int) -> Exercise:
    """The exercise of that number; raises UsageError where there is none."""
    if not 0 <= number < len(EXERCISES):
        raise UsageError(f"no exercise {number}; expected 0 to {len(EXERCISES) - 1}")
    return EXERCISES[number]


def text(file_name: str) -> str:
    """A text of the workshop: 'README.md', 'guide.md' or the page of an exercise."""
    return (files("mlpprof.workshop") / "texts" / file_name).read_text(encoding="utf-8")


# What the exercises are measured on, and how long that may take.


WORKLOAD = "workshop"
SAMPLES = 4_000
"""Of the embedded digits: a class has small machines, and every process of a check loads them."""
DIGITS_FILE = "digits.npz"


PROCEDURE = Procedure(looks=(3, 5, 8), resolution=1.06, bias=1.01)
"""Fewer looks than a regression test takes, for a class waits; a finer resolution, for some exercises gain a tenth.

All contestants share a process, and no claim is made beyond it, so that less bias of a run need be allowed for.
"""


BLOCKS = 16
"""Twice as many as in a comparison: with two busy programs on two cores, processes then scatter by 2 instead of 4 %."""


@dataclass(frozen=True)
class Setting:
    """The network and data of a check, and what it may spend.

    procedure: looks and error budgets of the verdict. blocks: of every process of the race. budget_s: no process of
    the race is started that would not end within it, once there are three. roofline: whether the free exercise is held
    against the machine's limits.
    """

    workload: str = WORKLOAD
    procedure: Procedure = PROCEDURE
    blocks: int = BLOCKS
    environment: Environment = field(default_factory=Environment)
    budget_s: float = 30.0
    roofline: bool = True

    def trained(self, folder: Path) -> Workload:
        """The workload on the digits that lie in the folder, which are made where they are missing."""
        if self.workload != WORKLOAD:
            return resolve(self.workload)
        path = folder / DIGITS_FILE
        if not path.is_file():
            write_digits(path)
        try:
            return resolve(self.workload, source=DataSource(path=str(path.resolve())))
        except DataError as error:
            raise DataError(f"{error}; delete {DIGITS_FILE}, and the next check makes it anew") from error


CLASSROOM = Setting()
"""What `mlpprof workshop check` takes: three, five or eight processes."""


def write_digits(path: Path) -> None:
    """The first of the embedded digits as .npz, the same on every machine."""
    data = load_data(DataSource("digits"))
    assert data.labels is not None
    with write_atomically(path) as part, part.open("wb") as file:
        np.savez_compressed(file, X=data.X[:SAMPLES], Y=data.labels[:SAMPLES])


# my_mlp.py at the start and after every exercise, made from the catalog's rungs, so that it cannot drift from them.


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
