"""Comparisons for github-action-benchmark's tool `customSmallerIsBetter`: a list of named values.

Two a comparison: the relative time of the new variant, which machines of different speed can share a chart of, and
its step, which they cannot. Source: the README of benchmark-action/github-action-benchmark (name, unit, value, and
optionally range and extra).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlpprof.results import Comparison, quantiles


def github_action_json(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The entries; units are fixed, so that a chart keeps its axis from commit to commit."""
    return [entry for one in comparisons for entry in _entries(one)]


def _entries(one: Comparison) -> list[dict[str, Any]]:
    verdict, race = one.verdict, one.race
    place = f"{one.workload}, batch {one.batch}"
    relative = 1 / verdict.ratio
    half = (1 / verdict.low - 1 / verdict.high) / 2
    turns_s = np.concatenate([turns[:, 1].ravel() for turns in race.turns_s])
    steps = quantiles(turns_s[np.isfinite(turns_s)])
    outcome = "" if verdict.outcome is None else f"\nat least {verdict.at_least:g}: {verdict.outcome}"
    return [
        {
            "name": f"{place}: {one.new} relative to {one.old}",
            "unit": f"x {one.old}",
            "value": relative,
            "range": f"± {half:.4f}",
            "extra": f"speedup {verdict.ratio:.4f} (95 %: {verdict.low:.4f} to {verdict.high:.4f})\n"
            f"processes: {verdict.processes}{outcome}",
        },
        {
            "name": f"{place}: {one.new}, a step",
            "unit": "µs",
            "value": 1e6 * race.step_s(1),
            "range": f"± {5e5 * (steps.high - steps.low):.3g}",
            "extra": f"dtype: {race.dtypes[1]}",
        },
    ]
