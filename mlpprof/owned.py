"""Temporary files and folders that name their owner, so that a later run removes what a killed one has left.

A process that is killed removes nothing. Therefore each name contains the process that made it, and whoever makes the
next one in the same folder removes those whose process is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from functools import cache
from pathlib import Path

_NAME = re.compile(r"\.?mlpprof-[a-z]+-(\d+)-(\d+)-(\d+)-[0-9a-f]{16}(\.part)?")


def owned_name(kind: str, ending: str = "") -> str:
    """A new name for something temporary of this process. kind: what it is, in small letters."""
    return f"mlpprof-{kind}-{os.getpid()}-{_born(os.getpid())}-{_namespace()}-{secrets.token_hex(8)}{ending}"


def new_folder(kind: str) -> str:
    """A new temporary folder of this process; those of processes that are gone are removed."""
    sweep()
    folder = Path(tempfile.gettempdir()) / owned_name(kind)
    folder.mkdir(mode=0o700)
    return str(folder)


def sweep(folder: Path | None = None) -> None:
    """Remove what processes that are gone have left in a folder; in the one for temporary files by default.

    Nothing of another user is touched, and nothing of another container that shares the folder.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(tempfile.gettempdir() if folder is None else folder)):
            match = _NAME.fullmatch(entry.name)
            if match is None or int(match[3]) != _namespace() or _is_of_another(entry):
                continue
            if _born(int(match[1])) == int(match[2]):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()


def _is_of_another(entry: os.DirEntry[str]) -> bool:
    return hasattr(os, "getuid") and entry.stat(follow_symlinks=False).st_uid != os.getuid()


def _born(pid: int) -> int:
    """When a process began, because its number is given to another one later; 0 if there is no such process."""
    import psutil  # takes as long as all else that `mlpprof --help` imports

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0


@cache
def _namespace() -> int:
    """The number of the set of processes that this one sees; a container has its own, with the same small numbers."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux
        return 0
