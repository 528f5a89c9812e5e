"""Every variant file has a namespace of modules: two files may both import `layers`, each from its own folder.

Python keeps all modules in one table, sys.modules, under their names. Here the modules that a variant file imports from
loose files (from its folder, or from a folder that it adds to sys.path) are in that table only while code of this file
runs. Otherwise they are stored elsewhere, so the next variant file does not find them. Names and paths of modules are
the same as in a script, so late imports, pickles and child processes work as they do there. One process for each file
would separate modules too, but two variants must be in one process to be compared and to be timed in short turns.

Installed modules (the standard library, site-packages) are shared by all files. The table is changed before and after
the code runs, and never while something is timed.
"""

from __future__ import annotations

import importlib
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import FrozenImporter, all_suffixes
from pathlib import Path
from types import FunctionType, ModuleType

from mlpprof.errors import VariantError

PACKAGE = "mlpprof"
SHARED = (PACKAGE, "numpy")
"""Packages whose arrays and classes are passed between mlpprof and a variant, so there may be only one of each."""
LIBRARIES = tuple(
    Path(folder).resolve()
    for folder in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    )
)
LIBRARY_FOLDERS = {"site-packages", "dist-packages"}
"""Names of folders of installed packages, also of another environment that this one builds on."""


class Namespace:
    """The modules of one file; all code of the file runs inside `running()`.

    Raises VariantError if a module in the file's folder has the name of a shared package.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offered = offered_beside(file)
        self._path: list[str] | None = None
        self._own: dict[str, ModuleType] = {}
        self._hidden: dict[str, ModuleType] = {}
        self._others: set[str] = set()
        self._shared_path: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside this context, imports are those of the file; afterwards those of an outer file are back.

        Raises VariantError if an installed module has imported a module of this file by mistake.
        """
        outer = _running[-1] if _running else None
        if outer is self:
            yield
            return
        if outer is not None:
            outer._leave()
        self._enter()
        _running.append(self)
        try:
            yield
        finally:
            _running.pop()
            arrived = self._leave()
            if outer is not None:
                outer._enter()
            self._require_separate(arrived)

    def _enter(self) -> None:
        self._shared_path = sys.path.copy()
        if self._path is None:
            folder = str(self._file.parent)
            self._path = [
                folder,
                *(other for other in sys.path if other != folder),
            ]  # this is what Python does for a script
            importlib.invalidate_caches()
        sys.path[:] = self._path
        self._hidden = {}
        if any(name in sys.modules for name in self._offered):
            hidden = [name for name in sys.modules if _top(name) in self._offered]
            self._hidden = {name: sys.modules.pop(name) for name in hidden}
        self._others = set(sys.modules)
        sys.modules.update(self._own)

    def _leave(self) -> list[ModuleType]:
        """Store the file's modules elsewhere; return the shared modules that were imported meanwhile."""
        new = {name: module for name, module in sys.modules.items() if name not in self._others}
        self._own = {name: module for name, module in new.items() if name in self._own or _is_loose(name, module)}
        for name in self._own:
            del sys.modules[name]
        sys.modules.update(self._hidden)
        self._path = sys.path.copy()
        sys.path[:] = self._shared_path
        return [module for name, module in new.items() if name not in self._own]

    def _require_separate(self, arrived: Iterable[ModuleType]) -> None:
        """Raise VariantError if an installed module, which all variants share, has imported a module of this file."""
        mistaken = {name for name in self._own if _top(name) in sys.stdlib_module_names or name in self._hidden}
        if not mistaken:
            return
        for module in arrived:
            taken = mistaken.intersection(_names_in(module))
            if taken:
                name = min(taken)
                file = Path(str(self._own[name].__file__)).name
                del sys.modules[module.__name__]
                raise VariantError(
                    f"{self._file.name}: the installed module '{module.__name__}', which all variants share, has "
                    f"imported your {file} instead of the '{name}' that it needs; rename your {file}"
                )


_running: list[Namespace] = []
"""The namespaces in use: the modules of the last one are in sys.modules, and it interrupts the others."""


def _top(name: str) -> str:
    return name.partition(".")[0]


def offered_beside(file: Path) -> frozenset[str]:
    """The names of the modules and packages in the file's folder."""
    folder = file.parent
    if _is_installed(str(folder)):
        return frozenset()
    endings = tuple(all_suffixes())
    found = set()
    for path in folder.iterdir():
        if path.is_dir() and (path / "__init__.py").is_file():
            found.add(path.name)
        elif path.name.endswith(endings):
            found.add(path.name.partition(".")[0])
    for name in SHARED:
        # A folder called mlpprof is a checkout of this project; the mlpprof that runs is used instead.
        if (folder / f"{name}.py").is_file() or (name in found and name != PACKAGE):
            raise VariantError(
                f"beside {file.name} is a module called '{name}', but a variant and mlpprof must use the same {name}; "
                f"rename your module, or move {file.name}"
            )
    never_from_files = {name for name in found if name in sys.builtin_module_names or FrozenImporter.find_spec(name)}
    return frozenset(found - never_from_files - {PACKAGE, "__main__", "__init__"})


def _is_loose(name: str, module: ModuleType) -> bool:
    """Whether a module comes from a file that is not installed; mlpprof itself is always shared."""
    if _top(name).startswith(PACKAGE) or not isinstance(module, ModuleType):
        return False
    values = vars(module)  # not getattr, which would import a lazy module
    path = values.get("__file__") or next(iter(values.get("__path__") or ()), None)
    return path is not None and not _is_installed(str(path))


@cache
def _is_installed(path: str) -> bool:
    full = Path(path).resolve()
    return not LIBRARY_FOLDERS.isdisjoint(full.parts) or any(full.is_relative_to(folder) for folder in LIBRARIES)


def _names_in(module: ModuleType) -> Iterator[str]:
    """The modules that a module refers to, directly or through their functions and classes."""
    for value in list(vars(module).values()) if isinstance(module, ModuleType) else ():
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, FunctionType | type):
            yield value.__module__
