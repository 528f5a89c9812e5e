"""A user's unchanged program: which files belong to it, how they are imported, and how a script runs as `__main__`."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Protocol

from mlpprof.catalog import ladder_folder
from mlpprof.errors import ARGUMENTS_HINT, UsageError, VariantCrash
from mlpprof.programs.record.schedule import Enough

LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
LIBRARY_FOLDERS = frozenset(("site-packages", "dist-packages"))
"""Names of folders with installed libraries, also in another environment that this one uses."""

PACKAGE = Path(__file__).resolve().parent.parent


def own_files(include: Sequence[str], exclude: Sequence[str]) -> Callable[[str], bool]:
    """A test whether a path is a file of the program's own: none of an installed library, or of mlpprof itself.

    include, exclude: patterns of file names or of whole paths; a path that both match is excluded.
    """
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

    Every import of a source file goes through this method, also a late one and one by path.
    """
    original = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> Any:
        path = loader.get_filename(name)
        if not is_own(path):
            return original(loader, name)
        return compiled(path, importlib.util.decode_source(loader.get_data(path)))

    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010 - a plain assignment to a method is no assignment to mypy


@dataclass(frozen=True)
class Exit:
    """How a program ended by itself. place: the line that called sys.exit; None at the end of the script."""

    place: str | None = None
    code: int = 0


class Program(Protocol):
    """Something that trains. may_be_short: whether it may end after a few steps."""

    @property
    def may_be_short(self) -> bool: ...

    def run(self, compiled: Callable[[str, str], CodeType]) -> Exit | None:
        """Run it with the code that `compiled(path, source)` gives, to its end or to `Enough` (None)."""


@dataclass(frozen=True)
class Script:
    """A script with its arguments."""

    may_be_short = True

    path: str
    arguments: tuple[str, ...]

    def run(self, compiled: Callable[[str, str], CodeType]) -> Exit | None:
        """Run it to its end, or to `Enough` (None). Raises VariantCrash for an exception of its own."""
        source = Path(self.path).read_text(encoding="utf-8")
        module = ModuleType("__main__")
        module.__file__ = self.path
        module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = module
        sys.argv = [self.path, *self.arguments]
        sys.path.insert(0, str(Path(self.path).resolve().parent))
        try:
            exec(compiled(str(Path(self.path).resolve()), source), module.__dict__)
        except Enough:
            return None
        except SystemExit as error:
            return Exit(_place(error, self.path), _exit_code(error))
        except SyntaxError as error:
            raise UsageError(f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}") from error
        except Exception as error:  # it is the user's code, and may raise anything
            hint = f"; {ARGUMENTS_HINT}" if "argv" in source and not self.arguments else ""
            message = f"{_place(error, self.path)}: {type(error).__name__}: {_one_line(error)}{hint}"
            raise VariantCrash(message) from error
        finally:
            with contextlib.suppress(OSError, ValueError):  # the program may have closed it
                sys.stdout.flush()  # so that its last output is in the log
        return Exit()


def _place(error: BaseException, script: str) -> str:
    """The innermost line of the traceback outside installed libraries."""
    place, trace = Path(script).name, error.__traceback__
    is_own = own_files((), ())
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if is_own(file):
            place = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _exit_code(error: SystemExit) -> int:
    """The exit code as Python makes it: None means success, and anything but a number is printed."""
    if error.code is None or isinstance(error.code, int):
        return int(error.code or 0)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        os.write(2, f"{error.code}\n".encode())
    return 1


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())


def is_import_to_come(sources: Mapping[str, str], folder: str) -> bool:
    """Whether one of these files imports another file of the script's folder that is not loaded yet.

    sources: path -> text of the program's files so far.
    """
    loaded = {Path(path).resolve() for path in sources}
    return any(
        file.is_file() and file.resolve() not in loaded
        for path, source in sources.items()
        for file in _imported(Path(path).resolve(), source, Path(folder).resolve())
    )


def _imported(path: Path, source: str, folder: Path) -> Iterator[Path]:
    """The files that its import statements name if they are the program's own; most of them do not exist."""
    for node in ast.walk(ast.parse(source)):
        dotted = []
        start = folder
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                start = path.parents[min(node.level, len(path.parents)) - 1]
            base = [node.module] if node.module else []
            dotted = [*base, *(".".join((*base, alias.name)) for alias in node.names)]
        for name in dotted:
            whole = start.joinpath(*name.split("."))
            yield whole.with_suffix(".py")
            yield whole / "__init__.py"
