"""Defaults from pyproject.toml: which values options take, and where configured paths may write."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from mlpprof.cli.configuration import by_parameter, configuration
from mlpprof.cli.main import run
from mlpprof.errors import EXIT_USAGE, UsageError


def configured(folder: Path, command: str, text: str) -> Any:
    """What `command` gets from a pyproject.toml with this text."""
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    found = configuration(folder)
    assert found is not None
    path, table = found
    module = importlib.import_module(f"mlpprof.cli.{command}")
    return by_parameter(module.command, (command,), table[command], path)


@pytest.mark.parametrize(
    ("table", "options", "values"),
    [
        ("profile", "threads = 4\nnative-blas = true\nbatch = 32", {"threads": 4, "native_blas": True, "batch": 32}),
        ("profile", 'exclude = ["plots.py"]', {"exclude": ["plots.py"]}),
        ("report", 'out = "reports/a.html"', {"out": "reports/a.html"}),
        ("calibrate", 'file = "tests/claims.toml"', {"file": "tests/claims.toml"}),
        ("workshop.check", 'name = "Ada"', {"check": {"name": "Ada"}}),
        ("data.show", "json = true", {"show": {"as_json": True}}),
    ],
)
def test_a_value_of_the_right_type_is_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, options: str, values: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert configured(tmp_path, table.partition(".")[0], f"[tool.mlpprof.{table}]\n{options}\n") == values


@pytest.mark.parametrize(
    ("table", "option", "expected"),
    [
        ("report", "verbose = []", "true or false"),
        ("report", "verbose = 1", "true or false"),
        ("report", "out = 5", "a path in quotes"),
        ("report", 'out = ["a.html"]', "a text or a number"),
        ("profile", "threads = {a = 1}", "a text or a number"),
        ("profile", "threads = true", "a text or a number"),
        ("profile", "threads = 99999", "1024"),
        ("profile", "rate = nan", "a finite number"),
        ("profile", "batch = 0", "numbers such as 32,500"),
        ("profile", "layers = 2026-01-01", "a text or a number"),
        ("profile", 'include = "a.py"', "a list"),
        ("profile", 'dtype = "float16"', "float16"),
        ("profile", "thread = 1", "did you mean 'threads'"),
        ("workshop", "check = 1", "a table"),
        ("workshop", "chek = {}", "did you mean 'check'"),
        ("workshop.check", "name = []", "a text or a number"),
    ],
)
def test_a_value_of_another_type_is_refused_with_file_and_key(
    tmp_path: Path, table: str, option: str, expected: str
) -> None:
    key = option.partition(" ")[0]
    text = f"[tool.mlpprof.{table}]\n{option}\n"
    with pytest.raises(UsageError) as refused:
        configured(tmp_path, table.partition(".")[0], text)
    for word in (str(tmp_path / "pyproject.toml"), f"[tool.mlpprof.{table}]", key, expected):
        assert word in str(refused.value)


@pytest.mark.parametrize("text", ["tool = 5", "[tool]\nmlpprof = 5", "[tool.mlpprof]\nreport = 1", "a = " + "[" * 9999])
def test_a_file_of_another_form_gives_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(["list"]) == EXIT_USAGE
    assert capsys.readouterr().err.startswith("mlpprof: ")


@pytest.mark.parametrize(
    ("table", "option"),
    [
        ("report", 'out = "../a.html"'),
        ("report", 'out = "model.html"'),
        ("report", 'out = "reports/../src/a.html"'),
        ("report", 'out = "reports/link/a.html"'),
        ("profile", 'stacks-file = "/etc/a.html"'),
        ("workshop.board", 'out = "a.html"'),
        ("data.fetch", 'to = ".."'),
        ("calibrate", 'file = "../claims.toml"'),
    ],
)
def test_a_configured_path_does_not_write_over_files_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, option: str
) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="Type the path on the command line"):
        configured(tmp_path, table.partition(".")[0], f"[tool.mlpprof.{table}]\n{option}\n")


def test_a_deleted_working_directory_gives_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert run(["list"]) == EXIT_USAGE
    assert "does not exist any more" in capsys.readouterr().err
