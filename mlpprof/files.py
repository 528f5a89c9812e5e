"""Files appear whole or not at all: everything that mlpprof writes goes through `write_atomically`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlpprof.errors import UsageError, one_line
from mlpprof.owned import owned_name, sweep

TRIAL_BYTES = 4096
"""The trial of a folder writes one block, because a full disk may still take an empty file."""


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its place when the block ends without an exception.

    The temporary file is empty and has the mode that the umask gives. It is flushed to disk before it is renamed,
    and it is removed after any failure, also after Ctrl-C. A symbolic link at `path` stays, and the file that it names
    is replaced. Raises UsageError if the file cannot be written, also for an OSError in the block.
    """
    with _refusing(path):
        target = _target(path)
        with _part_in(target.parent) as temporary:
            yield temporary
            _flush(temporary)
            temporary.replace(target)
            _flush_folder(target.parent)


def write_new(path: Path, content: Callable[[], bytes]) -> Path:
    """Write a new file under this name, or with -2, -3 ... before its ending if the name is taken; returns its path.

    Whoever writes at the same time gets another name, and no name is taken before the file is whole. Raises UsageError
    if the file cannot be written, also for an OSError of `content`.
    """
    with _refusing(path), _part_in(path.parent) as temporary:
        temporary.write_bytes(content())
        _flush(temporary)
        candidate, n = path, 1
        while not _link(temporary, candidate):
            n += 1
            candidate = path.with_name(f"{path.stem}-{n}{path.suffix}")
        _flush_folder(path.parent)
        return candidate


def _link(temporary: Path, path: Path) -> bool:
    """Give a file this name too; False if the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links, as on many USB sticks
        if os.path.lexists(path):
            return False
        temporary.replace(path)
    return True


def require_writable(*paths: Path | None) -> None:
    """Raise UsageError if `write_atomically` would fail now, so that nothing is measured in vain.

    A small file is written beside each path and removed again. A file at the path is not touched. None is skipped.
    """
    for path in paths:
        if path is not None:
            with _refusing(path, "; choose another place"):
                _try(_target(path).parent)


def require_writable_folder(folder: Path) -> None:
    """Raise UsageError if no file can be written into a folder.

    A missing folder is not made; the nearest folder above it is tried.
    """
    with _refusing(f"into {folder}"):
        _try(next(f for f in (folder, *folder.parents) if os.path.lexists(f)))


def make_folder(folder: Path) -> None:
    """Make a folder if it is missing; raises UsageError if that fails."""
    with _refusing(f"into {folder}"):
        folder.mkdir(parents=True, exist_ok=True)


def _try(folder: Path) -> None:
    with _part_in(folder) as temporary:
        temporary.write_bytes(bytes(TRIAL_BYTES))
        _flush(temporary)


@contextmanager
def _refusing(what: Path | str, advice: str = "") -> Iterator[None]:
    """Raise UsageError for an OSError in the block; advice: what you can still do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise UsageError(f"cannot write {what}: {reason}{advice}") from error


@contextmanager
def _part_in(folder: Path) -> Iterator[Path]:
    """An empty temporary file, which is removed when the block ends."""
    # its name does not contain the name of the file, which may already be as long as a name can be
    temporary = folder / f".{owned_name('file', '.part')}"
    sweep(folder)
    try:
        temporary.touch(exist_ok=False)
        yield temporary
    finally:
        # on a read-only file system removing fails too, and its error would hide the first one
        with contextlib.suppress(OSError):
            temporary.unlink()


def _target(path: Path) -> Path:
    """The file that a path names, after following links; raises UsageError if no file can be put there."""
    target = path.resolve()
    _refuse_impossible(path, target)
    # lstat raises OSError for a name that is too long; the temporary file, whose name is short, would not
    with contextlib.suppress(FileNotFoundError):
        target.lstat()
    return target


def _refuse_impossible(path: Path, target: Path) -> None:
    if target.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; name a file in it")
    if target.exists() and not target.is_file():
        # renaming would replace the device or pipe itself
        raise UsageError(f"cannot write {path}: it is not a regular file; name another, or print it with --json")
    if not target.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}; create it first")


def _flush(path: Path) -> None:
    # opened for writing because Windows flushes nothing else
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
