"""Standard output that is full, closed, or of an encoding without our characters."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.cli.streams import guard_output
from mlpprof.errors import EXIT_BROKEN_PIPE, EXIT_OK, EXIT_USAGE

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has neither SIGPIPE nor this shell")

NO_SPACE = "mlpprof: cannot write to standard output: No space left on device\n"


@needs_full
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_process_on_a_full_output_ends_with_one_sentence(unbuffered: str) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mlpprof", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    assert (done.returncode, done.stderr.decode()) == (EXIT_USAGE, NO_SPACE)


@needs_posix
@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ('"$@" >&-', EXIT_USAGE, "mlpprof: standard output is closed; use > /dev/null where it is not wanted\n"),
        pytest.param('"$@" >/dev/full 2>/dev/full', EXIT_USAGE, "", marks=needs_full),
    ],
    ids=["closed", "both full"],
)
def test_a_process_without_an_output_has_its_exit_code(shell: str, code: int, said: str) -> None:
    command = ["/bin/sh", "-c", shell, "sh", sys.executable, "-m", "mlpprof", "--version"]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.decode()) == (code, said)


@needs_posix
def test_a_process_whose_reader_has_gone_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "mlpprof", "--help"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (EXIT_BROKEN_PIPE, b"")


@needs_full
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["workshop", "guide"]], ids=" ".join)
def test_tables_json_and_texts_end_alike_on_a_full_output(
    arguments: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FULL.open("wb") as full:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, encoding))
        guard_output()
        assert run(arguments) == EXIT_USAGE
        assert capsys.readouterr().err == NO_SPACE


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_characters_that_the_output_cannot_show_are_spelled_otherwise(
    encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with (tmp_path / "output").open("wb") as output:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding))
        guard_output()
        assert run(["list"]) == EXIT_OK
        print("5 ≥ 3 – größe \udcff")
        sys.stdout.flush()
    printed = (tmp_path / "output").read_bytes().decode(encoding).splitlines()
    assert "gr" in printed[-1]
    assert printed[-1].startswith("5 >= 3 - gr") or encoding == "cp437"
    assert printed[-1].endswith(" ?")
    assert any(line.endswith("...") for line in printed)
