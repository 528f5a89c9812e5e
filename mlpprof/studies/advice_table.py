"""What `mlpprof advise` says of the ladder beside what each rung gives, as records and as a table in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpprof.report.format import UNKNOWN, digits, format_shares
from mlpprof.results import Verdict
from mlpprof.results.advice import Advice, Finding

WITHIN = 0.30
"""The goal: how far a payoff may be off."""
_GOAL = f"{100 * WITHIN:.0f} %"


@dataclass(frozen=True)
class Pair:
    """A rung, its parent, and the category of the flaw that the rung cures.

    batch: samples a step of this pair. reduced: fewer than the rest of the table has.
    """

    parent: str
    child: str
    category: str
    batch: int
    reduced: bool = False


@dataclass(frozen=True)
class Row:
    """A pair, what is said of the parent, and the measured ratio of parent over child."""

    pair: Pair
    advice: Advice
    measured: Verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of the rung's category; a flaw that stands in several places is as many findings."""
        return tuple(one for one in self.advice.findings if one.category == self.pair.category)

    @property
    def places(self) -> tuple[str, ...]:
        """'naive.py:71' of each."""
        return tuple(f"{one.file}:{one.line}" for one in self.findings)

    @property
    def payoff_share(self) -> tuple[float, float] | None:
        """(low, high) share of the parent's step, all findings of the category together; None without one."""
        if not self.findings:
            return None
        low, high = (min(1.0, sum(one.payoff_share[end] for one in self.findings)) for end in (0, 1))
        return low, high

    @property
    def predicted(self) -> tuple[float, float] | None:
        """The ratio that the payoff promises, 1 / (1 - share); infinite where it is the whole step."""
        if self.payoff_share is None:
            return None
        low, high = (math.inf if share >= 1 else 1 / (1 - share) for share in self.payoff_share)
        return low, high

    @property
    def saved_share(self) -> float:
        """The share of the parent's step that the rung really saves."""
        return 1 - 1 / self.measured.ratio

    @property
    def payoff_deviation(self) -> float | None:
        """The middle of the payoff over the measured saving, less 1; None without a finding or a saving."""
        if self.payoff_share is None or self.saved_share <= 0:
            return None
        return sum(self.payoff_share) / 2 / self.saved_share - 1

    @property
    def ratio_deviation(self) -> float | None:
        """The ratio that the middle of the payoff promises over the measured one, less 1; None without a finding."""
        if self.payoff_share is None:
            return None
        middle = sum(self.payoff_share) / 2
        return math.inf if middle >= 1 else 1 / (1 - middle) / self.measured.ratio - 1


def advice_text(rows: Sequence[Row], silent: Mapping[str, Advice], workload: str, network: str, processes: int) -> str:
    """The table, and what is said of the last rungs. silent: rung -> advice, of rungs with nothing left to cure."""
    found = sum(bool(row.findings) for row in rows)
    payoffs = sum(is_within(row.payoff_deviation) for row in rows)
    ratios = sum(is_within(row.ratio_deviation) for row in rows)
    lines = [
        "",
        f"`{workload}`, {network}, one BLAS thread, {processes} processes a race. Each rung of the ladder cures one "
        "flaw of its parent. `mlpprof advise` looks at the parent; its payoff, the share of the step that the cure "
        "saves, is held against the ratio of the two rungs in an interleaved race (in brackets its 95 % interval).",
        "",
        *_table(rows),
        "",
        "predicted: 1 / (1 - payoff), of the low and the high end, all findings of the category together. off by: the "
        "middle of the payoff against the saving that was measured, 1 - 1 / ratio, and the ratio that it promises "
        "against the measured one.",
        "",
        f"Of {len(rows)} cures {found} are found, the payoffs of {payoffs} are within {_GOAL} of the measured "
        f"saving, and {ratios} promise a ratio within {_GOAL} of the measured one.",
        *_notes(rows),
        "",
        "## Rungs with nothing left to cure",
        "",
        *_silent(silent),
    ]
    return "\n".join(lines).rstrip() + "\n"


def is_within(deviation: float | None) -> bool:
    """Whether it reaches the goal; without a finding it does not."""
    return deviation is not None and abs(deviation) <= WITHIN


