"""Source files that a program gets in place of those on disk: from a git ref, or with a cure applied."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from pathlib import Path
from types import ModuleType

from mlpprof.programs.source_lines import lines_of


class Overlay(MetaPathFinder):
    """Finds modules in the texts, and reads their sources.

    texts: absolute path -> the text of the file; None if the file does not exist for the program.
    """

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self._texts = texts
        there = (Path(path) for path, text in texts.items() if text is not None)
        self._folders = {str(folder) for path in there for folder in path.parents}

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._texts.get(path) is not None

    def text(self, path: str) -> str:
        """The source of a file, for the program. Raises OSError, SyntaxError and UnicodeDecodeError as Python does."""
        if path not in self._texts:
            return decode_source(Path(path).read_bytes())
        text = self._texts[path]
        if text is None:
            raise FileNotFoundError(f"there was no file {path}")
        return text

    def install(self) -> None:
        """From now on, imports and tracebacks use the texts."""
        if not self._texts:
            return
        sys.meta_path.insert(0, self)
        for path, text in self._texts.items():
            if text is not None:
                linecache.cache[path] = (len(text), None, lines_of(text), path)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module as the program would find it; None if only the other finders know it.

        Raises ModuleNotFoundError for a module that does not exist for the program, but exists on disk.
        """
        tail = fullname.rpartition(".")[2]
        without_init, is_gone = [], False
        for entry in sys.path if path is None else path:
            base = Path(entry).resolve() / tail
            for file, folders in ((base / "__init__.py", [str(base)]), (base.with_name(f"{tail}.py"), None)):
                if str(file) in self:
                    loader = SourceFileLoader(fullname, str(file))
                    return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=folders)
            found = PathFinder.find_spec(fullname, [entry], target)
            if found is not None and found.loader is not None:
                if not self._is_gone(found.origin):
                    return found
                is_gone = True
            if str(base) in self._folders:
                without_init.append(str(base))
        if without_init:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = without_init
            return spec
        if is_gone:  # the other finders would find it
            raise ModuleNotFoundError(f"No module named '{fullname}'", name=fullname)
        return None

    def _is_gone(self, path: str | None) -> bool:
        return path is not None and self._texts.get(str(Path(path).resolve()), "") is None
