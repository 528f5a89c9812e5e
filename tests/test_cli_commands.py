"""The small commands, the help and the completion."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import click
import pytest

from mlpprof import __version__
from mlpprof.catalog import ladder
from mlpprof.cli.commands import COMMANDS, module_of
from mlpprof.cli.main import run
from mlpprof.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_and_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = importlib.import_module(module_of(name)).command
    assert isinstance(command, click.Command)
    assert run([name, "--help"]) == EXIT_OK
    assert "Usage: mlpprof" in capsys.readouterr().out
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == EXIT_OK
    assert __version__ in capsys.readouterr().out


def test_list_shows_every_variant_with_its_whole_summary(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["list"]) == EXIT_OK
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines].count("naive") == 1
    assert not any(line.endswith(" ") for line in lines)
    words = " ".join(printed.split())
    for name, entry in ladder().items():
        assert f"{name} {entry.summary}" in words


def test_list_as_json_names_the_parents(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--json"]) == EXIT_OK
    variants = {v["name"]: v for v in json.loads(capsys.readouterr().out)["variants"]}
    assert variants["cached"]["parent"] == "contiguous"


def test_diff_shows_the_changed_code_and_not_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "naive", "float32"]) == EXIT_OK
    changed = [x for x in capsys.readouterr().out.splitlines() if x[:1] in "+-" and x[:3] not in ("+++", "---")]
    assert sorted(changed) == sorted(
        ['-PARENT = "per_sample"', '+PARENT = "naive"', "-    DTYPE = np.float64", "+    DTYPE = np.float32"]
    )


def test_check_prints_the_contract_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "naive", "sliced", "--cases", "6", "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert set(document["variants"]) == {"naive", "sliced"}
    for result in document["variants"].values():
        assert result["ok"] is True
        assert {"ok", "worst_deviation", "layer", "skipped"} <= set(result)


def test_check_of_a_wrong_variant_names_layer_and_deviation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (Path(__file__).resolve().parent.parent / "variants" / "naive.py").read_text(encoding="utf-8")
    wrong = tmp_path / "twice.py"
    wrong.write_text(source.replace("self.A[l] - self.Y) / m", "self.A[l] - self.Y) * 2 / m"), encoding="utf-8")
    assert run(["check", str(wrong)]) == EXIT_FAILED
    printed = capsys.readouterr().out
    assert "WRONG" in printed
    assert "layer" in printed
    assert "gradients against finite differences" in printed or "gradients against the parent" in printed


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_check_of_a_variant_whose_worker_was_killed_is_no_verdict_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (Path(__file__).resolve().parent.parent / "variants" / "naive.py").read_text(encoding="utf-8")
    killed = tmp_path / "killed.py"
    killed.write_text(f"{source}\nimport os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", encoding="utf-8")
    assert run(["check", str(killed)]) == EXIT_USAGE
    printed = " ".join(capsys.readouterr().out.split())
    assert "not checked" in printed
    assert "killed by SIGTERM" in printed
    assert "WRONG" not in printed


def test_no_color_gives_no_escape_sequences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["diff", "naive", "float32"]) == EXIT_OK
    assert "\x1b[3" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(["diff", "naive", "float32"]) == EXIT_OK
    assert "\x1b[3" not in capsys.readouterr().out


def test_the_guide_goes_to_the_pager_without_escape_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich.pager.SystemPager.show", lambda self, content: shown.append(content))
    assert run(["workshop", "guide"]) == EXIT_OK
    assert len(shown[0].splitlines()) > 50
    assert "\x1b" not in shown[0]


def test_completion_knows_the_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MLPPROF_COMPLETE": "bash_complete", "COMP_WORDS": "mlpprof pro", "COMP_CWORD": "1"}.items():
        monkeypatch.setenv(name if name.startswith("COMP") else f"_{name}", value)
    with pytest.raises(SystemExit):
        run([])
    assert "profile" in capsys.readouterr().out


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a script whose class is not a variant."""
    monkeypatch.chdir(tmp_path)
    Path(".git").mkdir()
    Path("train.py").write_text("class Other:\n    def fit(self): pass\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "next_words"),
    [
        ("profil", "did you mean 'profile'?"),
        ("cachd", "did you mean 'cached'?"),
        ("nothing.py", "there is no file 'nothing.py'"),
        ("advise", "mlpprof advise train.py"),
        ("compare", "for example: mlpprof compare old.py new.py"),
        ("compare train.py", "for example: mlpprof compare train.py@HEAD train.py"),
        ("advise train.py --epochs 3", "type: mlpprof advise train.py -- --epochs 3"),
        ("advise train.py --epochs=3", "type: mlpprof advise train.py -- --epochs=3"),
        ("advise train.py --epochs 3 --json", "type: mlpprof advise train.py --json -- --epochs 3"),
        ("advise --epochs 3 train.py --json", "type: mlpprof advise train.py --json -- --epochs 3"),
        ("advise -m net.train --epochs 3", "type: mlpprof advise -m net.train -- --epochs 3"),
        ("profile work.ipynb --epochs 3", "type: mlpprof profile work.ipynb -- --epochs 3"),
        ("profile train.py --step Net.step --epochs 3", "type: mlpprof profile train.py --step Net.step -- --epochs 3"),
        ("compare old.py train.py@v1 -e 3", "type: mlpprof compare old.py train.py@v1 -- -e 3"),
        ("advise train.py --treads 2", "did you mean '--threads'?"),
        ("check train.py", "To run it unchanged as your program: mlpprof profile train.py"),
        ("compare naive cached --at-least abc", "--at-least abc: expected a number above 0; mlpprof compare --help"),
        ("check --cases many", "--cases many: expected a whole number from 1 to 100,000"),
        ("doctor now", "mlpprof doctor does not expect 'now'; mlpprof doctor --help shows the options"),
        ("data get", "'get' is not a command of mlpprof data, which has fetch, repack, show"),
        ("data show", "the argument FILE is missing; for example: mlpprof data show digits"),
        ("workshop board nowhere", "DIR: there is no file or folder 'nowhere'"),
        ("profile cached --nothing 3", "no option '--nothing'; mlpprof profile --help shows the options\n"),
    ],
)
def test_the_error_names_the_command_to_type_next(
    typed: str, next_words: str, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed.split()) == EXIT_USAGE
    error = capsys.readouterr().err
    assert next_words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "commands"),
    [
        ("train.py", ["advise train.py", "profile train.py", "compare train.py@HEAD train.py"]),
        (
            "train.py -e 3",
            ["advise train.py -- -e 3", "profile train.py -- -e 3", "compare train.py@HEAD train.py -- -e 3"],
        ),
        (
            "train.py --json",
            ["advise train.py --json", "profile train.py --json", "compare train.py@HEAD train.py --json"],
        ),
        ("trian.py", ["advise train.py", "profile train.py", "compare train.py@HEAD train.py"]),
        ("-m net", ["advise -m net", "profile -m net", "compare -m net@HEAD -m net"]),
        ("train.py:Other", ["profile train.py:Other", "advise train.py"]),
        ("cached", ["profile cached", "compare naive cached"]),
    ],
)
def test_a_program_in_place_of_a_command_gives_commands_to_copy(
    typed: str, commands: list[str], own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed.split()) == EXIT_USAGE
    first, *lines = capsys.readouterr().err.splitlines()
    assert first.startswith("mlpprof: '")
    assert [line.strip().split("  ")[0].removeprefix("mlpprof ") for line in lines] == commands


def test_help_begins_with_the_users_own_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == EXIT_OK
    printed = capsys.readouterr().out
    wanted = ["advise train.py", "profile train.py", "compare train.py@HEAD train.py", "variants", "tests", "workshop"]
    assert [printed.find(words) for words in wanted] == sorted(printed.index(words) for words in wanted)
