"""Which source was measured: the commit of the user's folder and the hash of a file."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from mlpprof.machine.keys import Description

TIMEOUT_S = 3.0

GIT = (
    "git",
    "--no-optional-locks",  # no refreshed index is written, so nobody's lock is in the way and no hook runs
    *("-c", "core.fsmonitor=false"),  # a program of the repository's choice that status would start
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "safe.bareRepository=explicit"),  # no configuration from a repository that lies inside the data
)

REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX")
"""Set while a git hook runs; they would name that hook's repository in place of the folder's."""


def commit_facts(folder: Path, timeout_s: float = TIMEOUT_S) -> Description:
    """The commit_id and commit_dirty of the git repository around `folder`.

    Both None without git, repository, commit or permission; commit_dirty alone where git needs more than timeout_s,
    seconds. Untracked files do not make a commit dirty, and changes inside submodules are not looked for.
    """
    head = _git(folder, timeout_s, "rev-parse", "--verify", "HEAD")
    commit_id = (head or "").strip()
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit_id):
        return {"commit_id": None, "commit_dirty": None}
    changes = _git(folder, timeout_s, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    return {"commit_id": commit_id, "commit_dirty": None if changes is None else bool(changes.strip())}


def source_sha256(path: Path) -> str | None:
    """SHA-256 of the bytes of a file in hexadecimal; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _git(folder: Path, timeout_s: float, *arguments: str) -> str | None:
    """What git prints about `folder`, or None if it fails, is not there or takes too long."""
    environment = {name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            [*GIT, "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=timeout_s,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):  # ValueError: a null character in the folder's name
        return None
    return answer.stdout if answer.returncode == 0 else None
