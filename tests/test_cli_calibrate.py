"""`mlpprof calibrate` as a user types it, and the tests that rely on what it stored."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK, EXIT_USAGE, UsageError
from mlpprof.testing import Measuring, measure_speedup
from mlpprof.testing.baseline import claim_key

FILE = Path("mlpprof-baselines.toml")
QUICK = ["per_sample", "sliced", "--workload", "tiny", "--processes", "2"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.timing
@pytest.mark.slow
def test_a_stored_speedup_is_replaced_only_when_asked_and_a_test_requires_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["calibrate", *QUICK]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "sliced over per_sample, tiny, batch 30" in printed
    assert f"stored in {FILE}" in printed
    edited = FILE.read_text(encoding="utf-8").replace("\nratio = ", "\nratio = 9")
    edited = edited.replace("\nhigh = ", "\nhigh = 99")
    FILE.write_text(edited, encoding="utf-8")
    assert run(["calibrate", *QUICK]) == EXIT_USAGE
    assert "to replace it, add --update" in capsys.readouterr().err
    assert FILE.read_text(encoding="utf-8") == edited
    assert run(["calibrate", *QUICK, "--update", "--json"]) == EXIT_OK
    (stored,) = json.loads(capsys.readouterr().out)
    assert stored["schema"] == 1
    assert stored["what"] == claim_key("sliced", "per_sample", "tiny", 30)
    assert stored["low"] < stored["ratio"] < stored["high"]
    assert 2 < stored["ratio"] < 90
    (kept,) = tomllib.loads(FILE.read_text(encoding="utf-8"))["claim"]
    assert kept["machine"] == stored["machine"]
    hurry = Measuring(budget_s=0.01, check=False)
    speedup = measure_speedup("sliced", over="per_sample", at_least="baseline", workload="tiny", measuring=hurry)
    assert speedup.verdict.at_least == kept["low"]


def test_a_missing_claim_is_an_error_that_names_the_command() -> None:
    command = "To store one, type: mlpprof calibrate naive cached --workload tiny --batch 7 --dtype float64$"
    with pytest.raises(UsageError, match=command):
        measure_speedup("cached", over="naive", at_least="baseline", workload="tiny", batch=7, dtype="float64")


def test_functions_have_no_baseline() -> None:
    with pytest.raises(UsageError, match="is for variants"):
        measure_speedup(sorted, over=list, at_least="baseline")


@pytest.mark.parametrize("arguments", [["per_sample", "slicd"], ["per_sample", "sliced", "--workload", "tinny"]])
def test_a_wrong_name_is_refused_before_anything_is_measured(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["calibrate", *arguments]) == EXIT_USAGE
    assert "did you mean" in capsys.readouterr().err
    assert not FILE.exists()
