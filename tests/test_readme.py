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


def test_ci_finds_both_commands_for_a_fresh_machine() -> None:
    for name in ("profile", "test"):
        (command,) = re.findall(rf"<!-- ci: {name} -->\n```sh\n([^\n]*)\n```\n<!-- end -->", README)
        assert command.startswith("python3 -m venv .venv && ")
    assert "<!-- ci:" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.timing
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(shlex.split(command, comments=True)[1:]) == EXIT_OK


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / target).exists(), target
