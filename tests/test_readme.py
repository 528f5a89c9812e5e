"""The README is true: its commands run, and the two for a fresh machine stand where CI takes them from."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("mlpprof ")]

TRAIN = """import argparse

import numpy as np


class Net:
    def __init__(self, rng):
        self.W = [rng.normal(size=(100, 300)) / 17, rng.normal(size=(10, 100)) / 10]

    def forward(self, X):
        self.Z1 = self.W[0] @ X
        self.A1 = np.tanh(self.Z1)
        return self.W[1] @ self.A1

    def step(self, X, Y, rate):
        delta = self.forward(X) - Y
        inner = (self.W[1].T @ delta) * (1 - np.tanh(self.Z1) ** 2)
        self.W[1] -= rate * (delta @ self.A1.T)
        self.W[0] -= rate * (inner @ X.T)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    epochs = parser.parse_args().epochs
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(300, 4000)), rng.normal(size=(10, 4000))
    net = Net(rng)
    for epoch in range(epochs):
        for start in range(0, 4000, 200):
            net.step(X[:, start : start + 200], Y[:, start : start + 200], 1e-4)
"""
"""A program of a reader's own, for the commands that look at one."""


def test_ci_finds_both_commands_for_a_fresh_machine() -> None:
    for name in ("profile", "test"):
        (command,) = re.findall(rf"<!-- ci: {name} -->\n```sh\n([^\n]*)\n```\n<!-- end -->", README)
        assert command.startswith("python3 -m venv .venv && ")
    assert "<!-- ci:" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.timing
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "train.py" in command:
        Path("train.py").write_text(TRAIN, encoding="utf-8")
    assert run(shlex.split(command, comments=True)[1:]) == EXIT_OK


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / target).exists(), target
