"""The page of `mlpprof advise`: what to fix, each with its source, its cure and what that gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlpprof.files import write_atomically
from mlpprof.report.advice_words import (
    ONE_BY_ONE,
    CureLine,
    SourceLine,
    confidence_text,
    cure_lines,
    evidence_text,
    excerpt,
    headline_text,
    measured_text,
    payoff_text,
    place_text,
    related_text,
    share_text,
    steps_text,
)
from mlpprof.report.figures.gallery import Drawing
from mlpprof.report.figures.rows import Payoff, payoff_rows
from mlpprof.report.json_documents import advice_json
from mlpprof.report.numbers import format_time, plain
from mlpprof.report.page.facts import facts_of_machine
from mlpprof.report.page.headline import Tile
from mlpprof.report.page.page import render, script_text
from mlpprof.report.page.pictures import Picture, picture_of
from mlpprof.report.page.tables import Cell, Column, PageTable, Row
from mlpprof.results.advice import CATEGORIES, Advice, Finding

MOST_DRAWN = 30
"""Findings in the picture; the table has all of them."""


@dataclass(frozen=True)
class FindingView:
    """What the template shows of a finding; facts: name and text, in the order of reading."""

    number: int
    finding: Finding
    place: str
    payoff: str
    share: str
    facts: tuple[tuple[str, str], ...]
    source: Sequence[SourceLine]
    cure: Sequence[CureLine]


def write_advice_page(path: Path, advice: Advice) -> Path:
    """Write the page, replacing what is there; returns the path. Raises UsageError where it cannot be written."""
    text = advice_html(advice)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def advice_html(advice: Advice) -> str:
    """The whole page as text; its data are what `mlpprof advise --json` prints, and the text of the files."""
    findings = [_view(advice, i, finding) for i, finding in enumerate(advice.findings, start=1)]
    return render(
        "advice.html",
        f"advise {plain(advice.step)}",
        script_text({**advice_json(advice), "source": advice.source}),
        "All findings lie in this file as JSON, as mlpprof advise --json prints them, times in seconds.",
        advice=advice,
        headline=headline_text(advice),
        tiles=_tiles(advice),
        one_by_one=ONE_BY_ONE,
        findings=findings,
        table=_table(findings) if findings else None,
        payoffs=_picture(findings) if findings else None,
        left_out=max(0, len(findings) - MOST_DRAWN),
        categories=CATEGORIES,
        machine=list(facts_of_machine(advice.environment)) if advice.environment else [],
    )


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
        tuple((name, text) for name, text in facts if text),
        excerpt(advice, finding),
        cure_lines(finding.cure),
    )


def _tiles(advice: Advice) -> list[Tile]:
    tiles = [
        Tile(format_time(advice.step_s), "a step", steps_text(advice)),
        Tile(str(len(advice.findings)), "finding" if len(advice.findings) == 1 else "findings"),
    ]
    if advice.findings:
        largest = max(advice.findings, key=lambda finding: finding.payoff_s[1])
        tiles.append(Tile(share_text(largest), "of the step: the largest payoff", place_text(largest)))
    return tiles


def _table(findings: Sequence[FindingView]) -> PageTable:
    columns = ("what", "place", "category", "payoff a step", "share of the step")
    rows = [
        Row(
            (
                Cell(f"{one.number}. {plain(one.finding.title)}"),
                Cell(one.place),
                Cell(plain(one.finding.category)),
                Cell(one.payoff, one.finding.payoff_s[1], "strong"),
                Cell(one.share, one.finding.payoff_share[1]),
            )
        )
        for one in findings
    ]
    return PageTable("What to fix", tuple(Column(name, i < 3) for i, name in enumerate(columns)), tuple(rows))


def _picture(findings: Sequence[FindingView]) -> Picture:
    drawn = findings[:MOST_DRAWN]
    rows = [
        Payoff(
            _row_name(one),
            one.finding.payoff_s,
            one.finding.payoff_share,
        )
        for one in drawn
    ]
    told = "; ".join(f"{one.number}, {plain(one.finding.title)}: {one.payoff}, {one.share}" for one in drawn)
    return picture_of(Drawing("payoffs", "What each cure gives", told, partial(payoff_rows, rows)), "payoffs")


def _row_name(one: FindingView) -> str:
    """'1. net.py:41': without its folder, so that the line is not cut off."""
    name = plain(one.finding.file).replace("\\", "/").rpartition("/")[2]
    return f"{one.number}. {name}:{one.finding.line}"
