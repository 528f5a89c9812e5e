"""In the worker: prevents a program that mlpprof runs from writing, so that the user's files stay as they were.

What it writes into a view of its folders is dropped anyway, and is only noted; this module prevents all the rest.
mlpprof stops a program in the middle of its training, and may run it twice. What it would write then (weights, a
checkpoint, a log) would take the place of what a whole run has written. Python announces every such operation to its
audit hooks before it is carried out; h5py does not, because it opens files in C, and is wrapped.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from mlpprof.errors import MlpprofError, UsageError
from mlpprof.programs.file_view import View, free_folders
from mlpprof.programs.name import ProgramName
from mlpprof.programs.notebook import place_of
from mlpprof.programs.record.schedule import Enough

Answer = TypeVar("Answer")

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

CHANGES = {
    "os.rename": ("rename", (0, 1)),
    "os.remove": ("delete", (0,)),
    "os.rmdir": ("delete", (0,)),
    "os.truncate": ("shorten", (0,)),
    "os.chmod": ("change", (0,)),
    "os.utime": ("change", (0,)),
    "shutil.rmtree": ("delete", (0,)),
    "shutil.move": ("move", (0, 1)),
}
"""Event -> its verb, and which of its arguments are paths. If the first does not exist, the operation just fails."""

CREATIONS = {
    "os.mkdir": ("create the folder", 0),
    "os.link": ("create", 1),
    "os.symlink": ("create", 1),
    "shutil.copyfile": ("write", 1),
    "shutil.copytree": ("write", 1),
    "shutil.make_archive": ("write", 0),
    "shutil.unpack_archive": ("write into", 1),
}
"""Event -> its verb, and which of its arguments is the path of what it creates."""

H5PY_FILES = "h5py._hl.files"
"""The module of h5py that opens files. When it is imported, the functions that it calls for this exist already."""

TEMPORARY = (tempfile.gettempprefix(), "pymp-", "matplotlib-")
"""Names of temporary files and folders of common libraries begin like this."""


SHOWN = 5
"""A note lists so many files."""


class Writes:
    """Prevents a program from writing outside temporary folders, caches, and the view of its own folders.

    view: None if there is none. no_view: why there is none.
    is_enough: whether mlpprof knows all it needs; then an attempt to write ends the program without an error.
    must_end: whether the program has tried to write, so that it must end even if it catches all exceptions.
    refusal: the message to the user about an attempt that came too early.
    """

    def __init__(
        self,
        program: ProgramName,
        how_often: str,
        is_own: Callable[[str], bool],
        view: View | None = None,
        no_view: str | None = None,
    ) -> None:
        self._name, self._how_often, self._is_own = program.short, how_often, is_own
        self._process = os.getpid()
        self._projects = {os.path.realpath(program.folder), os.path.realpath(Path.cwd())}
        self._view, self._no_view = view, no_view
        self._free = free_folders()  # asked before the hook, since Python looks for a folder that it can write to
        self._temporary = self._free[0]
        self.is_enough: Callable[[], bool] = lambda: False
        self.must_end = False
        self.refusal: str | None = None
        self.prevented: list[str] = []

    def prevent(self) -> None:
        """Prevent writing from now on until the process ends, because an audit hook cannot be removed."""
        sys.addaudithook(self._audit)
        if H5PY_FILES in sys.modules:
            self._wrap_h5py()

    def guarded(self, run: Callable[[], Answer]) -> Answer:
        """The result of `run`. Raises UsageError if the program wanted to write before mlpprof knew enough."""
        try:
            answer = run()
        except MlpprofError:
            if self.refusal is None:
                raise
        else:
            if self.refusal is None:
                return answer
        raise UsageError(self.refusal)

    def notes(self) -> Iterator[str]:
        """What happened to what the program wrote."""
        if self.prevented:
            shown = _listed(list(dict.fromkeys(self.prevented)))
            yield f"{self._name} wanted to write {shown}; mlpprof prevented it, and --allow-writes would let it"
        if self._view is not None and (changed := self._view.changes()):
            yield (
                f"{self._name} wrote {_listed(changed)} into a copy that mlpprof has dropped: your files are as they "
                "were. --allow-writes would let it write them"
            )

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and (flags & os.O_CREAT or _exists(path)):
                self._refuse("write", path)
        elif event in CHANGES:
            verb, positions = CHANGES[event]
            if not _is_relative_to_a_folder(event, arguments) and _exists(arguments[0]):
                for position in positions:
                    self._refuse(verb, arguments[position])
        elif event in CREATIONS:
            verb, position = CREATIONS[event]
            path = arguments[position]
            if not _is_relative_to_a_folder(event, arguments) and not (event == "os.mkdir" and _exists(path)):
                self._refuse(verb, path)
        elif event == "sqlite3.connect":
            self._refuse("write the database", _database(arguments[0]))
        elif event == "import" and arguments[0] == H5PY_FILES:
            self._wrap_h5py()

    def _refuse(self, verb: str, path: Any) -> None:
        """End the program if it must not write there."""
        if path is None or isinstance(path, int):  # a file that is open already
            return
        full = os.path.realpath(os.fsdecode(path))
        if self._is_free(full):
            return
        shown = os.path.relpath(full) if Path(full).is_relative_to(Path.cwd()) else full
        place = self._place()
        sentence = (
            f"{place} wants to {verb} '{shown}', but mlpprof runs the program {self._how_often} and stops it early, "
            f"which would damage what it writes; nothing was written.{self._why_no_copy()} Add --allow-writes to let "
            "it write"
        )
        if os.getpid() != self._process:
            raise PermissionError(sentence)  # the parent process sees this, but would not see `Enough`
        if self.refusal is None and (self.must_end or self.is_enough()):
            self.prevented.append(shown)
        elif self.refusal is None:
            self.refusal = sentence
        self.must_end = True
        raise Enough

    def _why_no_copy(self) -> str:
        if self._view is not None or self._no_view is None:
            return ""
        return f" This system does not let mlpprof make a copy of the folder to write into ({self._no_view})."

    def _is_free(self, full: str) -> bool:
        path = Path(full)
        if self._view is not None and self._view.holds(full):
            return True
        if full.startswith(("/dev/", "/proc/")) or full == os.path.realpath(os.devnull) or "__pycache__" in path.parts:
            return True
        for folder in self._free:
            if not path.is_relative_to(folder):
                continue
            inside = [one for one in self._projects if Path(one).is_relative_to(folder) and path.is_relative_to(one)]
            if not inside:
                return True
            # If the script itself lies in the temporary folder, names show what is temporary.
            if folder == self._temporary and inside == [folder]:
                return path.relative_to(folder).parts[0].startswith(TEMPORARY)
        return False

    def _place(self) -> str:
        """The innermost line of the program's own files."""
        frame = sys._getframe(2)
        while frame is not None:
            file = frame.f_code.co_filename
            if self._is_own(file):
                return place_of(file, frame.f_lineno).text
            frame = frame.f_back  # type: ignore[assignment]  # the outermost frame has None
        return self._name

    def _wrap_h5py(self) -> None:
        """Check before h5py opens a file: it calls these two functions by their names in this module."""
        module: Any = sys.modules["h5py.h5f"]  # h5py has no types
        read_only = module.ACC_RDONLY
        create, open_ = module.create, module.open

        @wraps(create)
        def asked_create(name: Any, *arguments: Any, **options: Any) -> Any:
            self._refuse_h5py(name, options)
            return create(name, *arguments, **options)

        @wraps(open_)
        def asked_open(name: Any, flags: Any = read_only, *arguments: Any, **options: Any) -> Any:
            if flags != read_only and _exists(name):
                self._refuse_h5py(name, options)
            return open_(name, flags, *arguments, **options)

        module.create, module.open = asked_create, asked_open

    def _refuse_h5py(self, name: Any, options: dict[str, Any]) -> None:
        drivers, access = sys.modules["h5py.h5fd"], options.get("fapl")
        if access is not None:
            driver = access.get_driver()
            if driver == drivers.fileobj_driver or (driver == drivers.CORE and not access.get_fapl_core()[1]):
                return  # into an object of Python's, or into memory
        self._refuse("write", name)


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _exists(path: Any) -> bool:
    return path is not None and not isinstance(path, int) and os.path.lexists(path)


def _is_relative_to_a_folder(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether the path is relative to an open folder, as within shutil.rmtree, which has its own event."""
    return event.startswith("os.") and event != "os.truncate" and arguments[-1] not in (-1, None)


def _database(name: Any) -> Any:
    """The file of a database; None if it is in memory, or read only."""
    text = os.fsdecode(name)
    if not text.startswith("file:"):
        return None if text in ("", ":memory:") else text
    path, _, options = text.removeprefix("file:").partition("?")
    is_safe = path in ("", ":memory:") or "mode=ro" in options or "mode=memory" in options
    return None if is_safe else path
