"""Files that are read for a long time, and must stay as they were when that began."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlpprof.errors import DataError


@dataclass(frozen=True)
class FileStates:
    """Files, each with what changes if it is written or replaced; None if it is gone."""

    states: tuple[tuple[Path, object], ...]

    @classmethod
    def of(cls, files: Iterable[Path]) -> FileStates:
        """The files as they are now."""
        return cls(tuple((file, _state(file)) for file in dict.fromkeys(files)))

    def require_unchanged(self) -> None:
        """Raise DataError if a file is not as it was."""
        for file, state in self.states:
            if _state(file) != state:
                raise DataError(
                    f"{file} has changed while it was read, so its rows no longer belong together; run the command "
                    "again when no other program writes to it"
                )


def _state(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
