"""Comparisons and ladders as files: the JSON contracts, and what other programs read."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from runs import make_run

from mlpprof.compare.waterfall import waterfall
from mlpprof.errors import UsageError
from mlpprof.report.files.formats import (
    ladder_json,
    require_comparison_format,
    require_ladder_extension,
    write_comparisons,
)
from mlpprof.results import Comparison, Ladder, Race, Rung, Verdict

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
    return write_comparisons([COMPARISON], tmp_path / "out", file_format).read_text(encoding="utf-8")


def validate(name: str, document: object) -> None:
    schema = json.loads(files("mlpprof.report").joinpath(f"schemas/{name}.schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(document)


def test_a_comparison_keeps_its_contract_and_its_phases_share_all_of_the_difference(tmp_path):
    document = json.loads(write(tmp_path, "json"))
    validate("compare", document)
    assert document[0]["turns_s"][0][3][0] == [None, None]
    assert sum(phase["share_of_difference"] for phase in document[0]["phases"].values()) == pytest.approx(1)


def test_a_ladder_keeps_its_contract():
    rungs = (Rung("naive", "a", None, 2e-3, None, None), Rung("cached", "b", "naive", 1e-3, VERDICT, VERDICT))
    ladder = Ladder("now", "mlpprof ladder", "tiny", RUN.network, RUN.data, 32, 1, RACE, rungs, RUN.machine)
    validate("ladder", [ladder_json(ladder)])


def test_csv_has_a_row_a_comparison(tmp_path):
    (row,) = csv.DictReader(write(tmp_path, "csv").splitlines())
    assert (row["old"], row["new"], row["ratio"], row["verdict"]) == ("naive", "cached", "2.0", "pass")


def test_pytest_benchmark_gets_old_and_new_with_finite_rounds(tmp_path):
    old, new = json.loads(write(tmp_path, "pytest-benchmark"))["benchmarks"]
    assert (old["stats"]["rounds"], new["stats"]["rounds"]) == (12, 16)
    assert new["extra_info"]["ratio"] == 2.0


def test_pytest_benchmark_itself_reads_it_and_agrees_on_the_figures(tmp_path):
    stats = pytest.importorskip("pytest_benchmark.stats")
    path = tmp_path / "0001_mlpprof.json"
    write_comparisons([COMPARISON], path, "pytest-benchmark")
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


def test_unknown_formats_are_refused_with_those_there_are():
    with pytest.raises(UsageError, match="did you mean 'csv'"):
        require_comparison_format(Path("a.txt"), "cvs")
    with pytest.raises(UsageError, match="cannot tell the format"):
        require_comparison_format(Path("a.txt"), None)
    with pytest.raises(UsageError, match="expected one of"):
        require_ladder_extension(Path("a.pdf"))


def test_any_figure_of_a_comparison_is_drawn_by_its_name(tmp_path):
    path = tmp_path / "a.svg"
    turns = write_comparisons([COMPARISON], path, "svg", "turns").read_text(encoding="utf-8")
    assert turns != write_comparisons([COMPARISON], path, "svg").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="no figure 'layers' .there are: speedup, .*turns"):
        write_comparisons([COMPARISON], path, "svg", "layers")
    with pytest.raises(UsageError, match="--figure turns is drawn as"):
        require_comparison_format(tmp_path / "a.csv", None, "turns")
    with pytest.raises(UsageError, match="no figure 'turn'; did you mean 'turns'"):
        require_ladder_extension(tmp_path / "a.png", "turn")
