"""Claimed speedups where changes are reviewed: annotations on GitHub, and a summary in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlpprof.report.claims import ClaimView, claim_view, comparison_view, count_text
from mlpprof.report.files.markup import annotation, inline, markdown_row, markdown_table
from mlpprof.report.rows import comparison_table, expression_change_table
from mlpprof.results import Comparison

LEVELS = {"fail": "error", "error": "error", "inconclusive": "warning", "not timed": "warning"}
"""The outcome of a claim -> GitHub's level of its annotation; the others are notices."""


def comparisons_github(comparisons: Sequence[Comparison]) -> str:
    """One annotation per comparison, at the line that lost the most time."""
    return "".join(f"{_annotation(comparison_view(one))}\n" for one in comparisons)


def claims_github(claims: Sequence[Mapping[str, Any]]) -> str:
    """One annotation per claim, from their JSON."""
    return "".join(f"{_annotation(claim_view(one))}\n" for one in claims)


def comparisons_markdown(comparisons: Sequence[Comparison]) -> str:
    """A table of all comparisons, then the phases and the expressions of each that moved."""
    lines = list(_markdown([comparison_view(one) for one in comparisons]))
    for one in comparisons:
        title = f"{one.old} → {one.new}" + (f", batch {one.batch:,}" if one.batch else "")
        if one.waterfall:
            lines += ["", f"**Where the difference lies: {inline(title)}**", ""]
            lines += markdown_table(comparison_table(one))
        if one.programs is not None and one.programs.expressions:
            lines += ["", f"**Expressions whose time changed: {inline(title)}**", ""]
            lines += markdown_table(expression_change_table(one.programs.expressions))
    return "".join(f"{line}\n" for line in lines)


def claims_markdown(claims: Sequence[Mapping[str, Any]]) -> str:
    """A table of all claims, then the reasons of those that do not hold, from their JSON."""
    return "".join(f"{line}\n" for line in _markdown([claim_view(one) for one in claims]))


def _annotation(claim: ClaimView) -> str:
    title = f"{_outcome(claim)}: {_name(claim)}, {claim.summary}"
    moved = f"what moved: {claim.moved}" if claim.moved else ""
    parts = [claim.reason, moved, *claim.facts, claim.command, *claim.notes]
    text = "\n".join(part for part in parts if part)
    return annotation(LEVELS.get(claim.outcome, "notice"), title, text, claim.file, claim.line)


def _outcome(claim: ClaimView) -> str:
    return claim.outcome.upper() or "MEASURED"


def _name(claim: ClaimView) -> str:
    return f"{claim.new} over {claim.old}"


def _markdown(claims: Sequence[ClaimView]) -> Iterator[str]:
    """The claims in a table, those that need attention first; then what is to be known of these."""
    yield f"### mlpprof: {count_text(claims)}"
    yield ""
    yield "| | claim | required | measured | what moved |"
    yield "| --- | --- | ---: | ---: | --- |"
    ordered = sorted(claims, key=lambda claim: claim.is_sound)
    for claim in ordered:
        cells = (f"**{_outcome(claim)}**", inline(_name(claim)), claim.required, claim.measured, inline(claim.moved))
        yield markdown_row(cells)
    for claim in ordered:
        if not claim.is_sound:
            yield ""
            test = f" ({inline(claim.test)})" if claim.test else ""
            yield f"**{_outcome(claim)}: {inline(_name(claim))}**{test}"
            yield ""
            yield from (f"- {inline(text)}" for text in (claim.reason, *claim.facts, *claim.notes) if text)
            if claim.command:
                yield f"- To see more, type: `{claim.command.replace('`', chr(39))}`"
