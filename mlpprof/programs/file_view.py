"""In the worker: a copy-on-write view of folders, so that what a program writes there never reaches the user's files.

The view is an overlay file system over each folder, in a mount namespace that only the worker and its children have.
What they write lies in memory, and is gone when the last of them ends, however it ends. Linux allows this to root, and
on most systems to every user, in a user namespace in which the user is the same. Elsewhere there is no view.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import platformdirs

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000
RECURSIVE, PRIVATE, BIND = 0x4000, 0x40000, 0x1000
DETACH = 2
"""Flags of the system calls unshare, mount and umount2."""

CAPABILITIES_VERSION = 0x20080522

COVERED = "/sys"
"""While the overlays are made, the memory for what is written is mounted over this folder, which every Linux has."""


class View:
    """The view that this process has.

    lower, upper: a folder of the view -> the open folders with the user's files, and with what was written.
    """

    def __init__(self, lower: dict[str, int], upper: dict[str, int]) -> None:
        self._lower, self._upper = lower, upper
        self._seen_from = Path.cwd()

    def holds(self, path: str) -> bool:
        """Whether a file with this real path would be written into the copy."""
        return any(Path(path).is_relative_to(folder) for folder in self._upper)

    def changes(self) -> list[str]:
        """The files and folders that were written or deleted, as paths from the working directory if they are in it.

        An overlay keeps a device in place of a deleted file.
        """
        return sorted(self._shown(path) + how for path, how in self._changed() if "__pycache__" not in path.parts)

    def _changed(self) -> Iterator[tuple[Path, str]]:
        for folder, upper in self._upper.items():
            for inner, folders, files, opened in os.fwalk(".", dir_fd=upper):
                for name in files:
                    is_deleted = stat.S_ISCHR(os.stat(name, dir_fd=opened, follow_symlinks=False).st_mode)
                    yield Path(folder, inner, name), " (deleted)" if is_deleted else ""
                for inside in (Path(inner, name) for name in folders):
                    is_empty = not any(Path(f"/proc/self/fd/{upper}", inside).iterdir())
                    if is_empty and not self._was_there(folder, inside):
                        yield Path(folder, inside), ""

    def _was_there(self, folder: str, inside: Path) -> bool:
        try:
            os.stat(inside, dir_fd=self._lower[folder], follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _shown(self, path: Path) -> str:
        return os.path.relpath(path, self._seen_from) if path.is_relative_to(self._seen_from) else str(path)


current: View | None = None
"""The view that this process has entered; None if it has none."""

reason: str | None = "no view was asked for"
"""Why there is none; None if there is one."""


def statement(folders: Sequence[str | Path]) -> str:
    """A Python statement for a worker that enters a view of these folders, before the worker imports anything else."""
    return f"from mlpprof.programs import file_view; file_view.enter({[str(folder) for folder in folders]!r})"


def enter(folders: Sequence[str]) -> None:
    """Enter a view of the folders where the system allows it. The process must have a single thread.

    Temporary folders and caches inside them stay what they are, and what is mounted inside them is part of the view.
    """
    global current, reason
    if sys.platform != "linux":
        reason = f"there are no overlays on {sys.platform}"
        return
    try:
        outermost = _outermost(folders)
        reason = _is_allowed(outermost)
        current = None if reason is not None else _entered(outermost)
    except OSError as error:
        reason = in_words(error)


def in_words(error: OSError) -> str:
    """Why there is no view, without the system's own words: where unshare is limited, it says 'No space left'."""
    where = "" if error.filename is None else f" for {error.filename}"
    return f"it allows you no overlay of your own, as is usual in a container: {error.strerror}{where}"


