"""What counts as the same code: a comparison of it with itself would say nothing, so it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any

from mlpprof.catalog import Entry
from mlpprof.errors import UsageError
from mlpprof.programs.load import own_sources
from mlpprof.programs.name import ProgramName
from mlpprof.programs.request import ProgramRequest


class SameCode(UsageError):
    """Old and new are the same code."""


def require_different(old: ProgramRequest, new: ProgramRequest) -> None:
    """Raise SameCode if two programs are the same code: the same texts in all of the program's own files."""
    if old.name.text == new.name.text:
        raise SameCode(
            f"'{old.name.text}' is given twice, and a comparison with itself says nothing; to compare it with an "
            f"earlier version, type: mlpprof compare {replace(old.name, ref='HEAD~1').text} {old.name.text}"
        )
    ours, theirs = own_sources(old), own_sources(new)
    if ours == theirs:
        raise SameCode(
            f"{old.name.text} and {new.name.text} are the same code ({_files(len(ours))} with identical bytes), so "
            "there is nothing to compare; change one of them, or name another version, as in train.py@HEAD~1"
        )


def require_different_variants(old: Entry, new: Entry) -> None:
    """Raise SameCode if two variants are the same class of the same file, or of files with the same texts."""
    if old.class_name != new.class_name:
        return
    if old.path.resolve() == new.path.resolve():
        raise SameCode(
            f"'{old.reference}' is given twice, and a comparison with itself says nothing; name another variant "
            "(mlpprof list shows all)"
        )
    ours, theirs = (own_sources(ProgramRequest(ProgramName("script", str(one.path)))) for one in (old, new))
    if ours == theirs:
        raise SameCode(
            f"{old.reference} and {new.reference} are the same code ({_files(len(ours))} with identical bytes), so "
            "there is nothing to compare; change one of them"
        )


def require_different_functions(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Raise SameCode if two callables are the same one."""
    if old is new or (isinstance(old, MethodType) and old == new):
        name = getattr(old, "__qualname__", repr(old))
        raise SameCode(f"{name} is given twice, and a comparison with itself says nothing; name another function")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
