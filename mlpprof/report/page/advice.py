"""The page of `mlpprof advise`: what to fix, each with its source, its cure and what the cure saves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mlpprof.report.advice_words import (
    alone_text,
    headline_text,
    in_step,
    other_lines,
    place_text,
    promised_text,
    proof_headline,
    share_text,
    steps_text,
)
from mlpprof.report.facts import facts_of_machine
from mlpprof.report.figures.gallery import Drawing
from mlpprof.report.figures.rows import Payoff, payoff_rows
from mlpprof.report.finding_view import FindingView, finding_table, finding_views
from mlpprof.report.html import Picture, picture_of
from mlpprof.report.json_documents import advice_json
from mlpprof.report.numbers import format_time, plain
from mlpprof.report.page.headline import Tile
from mlpprof.report.page.page import render, script_text
from mlpprof.report.program_rows import program_view
from mlpprof.results.advice import CATEGORIES, Advice
from mlpprof.results.category_pages import explanation

MOST_DRAWN = 30
"""The picture shows no more findings; the table shows all of them."""


def advice_html(advice: Advice) -> str:
    """The whole page as text. Its data are what `mlpprof advise --json` prints, and the text of the files."""
    findings = finding_views(advice)
    drawn = [one for one in findings if one.finding.per == "step"]  # a picture has one scale
    return render(
        "advice.html",
        f"advise {plain(advice.step)}",
        script_text({**advice_json(advice), "source": advice.source}),
        "This file contains all findings as JSON, as mlpprof advise --json prints them. Times are in seconds.",
        advice=advice,
        headline=headline_text(advice),
        tiles=_tiles(advice),
        program=program_view(advice.program, advice.step),
        findings=findings,
        table=finding_table(findings) if findings else None,
        payoffs=_picture(drawn) if drawn else None,
        others=other_lines(advice),
        left_out=max(0, len(drawn) - MOST_DRAWN),
        categories=CATEGORIES,
        pages={name: explanation(name) for name in dict.fromkeys(one.category for one in advice.findings)},
        proof=advice.proof,
        proof_headline=proof_headline(advice.step.partition(":")[0], advice.proof) if advice.proof else "",
        promised=promised_text,
        alone=alone_text,
        machine=list(facts_of_machine(advice.environment)) if advice.environment else [],
    )


def _tiles(advice: Advice) -> list[Tile]:
    tiles = [
        Tile(format_time(advice.step_s), "per step", steps_text(advice)),
        Tile(str(len(advice.findings)), "finding" if len(advice.findings) == 1 else "findings"),
    ]
    if advice.findings:
        largest = max(in_step(advice.findings), key=lambda finding: finding.payoff_s[1])
        of_what = "of the step: the largest saving" if largest.per == "step" else "the largest saving"
        tiles.append(Tile(share_text(largest), of_what, place_text(largest)))
    return tiles


def _picture(findings: Sequence[FindingView]) -> Picture:
    drawn = findings[:MOST_DRAWN]
    rows = [
        Payoff(
            f"{_row_place(one)} {plain(one.finding.title).replace('`', '')}",
            f"{_row_place(one)} {plain(one.finding.category)}",
            one.finding.payoff_s,
            one.finding.payoff_share,
        )
        for one in drawn
    ]
    description = "; ".join(f"{one.number}, {plain(one.finding.title)}: {one.payoff}, {one.share}" for one in drawn)
    drawing = Drawing("payoffs", "What each change saves", description, partial(payoff_rows, rows))
    return picture_of(drawing, "payoffs", twice=True)


def _row_place(one: FindingView) -> str:
    """'1. net.py:41', with the file without its folder, so that there is room for the title."""
    place = plain(one.finding.place.text).replace("\\", "/").rpartition("/")[2]
    return f"{one.number}. {place}"
