"""The next bottleneck of a learner's file: what `mlpprof advise` finds first in it, in the words of the course."""

from __future__ import annotations

from pathlib import Path

from mlpprof.advise import Subject, find
from mlpprof.allowance import Allowance, allowing
from mlpprof.errors import MlpprofError
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.numbers import plain
from mlpprof.results.advice import Expensive, Finding
from mlpprof.results.place import Place
from mlpprof.workloads import Workload
from mlpprof.workshop.exercises import MY_MLP, PAGES, Course

LEAST_S = 12.0
"""`advise` takes less than this on two quiet cores. With less time left, the check does not look for a bottleneck."""


def next_bottleneck(file: Path, course: Course, trained: Workload | None, left_s: float, progress: Progress) -> str:
    """Return the most expensive flaw of a step with its share, or else its most expensive statement.

    The text is empty if nothing is found within the time.
    """
    if left_s < LEAST_S:
        return ""
    subject = Subject(str(file.resolve()), threads=1)
    if trained is not None:
        request = Request(str(file.resolve()), trained.network, trained.source)
        subject = Subject(str(file.resolve()), request=request, batch=trained.batch)
    try:
        with allowing(Allowance(processor_s=left_s, wall_s=left_s)):
            advice = find(subject, progress=progress)
    except MlpprofError:
        return ""  # the step cannot be examined, or the time was over; the check itself has its result
    inside = [finding for finding in advice.findings if not finding.outside]
    if inside:
        return described(inside[0], course, advice.step)
    return rest_of(advice.expensive[0]) if advice.expensive else ""


def described(finding: Finding, course: Course, step: str) -> str:
    """Return a finding as one sentence: the line, the flaw, what it is worth, and the exercise about it.

    step: its name in the advice. The learner knows only one step, so the sentence leaves the name out.
    """
    worth = f"{100 * sum(finding.payoff_share) / 2:.0f} %"
    page = next((e.file_name for e in course.exercises if finding.category in e.teaches), None)
    about = "" if page is None else f" ({PAGES}/{page} is about it)"
    title = finding.title.replace(f"the step {step}", "the step")
    return plain(f"{_where(finding.place)}: {title}, worth about {worth} of the step{about}")


def rest_of(most: Expensive) -> str:
    """Return the statement that takes most of a step without a known flaw, and what is known about it."""
    takes = f"`{most.text}` takes {100 * most.share:.0f} % of the step"
    return plain(f"no known flaw is left; {_where(most.place)} is the most expensive: {takes}. {most.known}")


def _where(place: Place) -> str:
    """Return the line of a place, with its file if that is another one than the learner changes."""
    return place.words if Path(place.file).name == MY_MLP else place.text
