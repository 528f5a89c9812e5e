"""What can go wrong, as one family of exceptions.

Everything in mlpprof raises; only the command line prints and exits. A message says what was found,
what was expected and what to do next, in one line, and names the offending value.
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
"""What a shell shows for a program that SIGPIPE ended: 128 + 13."""

ARGUMENTS_HINT = "the script's own arguments go after --, as in mlpprof advise train.py -- --epochs 3"


class MlpprofError(Exception):
    """Base of all errors that are the user's to read; the command line turns it into `exit_code`."""

    exit_code = EXIT_USAGE


class UsageError(MlpprofError):
    """An option, a name or a combination of them that cannot be used."""


class ProgramEnded(UsageError):
    """A program that ended by itself before its training step ran; the message says where and with which exit code."""


class DataError(MlpprofError):
    """A data file or folder that cannot be read as samples and labels."""


class RunFileError(MlpprofError):
    """A stored run that is missing, damaged, foreign or written by a newer mlpprof."""


class VariantError(MlpprofError):
    """A variant that cannot be found or loaded, or lacks a part of the interface."""


class VariantCrash(VariantError):
    """An exception raised by a variant's own code; the message names its file and line."""


class UnsupportedNetwork(MlpprofError):
    """A network that this variant cannot do: raised by a variant's constructor."""


class MissingExtra(MlpprofError):
    """An optional package is not installed; the message holds the line that installs it."""


class OutputError(MlpprofError):
    """Standard output that cannot be written, such as a file on a full disk."""


class OutputClosed(OutputError):
    """Standard output whose reader has gone, as `head` does when it has seen enough: nobody is left to be informed."""

    exit_code = EXIT_BROKEN_PIPE


class CheckFailed(MlpprofError):
    """A variant computes something else than it should, so nothing was timed."""

    exit_code = EXIT_FAILED


class WorkerDied(MlpprofError):
    """A worker process ended without an answer (killed, out of memory, crashed in native code)."""

    exit_code = EXIT_FAILED


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint for a mistyped name: "; did you mean 'cached'?", or nothing if none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
