"""Standard output that is full, closed, or of an encoding without our characters, in processes as a shell starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlpprof.errors import EXIT_BROKEN_PIPE, EXIT_OK, EXIT_USAGE

FULL = Path("/dev/full")


def started(
    *arguments: str, stdout: object = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "mlpprof", *arguments],
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["list"], {}),
        (["list", "--json"], {}),
        (["list"], {"PYTHONUNBUFFERED": "1"}),
        (["list"], {"PYTHONIOENCODING": "ascii"}),
        (["--version"], {}),
    ],
    ids=["list", "json", "unbuffered", "ascii", "version"],
)
def test_a_full_output_is_one_sentence(arguments: list[str], environment: dict[str, str]) -> None:
    with FULL.open("wb") as full:
        done = started(*arguments, stdout=full, **environment)
    assert done.returncode == EXIT_USAGE
    assert done.stderr.decode() == "mlpprof: cannot write to standard output: No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX closes the output")
def test_a_closed_output_is_one_sentence() -> None:
    command = [sys.executable, "-m", "mlpprof", "list"]
    done = subprocess.run(["/bin/sh", "-c", '"$@" >&-', "sh", *command], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USAGE
    assert done.stderr.startswith("mlpprof: standard output is closed")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGPIPE and no exit code for it")
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"]], ids=" ".join)
def test_a_reader_that_has_gone_ends_the_command_quietly(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = started(*arguments, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (EXIT_BROKEN_PIPE, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_characters_that_the_output_cannot_show_are_spelled_otherwise(encoding: str) -> None:
    done = started("list", PYTHONIOENCODING=encoding, COLUMNS="60")
    assert (done.returncode, done.stderr) == (EXIT_OK, b"")
    assert b"...\n" in done.stdout.replace(b"\r\n", b"\n")
    assert done.stdout.isascii()


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
def test_a_full_error_output_leaves_the_exit_code() -> None:
    with FULL.open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "mlpprof", "lst"], stderr=full, stdout=full, check=False)
    assert done.returncode == EXIT_USAGE
