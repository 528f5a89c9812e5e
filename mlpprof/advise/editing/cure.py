"""A cure that can be applied: the new texts of the files that it changes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mlpprof.programs.source_lines import lines_of

CureKind = Literal["safe", "precision", "manual"]

Sources = Mapping[str, str]
"""Absolute path -> text of a file."""


@dataclass(frozen=True)
class LineEdit:
    """Lines of a file that are replaced: those from `start` up to but without `stop`, 0-based.

    lines: the new ones, each with its end. If start equals stop, they are inserted before that line.
    """

    file: str
    start: int
    stop: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Cure:
    """Edits that belong together.

    kind: 'safe' if the step computes the same values up to the order of sums; 'precision' if it computes in float32.
    edits: of the texts that the step was recorded with.
    """

    kind: CureKind
    edits: tuple[LineEdit, ...]

    def __bool__(self) -> bool:
        return bool(self.edits)

    def conflicts_with(self, other: Cure) -> bool:
        """Whether both change the same line, so that they cannot be applied together."""
        return any(_overlap(one, another) for one in self.edits for another in other.edits)


def line_edits(file: str, before: str, after: str) -> list[LineEdit]:
    """The edits that make one text of the other."""
    old, new = lines_of(before), lines_of(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        LineEdit(file, i1, i2, tuple(new[j1:j2])) for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal"
    ]


def applied(sources: Sources, cures: Iterable[Cure]) -> dict[str, str]:
    """The texts of the changed files after all cures, of which no two conflict."""
    by_file: dict[str, list[LineEdit]] = {}
    for cure in cures:
        for edit in cure.edits:
            held = by_file.setdefault(edit.file, [])
            if edit not in held:  # two cures may need the same import
                held.append(edit)
    texts = {}
    for file, edits in by_file.items():
        lines = lines_of(sources[file])
        for edit in sorted(edits, key=lambda one: (one.start, one.stop), reverse=True):
            lines[edit.start : edit.stop] = edit.lines
        texts[file] = "".join(lines)
    return texts


def diff(before: Sources, after: Sources, shown: Callable[[str], str], line_end: Callable[[str], str]) -> str:
    """A unified diff that `git apply` takes. shown: the path of a file as it stands in the diff, without 'a/'.

    line_end: the line end of a file as it is stored. The texts themselves have plain line ends.
    """
    parts = []
    for file, text in after.items():
        name, end = shown(file), line_end(file)
        old, new = ([line.replace("\n", end) for line in lines_of(one)] for one in (before[file], text))
        for line in difflib.unified_diff(old, new, f"a/{name}", f"b/{name}"):
            parts.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(parts)


def _overlap(one: LineEdit, other: LineEdit) -> bool:
    if one.file != other.file or one == other:
        return False
    if one.start == other.start:
        return True
    first, second = (one, other) if one.start < other.start else (other, one)
    return second.start < first.stop
