"""Which files belong to the program: the script and whatever it imports from outside Python's own libraries."""

from __future__ import annotations

import importlib.util
import sysconfig
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from mlpprof.catalog import ladder_folder

LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
LIBRARY_FOLDERS = frozenset(("site-packages", "dist-packages"))
"""What Python calls a folder of installed libraries, also one of another environment that this one makes use of."""

PACKAGE = Path(__file__).resolve().parent.parent


def own_files(include: Sequence[str], exclude: Sequence[str]) -> Callable[[str], bool]:
    """A test of paths. include, exclude: patterns of file names or of whole paths, of which exclude is the stronger."""
    ours = (PACKAGE / "model", ladder_folder())

    @cache
    def is_own(path: str) -> bool:
        file = Path(path)
        if any(fnmatch(path, pattern) or fnmatch(file.name, pattern) for pattern in exclude):
            return False
        if any(fnmatch(path, pattern) or fnmatch(file.name, pattern) for pattern in include):
            return True
        if file.suffix != ".py" or not file.is_file():
            return False
        full = file.resolve()
        if any(full.is_relative_to(folder) for folder in ours):
            return True
        if LIBRARY_FOLDERS.intersection(full.parts):
            return False
        return not any(full.is_relative_to(folder) for folder in (*LIBRARIES, PACKAGE))

    return is_own


def load_through(is_own: Callable[[str], bool], compiled: Callable[[str, str], CodeType]) -> None:
    """From now on, modules from the program's files get their code from `compiled(path, source)`.

    The one place through which every import of a source file goes, also a late one and one by path.
    """
    original = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> Any:
        path = loader.get_filename(name)
        if not is_own(path):
            return original(loader, name)
        return compiled(path, importlib.util.decode_source(loader.get_data(path)))

    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010 - a plain assignment to a method is no assignment to mypy