def _table(rows: Sequence[Row]) -> Iterator[str]:
    header = ["parent", "cure", "batch", "category", "found at", "payoff", "predicted", "measured"]
    header += ["payoff off by", "ratio off by", f"within {_GOAL}"]
    yield "| " + " | ".join(header) + " |"
    yield "| --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for row in rows:
        verdict, pair = row.measured, row.pair
        cells = [f"`{pair.parent}`", f"`{pair.child}`", f"{pair.batch:,}", pair.category]
        cells.append(", ".join(row.places) or "**not found**")
        cells.append(UNKNOWN if row.payoff_share is None else format_shares(*row.payoff_share))
        cells.append(_range(row.predicted))
        cells.append(f"{digits(verdict.ratio)} ({_range((verdict.low, verdict.high))})")
        cells += [_percent(row.payoff_deviation), _percent(row.ratio_deviation), _word(row)]
        yield "| " + " | ".join(cells) + " |"


def _word(row: Row) -> str:
    payoff, ratio = is_within(row.payoff_deviation), is_within(row.ratio_deviation)
    if payoff != ratio:
        return f"{'payoff' if payoff else 'ratio'} only"
    return "yes" if payoff else "**no**"


def _range(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return UNKNOWN
    low, high = ("∞" if math.isinf(end) else digits(end) for end in ends)
    return low if low == high else f"{low}–{high}"


def _percent(deviation: float | None) -> str:
    if deviation is None:
        return UNKNOWN
    return "∞" if math.isinf(deviation) else f"{100 * deviation:+.0f} %"


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        pair = row.pair
        if pair.reduced:
            yield (
                f"`{pair.parent}` takes too long for more than {pair.batch:,} samples a step: the pair is looked at "
                "and raced with these."
            )
        elsewhere = [one for one in row.findings if Path(one.file).stem != pair.parent]
        if elsewhere:
            yield f"The finding on `{pair.parent}` names another file, {elsewhere[0].file}."
        if row.measured.low <= 1:
            yield (
                f"What `{pair.child}` gives over `{pair.parent}` cannot be told from nothing here: the interval of the "
                "measured ratio reaches 1."
            )


def _silent(silent: Mapping[str, Advice]) -> Iterator[str]:
    for name, advice in silent.items():
        if not advice.findings:
            yield f"- `{name}`: no finding"
        for one in advice.findings:
            yield (
                f"- `{name}`: {one.category} at {one.file}:{one.line}, {format_shares(*one.payoff_share)} of the step: "
                f"{one.title}"
            )


def as_json(rows: Sequence[Row], silent: Mapping[str, Advice]) -> dict[str, Any]:
    """All figures, and every finding on every rung; None where a ratio is infinite or nothing was found."""
    return {
        "rows": [
            {
                "parent": row.pair.parent,
                "child": row.pair.child,
                "batch": row.pair.batch,
                "category": row.pair.category,
                "found": bool(row.findings),
                "places": list(row.places),
                "payoff_share": row.payoff_share,
                "predicted_ratio": None if row.predicted is None else [_finite(end) for end in row.predicted],
                "measured_ratio": row.measured.ratio,
                "measured_interval": [row.measured.low, row.measured.high],
                "processes": row.measured.processes,
                "saved_share": row.saved_share,
                "payoff_deviation": row.payoff_deviation,
                "ratio_deviation": _finite(row.ratio_deviation),
                "payoff_within": is_within(row.payoff_deviation),
                "ratio_within": is_within(row.ratio_deviation),
                "advice": _advice(row.advice),
            }
            for row in rows
        ],
        "nothing_left": {name: _advice(advice) for name, advice in silent.items()},
    }


def _advice(advice: Advice) -> dict[str, Any]:
    return {
        "step": advice.step,
        "step_s": advice.step_s,
        "notes": list(advice.notes),
        "findings": [
            {
                "category": one.category,
                "file": one.file,
                "line": one.line,
                "title": one.title,
                "confidence": one.confidence,
                "payoff_s": one.payoff_s,
                "payoff_share": one.payoff_share,
                "measured": one.evidence.get("measured"),
            }
            for one in advice.findings
        ],
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
