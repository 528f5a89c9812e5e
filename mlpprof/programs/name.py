"""How a user names a program: a script, a module or a notebook, perhaps as it was at a git ref."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlpprof.catalog import ARGUMENTS, interface_methods
from mlpprof.errors import UsageError, did_you_mean

ProgramKind = Literal["script", "module", "notebook"]

KINDS: dict[str, ProgramKind] = {".py": "script", ".ipynb": "notebook"}
"""The ending of a program's file -> what it is."""

MODULE = "-m "
"""A module is written as it is for Python, after this."""

EXPECTED = "expected train.py, work.ipynb or -m package.module, each perhaps with @REF for a git ref"


@dataclass(frozen=True)
class ProgramName:
    """A program as a user names it.

    target: the path of a script or a notebook as it was typed, or the dotted name of a module. ref: the git ref (a tag,
    a branch, a commit) at which its source code is taken; None for the files as they are now.
    """

    kind: ProgramKind
    target: str
    ref: str | None = None

    @classmethod
    def parse(cls, text: str) -> ProgramName:
        """From 'train.py', 'work.ipynb' or '-m package.module', each perhaps with '@REF'.

        Raises UsageError if it is none of them, or if there is no such file.
        """
        words = text.strip()
        name, at, ref = words.rpartition("@")
        if not at or Path(words).is_file():
            name, ref = words, ""
        elif not ref:
            raise UsageError(f"'{text}' ends in @ without a git ref; write {name}@HEAD~1, or {name}@v1.0")
        if name.startswith(MODULE):
            module = name.removeprefix(MODULE).strip()
            if not all(part.isidentifier() for part in module.split(".")):
                raise UsageError(f"'{module}' is not the name of a module; {EXPECTED}")
            return cls("module", module, ref or None)
        kind = KINDS.get(Path(name).suffix)
        if kind is None:
            raise UsageError(f"'{text}' is not a program; {EXPECTED}")
        if not ref and not Path(name).is_file():
            hint = did_you_mean(name, _programs_beside(name)) or f"; {EXPECTED}"
            raise UsageError(f"there is no file '{name}'{hint}")
        return cls(kind, name, ref or None)

    @property
    def text(self) -> str:
        """The name as a user can type it."""
        start = MODULE if self.kind == "module" else ""
        return f"{start}{self.target}" + ("" if self.ref is None else f"@{self.ref}")

    @property
    def short(self) -> str:
        """The name in sentences: without folders."""
        name = self.target if self.kind == "module" else Path(self.target).name
        return name if self.ref is None else f"{name}@{self.ref}"

    @property
    def folder(self) -> Path:
        """The folder that the program's own modules are imported from first."""
        return Path.cwd() if self.kind == "module" else Path(self.target).resolve().parent


def is_program(text: str) -> bool:
    """Whether a user who types this means a program; else it is a variant, or nothing that mlpprof knows.

    A Python file is a variant if one of its classes has the whole interface. 'FILE.py:Class' is always a variant.
    """
    words = text.strip()
    if words.startswith(MODULE):
        return True
    name = words if Path(words).is_file() else words.rpartition("@")[0] or words
    if Path(name).suffix not in KINDS:
        return False
    return name != words or not has_variant(Path(name))


def has_variant(path: Path) -> bool:
    """Whether a class of a Python file has all methods of the interface of a variant; the file is not run."""
    try:
        return has_variant_class(importlib.util.decode_source(path.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        return False


def has_variant_class(source: str) -> bool:
    """Whether a class in a source has all methods of the interface of a variant.

    A class that inherits from another file counts if it has at least one of the methods itself.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    found = interface_methods(tree).values()
    return any(methods == set(ARGUMENTS) or (methods and has_others) for methods, has_others in found)


def class_of_a_variant(path: Path) -> str | None:
    """The class of a Python file that has a method train_step, and so may be meant as a variant; None if none has."""
    try:
        tree = ast.parse(importlib.util.decode_source(path.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
            if "train_step" in names:
                return node.name
    return None


def _programs_beside(name: str) -> list[str]:
    """The programs in the folder of a file that does not exist, as one would type them."""
    folder = Path(name).parent
    try:
        return [str(folder / file.name) for file in folder.iterdir() if file.suffix in KINDS]
    except OSError:
        return []
