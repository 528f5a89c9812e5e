"""Comparisons as the JSON of two tools that follow benchmarks from commit to commit.

pytest-benchmark (its command `compare`, and services such as Bencher): every comparison is a group of two benchmarks,
old and new, and a round is one turn of the race. The format cannot express that the two are paired; therefore the new
one holds ratio, interval and verdict in `extra_info`. Source: its documentation, and what version 5 of it writes.

github-action-benchmark (its tool `customSmallerIsBetter`): a list of named values. Each comparison gives two: the
relative time of the new variant, which is comparable between machines of different speed, and the time of its step,
which is not. Source: the README of benchmark-action/github-action-benchmark (name, unit, value, range and extra).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpprof import __version__
from mlpprof.results import Comparison, Json, quantiles
from mlpprof.results.json import plain_object


def pytest_benchmark_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The document of pytest-benchmark."""
    machine = comparisons[0].machine
    return plain_object(
        {
            "machine_info": _machine_info(machine),
            "commit_info": {"id": machine.get("commit_id"), "dirty": machine.get("commit_dirty")},
            "benchmarks": [benchmark for one in comparisons for benchmark in _benchmarks(one)],
            "datetime": datetime.now(UTC).isoformat(),
            "version": f"mlpprof {__version__}",
        }
    )


def _place(one: Comparison) -> str:
    """What both were trained on, before a name; programs have their own data."""
    return "" if one.network is None else f"{one.workload}, batch {one.batch}: "


def _benchmarks(one: Comparison) -> list[dict[str, Any]]:
    group = f"{_place(one)}{one.new} over {one.old}"
    verdict = one.verdict
    paired = {
        "old": one.old,
        "ratio": verdict.ratio,
        "interval": [verdict.low, verdict.high],
        "verdict": verdict.outcome,
        "at_least": verdict.at_least,
        "processes": verdict.processes,
    }
    return [
        {
            "group": group,
            "name": f"{name}[{one.batch}]",
            "fullname": f"mlpprof::{group}::{role}[{one.batch}]",
            "params": {"batch": one.batch},
            "param": str(one.batch),
            "extra_info": {"variant": name, "dtype": one.race.dtypes[i], **(paired if i else {})},
            "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
            "stats": _stats(np.concatenate([turns[:, i].ravel() for turns in one.race.turns_s])),
        }
        for i, (role, name) in enumerate((("old", one.old), ("new", one.new)))
    ]


def _stats(turns_s: NDArray[np.float64]) -> dict[str, Any]:
    """The figures under pytest-benchmark's names. A turn is stored as seconds per step, so there is one iteration."""
    data = turns_s[np.isfinite(turns_s)]
    q1, median, q3 = (float(q) for q in np.quantile(data, (0.25, 0.5, 0.75)))
    mean, stddev = float(data.mean()), float(data.std(ddof=1))
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    stddev_outliers = int(np.sum(np.abs(data - mean) > stddev))
    iqr_outliers = int(np.sum((data < low) | (data > high)))
    return {
        "min": float(data.min()),
        "max": float(data.max()),
        "mean": mean,
        "stddev": stddev,
        "rounds": len(data),
        "median": median,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": iqr_outliers,
        "stddev_outliers": stddev_outliers,
        "outliers": f"{stddev_outliers};{iqr_outliers}",
        "ld15iqr": float(data[data >= low].min()),
        "hd15iqr": float(data[data <= high].max()),
        "ops": 1 / mean,
        "total": float(data.sum()),
        "data": data.tolist(),
        "iterations": 1,
    }


def _machine_info(machine: Json) -> dict[str, Any]:
    """pytest-benchmark's keys as far as they are known; the host's name is left out for privacy."""
    return {
        "node": "",
        "processor": machine.get("cpu_architecture"),
        "machine": machine.get("cpu_architecture"),
        "python_compiler": machine.get("python_compiler"),
        "python_implementation": machine.get("python_implementation"),
        "python_implementation_version": machine.get("python_version"),
        "python_version": machine.get("python_version"),
        "python_build": [],
        "release": "",
        "system": machine.get("platform"),
        "cpu": {"brand_raw": machine.get("cpu_model_name"), "count": machine.get("cpu_count")},
    }


def github_action_json(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The entries of github-action-benchmark; units never change, so that a chart keeps its axis."""
    return [entry for one in comparisons for entry in _entries(one)]


def _entries(one: Comparison) -> list[dict[str, Any]]:
    verdict, race = one.verdict, one.race
    place = _place(one)
    relative = 1 / verdict.ratio
    half = (1 / verdict.low - 1 / verdict.high) / 2
    turns_s = np.concatenate([turns[:, 1].ravel() for turns in race.turns_s])
    steps = quantiles(turns_s[np.isfinite(turns_s)])
    outcome = "" if verdict.outcome is None else f"\nat least {verdict.at_least:g}: {verdict.outcome}"
    return [
        {
            "name": f"{place}{one.new} relative to {one.old}",
            "unit": f"x {one.old}",
            "value": relative,
            "range": f"± {half:.4f}",
            "extra": f"speedup {verdict.ratio:.4f} (95 %: {verdict.low:.4f} to {verdict.high:.4f})\n"
            f"processes: {verdict.processes}{outcome}",
        },
        {
            "name": f"{place}{one.new}, a step",
            "unit": "µs",
            "value": 1e6 * race.step_s(1),
            "range": f"± {5e5 * (steps.high - steps.low):.3g}",
            "extra": f"dtype: {race.dtypes[1]}" if race.dtypes[1] else "",
        },
    ]
