"""Speedups that were claimed, in words: the outcome, and the phase or the expression that moved."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpprof.errors import counted
from mlpprof.report.numbers import digits, format_number, format_size, format_time, interval_text, of_layer, plain
from mlpprof.results import Comparison, CountedChange, ExpressionChange, PhaseChange

OUTCOMES = {
    "fail": "failed",
    "error": "could not be measured",
    "inconclusive": "undecided",
    "not timed": "not timed",
    "unchanged": "about code that has not changed",
    "pass": "passed",
    "": "without a claim",
}
"""The outcome of a claim -> how a summary counts it; the ones that need attention come first."""


@dataclass(frozen=True)
class ClaimView:
    """A claimed speedup as reports show it.

    test: the test or the entry that claims it; "" for a comparison. at_least: None if nothing is claimed. ratio, low,
    high: None if nothing was timed. outcome: one of `OUTCOMES`. reason: the outcome in words. moved: where the
    difference lies. facts: counted ones that differ. file, line: of the moved expression, as seen from the working
    directory; "" and 0 where unknown.
    """

    test: str
    new: str
    old: str
    at_least: float | None
    ratio: float | None
    low: float | None
    high: float | None
    outcome: str
    reason: str
    moved: str = ""
    file: str = ""
    line: int = 0
    facts: tuple[str, ...] = ()
    command: str = ""
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> str:
        """'0.80x (95 %: 0.78-0.82)'; '-' if nothing was timed."""
        if self.ratio is None or self.low is None or self.high is None:
            return "-"
        return f"{digits(self.ratio)}x (95 %: {digits(self.low)}-{digits(self.high)})"

    @property
    def required(self) -> str:
        """'1.15x'; '-' if nothing is claimed."""
        return "-" if self.at_least is None else f"{self.at_least:.4g}x"

    @property
    def summary(self) -> str:
        """'measured 0.80x (95 %: 0.78-0.82), required 1.15x', as far as there is a number."""
        measured = "nothing was measured" if self.ratio is None else f"measured {self.measured}"
        return measured if self.at_least is None else f"{measured}, required {self.required}"

    @property
    def is_sound(self) -> bool:
        """Whether nobody has to look at it."""
        return self.outcome in ("pass", "unchanged", "")


def claim_view(claim: Mapping[str, Any]) -> ClaimView:
    """The view of a claim from the JSON that the plugin and `check-claims` write."""
    low, high = claim["interval"] or (None, None)
    lost = claim.get("lost")
    file, line = ("", 0) if not lost else _position(claim["new"], lost["file"], lost["line"], lost["cell"])
    return ClaimView(
        test=claim["test"],
        new=claim["new"],
        old=claim["old"],
        at_least=claim["at_least"],
        ratio=claim["ratio"],
        low=low,
        high=high,
        outcome=claim["verdict"] or "not timed",
        reason=claim["reason"],
        moved=claim.get("moved", ""),
        file=file if lost and lost["new_s"] is not None else "",
        line=line,
        facts=tuple(claim.get("facts", ())),
        command=claim["command"],
        notes=tuple(claim["notes"]),
    )


def comparison_view(comparison: Comparison) -> ClaimView:
    """The view of a comparison, whether or not a speedup was claimed."""
    verdict, lost = comparison.verdict, comparison.lost
    file, line = "", 0
    if lost is not None and lost.new_s is not None:
        file, line = _position(comparison.new, lost.file, lost.line, lost.cell)
    on = "" if comparison.network is None else f" at batch {comparison.batch:,}"
    return ClaimView(
        test="",
        new=f"{comparison.new}{on}",
        old=comparison.old,
        at_least=verdict.at_least,
        ratio=verdict.ratio,
        low=verdict.low,
        high=verdict.high,
        outcome=verdict.outcome or "",
        reason=verdict.reason,
        moved=moved_text(comparison.waterfall, lost),
        file=file,
        line=line,
        facts=tuple(map(counted_text, comparison.counted)),
        command=comparison.command,
        notes=() if comparison.programs is None else comparison.programs.notes,
    )


def _position(program: str, file: str, line: int, cell: int | None) -> tuple[str, int]:
    """A line of a program's file as seen from the working directory; the first line of a notebook, which is JSON."""
    words = program.strip()
    folder = Path() if words.startswith("-m ") else Path(words).parent
    return os.path.normpath(folder / file), 1 if cell is not None else line


