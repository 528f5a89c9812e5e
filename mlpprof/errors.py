"""The exceptions of mlpprof, and the exit codes that the command line makes of them.

The rest of mlpprof raises; only the command line prints and exits. A message is one line, perhaps followed by indented
lines: commands to copy, or what a program has printed. It says what was found, what was expected and what to do next,
and it contains the wrong value.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""The exit code that a shell shows for a program that SIGPIPE ended, 128 + 13."""

ARGUMENTS_HINT = "the script's own arguments go after --, as in mlpprof advise train.py -- --epochs 3"


class MlpprofError(Exception):
    """Base of all errors that a user reads; the command line prints the message and ends with `exit_code`."""

    exit_code = EXIT_USAGE


class UsageError(MlpprofError):
    """An option or a name cannot be used, alone or together with others."""


class ProgramEnded(UsageError):
    """A program ended by itself before its training step ran; the message says where, and with which exit code."""


class DataError(MlpprofError):
    """A data file or folder cannot be read as samples and labels."""


class RunFileError(MlpprofError):
    """A stored run is missing, damaged, of another program, or written by a newer mlpprof."""


class VariantError(MlpprofError):
    """A variant cannot be found or loaded, or lacks a part of the interface."""


class VariantCrash(VariantError):
    """The code of a variant raised an exception; the message contains its file and line."""


class UnsupportedNetwork(MlpprofError):
    """A variant does not support this network; its constructor raises this."""


class MissingExtra(MlpprofError):
    """An optional package is not installed; the message contains the line that installs it."""


class OutputError(MlpprofError):
    """Standard output cannot be written; it may be a file on a full disk."""


class OutputClosed(OutputError):
    """The program that reads standard output has ended, as `head` does when it has enough lines."""

    exit_code = EXIT_BROKEN_PIPE


class CheckFailed(MlpprofError):
    """A variant computes a wrong result, so nothing was timed."""

    exit_code = EXIT_FAILED


class WorkerDied(MlpprofError):
    """A worker process ended without an answer: it was killed, had no memory left, or crashed in native code."""


class WorkerKilled(WorkerDied):
    """A worker got a signal that code does not send itself by a mistake: it shows nothing about the code."""


class TimeLimit(WorkerDied):
    """The code of a worker made no progress for too long, and was ended; the message contains its line."""


class OverAllowance(WorkerDied):
    """The code of a worker used more time, memory, output or processes than it may, and was ended."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint for a mistyped name, such as "; did you mean 'cached'?"; empty if no known name is similar."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def counted(number: int, thing: str) -> str:
    """A number with the name of what is counted, such as '1 file' or '3 files', for messages and reports."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def one_line(error: BaseException) -> str:
    """The message of an exception on one line."""
    return " ".join(str(error).split())
