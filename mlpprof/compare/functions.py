"""How a fresh process finds a function again: by its module and qualified name, as Python imports them."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from importlib.machinery import BuiltinImporter, FrozenImporter
from pathlib import Path
from typing import Any

from mlpprof.errors import UsageError
from mlpprof.namespace import Namespace


@dataclass(frozen=True)
class FunctionReference:
    """A function by module and qualified name, with what a fresh process needs to import it.

    file: the module's file, if the module belongs to no package, such as a test file or a script. sys_path: that of the
    parent process. origin: the file that the parent has found by the module's name, if the name is enough.
    """

    module: str
    qualname: str
    file: str | None
    sys_path: tuple[str, ...]
    origin: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The reference as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> FunctionReference:
        """The reference from `to_json`."""
        return cls(**{**message, "sys_path": tuple(message["sys_path"])})

    def resolve(self) -> Callable[..., Any]:
        """Import the function; raises UsageError if the module or the name is not there."""
        for folder in self.sys_path:
            if folder not in sys.path:
                sys.path.append(folder)
        try:
            with self.running():
                found: Any = self._import()
                for name in self.qualname.split("."):
                    found = getattr(found, name)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"cannot import {self.module}.{self.qualname} in a fresh process: {error}") from error
        function: Callable[..., Any] = found
        return function

    def running(self) -> AbstractContextManager[None]:
        """A context around calls of the function, in which its file imports the modules that lie beside it."""
        return nullcontext() if self.file is None else _namespace_of(self.file).running()

    def _import(self) -> object:
        if self.file is None:
            imported = importlib.import_module(self.module)
            file = getattr(imported, "__file__", None)
            if file is not None and self.origin is not None and Path(file).resolve() != Path(self.origin).resolve():
                raise UsageError(
                    f"the module '{self.module}' is {self.origin} here, but {file} in a fresh process, which would "
                    "run different code; rename your file, or give the variants by their paths"
                )
            return imported
        known = sys.modules.get(self.module)
        if known is not None and getattr(known, "__file__", None) == self.file:
            return known
        spec = importlib.util.spec_from_file_location(self.module, self.file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{self.file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.module] = module
        spec.loader.exec_module(module)
        return module


@cache
def _namespace_of(file: str) -> Namespace:
    """All functions of a file share its module, and so its namespace."""
    return Namespace(Path(file))


def reference_to(function: Callable[..., Any]) -> FunctionReference | None:
    """How a fresh process finds this very function; None for closures, lambdas, bound methods and the like."""
    module_name = str(getattr(function, "__module__", ""))
    qualname = str(getattr(function, "__qualname__", "<"))
    module = sys.modules.get(module_name)
    if module is None or not inspect.isfunction(function) or "<" in qualname:
        return None
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if found is not function:
        return None  # replaced since, by a decorator or a monkeypatch
    file = getattr(module, "__file__", None)
    if module_name == "__main__":
        return None if file is None else FunctionReference("__mlpprof_main__", qualname, file, tuple(sys.path))
    by_name = not _is_loose_file(module_name, file)
    return FunctionReference(
        module_name, qualname, None if by_name else file, tuple(sys.path), file if by_name else None
    )


def _is_loose_file(name: str, file: str | None) -> bool:
    """Whether a module lies in a file that its name alone does not lead to, as pytest's importlib mode loads it."""
    if file is None:
        return False
    # Not importlib.util.find_spec, which answers with what is imported already: that is the file, wherever it lies.
    finders = [finder for finder in sys.meta_path if finder not in (BuiltinImporter, FrozenImporter)]
    origin, folders = None, None
    names = name.split(".")
    for length in range(1, len(names) + 1):
        part = ".".join(names[:length])
        specs = (finder.find_spec(part, folders) for finder in finders)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return True
        origin, folders = spec.origin, spec.submodule_search_locations
    return origin is None or Path(origin) != Path(file)