def count_text(claims: Sequence[ClaimView]) -> str:
    """'3 claims: 1 failed, 2 passed'."""
    counts = Counter(claim.outcome for claim in claims)
    if set(counts) == {""}:
        return counted(len(claims), "comparison")
    parts = ", ".join(f"{counts[outcome]} {words}" for outcome, words in OUTCOMES.items() if counts[outcome])
    return f"{counted(len(claims), 'claim')}: {parts}"


def moved_text(waterfall: Sequence[PhaseChange], lost: ExpressionChange | None) -> str:
    """Where a difference lies: the expression that lost the time, else the phase; "" if that was not measured."""
    if lost is not None:
        return lost_text(lost)
    return ": ".join(part for pair in phase_row(waterfall) for part in pair)


def lost_text(one: ExpressionChange) -> str:
    """'net.py:17: np.tanh(Z + 0 * Z) (was: np.tanh(Z)), 1.2 ms → 1.9 ms'."""
    was = f" (was: {plain(one.old_text)})" if one.old_text else ""
    old = "not there before" if one.old_s is None else format_time(one.old_s)
    new = "gone" if one.new_s is None else format_time(one.new_s)
    return f"{plain(one.place.text)}: {plain(one.text)}{was}, {old} → {new}{_in_brackets(one)}"


VERBS = {
    "bytes allocated": "allocates",
    "bytes copied": "copies",
    "floating-point operations": "computes",
}
CONTIGUOUS = ("C", "F")
"""Memory orders in which the elements of an array lie next to each other."""


def counted_text(one: CountedChange) -> str:
    """'train.py:12: `A.T` in `delta @ A.T` is no longer contiguous (memory order F → ?)'."""
    start = f"{plain(one.where)}: " if one.where else ""
    text = f"`{plain(one.text)}`" if one.text else "the step"
    if one.what == "dtype":
        return f"{start}{text} computes in {one.new} instead of {one.old}"
    if one.what == "memory order" and one.operand:
        old, new = differing_orders(str(one.old), str(one.new))
        has_become = "has another memory order"
        if old in CONTIGUOUS and new not in CONTIGUOUS:
            has_become = "is no longer contiguous"
        elif new in CONTIGUOUS and old not in CONTIGUOUS:
            has_become = "is now contiguous"
        return f"{start}`{plain(one.operand)}` in {text} {has_become} (memory order {old} → {new})"
    if one.what == "memory order":
        return f"{start}the operands of {text} have the memory orders {one.new} instead of {one.old}"
    if one.what.startswith("bytes"):
        return f"{start}{text} {VERBS[one.what]} {format_size(float(one.new))} instead of {format_size(float(one.old))}"
    shown = [format_number(float(value)) for value in (one.new, one.old)]
    return f"{start}{text} {VERBS[one.what]} {shown[0]} {one.what} instead of {shown[1]}"


def differing_orders(old: str, new: str) -> tuple[str, str]:
    """The memory orders of the operand that differs."""
    pairs = zip(old.split("·"), new.split("·"), strict=False)
    return next(((before, after) for before, after in pairs if before != after), (old, new))


def phase_row(waterfall: Sequence[PhaseChange]) -> list[tuple[str, str]]:
    """The phase that lost the most time against the older one and its most expensive statement, or gained the least."""
    phases = [change for change in waterfall if not change.label]
    if not phases:
        return []
    worst = max(phases, key=lambda change: change.lost_s)
    text = _times(worst)
    if worst.lost_s <= 0:
        return [("phases", f"phase with the smallest gain: {worst.phase}, {text}")]
    labels = [change for change in waterfall if change.label and change.phase == worst.phase and change.lost_s > 0]
    if labels:
        label = max(labels, key=lambda change: change.lost_s)
        text += f"; most in {of_layer(label.label, label.layer)}: {_times(label)}"
    return [("slower", f"{worst.phase}: {text}")]


def _times(change: PhaseChange) -> str:
    return f"{format_time(change.old_s)} → {format_time(change.new_s)}{_in_brackets(change)}"


def _in_brackets(change: PhaseChange | ExpressionChange) -> str:
    """' (95 %: +180 µs to +220 µs)'."""
    interval = interval_text(change.low_s, change.high_s)
    return f" (95 %: {interval})" if interval else ""
