"""A namespace of modules for every variant file: two of them may both import `layers`, each from its own folder.

Python keeps modules in one table, sys.modules, by name alone. Here the modules that a file imports from loose files
(its neighbours, and whatever it adds to sys.path) stand in that table only while code of that file runs; in between
they are kept aside, and the next file finds a table without them. Names and files stay what they are when the file is
run as a script, so that late imports, pickles and processes that the variant starts find what they would find there.
A process for every file would keep modules apart too, but the check that two of them compute the same, and turns that
follow each other closely, need both in one process.

What is installed (the standard library, site-packages) is shared on purpose. Modules change places before and after
the code runs, never within what is timed.
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
"""Packages whose arrays and classes go to and fro between the tool and a variant, so that there is only one of each."""
LIBRARIES = tuple(
    Path(folder).resolve()
    for folder in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    )
)
LIBRARY_FOLDERS = {"site-packages", "dist-packages"}
"""Folders of installed packages by name, for those of another environment that this one builds on."""


class Namespace:
    """The modules of one file; `running` is around every piece of its code.

    Raises VariantError if a neighbour of the file has the name of a package that is shared.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offered = _offered_beside(file)
        self._path: list[str] | None = None
        self._own: dict[str, ModuleType] = {}
        self._hidden: dict[str, ModuleType] = {}
        self._others: set[str] = set()
        self._shared_path: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it is entered, imports are those of the file; those of an outer one are back afterwards.

        Raises VariantError when a shared module has taken a module of this file for one of its own.
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
            self._path = [folder, *(other for other in sys.path if other != folder)]  # as Python does for a script
            importlib.invalidate_caches()
        sys.path[:] = self._path
        self._hidden = {}
        if any(name in sys.modules for name in self._offered):
            hidden = [name for name in sys.modules if _top(name) in self._offered]
            self._hidden = {name: sys.modules.pop(name) for name in hidden}
        self._others = set(sys.modules)
        sys.modules.update(self._own)

    def _leave(self) -> list[ModuleType]:
        """Put the file's modules aside; the shared ones that have been imported meanwhile."""
        new = {name: module for name, module in sys.modules.items() if name not in self._others}
        self._own = {name: module for name, module in new.items() if name in self._own or _is_loose(name, module)}
        for name in self._own:
            del sys.modules[name]
        sys.modules.update(self._hidden)
        self._path = sys.path.copy()
        sys.path[:] = self._shared_path
        return [module for name, module in new.items() if name not in self._own]

    def _require_separate(self, arrived: Iterable[ModuleType]) -> None:
        """Refuse that an installed module, which all variants share, has imported one of this file's modules."""
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
                    f"imported your {file} in place of the '{name}' that it expects; rename your {file}"
                )


_running: list[Namespace] = []
"""The one whose modules stand in sys.modules, last, and those that it interrupts."""


def _top(name: str) -> str:
    return name.partition(".")[0]


def _offered_beside(file: Path) -> frozenset[str]:
    """The names under which Python would import the modules and packages of the file's folder."""
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
        # A folder called mlpprof is a checkout of the project, and the tool that runs stands for it.
        if (folder / f"{name}.py").is_file() or (name in found and name != PACKAGE):
            raise VariantError(
                f"{file.name} lies beside a module called '{name}', but {name} itself is what a variant and mlpprof "
                f"have in common, so no variant can have its own; rename yours, or move {file.name}"
            )
    never_from_files = {name for name in found if name in sys.builtin_module_names or FrozenImporter.find_spec(name)}
    return frozenset(found - never_from_files - {PACKAGE, "__main__", "__init__"})


def _is_loose(name: str, module: ModuleType) -> bool:
    """Whether a module comes from a file that is not installed; mlpprof itself is shared from wherever it comes."""
    if _top(name).startswith(PACKAGE) or not isinstance(module, ModuleType):
        return False
    values = vars(module)  # not getattr: asking a lazy module would import it
    path = values.get("__file__") or next(iter(values.get("__path__") or ()), None)
    return path is not None and not _is_installed(str(path))


@cache
def _is_installed(path: str) -> bool:
    full = Path(path).resolve()
    return not LIBRARY_FOLDERS.isdisjoint(full.parts) or any(full.is_relative_to(folder) for folder in LIBRARIES)


def _names_in(module: ModuleType) -> Iterator[str]:
    """The modules that a module refers to, itself or through their functions and classes."""
    for value in list(vars(module).values()) if isinstance(module, ModuleType) else ():
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, FunctionType | type):
            yield value.__module__
