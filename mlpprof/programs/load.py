"""A user's unchanged program: which files belong to it, how they are imported, and how it runs as `__main__`."""

from __future__ import annotations

import ast
import builtins
import contextlib
import errno
import importlib.util
import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Protocol

from mlpprof.catalog import ladder_folder
from mlpprof.errors import ARGUMENTS_HINT, UsageError, VariantCrash, one_line
from mlpprof.namespace import offered_beside
from mlpprof.process import interrupted
from mlpprof.programs import file_view
from mlpprof.programs.name import KINDS
from mlpprof.programs.notebook import READ, START, place_of, read_notebook
from mlpprof.programs.overlay import Overlay
from mlpprof.programs.record import hooks
from mlpprof.programs.record.schedule import Enough
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.source_lines import lines_of

LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))
LIBRARY_FOLDERS = frozenset(("site-packages", "dist-packages"))
"""Names of folders with installed libraries, also in another environment that this one uses."""

PACKAGE = Path(__file__).resolve().parent.parent


def own_files(include: Sequence[str], exclude: Sequence[str], overlay: Container[str] = ()) -> Callable[[str], bool]:
    """A test whether a path is a file of the program's own: none of an installed library, or of mlpprof itself.

    include, exclude: patterns of file names or of whole paths; a path that both match is excluded. overlay: paths that
    exist for the program, whether or not they exist on disk.
    """
    ours = (PACKAGE / "model", ladder_folder())

    @cache
    def is_own(path: str) -> bool:
        file = Path(path)
        if any(fnmatch(path, pattern) or fnmatch(file.name, pattern) for pattern in exclude):
            return False
        if any(fnmatch(path, pattern) or fnmatch(file.name, pattern) for pattern in include):
            return True
        if file.suffix not in KINDS or not (path in overlay or file.is_file()):
            return False
        full = file.resolve()
        if any(full.is_relative_to(folder) for folder in ours):
            return True
        if LIBRARY_FOLDERS.intersection(full.parts):
            return False
        return not any(full.is_relative_to(folder) for folder in (*LIBRARIES, PACKAGE))

    return is_own


def load_through(
    is_own: Callable[[str], bool], compiled: Callable[[str, str], CodeType], text: Callable[[str], str] | None = None
) -> None:
    """From now on, modules from the program's files get their code from `compiled(path, source)`.

    Every import of a source file goes through this method, also a late one and one by path. text: gives the source of
    a path; None reads the file.
    """
    original = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> Any:
        path = loader.get_filename(name)
        if not is_own(path):
            return original(loader, name)
        source = importlib.util.decode_source(loader.get_data(path)) if text is None else text(path)
        return compiled(path, source)

    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010 - a plain assignment to a method is no assignment to mypy


@dataclass(frozen=True)
class Exit:
    """How a program ended by itself. place: the line that called sys.exit; None at the end of the script."""

    place: str | None = None
    code: int = 0


class Program(Protocol):
    """Something that trains.

    may_be_short: whether it may end after a few steps. wait_s: it may take so many seconds until its first step.
    folder: its files are shown relative to it. is_own: whether a path is one of its own files.
    """

    @property
    def may_be_short(self) -> bool: ...
    @property
    def wait_s(self) -> float: ...
    @property
    def folder(self) -> str: ...
    @property
    def is_own(self) -> Callable[[str], bool]: ...

    def run(self, compiled: Callable[[str, str], CodeType]) -> Exit | None:
        """Run it with the code that `compiled(path, source)` gives, to its end or to `Enough` (None)."""


