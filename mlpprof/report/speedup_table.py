"""The message of an assertion about a speedup: claimed, measured, verdict, the phase that lost the time."""

from __future__ import annotations

from collections.abc import Sequence

from mlpprof.report.comparison import claim_text, ratio_text
from mlpprof.report.format import digits, format_time, plain
from mlpprof.results import Change, Speedup


def speedup_table(speedup: Speedup) -> str:
    """Plain text, a fact a line, for a test's output; the first says what was measured and what was required."""
    verdict = speedup.verdict
    rows = [
        ("on", speedup.subject),
        ("measured", ratio_text(verdict)),
        ("verdict", claim_text(verdict)),
        *_phase(speedup.waterfall),
        ("more", speedup.command),
        *(("note", note) for note in speedup.notes),
    ]
    return "\n".join([_sentence(speedup), *(f"  {name:<9} {text}" for name, text in rows if text)])


def _sentence(speedup: Speedup) -> str:
    """'new.step is 6.70x as fast as old.step (95 %: 5.60-8.00), but the test requires 500x'."""
    verdict = speedup.verdict
    text = (
        f"{plain(speedup.new)} is {digits(verdict.ratio)}x as fast as {plain(speedup.old)} "
        f"(95 %: {digits(verdict.low)}-{digits(verdict.high)})"
    )
    if verdict.at_least is None:
        return text
    required = f"the test requires {verdict.at_least:.4g}x"
    if verdict.outcome == "fail":
        return f"{text}, but {required}"
    return f"{text}; {required}" + ("" if verdict.outcome == "pass" else ", which this measurement cannot decide")


def _phase(waterfall: Sequence[Change]) -> list[tuple[str, str]]:
    """The phase that lost the most time against the older one and its most expensive statement, or gained the least."""
    phases = [change for change in waterfall if not change.label]
    if not phases:
        return []
    worst = max(phases, key=_lost_s)
    text = _times(worst)
    if _lost_s(worst) <= 0:
        return [("phases", f"phase with the smallest gain: {worst.phase}, {text}")]
    labels = [change for change in waterfall if change.label and change.phase == worst.phase and _lost_s(change) > 0]
    if labels:
        label = max(labels, key=_lost_s)
        layer = "" if label.layer is None else f" of layer {label.layer}"
        text += f"; most in {plain(label.label)}{layer}: {_times(label)}"
    return [("slower", f"{worst.phase}: {text}")]


def _lost_s(change: Change) -> float:
    return change.new_s - change.old_s


def _times(change: Change) -> str:
    return f"{format_time(change.old_s)} → {format_time(change.new_s)}"
