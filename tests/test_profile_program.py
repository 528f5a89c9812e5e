"""`mlpprof profile` on programs, from the command line to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK, EXIT_USAGE
from mlpprof.report.terminal.profile import report_text
from mlpprof.results.on_disk import load_run

LAYERS = """
import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))
"""

TRAIN = '''"""Trains two layers.

More about it."""
import sys

import numpy as np

from layers import sigmoid

rng = np.random.default_rng(0)
X, Y = rng.random((50, 400)), rng.random((10, 400))
W1, W2 = rng.standard_normal((30, 50)), rng.standard_normal((10, 30))


def forward(X):
    A1 = sigmoid(W1 @ X)
    return A1, sigmoid(W2 @ A1)


def step(X, Y):
    A1, A2 = forward(X)
    d2 = (A2 - Y) / 400
    d1 = (W2.T @ d2) * A1 * (1 - A1)
    W2[...] -= 0.1 * d2 @ A1.T
    W1[...] -= 0.1 * d1 @ X.T


for _ in range(int(sys.argv[1])):
    step(X, Y)
'''


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("layers.py").write_text(LAYERS, encoding="utf-8")
    Path("train.py").write_text(TRAIN, encoding="utf-8")
    return "train.py"


@pytest.mark.slow
def test_a_program_is_profiled_with_lines_and_calls_and_kept_as_a_run(train, capsys):
    assert run(["profile", train, "--lines", "--stacks", "--no-limits", "--threads", "1", "--", "20000"]) == EXIT_OK
    printed, announced = capsys.readouterr()
    assert "train.py runs up to four times" in announced
    (kept,) = Path("reports").iterdir()
    stored = load_run(kept)
    assert " ".join(report_text(stored).split()) in " ".join(printed.split()) or "kept in" in printed
    program, result = stored.program, stored.results[0]
    assert (program.step, program.runs, program.arguments) == ("train.py:step", 4, ("20000",))
    assert stored.variant.summary == "Trains two layers."
    assert list(program.sources) == ["train.py", "layers.py"]
    assert list(result.phases) == ["forward", "(the step itself)"]
    assert 0 < program.loading_s < program.measuring_s
    assert sum(map(result.phase_s, result.phases)) <= result.step_s.median * (1 + 1e-9)
    texts = {expression.text: expression for expression in program.expressions if expression.phase == "forward"}
    assert (texts["W1 @ X"].file, texts["W1 @ X"].line, texts["W1 @ X"].shape) == ("train.py", 16, (30, 50, 400))
    assert (texts["np.exp(-z)"].file, texts["np.exp(-z)"].times) == ("layers.py", 2)
    timed = {(line.file, line.line): line for line in stored.lines.lines}
    assert timed["train.py", 22].hits == stored.lines.steps == timed["layers.py", 6].hits / 2
    assert ("train.py", len(TRAIN.splitlines()) + 1) not in timed
    assert "sigmoid" in stored.stacks.session_json


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "indent", "tail"),
    [("", "    ", "\n"), ("def main():\n    ", "        ", "\n\n\nmain()\n")],
    ids=["of the module", "in a function"],
)
def test_a_loop_is_a_step_too_and_its_lines_are_seen(train, capsys, head, indent, tail):
    Path(train).write_text(
        TRAIN.replace("    step(X, Y)\n", "    A1, A2 = forward(X)\n    W2[...] -= 0.1 * A2 @ A1.T\n")
    )
    line = TRAIN.splitlines().index("for _ in range(int(sys.argv[1])):") + 1
    typed = ["profile", train, "--step", str(line), "--lines", "--no-limits", "--threads", "1", "--json"]
    assert run([*typed, "--", "20000"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert (document["step"], document["program"]["runs"]) == (f"train.py:{line}", 2)
    (kept,) = Path("reports").iterdir()
    lines = load_run(kept).lines
    assert {line + 1, line + 2} <= {one.line for one in lines.lines if one.file == train}


@pytest.mark.slow
def test_a_program_without_a_step_leads_to_the_option_that_is_missing(train, capsys):
    Path(train).write_text(TRAIN.replace("-=", "="), encoding="utf-8")
    assert run(["profile", train, "--", "30"]) == EXIT_USAGE
    message = capsys.readouterr().err
    assert "These may be the step: --step train.py:step, --step train.py:forward, --step train.py:28" in message
