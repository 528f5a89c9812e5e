"""The next bottleneck of a learner's file: what `mlpprof advise` finds first in it, in the words of the course."""

from __future__ import annotations

from pathlib import Path

from mlpprof.advise import Subject, find
from mlpprof.allowance import Allowance, allowing
from mlpprof.errors import MlpprofError
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.numbers import plain
from mlpprof.results.advice import Finding
from mlpprof.workloads import Workload
from mlpprof.workshop.exercises import EXERCISES
from mlpprof.workshop.folder import PAGES

TAUGHT_IN = {
    "sample-loop": 1,
    "neuron-loop": 1,
    "float64": 2,
    "dead-computation": 3,
    "recomputation": 4,
    "bias-stacking": 5,
    "layout": 5,
    "temporaries": 6,
    "gather": 6,
}
"""The exercise that teaches how to remove findings of a category; no exercise teaches the other categories."""

LEAST_S = 12.0
"""`advise` takes less than this on two quiet cores. With less time left, the check does not look for a bottleneck."""


def next_bottleneck(file: Path, trained: Workload, left_s: float, progress: Progress) -> str:
    """Return the most expensive flaw of a step with its share; empty if none is found, or none within the time."""
    if left_s < LEAST_S:
        return ""
    request = Request(str(file.resolve()), trained.network, trained.source)
    try:
        with allowing(Allowance(processor_s=left_s, wall_s=left_s)):
            advice = find(Subject(str(file.resolve()), request=request, batch=trained.batch), progress=progress)
    except MlpprofError:
        return ""  # nothing to fix was found, or the time was over; the check itself has its result
    inside = [finding for finding in advice.findings if not finding.outside]
    return described(inside[0]) if inside else ""


def described(finding: Finding) -> str:
    """Return a finding as one sentence: the line, the flaw, what it is worth, and the exercise about it."""
    worth = f"{100 * sum(finding.payoff_share) / 2:.0f} %"
    number = TAUGHT_IN.get(finding.category)
    about = "" if number is None else f" ({PAGES}/{EXERCISES[number].file_name} is about it)"
    return plain(f"line {finding.line}: {finding.title}, worth about {worth} of the step{about}")
