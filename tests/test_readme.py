"""The README is true: its commands run, and its two commands for a fresh machine are where CI looks for them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from notebooks import notebook_text

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *(ROOT / "README.md", ROOT / "variants" / "your-own.md"),
    *(page for folder in ("mlpprof", "reports", "variants") for page in ROOT.glob(f"{folder}/**/README.md")),
]
PAGES.remove(ROOT / "mlpprof" / "workshop" / "texts" / "README.md")  # its links are those of a learner's folder
SCRIPT = ROOT / "reports" / "advise" / "train.py"
ADVISE = "mlpprof advise train.py"
COMMANDS = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("mlpprof ")
]

timed = (pytest.mark.timing, pytest.mark.slow)
QUICK = ("list", "diff", "data", "workshop")
"""The commands that measure nothing."""


@pytest.fixture(autouse=True)
def in_a_folder_with_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(SCRIPT, "train.py")
    # The commands take defaults from the environment: these make them shorter.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, value in {
        "PROFILE_STEPS": "20",
        "PROFILE_NO_LIMITS": "1",
        "COMPARE_BUDGET": "1",
        "ADVISE_THREADS": "1",
    }.items():
        monkeypatch.setenv(f"MLPPROF_{name}", value)


def test_ci_finds_both_commands_for_a_fresh_machine() -> None:
    for name in ("profile", "test"):
        (command,) = re.findall(rf"<!-- ci: {name} -->\n```sh\n([^\n]*)\n```\n<!-- end -->", README)
        assert command.startswith("python3 -m venv .venv && ")
    assert "<!-- ci:" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=() if command.endswith("--help") or command.split()[1] in QUICK else timed)
        for command in COMMANDS
        if command != ADVISE
    ],
)
def test_a_command_of_the_readme_runs(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [EXIT_OK]
    if any(word in command for word in ("--prove", "@HEAD", "profile train.py", "work.ipynb", "advice.html")):
        _with_a_small_network()
    if "--prove" in command:
        monkeypatch.setenv("MLPPROF_ADVISE_SELECT", "float64")
        expected += [EXIT_FAILED, EXIT_INCONCLUSIVE]  # another program may use the processors
    assert run(shlex.split(command)[1:]) in expected


def _with_a_small_network() -> None:
    """The script with a small network, as a notebook too, and committed to git before its last change."""
    script = Path("train.py")
    text = script.read_text(encoding="utf-8").replace("[2, 100, 100, 3]", "[2, 20, 10, 3]")
    Path("work.ipynb").write_text(notebook_text(text), encoding="utf-8")
    script.write_text(text, encoding="utf-8")
    identity = ("-c", "user.name=n", "-c", "user.email=e")
    for words in (("init", "-q"), ("add", "train.py"), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", *words], check=True)
    script.write_text(text + "# changed\n", encoding="utf-8")


@pytest.mark.timing
@pytest.mark.slow
def test_advise_finds_in_the_script_what_the_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert ADVISE in COMMANDS
    assert run([*shlex.split(ADVISE)[1:], "--json"]) == EXIT_OK
    found = {(one["line"], one["category"]) for one in json.loads(capsys.readouterr().out)["findings"]}
    shown = {(int(line), category) for line, category in re.findall(r"train\.py:(\d+):\d+  ([a-z0-9-]+)", README)}
    assert len(shown) >= 2
    assert shown <= found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"(?:\]\(|src=\")([^)#\"]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
