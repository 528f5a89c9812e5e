"""`assert_no_finding` is for tests: it fails if `mlpprof advise` finds something slow in a training step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mlpprof.advise import Subject, find
from mlpprof.errors import UsageError, did_you_mean
from mlpprof.report.advice_words import payoff_text, place_text, share_text
from mlpprof.report.numbers import format_time, plain
from mlpprof.results.advice import CATEGORIES, Advice, Finding


def assert_no_finding(
    target: Subject | str | Path,
    *categories: str,
    step: str | None = None,
    arguments: Sequence[str] = (),
    least_share: float = 0.0,
    allow_writes: bool = False,
) -> None:
    """Assert that `mlpprof advise` finds nothing of these categories in a program's training step.

    target: a script's path or the name of a variant, which runs in a process of its own. categories: all where none is
    named. step, arguments, allow_writes: as in `mlpprof.advise.Subject`. least_share: findings are let pass that give
    less than this share of the step, in the middle of their range. Raises AssertionError with place, title and payoff
    of each finding; UsageError for a category that is not known, and as `mlpprof.advise.find`.
    """
    __tracebackhide__ = True
    _require_known(categories)
    advice = find(target, step=step, arguments=arguments, allow_writes=allow_writes)
    wanted = categories or tuple(CATEGORIES)
    of_step = [one for one in advice.findings if one.per == "step"]
    found = [one for one in of_step if one.category in wanted and sum(one.payoff_share) / 2 >= least_share]
    if found:
        raise AssertionError(_message(advice, found))


def _require_known(categories: Iterable[str]) -> None:
    for category in categories:
        if category not in CATEGORIES:
            raise UsageError(
                f"there is no category '{category}'{did_you_mean(category, CATEGORIES)} "
                f"(known: {', '.join(CATEGORIES)})"
            )


def _message(advice: Advice, found: Sequence[Finding]) -> str:
    """The step, then each finding with its source line."""
    count = "one finding" if len(found) == 1 else f"{len(found)} findings"
    lines = [f"{plain(advice.step)}: {count} in a step of {format_time(advice.step_s)}"]
    for one in found:
        payoff = f"{payoff_text(one)} per step, {share_text(one)} of it"
        lines.append(f"  {place_text(one)}: {one.category}: {plain(one.title)} ({payoff})")
        source = advice.source.get(one.place.source, "").splitlines()
        if 1 <= one.line <= len(source):
            lines.append(f"      {plain(source[one.line - 1])}")
    return "\n".join(lines)
