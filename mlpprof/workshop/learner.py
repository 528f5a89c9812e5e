"""Who is learning: the name that stands on the board, unless another one is given."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

from mlpprof.errors import UsageError
from mlpprof.workshop.folder import checked_name
from mlpprof.workshop.outcome import Result

GIT_TIMEOUT_S = 5.0


def learner_name(given: str | None, done: dict[int, Result], folder: Path) -> str:
    """The name that was given, else the one of earlier results in the folder, else git's, else the account's."""
    if given is not None:
        return checked_name(given)
    known = max(done.values(), key=lambda result: result.created, default=None)
    for name in (known.learner if known else "", _git_name(folder), _account()):
        if name.strip():
            return checked_name(name)
    return "learner"


def _git_name(folder: Path) -> str:
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


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no entry for this user, or no such database on this system
        return ""


def parse_guess(text: str) -> float | None:
    """'2.5', '2,5' or '2.5 x' as 2.5; nothing typed is no guess. Raises UsageError for anything else."""
    word = text.strip().lower().removesuffix("x").removesuffix("×").strip().replace(",", ".")
    if not word:
        return None
    try:
        guess = float(word)
    except ValueError:
        guess = float("nan")
    if not 0 < guess < 1e6:
        raise UsageError(f"'{text.strip()}' is no guess; expected a number above 0, such as 2.5")
    return guess
