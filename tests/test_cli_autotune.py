"""`mlpprof autotune`, whole, on the tiny network: it measures once, keeps it, and writes a file that is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.compare.autotune import candidates
from mlpprof.errors import EXIT_OK, EXIT_USAGE


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two candidates, so that no compiler runs."""

    def two(request, batch):
        return [one for one in candidates(request, batch) if one.name in ("tanh_sigmoid", "buffered")]

    monkeypatch.setattr("mlpprof.compare.autotune.candidates", two)


@pytest.mark.timing
@pytest.mark.slow
def test_it_measures_once_keeps_it_and_writes_a_file_that_passes_the_check(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = ["autotune", "--workload", "tiny", "--budget", "12", "--json"]
    assert run([*command, "-o", "fast_mlp.py"]) == EXIT_OK
    first = json.loads(capsys.readouterr().out)
    assert first["kept"] is False
    assert {trial["name"] for trial in first["trials"]} == {"tanh_sigmoid", "buffered"}
    assert first["over_runner_up"]["low"] <= first["over_runner_up"]["ratio"] <= first["over_runner_up"]["high"]
    assert len(first["lines"]) == 3
    assert run(command) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {**first, "kept": True}
    assert run(["check", "./fast_mlp.py", "--cases", "6"]) == EXIT_OK
    assert "right" in capsys.readouterr().out
    assert run(["autotune", "--workload", "tiny"]) == EXIT_OK
    assert "--again measures it again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "fast.txt"], "expected a name that ends in .py"),
        (["-o", "absent/fast.py"], "there is no folder absent"),
        (["--batch", "301", "--workload", "tiny"], "batch 301"),
    ],
)
def test_what_cannot_be_is_refused_before_time_is_spent(arguments, words, capsys):
    assert run(["autotune", *arguments]) == EXIT_USAGE
    assert words in capsys.readouterr().err
