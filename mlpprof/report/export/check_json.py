"""`mlpprof check --json`: the contract is `schemas/check.schema.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlpprof.report.export.json_text import without_nan
from mlpprof.results import CheckResult

SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def check_json(results: Sequence[CheckResult]) -> dict[str, Any]:
    """What `mlpprof check` found as plain JSON, a key a variant; a deviation that is not finite is null."""
    variants = {
        result.variant: {
            "ok": result.ok,
            "worst_deviation": result.deviation,
            "tolerance": result.tolerance,
            "layer": result.layer,
            "what": result.what,
            "message": result.message,
            "skipped": result.skipped,
        }
        for result in results
    }
    document: dict[str, Any] = without_nan({"schema": SCHEMA, "variants": variants})
    return document
