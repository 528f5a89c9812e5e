"""Comparisons in the JSON of pytest-benchmark, which `pytest-benchmark compare` and services such as Bencher read.

Every comparison is a group of two benchmarks, old and new; a round is one turn of the race. The two are paired, which
the format cannot tell: ratio, interval and verdict stand in `extra_info` of the new one.
Source: the pytest-benchmark documentation, and what version 5 of it writes.
"""

from __future__ import annotations

import ast
import io
import linecache
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from line_profiler import LineProfiler, show_text
from numpy.typing import NDArray

from mlpprof import __version__
from mlpprof.catalog import find
from mlpprof.errors import MlpprofError, UsageError
from mlpprof.results import Comparison, Json, LineProfile, Run, quantiles
from mlpprof.results.json import without_nan


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


# Comparisons for github-action-benchmark's tool `customSmallerIsBetter`: a list of named values.
#
# Two a comparison: the relative time of the new variant, which machines of different speed can share a chart of, and
# its step, which they cannot. Source: the README of benchmark-action/github-action-benchmark (name, unit, value, and
# optionally range and extra).


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


# The line view in line_profiler's own forms: its file for `python -m line_profiler`, and the text that this prints.
#
# Its file (.lprof) is a pickle, as line_profiler defines it; mlpprof writes one and never loads one. It names the
# variant's file, whose lines the reader prints beside the times: with its path where the file that was measured is
# found
# and unchanged, as for the catalog's own variants, else by its name alone, for which the reader looks in the working
# directory. The text (.lprof.txt) holds the source that was measured, and is the form to pass on.


UNIT_S = 1e-9
"""A tick of the times in the file."""

Timings = dict[tuple[str, int, str], list[tuple[int, int, int]]]
"""(file, first line, qualified name) of a function -> (line, hits, ticks)."""


def write_line_profile(run: Run, path: Path) -> None:
    """Write the line view as line_profiler's file. Raises UsageError for a run without one."""
    timings = _timings(run, _measured_file(run))
    stats_class = type(LineProfiler().get_stats())
    _Stored(stats_class(timings, UNIT_S)).dump_stats(str(path))


def line_profile_text(run: Run) -> str:
    """What line_profiler prints for the line view, with the source that was measured. Raises UsageError without one."""
    file = f"{run.variant.name}.py"
    # a name that line_profiler takes for generated code, whose lines it asks linecache for
    name = f"<generated {file}>"
    lines = [line + "\n" for line in run.variant.source.splitlines()]
    linecache.cache[name] = (len(run.variant.source), None, lines, name)
    try:
        text = io.StringIO()
        show_text(_timings(run, name), UNIT_S, output_unit=1e-6, stream=text)
    finally:
        del linecache.cache[name]
    return text.getvalue().replace(name, file)


class _Stored(LineProfiler):
    """A profiler that has finished, so that its own method writes the file, whatever the version."""

    def __init__(self, stats: Any) -> None:
        super().__init__()
        self._stats = stats

    def get_stats(self) -> Any:
        """What was stored."""
        return self._stats


def line_profile_of(run: Run) -> LineProfile:
    """The line view of a run. Raises UsageError where it has none."""
    if run.lines is None:
        raise UsageError(f"the run of {run.variant.name} has no line view; profile it with --lines")
    return run.lines


def _timings(run: Run, file: str) -> Timings:
    """Lines by the function that they are in; those in none are left out, as line_profiler knows functions only."""
    found: Timings = {}
    functions = list(_functions(ast.parse(run.variant.source)))
    for line in line_profile_of(run).lines:
        for first, last, name in functions:
            if first <= line.line <= last:
                entries = found.setdefault((file, first, name), [])
                entries.append((line.line, line.hits, round(line.time_s / UNIT_S)))
                break
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    """First line (a decorator's, where there is one), last line and qualified name of functions and methods."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef):
                first = min([member.lineno, *(decorator.lineno for decorator in member.decorator_list)])
                yield first, member.end_lineno or member.lineno, prefix + member.name


def _measured_file(run: Run) -> str:
    try:
        entry = find(run.variant.name)
        if entry.source() == run.variant.source:
            return str(entry.path)
    except MlpprofError:  # a file of the user's, or a variant that has gone since
        pass
    return f"{run.variant.name}.py"
