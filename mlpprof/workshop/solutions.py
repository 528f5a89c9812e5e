"""my_mlp.py at the start and after every exercise: files of the course, or rungs of the ladder.

The built-in versions are made from the rungs, so that both always agree.
"""

from __future__ import annotations

import ast
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlpprof.catalog import Entry, ladder
from mlpprof.errors import VariantError
from mlpprof.owned import new_folder
from mlpprof.workshop.exercises import Course, Version

LINE = 116


def start_text(course: Course) -> str:
    """Return my_mlp.py as a learner gets it."""
    return _text(course, course.start, course.start.docstring)


def solved_in(course: Course, number: int) -> int:
    """Return the exercise that has made the code what it is when an exercise is solved; -1 if it is still the start."""
    return next((n for n in range(number, -1, -1) if course.exercises[n].solution is not None), -1)


def version_of(course: Course, number: int) -> Version:
    """Return the version that is the code when an exercise is solved; -1 is the start."""
    solution = course.exercises[number].solution if number >= 0 else None
    return course.start if solution is None else solution


def solution_text(course: Course, number: int) -> str:
    """Return my_mlp.py as it is when that exercise is solved; raise UsageError if there is no such exercise."""
    chosen = course.numbered(number)
    version = version_of(course, solved_in(course, number))
    if version.file:
        return _text(course, version, "")
    rung = ladder()[version.rung]
    title = f"Exercise {number}, solved: {chosen.title}. This is the rung `{rung.name}` of the ladder."
    if version.function:
        title = title.removesuffix(".") + f", but without the memory order of `{rung.parent}`."
    if chosen.is_free:
        title = f"Exercise {number} starts where exercise {number - 1} ends: with the rung `{rung.name}`."
    own = ast.get_docstring(ast.parse(rung.source()), clean=False) or ""
    return _text(course, version, f"{textwrap.fill(title, LINE)}\n\n{own}")


@dataclass(frozen=True)
class WrittenVersion:
    """A version as a file. step: of a program; empty to have it found."""

    path: Path
    step: str = ""


@contextmanager
def written_versions(course: Course, numbers: Sequence[int]) -> Iterator[list[WrittenVersion]]:
    """Write the code after some exercises (-1: the start) into a folder of its own, with all files that it needs."""
    folder = Path(new_folder("workshop"))
    try:
        for name in course.files:
            (folder / name).write_bytes(course.content(name))
        written = []
        for n in numbers:
            version = version_of(course, n)
            path = folder / version.file_name(n)
            path.write_text(start_text(course) if n < 0 else solution_text(course, n), encoding="utf-8")
            written.append(WrittenVersion(path, _step_in(path, version)))
        yield written
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _step_in(path: Path, version: Version) -> str:
    """Return the step of a version that is written under another name."""
    file, colon, place = version.step.rpartition(":")
    return f"{path.name}:{place}" if colon and file == version.file else version.step


def _text(course: Course, version: Version, docstring: str) -> str:
    if version.file:
        return course.text(version.file)
    text = _adapted(ladder()[version.rung], f'"""{docstring}"""')
    return _with_function(text, version.function, ladder()[version.of]) if version.function else text


def without_parent(rung: Entry) -> str:
    """Return a rung's source without PARENT, which only the catalog needs."""
    docstring = ast.get_docstring(ast.parse(rung.source()), clean=False) or ""
    return _adapted(rung, f'"""{docstring}"""')


def _adapted(rung: Entry, docstring: str) -> str:
    """Return a rung's source with another docstring, and without PARENT."""
    source = rung.source()
    lines = source.splitlines()
    first, *others = ast.parse(source).body
    parent = next(node for node in others if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARENT")
    assert first.end_lineno is not None
    assert parent.end_lineno is not None
    before, after = lines[first.end_lineno : parent.lineno - 1], lines[parent.end_lineno :]
    if before and not before[-1].strip():
        before = before[:-1]  # the blank line above PARENT goes too
    return "\n".join([docstring, *before, *after]) + "\n"


def _with_function(source: str, name: str, rung: Entry) -> str:
    """Return the source with one of its functions replaced by that of another rung."""
    ours, theirs = (_function(text, name, rung) for text in (source, rung.source()))
    assert source.count(ours) == 1
    return source.replace(ours, theirs)


def _function(source: str, name: str, rung: Entry) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_source_segment(source, node) or ""
    raise VariantError(f"the rung {rung.name} has no function {name}; the workshop no longer fits the ladder")
