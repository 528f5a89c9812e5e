"""What pages and notebooks show of a finding: its texts, the excerpt of the source and the lines of the cure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlpprof.report.advice_words import (
    CureLine,
    SourceLine,
    confidence_text,
    cure_lines,
    evidence_text,
    excerpt,
    measured_text,
    payoff_text,
    place_text,
    related_text,
    share_of_text,
    share_text,
)
from mlpprof.report.numbers import plain
from mlpprof.report.rows import Cell, Column, Row, Table
from mlpprof.results.advice import Advice, Finding


@dataclass(frozen=True)
class FindingView:
    """What the template shows of a finding; facts: name and text, in the order of reading."""

    number: int
    finding: Finding
    place: str
    payoff: str
    share: str
    share_of: str
    facts: tuple[tuple[str, str], ...]
    source: Sequence[SourceLine]
    cure: Sequence[CureLine]


def finding_views(advice: Advice) -> list[FindingView]:
    """One view for each finding, in their order."""
    return [_view(advice, number, finding) for number, finding in enumerate(advice.findings, start=1)]


def finding_table(findings: Sequence[FindingView]) -> Table:
    """What to fix, one row for each finding."""
    columns = ("what", "saves per step", "share of the step", "place", "category")
    rows = [
        Row(
            (
                Cell(f"{one.number}. {plain(one.finding.title)}"),
                Cell(_saves(one), one.finding.payoff_s[1], "strong"),
                Cell(one.share, one.finding.payoff_share[1]),
                Cell(one.place),
                Cell(plain(one.finding.category)),
            )
        )
        for one in findings
    ]
    return Table("What to fix", tuple(Column(name, i not in (1, 2)) for i, name in enumerate(columns)), tuple(rows))


def _saves(one: FindingView) -> str:
    per = one.finding.per
    return one.payoff if per == "step" else f"{one.payoff} per {per}"


def _view(advice: Advice, number: int, finding: Finding) -> FindingView:
    facts = (
        ("evidence", evidence_text(finding.evidence)),
        ("how it was measured", measured_text(finding)),
        ("how sure", confidence_text(finding)),
        ("see also", related_text(finding)),
    )
    return FindingView(
        number,
        finding,
        place_text(finding),
        payoff_text(finding),
        share_text(finding),
        share_of_text(finding),
        tuple((name, text) for name, text in facts if text),
        excerpt(advice, finding),
        cure_lines(finding.cure),
    )
