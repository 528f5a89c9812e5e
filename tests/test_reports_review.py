"""The example workflow for pull requests: what it asks of its host, and its commands in a small project."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from mlpprof.cli import check_claims
from mlpprof.cli.main import run
from mlpprof.errors import EXIT_FAILED, EXIT_OK
from mlpprof.results import ExpressionChange, Speedup, Verdict

FOLDER = Path(__file__).resolve().parent.parent / "reports" / "review"
WORKFLOW = yaml.safe_load((FOLDER / "speed.yml").read_text(encoding="utf-8"))
STEPS = WORKFLOW["jobs"]["speed"]["steps"]
COMMANDS = [step["run"] for step in STEPS if step.get("run", "").startswith("mlpprof")]
PROGRAM = "for step in range(3):\n    pass\n"


def test_the_workflow_runs_for_forks_without_a_token_and_sees_the_branch_that_it_compares_with() -> None:
    assert WORKFLOW[True] == "pull_request"  # YAML 1.1 reads the key `on` as true
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "secrets" not in (FOLDER / "speed.yml").read_text(encoding="utf-8").partition("name:")[2]
    [checkout] = [step for step in STEPS if step.get("uses", "").startswith("actions/checkout")]
    assert checkout["with"]["fetch-depth"] == 2
    assert COMMANDS


@pytest.fixture
def pull_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project of the README, as the host checks it out: HEAD is a merge, and HEAD^1 the branch it goes to."""
    [claims] = re.findall(r"```toml\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    Path("pyproject.toml").write_text(claims, encoding="utf-8")
    Path("train.py").write_text(PROGRAM, encoding="utf-8")
    commit = "git add . && git -c user.name=a -c user.email=a commit -q --allow-empty -m"
    subprocess.run(f"git init -q && {commit} one && {commit} two", shell=True, check=True)
    return tmp_path


def measured(new: str, *, over: str, at_least: float, measuring: object, **options: object) -> Speedup:
    """Variants are as fast as claimed; the program is slower."""
    if new == "cached":
        assert options == {"workload": "tiny"}
        return Speedup(new, over, "tiny", Verdict("pass", 2.0, 1.9, 2.1, at_least, 5, "as made up"))
    lost = ExpressionChange("train.py", 2, "np.tanh(Z)", "", None, 1e-3)
    return Speedup(new, over, "", Verdict("fail", 0.5, 0.4, 0.6, at_least, 5, "as made up"), lost=lost)


@pytest.mark.parametrize(("changed", "code", "outcome"), [(True, EXIT_FAILED, "FAIL"), (False, EXIT_OK, "UNCHANGED")])
def test_the_commands_of_the_workflow_annotate_the_slow_line_and_write_the_summary(
    pull_request: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: bool,
    code: int,
    outcome: str,
) -> None:
    def measure(new: str, **options: object) -> Speedup:
        return measured(new, **options) if changed or new == "cached" else unchanged(new, **options)

    unchanged = check_claims.measure_speedup
    monkeypatch.setattr(check_claims, "measure_speedup", measure)
    if changed:
        Path("train.py").write_text(PROGRAM.replace("pass", "step + 1"), encoding="utf-8")
    assert [run(shlex.split(command)[1:]) for command in COMMANDS] == [code]
    first, second = capsys.readouterr().out.splitlines()
    place = "::error file=train.py,line=2,title=FAIL" if changed else "::notice title=UNCHANGED"
    measured_words = "measured 0" if changed else "nothing was measured"
    assert first.startswith(f"{place}%3A train.py over train.py@HEAD^1%2C {measured_words}")
    assert second.startswith("::notice title=PASS%3A cached over naive%2C measured 2.00x")
    summary = (pull_request / "summary.md").read_text(encoding="utf-8")
    assert f"| **{outcome}** | train.py over train.py@HEAD^1 | 0.9x | " in summary
