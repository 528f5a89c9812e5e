"""`mlpprof compare --json`: the contract is `schemas/compare.schema.json`, a list with an object a comparison."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mlpprof import __version__
from mlpprof.measure.waterfall import REST
from mlpprof.report.export.json_text import without_nan
from mlpprof.results import Change, Comparison

SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """One comparison as plain JSON with the raw timings; times in seconds; null where a slow variant sat out.

    The phases, "rest" among them, share 100 % of the difference; {} where the waterfall was not measured.
    """
    race, verdict = comparison.race, comparison.verdict
    document = {
        "schema": SCHEMA,
        "mlpprof": __version__,
        "command": comparison.command,
        "old": comparison.old,
        "new": comparison.new,
        "workload": comparison.workload,
        "network": asdict(comparison.network),
        "batch": comparison.batch,
        "dtypes": race.dtypes,
        "old_s": race.step_s(0),
        "new_s": race.step_s(1),
        "ratio": verdict.ratio,
        "interval": [verdict.low, verdict.high],
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "at_least": verdict.at_least,
        "processes": verdict.processes,
        "equivalent": comparison.equivalent,
        "phases": {_phase_name(change): _seconds(change) for change in comparison.waterfall if not change.label},
        "labels": [
            {"phase": change.phase, "layer": change.layer, "label": change.label, **_seconds(change)}
            for change in comparison.waterfall
            if change.label
        ],
        "turns_s": [turns.tolist() for turns in race.turns_s],
        "machine": comparison.machine,
        "engines": list(comparison.engines),
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def _phase_name(change: Change) -> str:
    return "rest" if change.phase == REST else change.phase


def _seconds(change: Change) -> dict[str, float]:
    return {"old_s": change.old_s, "new_s": change.new_s, "share_of_difference": change.share}
