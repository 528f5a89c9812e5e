"""Standard output that is full, closed, or of an encoding without our characters."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.cli.streams import complain, guard_output
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
        ('"$@" >&-', EXIT_USAGE, "mlpprof: standard output is closed; to run without output, use > /dev/null\n"),
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


@contextmanager
def output_to(path: Path, encoding: str) -> Iterator[None]:
    """Standard output as main has it, in this process."""
    before = sys.stdout
    with path.open("w", encoding=encoding) as stream:
        sys.stdout = stream
        try:
            guard_output()
            yield
            sys.stdout.close()
        finally:
            sys.stdout = before


@needs_full
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["workshop", "guide"]], ids=" ".join)
def test_tables_json_and_texts_end_alike_on_a_full_output(
    arguments: list[str], encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with output_to(FULL, encoding):
        assert run(arguments) == EXIT_USAGE
    assert capsys.readouterr().err == NO_SPACE


@pytest.mark.parametrize(
    ("encoding", "spelled"),
    [
        ("ascii", "5 >= 3 - gr??e ... ?"),
        ("latin-1", "5 >= 3 - größe ... ?"),
        ("cp437", "5 ≥ 3 - größe ... ?"),
        ("utf-8", "5 ≥ 3 – größe … ?"),
    ],
)
def test_characters_that_the_output_cannot_show_are_spelled_otherwise(
    encoding: str, spelled: str, tmp_path: Path
) -> None:
    with output_to(tmp_path / "output", encoding):
        assert run(["list"]) == EXIT_OK
        print("5 ≥ 3 – größe … \udcff")
    assert (tmp_path / "output").read_text(encoding).splitlines()[-1] == spelled


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_message_is_wrapped_at_spaces_on_a_terminal_and_is_one_line_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = "a/very/long/folder/and-a-file-name-that-does-not-fit.txt"
    words = f"cannot write the report to {path} because the disk is full"
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        complain(words)
    lines = terminal.getvalue().splitlines()
    assert " ".join(line.strip() for line in lines) == f"mlpprof: {words}"
    assert f"  {path}" in lines
    assert max(len(line) for line in lines if path not in line) <= 40
    complain(words)
    assert capsys.readouterr().err == f"mlpprof: {words}\n"


def test_an_escape_sequence_in_a_message_does_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain("there is no file \x1b]0;owned\x07a\x9b31m.h5\n    a second line")
    assert capsys.readouterr().err == "mlpprof: there is no file �]0;owned�a�31m.h5\n    a second line\n"
