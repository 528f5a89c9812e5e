"""`mlpprof reproduce --json`: the contract is `schemas/reproduce.schema.json`. The kept file has more in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mlpprof import __version__
from mlpprof.claims import Claim, Reproduction
from mlpprof.report.export.json_text import without_nan

SCHEMA = 1
"""Raised when a key goes or changes its meaning."""


def reproduce_json(reproductions: Sequence[Reproduction]) -> dict[str, Any]:
    """The claims of every source as plain JSON.

    claimed and measured are numbers of one unit, which `what` tells; where there is no number they are the words.
    """
    document: dict[str, Any] = without_nan(
        {
            "schema": SCHEMA,
            "sources": {one.name: {"claims": [_claim(claim) for claim in one.claims]} for one in reproductions},
        }
    )
    return document


def kept_json(reproductions: Sequence[Reproduction], command: str, created: str) -> dict[str, Any]:
    """The same with all that the report and the figures are made from, the command and the machine."""
    document = reproduce_json(reproductions)
    for one in reproductions:
        whole = asdict(one)
        del whole["name"]
        for claim, contract in zip(whole["claims"], document["sources"][one.name]["claims"], strict=True):
            claim |= contract
        document["sources"][one.name] = whole
    kept: dict[str, Any] = without_nan(document | {"mlpprof": __version__, "created": created, "command": command})
    return kept


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "what": claim.what,
        "claimed": claim.claimed_text if claim.claimed is None else claim.claimed,
        "measured": claim.measured,
        "holds": claim.holds,
        "note": claim.note,
    }
