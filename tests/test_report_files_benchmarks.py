"""Comparisons as tables and for programs that follow benchmarks: pytest-benchmark and github-action-benchmark."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import make_ladder
from runs import make_run

from mlpprof.compare.variant_difference import waterfall
from mlpprof.report.files.formats import COMPARISONS, LADDERS
from mlpprof.results import Comparison, Race, Verdict

RUN = make_run((32, 500))
TURNS_S = np.full((4, 2, 2), 1e-3)
TURNS_S[:, 0] = 2e-3
TURNS_S[3, 0] = np.nan
RACE = Race(("naive", "cached"), ("float64", "float32"), 32, (TURNS_S, TURNS_S))
VERDICT = Verdict("pass", 2.0, 1.9, 2.1, 1.15, 2, "above 1.045")
CHANGES = waterfall(RUN.results[1], RUN.results[0], 2e-3, 1e-3)
COMPARISON = Comparison(
    "naive", "cached", "tiny", RUN.network, 32, RACE, VERDICT, True, CHANGES, RUN.machine, "mlpprof compare"
)


def write(tmp_path: Path, file_format: str) -> str:
    return COMPARISONS.write([COMPARISON], tmp_path / "out", file_format).read_text(encoding="utf-8")


def test_csv_has_a_row_for_each_comparison(tmp_path):
    (row,) = csv.DictReader(write(tmp_path, "csv").splitlines())
    assert (row["old"], row["new"], row["ratio"], row["verdict"]) == ("naive", "cached", "2.0", "pass")


def test_csv_of_a_ladder_has_a_row_for_each_rung(tmp_path):
    ladder = make_ladder(names=("naive", "cached"), profiled=False)
    rows = list(csv.DictReader(LADDERS.write([ladder], tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["variant"], row["parent"], row["slow"]) for row in rows] == [
        ("naive", "", "False"),
        ("cached", "naive", "False"),
    ]
    assert rows[0]["over_root"] == ""
    assert float(rows[1]["over_root_low"]) < float(rows[1]["over_root"]) < float(rows[1]["over_root_high"])


def test_pytest_benchmark_gets_old_and_new_with_finite_rounds(tmp_path):
    old, new = json.loads(write(tmp_path, "pytest-benchmark"))["benchmarks"]
    assert (old["stats"]["rounds"], new["stats"]["rounds"]) == (12, 16)
    assert new["extra_info"]["ratio"] == 2.0


@pytest.mark.slow
def test_pytest_benchmark_itself_reads_it_and_agrees_on_the_figures(tmp_path):
    stats = pytest.importorskip("pytest_benchmark.stats")
    path = tmp_path / "0001_mlpprof.json"
    COMPARISONS.write([COMPARISON], path, "pytest-benchmark")
    parsed = json.loads(path.read_text(encoding="utf-8"))["benchmarks"][1]["stats"]
    theirs = stats.Stats()
    for seconds in parsed["data"]:
        theirs.update(seconds)
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "total", "ops", "stddev_outliers"):
        assert parsed[name] == pytest.approx(getattr(theirs, name)), name
    assert set(theirs.as_dict()) <= set(parsed)
    report = tmp_path / "report.csv"
    command = ["--storage", tmp_path.as_uri(), "compare", str(path), "--csv", str(report)]
    subprocess.run([sys.executable, "-m", "pytest_benchmark", *command], check=True, capture_output=True)
    assert len(report.read_text(encoding="utf-8").splitlines()) == 3


def test_the_github_action_gets_a_relative_time_that_is_better_when_smaller(tmp_path):
    relative, step = json.loads(write(tmp_path, "github-action-benchmark"))
    assert relative["value"] == pytest.approx(0.5)
    assert (step["unit"], step["value"]) == ("µs", pytest.approx(1000.0))