class UserProgram:
    """A script, a module or a notebook, which runs as `__main__` as under Python."""

    may_be_short = True

    def __init__(self, request: ProgramRequest) -> None:
        self._request = request
        self.wait_s = request.wait_s
        self.overlay = Overlay(request.overlay)
        self.folder = str(request.name.folder)
        self.is_own = own_files(request.include, request.exclude, self.overlay)

    def run(self, compiled: Callable[[str, str], CodeType]) -> Exit | None:
        """Run it to its end, or to `Enough` (None). Raises VariantCrash for an exception of its own."""
        self.overlay.install()
        load_through(self.is_own, compiled, self.overlay.text)
        main = self._main()
        sys.modules["__main__"] = main.module
        sys.argv = [main.argument, *self._request.arguments]
        sys.path.insert(0, main.folder)
        if self._request.name.kind == "notebook":
            os.chdir(main.folder)  # as Jupyter does
        covered = _give_way(Path(main.folder, Path(main.path).name))
        try:
            exec(compiled(main.path, main.source), main.module.__dict__)
        except Enough:
            return None
        except SystemExit as error:
            return Exit(self._place(error), _exit_code(error))
        except SyntaxError as error:
            place = place_of(error.filename or main.path, error.lineno or 1, error.filename)
            raise UsageError(f"{place.text}: SyntaxError: {error.msg}") from error
        except KeyboardInterrupt as error:
            raise interrupted(self._place(error)) from error
        except UsageError:  # of `compiled`, about the step that the user named
            raise
        except Exception as error:  # it is the user's code, and may raise anything
            hint = f"; {ARGUMENTS_HINT}" if "argv" in main.source and not self._request.arguments else ""
            hint = self._hint(error) or hint
            if isinstance(error, NameError) and main.path in READ:  # a magic may have defined it
                hint = "".join(f"; {note}" for note in READ[main.path].notes)
            raise VariantCrash(f"{self._place(error)}: {type(error).__name__}: {one_line(error)}{hint}") from error
        finally:
            sys.modules.update(covered)
            with contextlib.suppress(OSError, ValueError):  # the program may have closed it
                sys.stdout.flush()  # so that its last output is in the log
        return Exit()

    def _hint(self, error: Exception) -> str | None:
        """What helps against an error of a program that mlpprof, or how it was called, may have caused."""
        if isinstance(error, EOFError):
            return (
                "; the program waits for input, which mlpprof does not pass on. Let it take an argument instead: "
                f"{ARGUMENTS_HINT}"
            )
        if isinstance(error, OSError) and error.errno == errno.EOVERFLOW and file_view.current is not None:
            return (
                "; the program writes into a copy of its folder, and the system cannot copy a file of another group or "
                "user than yours. Give it your group (chgrp), or add --allow-writes, which lets the program write into "
                "the folder itself"
            )
        name = self._request.name
        if isinstance(error, ImportError) and name.kind == "script" and "no known parent package" in str(error):
            parts = [Path(name.target).stem]
            folder = name.folder
            while (folder / "__init__.py").is_file():
                parts.append(folder.name)
                folder = folder.parent
            module = ".".join(reversed(parts))
            return f"; it is a module of a package, which is written -m {module}, in the folder {folder}"
        if isinstance(error, ModuleNotFoundError) and error.name is not None and name.kind == "script":
            missing = error.name.partition(".")[0]
            for folder in (Path.cwd(), *name.folder.parents):
                if (folder / missing).is_dir() or (folder / f"{missing}.py").is_file():
                    return (
                        f"; '{missing}' is in the folder {folder}, where Python does not look for the modules of "
                        f"{name.short}: set PYTHONPATH to that folder"
                    )
        return None

    def _main(self) -> Main:
        """The main module, before any of its code runs."""
        name = self._request.name
        if name.kind == "module":
            return self._module()
        path = str(Path(name.target).resolve())
        try:
            source = self.overlay.text(path)
        except SyntaxError as error:  # an encoding that does not exist
            raise UsageError(f"{name.short}: SyntaxError: {error}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{name.short} is not UTF-8 text, and names no other encoding: {error}") from error
        module = _main_module()
        if name.kind == "notebook":
            notebook = read_notebook(path, source)
            module.__dict__.update(notebook.namespace())
            lines = lines_of(notebook.source)
            linecache.cache[path] = (len(notebook.source), None, lines, path)  # for tracebacks and inspect.getsource
            if notebook.is_late:
                hooks.hold()
                module.__dict__[START] = hooks.release
            return Main(module, path, notebook.source, name.target, str(Path(path).parent))
        # As Python does, which resolves neither links nor dots here.
        module.__file__ = name.target if Path(name.target).is_absolute() else f"{Path.cwd()}{os.sep}{name.target}"
        module.__loader__ = SourceFileLoader("__main__", module.__file__)
        return Main(module, path, source, name.target, str(Path(path).parent))

    def _module(self) -> Main:
        """The main module of `python -m`."""
        name, folder = self._request.name, str(Path.cwd())
        sys.path.insert(0, folder)
        try:
            spec = importlib.util.find_spec(name.target)
            if spec is not None and spec.submodule_search_locations is not None:
                spec = importlib.util.find_spec(f"{name.target}.__main__")
        except ImportError as error:
            raise UsageError(f"{name.text} cannot be imported from {folder}: {error}") from error
        finally:
            sys.path.remove(folder)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise UsageError(
                f"there is no module '{name.target}' for {name.text}; expected a module that Python finds from {folder}"
            )
        module = _main_module()
        module.__dict__["__cached__"] = spec.cached
        module.__file__, module.__loader__, module.__package__ = spec.origin, spec.loader, spec.parent
        module.__spec__ = spec
        path = str(Path(spec.origin).resolve())
        return Main(module, path, self.overlay.text(path), spec.origin, folder)

    def _place(self, error: BaseException) -> str:
        """The innermost line of the traceback in the program's own files."""
        place, trace = self._request.name.short, error.__traceback__
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            if self.is_own(file):
                place = place_of(file, trace.tb_lineno).text
            trace = trace.tb_next
        return place


