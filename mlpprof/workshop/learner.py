"""What a learner enters: a name for the board, and a guess."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from mlpprof.errors import UsageError
from mlpprof.report.numbers import plain
from mlpprof.workshop.result import LONGEST_NAME, Result

GIT_TIMEOUT_S = 5.0


def git_name(folder: Path) -> str:
    """Return the name in git's settings, or an empty text."""
    try:
        done = subprocess.run(
            ["git", "config", "user.name"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip()


def account_name(folder: Path) -> str:
    """Return the name of the user's account, whatever the folder is, or an empty text."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # this system has no entry for the user, or no such database
        return ""


def learner_name(
    given: str | None,
    done: dict[int, Result],
    folder: Path,
    sources: Sequence[Callable[[Path], str]] = (git_name, account_name),
) -> str:
    """Return the given name, else that of the latest result in the folder, else the first that a source has."""
    if given is not None:
        return checked_name(given)
    known = max(done.values(), key=lambda result: result.created, default=None)
    if known is not None and known.learner.strip():
        return checked_name(known.learner)
    names = (source(folder) for source in sources)
    return checked_name(next((name for name in names if name.strip()), "learner"))


def checked_name(name: str) -> str:
    """Return the name on one line; raise UsageError if it is empty or too long."""
    shown = plain(name).strip()
    if not shown or len(shown) > LONGEST_NAME:
        raise UsageError(
            f"'{shown[:LONGEST_NAME]}' is not a valid name; expected 1 to {LONGEST_NAME} characters (--name sets one)"
        )
    return shown


def parse_guess(text: str) -> float | None:
    """Read '2.5', '2,5' or '2.5 x' as 2.5, and an empty text as no guess; raise UsageError for anything else."""
    word = text.strip().lower().removesuffix("x").removesuffix("×").strip().replace(",", ".")
    if not word:
        return None
    try:
        guess = float(word)
    except ValueError:
        guess = float("nan")
    if not 0 < guess < 1e6:
        raise UsageError(f"a guess has to be a number greater than 0, for example 2.5 (you gave '{text.strip()}')")
    return guess
