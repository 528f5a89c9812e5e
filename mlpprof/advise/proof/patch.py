"""A proven patch in the user's files: `apply` writes it, and `undo` takes it back."""

from __future__ import annotations

import hashlib
import subprocess
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from mlpprof.errors import UsageError
from mlpprof.files import make_folder, write_atomically
from mlpprof.results.json import WrongJson, decode, encode, json_text, read_json
from mlpprof.results.proof import ChangedFile

UNDO = "undo.json"
"""The file in the user's state folder with what the last patch has replaced."""


@dataclass(frozen=True)
class Replaced:
    """A file that a patch has changed: its text before, and the digest of its bytes after."""

    path: str
    old: str
    new_sha256: str


def apply(files: Sequence[ChangedFile], *, is_asked_twice: bool) -> None:
    """Write the new texts into the files, and keep the old ones for `undo`.

    Raises UsageError, before any file is changed, if a file has changed since it was measured, or has changes that are
    not committed and the user has not asked twice.
    """
    stored = {file.path: _read(Path(file.path)) for file in files}
    for file in files:
        if stored[file.path].text != file.old:
            raise UsageError(f"{file.path} has changed since it was measured; nothing was written. Measure again")
    uncommitted = [file.path for file in files if not is_asked_twice and _is_uncommitted(Path(file.path))]
    if uncommitted:
        raise UsageError(
            f"{', '.join(uncommitted)} has changes that are not committed; nothing was written. Commit them first, or "
            "type --apply twice"
        )
    written = {Path(file.path): stored[file.path].encoded(file.new) for file in files}
    kept = [Replaced(one.path, one.old, _digest(written[Path(one.path)])) for one in files]
    make_folder(_undo_file().parent)
    with write_atomically(_undo_file()) as temporary:
        temporary.write_text(json_text(encode(kept)), encoding="utf-8")
    for path, content in written.items():
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)


def undo(program: str | None = None) -> list[str]:
    """Take the last patch back; the paths of the files. program: the file that the patch has to be about, if given.

    Raises UsageError, before any file is changed, if there is nothing to undo, if it is another program's or if a file
    has changed since.
    """
    if not _undo_file().is_file():
        raise UsageError("there is nothing to undo: no patch of mlpprof advise --apply is kept")
    try:
        kept = decode(list[Replaced], read_json(_undo_file()))
    except WrongJson as error:
        raise UsageError(f"what --apply has kept in {_undo_file()} cannot be read: {error}") from error
    folder = None if program is None else Path(program).resolve().parent
    if folder is not None and not any(Path(one.path).is_relative_to(folder) for one in kept):
        raise UsageError(
            f"the last patch is not about {program}: it changed {', '.join(one.path for one in kept)}. "
            "To take it back, type: mlpprof advise --undo"
        )
    for one in kept:
        path = Path(one.path)
        if not path.is_file() or _digest(path.read_bytes()) != one.new_sha256:
            raise UsageError(f"{one.path} has changed since the patch was applied; nothing was undone")
    for one in kept:
        path = Path(one.path)
        content = _read(path).encoded(one.old)
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)
    _undo_file().unlink()
    return [one.path for one in kept]


def line_end(path: str) -> str:
    """The line end of a source file, which its patch must have too. A file of a git ref may not exist on the disk."""
    return _read(Path(path)).newline if Path(path).is_file() else "\n"


@dataclass(frozen=True)
class _Text:
    """A source file's text with plain line ends, and how it is stored."""

    text: str
    encoding: str
    newline: str

    def encoded(self, text: str) -> bytes:
        return text.replace("\n", self.newline).encode(self.encoding)


def _read(path: Path) -> _Text:
    try:
        with path.open("rb") as file:
            encoding, _ = tokenize.detect_encoding(file.readline)
        raw = path.read_bytes().decode(encoding)
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}; nothing was written") from error
    newline = "\r\n" if "\r\n" in raw else "\n"
    return _Text(raw.replace("\r\n", "\n").replace("\r", "\n"), encoding, newline)


def _is_uncommitted(path: Path) -> bool:
    """Whether git knows the file and sees changes in it; outside of a repository there is nothing to commit."""
    command = ["git", "-C", str(path.parent), "status", "--porcelain", "--", path.name]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return answer.returncode == 0 and bool(answer.stdout.strip())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _undo_file() -> Path:
    return platformdirs.user_state_path("mlpprof", appauthor=False) / UNDO
