"""The message of an assertion about a speedup: claimed, measured, verdict, the phase that lost the time."""

from __future__ import annotations

from collections.abc import Sequence

from mlpprof.report.comparison import ratio_text
from mlpprof.report.format import format_time, plain
from mlpprof.results import Change, Speedup


def speedup_table(speedup: Speedup) -> str:
    """Plain text, a fact a line, for a test's output."""
    verdict = speedup.verdict
    rows = [
        ("claimed", "" if verdict.at_least is None else f"at least {verdict.at_least:.4g} x as fast"),
        ("measured", ratio_text(verdict)),
        ("verdict", f"{(verdict.outcome or 'none').upper()}: {verdict.reason}"),
        ("slower", _slower(speedup.waterfall)),
        ("more", speedup.command),
        *(("note", note) for note in speedup.notes),
    ]
    title = f"{plain(speedup.new)} over {plain(speedup.old)}"
    if speedup.subject:
        title += f" ({speedup.subject})"
    return "\n".join([title, *(f"  {name:<9} {text}" for name, text in rows if text)])


def _slower(waterfall: Sequence[Change]) -> str:
    """The phase that lost the most time against the older one, or gained the least, and its dearest statement."""
    phases = [change for change in waterfall if not change.label]
    if not phases:
        return ""
    worst = max(phases, key=lambda change: change.new_s - change.old_s)
    text = f"{worst.phase}: {format_time(worst.old_s)} → {format_time(worst.new_s)}"
    labels = [change for change in waterfall if change.label and change.phase == worst.phase]
    if not labels:
        return text
    label = max(labels, key=lambda change: change.new_s - change.old_s)
    layer = "" if label.layer is None else f" of layer {label.layer}"
    return f"{text}; most in {plain(label.label)}{layer}: {format_time(label.old_s)} → {format_time(label.new_s)}"
