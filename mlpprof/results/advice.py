"""What `mlpprof advise` says of somebody's training step: findings, each with a place, a cure and a measured payoff."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlpprof.results.run import Json

SCHEMA = 1
"""Of `Advice.to_json`: it changes when a field changes its meaning or goes; fields may be added."""

CATEGORIES = {
    "sample-loop": "a Python loop over the samples of a batch",
    "neuron-loop": "a Python loop over neurons or weights",
    "recomputation": "a function evaluated again on values that have not changed",
    "layout": "memory orders that collide in one operation, or that BLAS has to copy",
    "float64": "double precision, or an accidental conversion to it, where single would do",
    "bias-stacking": "a row or column of ones stacked onto an array in every step",
    "gather": "work on the whole data set in every batch",
    "temporaries": "large arrays allocated anew in every step",
    "dead-computation": "a result that nothing uses",
    "slow-primitive": "a slow way to say something that NumPy has a fast way for",
    "second-forward": "a second forward pass within the step",
    "work-in-step": "evaluation or printing within the step",
    "small-product": "products too small for the threads of BLAS",
}
"""Category -> what it is, in the order of the documentation."""


@dataclass(frozen=True)
class Place:
    """A line of a user's file: its path as given, or relative to the script's folder."""

    file: str
    line: int


@dataclass(frozen=True)
class Finding:
    """One inefficiency: where, why, what to write instead, and what that gives.

    line, end_line: 1-based. column: 1-based. cure: text and code to read, a small diff where the code is that short.
    payoff_s, payoff_share: (low, high), seconds a step and share of the step. confidence: 'certain' (it follows from
    the values), 'likely' (it needs the reader's judgement). related: other places that the same cure concerns.
    evidence: shapes, dtypes, orders, times a step, and `measured`, how the payoff was measured.
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


@dataclass(frozen=True)
class Advice:
    """The findings on one step, the largest payoff first.

    step: 'file.py:Class.method', or 'file.py:LINE' of a loop whose body is the step. step_s: median seconds of an
    undisturbed step. steps: how many were timed. source: the text of the files in which findings lie, by file.
    notes: what the reader must know of the recording (a loop that was sampled, a file that could not be rewritten).
    environment: what the step ran on, as in a run's metadata.
    """

    step: str
    step_s: float
    steps: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    source: dict[str, str] = field(default_factory=dict)
    environment: Json = field(default_factory=dict)
