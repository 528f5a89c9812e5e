"""Comparisons in the JSON of pytest-benchmark, which `pytest-benchmark compare` and services such as Bencher read.

Every comparison is a group of two benchmarks, old and new; a round is one turn of the race. The two are paired, which
the format cannot tell: ratio, interval and verdict stand in `extra_info` of the new one.
Source: the pytest-benchmark documentation, and what version 5 of it writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpprof import __version__
from mlpprof.report.export.json_text import without_nan
from mlpprof.results import Comparison, Json


def pytest_benchmark_json(comparisons: Sequence[Comparison], now: datetime | None = None) -> dict[str, Any]:
    """The document; now: its date, for tests."""
    machine = comparisons[0].machine
    document = {
        "machine_info": _machine_info(machine),
        "commit_info": {"id": machine.get("commit_id"), "dirty": machine.get("commit_dirty")},
        "benchmarks": [benchmark for one in comparisons for benchmark in _benchmarks(one)],
        "datetime": (now or datetime.now(UTC)).isoformat(),
        "version": f"mlpprof {__version__}",
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def _benchmarks(one: Comparison) -> list[dict[str, Any]]:
    group = f"{one.workload}, batch {one.batch}: {one.new} over {one.old}"
    verdict = one.verdict
    told = {
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
            "extra_info": {"variant": name, "dtype": one.race.dtypes[i], **(told if i else {})},
            "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
            "stats": _stats(np.concatenate([turns[:, i].ravel() for turns in one.race.turns_s])),
        }
        for i, (role, name) in enumerate((("old", one.old), ("new", one.new)))
    ]


def _stats(turns_s: NDArray[np.float64]) -> dict[str, Any]:
    """The figures under pytest-benchmark's names; iterations are 1, since a turn is kept as seconds a step."""
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
    """Its keys as far as they are known; the host's name is nobody's business."""
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