@dataclass(frozen=True)
class Main:
    """A main module that is ready to run. argument: sys.argv[0]; folder: sys.path[0]."""

    module: ModuleType
    path: str
    source: str
    argument: str
    folder: str


def _give_way(main: Path) -> dict[str, ModuleType]:
    """Forget the modules that mlpprof has imported under names of files beside the program, which come first in Python.

    They are returned, so that mlpprof finds them again when the program has ended.
    """
    names = offered_beside(main)
    covered = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in covered}


def _main_module() -> ModuleType:
    """A main module with the names that Python gives it."""
    module = ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __annotations__={}, __cached__=None)
    return module


def _exit_code(error: SystemExit) -> int:
    """The exit code as Python makes it: None means success, and anything but a number is printed."""
    if error.code is None or isinstance(error.code, int):
        return int(error.code or 0)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        os.write(2, f"{error.code}\n".encode())
    return 1


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


def texts_from(
    paths: Sequence[str], folder: str, is_own: Callable[[str], bool], text: Callable[[str], str]
) -> dict[str, str]:
    """The texts of files, and of the program's own files that their import statements lead to, by path.

    text: gives the text of a path. A text need not be Python.
    """
    found: dict[str, str] = {}
    waiting = [*paths]
    while waiting:
        path = waiting.pop()
        if path in found or not is_own(path):
            continue
        try:
            found[path] = text(path)
            waiting += [str(file) for file in _imported(Path(path).resolve(), found[path], Path(folder).resolve())]
        except (OSError, SyntaxError, UnicodeDecodeError):  # the program will meet it itself
            continue
    return found


def imported_texts(program: Program, path: str, source: str) -> dict[str, str]:
    """The texts of a program's own files, as far as the import statements of its first file lead to them."""
    on_disk = Overlay({})
    return texts_from([path], program.folder, program.is_own, lambda one: source if one == path else on_disk.text(one))


def own_sources(request: ProgramRequest) -> dict[str, str]:
    """The texts of a program's main file, as '', and of its own modules by their paths within its folder.

    They are those that its import statements name, so nothing runs for this.
    """
    program = UserProgram(request)
    name, folder = request.name, request.name.folder.resolve()
    if name.kind == "module":
        base = folder.joinpath(*name.target.split("."))
        mains = [str(base.with_suffix(".py")), str(base / "__main__.py")]
    else:
        mains = [str(Path(name.target).resolve())]
    texts = texts_from(mains, str(folder), program.is_own, program.overlay.text)
    return {"" if path in mains else os.path.relpath(path, folder): text for path, text in texts.items()}
