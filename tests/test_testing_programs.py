"""Programs in tests: which subjects they are, what is refused, what the message of a failed claim names, baselines."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import make_program_comparison

from mlpprof.cli.main import run
from mlpprof.compare.entrants import Environment
from mlpprof.errors import EXIT_OK, EXIT_USAGE, UsageError
from mlpprof.report.terminal.compare import speedup_table
from mlpprof.results import Speedup
from mlpprof.testing import assert_same_training, measure_speedup
from mlpprof.testing.programs import Programs

TRAINING = """
import sys
import numpy as np
X = np.ones((8, 3))
W = np.random.default_rng().standard_normal((3, 2))
def step():
    global W
    W = W - float(sys.argv[1]) * X.T @ (X @ W)
for number in range(1_000_000):
    step()
"""


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.py").write_text(TRAINING)
    Path("new.py").write_text(TRAINING.replace("X.T @ (X @ W)", "(X.T @ X) @ W"))
    Path("wrong.py").write_text(TRAINING.replace("float", "1.001 * float"))


def test_a_program_and_a_variant_or_the_same_code_twice_are_refused():
    with pytest.raises(UsageError, match="cannot compare 'new.py' with 'naive'; expected two programs"):
        measure_speedup("new.py", over="naive")
    with pytest.raises(UsageError, match="are for programs"):
        measure_speedup("cached", over="naive", arguments=["--epochs", "3"])
    with pytest.raises(UsageError, match="given twice"):
        measure_speedup("new.py", over="new.py")
    with pytest.raises(UsageError, match="equivalent can only be False"):
        measure_speedup("new.py", over="old.py", equivalent=lambda a, b: True)


def test_a_missing_baseline_names_the_command_that_stores_it():
    with pytest.raises(UsageError, match=r"To store one, type: mlpprof calibrate old.py new.py --threads 1 -- 0.01$"):
        measure_speedup("new.py", over="old.py", at_least="baseline", arguments=["0.01"])


def test_the_command_for_the_same_measurement_and_the_name_of_a_claim():
    one = Programs("-m package.train", "-m package.train@v1", ("--epochs", "3"), "Net.fit", allow_writes=True)
    assert one.command("compare", Environment(None)) == (
        "mlpprof compare -m package.train@v1 -m package.train --step Net.fit --allow-writes -- --epochs 3"
    )
    other = Programs("new.py", "old.py", step="fit_fast", over_step="old.py:fit")
    assert other.command("compare", Environment(1)).endswith("--threads 1 --step old.py:fit --step new.py:fit_fast")
    assert one.key(1) == "-m package.train over -m package.train@v1, --epochs 3"
    assert one.key(None) == "-m package.train over -m package.train@v1, --epochs 3, all threads"


def test_the_message_of_a_failed_claim_names_the_expression_that_lost_the_time():
    found = make_program_comparison()
    speedup = Speedup("new.py", "old.py", "the step", found.verdict, found.waterfall, lost=found.lost)
    table = speedup_table(speedup)
    assert "lost in   new.py:17: tanh(z + 0 * z) (was: tanh(z)), 1.00 ms → 2.00 ms" in table


def test_a_single_program_is_calibrated_against_the_last_commit(capsys: pytest.CaptureFixture[str]):
    assert run(["calibrate", "new.py"]) == EXIT_USAGE
    assert "new.py@HEAD" in capsys.readouterr().err
    assert run(["calibrate", "naive"]) == EXIT_USAGE
    assert "argument NEW is missing" in capsys.readouterr().err
    assert run(["calibrate", "old.py", "new.py", "--workload", "tiny"]) == EXIT_USAGE
    assert "--workload cannot be used with a program" in capsys.readouterr().err


@pytest.mark.slow
def test_same_training_is_asserted_and_the_parameter_that_differs_is_named():
    found = assert_same_training("new.py", "old.py", arguments=["0.01"], step="step")
    assert found.is_same
    with pytest.raises(AssertionError, match=r"wrong.py does not train the same as old.py: .* W \(3, 2\) differs by"):
        assert_same_training("wrong.py", "old.py", arguments=["0.01"], step="step")


@pytest.mark.slow
def test_a_speedup_of_programs_is_stored(capsys: pytest.CaptureFixture[str]):
    words = ["calibrate", "old.py", "new.py", "--step", "step", "--processes", "2", "--", "0.01"]
    assert run(words) == EXIT_OK
    stored = Path("mlpprof-baselines.toml").read_text(encoding="utf-8")
    assert 'what = "new.py over old.py, 0.01"' in stored
    assert run(words) == EXIT_USAGE
    assert "to replace it, add --update" in capsys.readouterr().err