def free_folders() -> list[str]:
    """The real paths of the temporary folder, and of folders in which libraries keep what they can make again."""
    named = (os.environ.get(name) for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"))
    usual = (platformdirs.user_cache_dir(), platformdirs.user_config_dir("matplotlib", appauthor=False))
    old = str(Path("~/.matplotlib").expanduser())
    caches = [folder for folder in (*named, *usual, old, sys.pycache_prefix) if folder]
    return [os.path.realpath(folder) for folder in (tempfile.gettempdir(), *caches)]


def _outermost(folders: Sequence[str]) -> list[str]:
    """The real paths without those inside others, and without the root, which nothing can be mounted over."""
    real = {os.path.realpath(folder) for folder in folders} - {os.sep}
    return sorted(path for path in real if not any(_is_inside(path, other) for other in real))


def _is_inside(path: str, folder: str) -> bool:
    return path != folder and Path(path).is_relative_to(folder)


def _is_allowed(folders: list[str]) -> str | None:
    """Try it in a child, because a process cannot leave a namespace again; the reason if it fails, else None."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            _entered(folders)
        except OSError as error:
            os.write(writing, in_words(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return found or None


def _entered(folders: list[str]) -> View:
    """Mount everything. Raises OSError if the system does not allow it, which may leave some of it mounted."""
    here, user, group = Path.cwd(), os.getuid(), os.getgid()
    kept = [one for one in free_folders() if Path(one).is_dir() and any(_is_inside(one, folder) for folder in folders)]
    has_own_user = _unshare(user, group)
    _call("mount", None, b"/", None, RECURSIVE | PRIVATE, None)
    inner = [one for one in _mount_points() if any(_is_inside(one, folder) for folder in folders)]
    shown = [*folders, *(one for one in inner if not any(Path(one).is_relative_to(free) for free in kept))]
    # Opened now, since the outer folders will cover the inner ones.
    lower = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in {*shown, *kept}}
    upper: dict[str, int] = {}
    _call("mount", b"tmpfs", os.fsencode(COVERED), b"tmpfs", 0, b"mode=700")
    for number, path in enumerate(sorted(lower)):
        if path in kept:
            _call("mount", _opened(lower[path]), os.fsencode(path), None, BIND | RECURSIVE, None)
        else:
            parts = [Path(COVERED, f"{kind}{number}") for kind in ("upper", "work")]
            upper[path] = _overlay(path, lower[path], parts, has_own_user)
    _call("umount2", os.fsencode(COVERED), DETACH)  # the overlays keep what was mounted there
    if has_own_user and user != 0:
        _drop_capabilities()
    os.chdir(here)
    return View(lower, upper)


def _overlay(path: str, lower: int, parts: Sequence[Path], has_own_user: bool) -> int:
    """Mount an overlay over the folder `path`, open as `lower`; the folder, opened, that gets what is written."""
    for part in parts:
        part.mkdir()
    opened = [os.open(part, os.O_RDONLY | os.O_DIRECTORY) for part in parts]
    _copy_owner(path, opened[0])
    if has_own_user:
        os.setxattr(opened[0], "user.mlpprof", b"")  # raises OSError where an overlay could not note what was deleted
        os.removexattr(opened[0], "user.mlpprof")
    folders = zip(("lowerdir", "upperdir", "workdir"), (lower, *opened), strict=True)
    options = [f"{name}={_opened(number).decode()}" for name, number in folders]
    # Without the latter, folders that were there before cannot be renamed; a user namespace does not allow it.
    options.append("userxattr" if has_own_user else "redirect_dir=on")
    _call("mount", b"overlay", os.fsencode(path), b"overlay", 0, ",".join(options).encode())
    os.close(opened[1])
    return opened[0]


def _copy_owner(path: str, upper: int) -> None:
    """Make the folder look like the one that it stands for, and refuse what that one refuses."""
    status = Path(path).stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.getuid() and not os.access(path, os.W_OK):
        mode &= ~0o222
    try:
        os.chown(upper, status.st_uid, status.st_gid)
    except OSError:
        mode |= 0o500  # of another user, whom a user namespace does not know
    os.chmod(upper, mode)
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))


def _unshare(user: int, group: int) -> bool:
    """Get an own mount namespace, and an own user namespace if it takes one; whether it did."""
    try:
        _call("unshare", NEW_MOUNTS)
    except PermissionError:
        _call("unshare", NEW_MOUNTS | NEW_USER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        return True
    return False


def _mount_points() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1")) for line in lines]


def _opened(number: int) -> bytes:
    """A path of an open folder, without the characters that mount options cannot have."""
    return f"/proc/self/fd/{number}".encode()


def _drop_capabilities() -> None:
    """Give up the rights that a new user namespace gives, so that files refuse what they refuse the user."""
    header, none = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    _call("capset", header, none)


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name} gave {errno.errorcode.get(number, number)}")
