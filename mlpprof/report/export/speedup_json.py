"""Assertions about speedups as JSON: the contract of `pytest --mlpprof-json` is `schemas/speedups.schema.json`."""

from __future__ import annotations

from typing import Any

from mlpprof.measure.waterfall import REST
from mlpprof.report.export.json_text import without_nan
from mlpprof.results import Speedup


def speedup_json(speedup: Speedup) -> dict[str, Any]:
    """One assertion as plain JSON; phases: of a failed one, seconds a step before and after."""
    verdict = speedup.verdict
    document = {
        "new": speedup.new,
        "old": speedup.old,
        "subject": speedup.subject,
        "at_least": verdict.at_least,
        "ratio": verdict.ratio,
        "interval": [verdict.low, verdict.high],
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "processes": verdict.processes,
        "in_process": verdict.in_process,
        "phases": {
            "rest" if change.phase == REST else change.phase: {
                "old_s": change.old_s,
                "new_s": change.new_s,
                "share_of_difference": change.share,
            }
            for change in speedup.waterfall
            if not change.label
        },
        "command": speedup.command,
        "notes": list(speedup.notes),
    }
    plain: dict[str, Any] = without_nan(document)
    return plain
