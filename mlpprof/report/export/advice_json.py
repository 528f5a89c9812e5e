"""`mlpprof advise --json`: the contract is `schemas/advice.schema.json`, and `advice_from_json` reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlpprof.errors import UsageError
from mlpprof.report.export.json_text import without_nan
from mlpprof.results.advice import SCHEMA, Advice, Finding, Place


def advice_json(advice: Advice) -> dict[str, Any]:
    """Findings as plain JSON, the largest payoff first; times in seconds; what is not finite is null."""
    document: dict[str, Any] = without_nan(
        {
            "schema": SCHEMA,
            "step": advice.step,
            "step_s": advice.step_s,
            "steps": advice.steps,
            "findings": [_finding(finding) for finding in advice.findings],
            "notes": advice.notes,
            "environment": advice.environment,
        }
    )
    return document


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "category": finding.category,
        "file": finding.file,
        "line": finding.line,
        "end_line": finding.end_line,
        "column": finding.column,
        "title": finding.title,
        "why": finding.why,
        "cure": finding.cure,
        "payoff_s": finding.payoff_s,
        "payoff_share": finding.payoff_share,
        "confidence": finding.confidence,
        "related": [{"file": place.file, "line": place.line} for place in finding.related],
        "evidence": finding.evidence,
    }


def advice_from_json(document: Mapping[str, Any]) -> Advice:
    """The findings of a JSON document, without the text of the files; keys that may be added are passed over.

    Raises UsageError for another schema number, and for a document that lacks a key of the contract.
    """
    if document.get("schema") != SCHEMA:
        raise UsageError(f"advice has schema {document.get('schema')!r}, but this mlpprof reads {SCHEMA}; advise again")
    try:
        return Advice(
            step=document["step"],
            step_s=document["step_s"],
            steps=document.get("steps", 0),
            findings=tuple(_read_finding(finding) for finding in document["findings"]),
            notes=tuple(document.get("notes", ())),
            environment=dict(document.get("environment", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"this is no advice as `mlpprof advise --json` writes it: {error!r}; advise again") from error


def _read_finding(finding: Mapping[str, Any]) -> Finding:
    low_s, high_s = finding["payoff_s"]
    low, high = finding["payoff_share"]
    return Finding(
        category=finding["category"],
        file=finding["file"],
        line=finding["line"],
        end_line=finding["end_line"],
        column=finding["column"],
        title=finding["title"],
        why=finding["why"],
        cure=finding["cure"],
        payoff_s=(low_s, high_s),
        payoff_share=(low, high),
        confidence=finding["confidence"],
        related=tuple(Place(place["file"], place["line"]) for place in finding["related"]),
        evidence=dict(finding["evidence"]),
    )
