"""What `mlpprof advise` reports on a training step: findings, each with a place, a cure and a measured payoff."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlpprof.results.place import Place
from mlpprof.results.program_time import ProgramTime
from mlpprof.results.proof import Proof
from mlpprof.results.run import Json

CATEGORIES = {
    "sample-loop": "a Python loop over the samples of a batch",
    "neuron-loop": "a Python loop over neurons or weights",
    "recomputation": "a result that is computed again from the same values",
    "layout": "an operation that mixes memory orders, or an operand that BLAS must copy",
    "float64": "double precision, or an accidental conversion to it, where single precision is enough",
    "bias-stacking": "a row or column of ones that is stacked onto an array in every step",
    "gather": "work on the whole data set in every step",
    "storage": "reading from a file in every step what could be read once, or in runs of rows",
    "temporaries": "large arrays that are newly allocated in every step",
    "dead-computation": "a result that nothing uses",
    "slow-primitive": "a slow operation that NumPy has a faster form for",
    "second-forward": "a second forward pass within the step",
    "work-in-step": "evaluation or printing within the step",
    "small-product": "products that are too small for the threads of BLAS",
}
"""Category -> what it is, in the order of the documentation."""


KINDS = {
    "safe": "the step computes the same values, up to the order of sums",
    "precision": "the step computes in another precision",
    "manual": "there is no edit; you have to write it",
}
"""Kind of a cure -> what it means."""


UNITS = {"step": "the step", "epoch": "an epoch"}
"""What a payoff is for -> its name within a sentence."""


@dataclass(frozen=True)
class Edit:
    """Lines of a file that a cure replaces: those from `line` up to but without `end_line`, 1-based, by `text`.

    If end_line is line, the text is inserted before it. cell: of a notebook, whose lines are counted within their cell.
    """

    file: str
    line: int
    end_line: int
    text: str
    cell: int | None = None


@dataclass(frozen=True)
class Finding:
    """One inefficiency: where it is, why it costs time, what to write instead, and what that saves.

    line, end_line, column: 1-based. cell: of a notebook, whose lines are counted within their cell; else None. cure:
    text and code to read, as a small diff if the code is short. payoff_s, payoff_share: (low, high), seconds per step
    and share of the step. confidence: 'certain' (the cure computes the same values), 'likely' (the user must check that
    the program allows it). related: other places that the cure concerns. evidence: shapes, dtypes, orders, executions
    per step, and `measured`: how the payoff was measured. kind: of the cure, see KINDS. edits: the cure as edits; empty
    if there is none. outside: it is not in the step, but in the loop around it. per: what the payoff is for, see UNITS.
    """

    category: str
    file: str
    line: int
    end_line: int
    column: int
    title: str
    why: str
    cure: str
    payoff_s: tuple[float, float]
    payoff_share: tuple[float, float]
    confidence: str
    related: tuple[Place, ...] = ()
    evidence: Json = field(default_factory=dict)
    cell: int | None = None
    kind: str = "manual"
    edits: tuple[Edit, ...] = ()
    outside: bool = False
    per: str = "step"

    @property
    def place(self) -> Place:
        """Where it begins."""
        return Place(self.file, self.line, self.cell)


@dataclass(frozen=True)
class Expensive:
    """An expression that takes much of the step, and that the findings do not explain.

    line, column, cell: as of a finding. text: its source in one line. seconds, share: of the step, all its executions
    together. known: sentences on what it computes, how fast it does so, and whether mlpprof knows a cure. evidence: as
    of a finding, with flop, bytes, and the seconds of one execution.
    """

    file: str
    line: int
    column: int
    text: str
    seconds: float
    share: float
    known: str
    evidence: Json = field(default_factory=dict)
    cell: int | None = None

    @property
    def place(self) -> Place:
        return Place(self.file, self.line, self.cell)


@dataclass(frozen=True)
class Advice:
    """The findings on one step, the largest payoff first.


    step: 'file.py:Class.method', or 'file.py:LINE' or 'work.ipynb:cell 3:LINE' of a loop whose body is the step.
    step_s: median seconds of an undisturbed step. steps: how many were timed. source: the text of the files and cells
    in which findings lie, by `Place.source`. notes: what the user should know about the recording (for instance a loop
    that was only sampled). environment: what the step ran on, as in a run's metadata. proof: of the cures; None without
    --prove, or if there are no edits. folder: the one that the files are relative to. program: where the time of the
    whole program goes; None if that is not known. small: findings that promise too little to be among the others, as
    one line each. expensive: what takes much of the step, also once they are cured.
    """

    step: str
    step_s: float
    steps: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    source: dict[str, str] = field(default_factory=dict)
    environment: Json = field(default_factory=dict)
    proof: Proof | None = None
    folder: str = ""
    program: ProgramTime | None = None
    small: tuple[Finding, ...] = ()
    expensive: tuple[Expensive, ...] = ()
