"""The code that changed from one variant to another, without their docstrings."""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass

CONTEXT = 2
"""This many unchanged lines are shown before and after a change."""


@dataclass(frozen=True)
class DiffLine:
    """One line of a diff: kind "+", "-" or " ", or "@" for a gap; its number in the old and in the new file."""

    kind: str
    old: int | None
    new: int | None
    text: str


def code_diff(old: str, new: str) -> list[DiffLine]:
    """Removed and added lines with their context; empty where the code is the same."""
    old_lines, old_start = code_lines(old)
    new_lines, new_start = code_lines(new)
    matcher = difflib.SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    lines: list[DiffLine] = []
    for group in matcher.get_grouped_opcodes(CONTEXT):
        if lines:
            lines.append(DiffLine("@", None, None, ""))
        for kind, i1, i2, j1, j2 in group:
            if kind == "equal":
                pairs = zip(range(i1, i2), range(j1, j2), strict=True)
                lines += [DiffLine(" ", old_start + i + 1, new_start + j + 1, old_lines[i]) for i, j in pairs]
                continue
            lines += [DiffLine("-", old_start + i + 1, None, old_lines[i]) for i in range(i1, i2)]
            lines += [DiffLine("+", None, new_start + j + 1, new_lines[j]) for j in range(j1, j2)]
    return lines


def code_lines(source: str) -> tuple[list[str], int]:
    """The lines after the file's docstring, and the number of lines before; all lines where the file does not parse."""
    lines = source.expandtabs(4).splitlines()
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return lines, 0
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        end = first.end_lineno or 0
        return lines[end:], end
    return lines, 0
