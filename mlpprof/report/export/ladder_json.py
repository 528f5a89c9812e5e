"""`mlpprof ladder --json`: the contract is `schemas/ladder.schema.json`, a list with an object a batch size."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mlpprof import __version__
from mlpprof.report.export.json_text import without_nan
from mlpprof.results import Ladder, Verdict

SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def ladder_json(ladder: Ladder) -> dict[str, Any]:
    """One race of a ladder as plain JSON with the raw timings; times in seconds; null where a slow rung sat out."""
    race = ladder.race
    document = {
        "schema": SCHEMA,
        "mlpprof": __version__,
        "created": ladder.created,
        "command": ladder.command,
        "workload": ladder.workload,
        "network": asdict(ladder.network),
        "data": asdict(ladder.data),
        "batch": ladder.batch,
        "threads": ladder.threads,
        "processes": len(race.turns_s),
        "root": ladder.rungs[0].name,
        "rungs": [
            {
                "variant": rung.name,
                "summary": rung.summary,
                "parent": rung.parent,
                "dtype": race.dtypes[race.variants.index(rung.name)],
                "step_s": rung.step_s,
                "over_parent": _ratio(rung.over_parent),
                "over_root": _ratio(rung.over_root),
                "slow": rung.name in race.slow,
            }
            for rung in ladder.rungs
        ],
        "skipped": dict(ladder.skipped),
        "variants": race.variants,
        "turns_s": [turns.tolist() for turns in race.turns_s],
        "machine": ladder.machine,
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def _ratio(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else {"ratio": verdict.ratio, "interval": [verdict.low, verdict.high]}
