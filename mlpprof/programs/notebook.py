"""A Jupyter notebook as one program: its code cells in order, with the places of its lines as cells and lines.

Cells are numbered as Jupyter numbers them after "Restart and run all": code cells that are not empty, from 1. What only
Jupyter understands is left out with a note: magics, shell commands and help. Every line keeps its number within its
cell.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from mlpprof.errors import UsageError, counted
from mlpprof.programs.source_lines import lines_of
from mlpprof.results.json import parse
from mlpprof.results.place import Place

FORMAT = 4
"""The version of nbformat that is read. Jupyter has written it since 2014."""

PYTHON = ("python", "ipython", "python3")
"""How notebooks name the language Python."""

CODE_MAGICS = frozenset(("time", "capture", "prun", "lprun", "memit", "snakeviz", "mlpprof"))
"""Cell magics that run their cell in the notebook's own namespace, so that the program needs its code."""

LATE = "mlpprof_observes_the_last_cell"
"""This entry in the metadata of a notebook says that only its last cell is to be observed."""

START = "__mlpprof_start__"
"""The name that a program calls where the cell begins that alone is to be observed."""

VALUES_OF_OPTIONS = {"time": "", "prun": "lsTD", "lprun": "fmsuTD"}
"""Line magic that runs a statement -> the letters of its options that have a value."""

AUTOMAGICS = frozenset(("pip", "conda", "mamba", "uv", "cd", "ls", "ll", "pwd", "cat", "mkdir", "rm", "who", "whos"))
"""Magics that Jupyter also understands without % if they are alone in a cell."""

MAGIC_VALUE = re.compile(r"(?P<targets>[\w\s.,\[\]*]+=\s*)(?P<magic>[%!].*)")
"""An assignment of what a magic or a shell command returns."""

STATEMENT_MARKS = ("%", "!", "?", ",", ";", "/")
"""No Python statement begins with one of these. The last three quote or call in IPython (`/f x` is `f(x)`)."""

CHANGE_FOLDER = re.compile(r"""%cd\s+(?P<quote>["']?)(?P<folder>[^-${}"'][^${}"']*?)(?P=quote)\s*""")
"""The magic that changes the working directory, on which the paths of data depend."""

OWN_MAGICS = ("%mlpprof", "%load_ext mlpprof", "%reload_ext mlpprof")
"""Magics of mlpprof are left out without a note."""

MOST_NAMED = 6
"""A note names at most so many lines."""


@dataclass(frozen=True)
class Cell:
    """A code cell. number: as in `In [number]`. text: as the user wrote it. source: the same lines as plain Python."""

    number: int
    text: str
    source: str


@dataclass(frozen=True)
class Notebook:
    """A notebook as a program.

    source: the cells as one text. notes: sentences about what was left out. starts: for each cell, how many lines of
    `source` come before it. is_late: whether only its last cell is to be observed, which then begins by calling START.
    """

    path: str
    cells: tuple[Cell, ...]
    source: str
    notes: tuple[str, ...]
    starts: tuple[int, ...]
    is_late: bool = False

    def place(self, line: int) -> tuple[int, int]:
        """The cell, and the line within it, of a line of `source` (all counted from 1)."""
        i = max(bisect_right(self.starts, line - 1) - 1, 0)
        return self.cells[i].number, max(line - self.starts[i], 1)

    def line(self, cell: int, line: int) -> int:
        """The line of `source` of a line within a cell. Raises UsageError if there is no such line."""
        for one, start in zip(self.cells, self.starts, strict=True):
            if one.number == cell:
                count = one.source.count("\n")
                if not 1 <= line <= count:
                    raise UsageError(f"cell {cell} of {Path(self.path).name} has {counted(count, 'line')}, not {line}")
                return start + line
        numbers = f"cells 1 to {self.cells[-1].number}" if len(self.cells) > 1 else "cell 1 only"
        raise UsageError(f"{Path(self.path).name} has no cell {cell}; it has {numbers} (empty cells are not counted)")

    def namespace(self) -> dict[str, Any]:
        """The names that Jupyter gives a notebook beyond Python's own."""
        return {"display": _display, "get_ipython": NoShell}


READ: dict[str, Notebook] = {}
"""The notebooks that this process has read, by their resolved paths; for lines of their sources, as Python keeps the
lines of files in `linecache`."""


def place_of(file: str, line: int, shown: str | None = None) -> Place:
    """The place of a line of the program's source; the only way from such a line to a cell.

    file: the name that the source was compiled with. shown: the file as reports show it; None takes its last part.
    """
    name = Path(file).name if shown is None else shown
    notebook = READ.get(file)
    if notebook is None:
        return Place(name, line)
    cell, within = notebook.place(line)
    return Place(name, within, cell)


def parts_of(file: str, source: str, shown: str) -> Iterator[tuple[Place, str]]:
    """The first place, and the text, of each part of a file whose lines are counted on their own."""
    if file not in READ:
        yield Place(shown, 1), source
    else:
        for cell in READ[file].cells:
            yield Place(shown, 1, cell.number), cell.text


def notes_on(files: Iterable[str]) -> list[str]:
    """The sentences about what was left out of those files that are notebooks."""
    return [note for file in files if file in READ for note in READ[file].notes]


def _display(*_objects: Any, **_options: Any) -> None:
    """In place of Jupyter's `display`, because nobody sees what the program shows."""


class NoShell:
    """In place of IPython's shell: it is false, contains nothing, and each of its methods does nothing."""

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> NoShell:
        return self

    def __call__(self, *_arguments: Any, **_options: Any) -> NoShell:
        return self

    def __contains__(self, _item: object) -> bool:
        return False

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def read_notebook(path: str, text: str | None = None) -> Notebook:
    """The notebook in a file as a program; `text` is used in place of what the file contains.

    Raises UsageError if the file is not a notebook of version 4 with Python code, or if its code is not valid Python.
    """
    name = Path(path).name
    document = _document(path, name, text)
    sources = [_joined(name, cell.get("source")) for cell in document["cells"] if cell.get("cell_type") == "code"]
    texts = [source for source in sources if source.strip()]
    if not texts:
        raise UsageError(f"{name} has no code: all of its cells are empty or text. Expected a notebook that trains")
    left_out = _LeftOut()
    cells = tuple(_cell(number, one, left_out) for number, one in enumerate(texts, start=1))
    futures = [_checked(name, cell) for cell in cells]
    metadata = document.get("metadata")
    is_late = isinstance(metadata, dict) and bool(metadata.get(LATE))
    if is_late:
        cells = (*cells[:-1], replace(cells[-1], source=f"{START}(); {cells[-1].source}"))
    # `from __future__` must come first in a program, but may be in any cell of a notebook
    head = f"from __future__ import {', '.join(sorted(set().union(*futures)))}\n" if any(futures[1:]) else ""
    starts, count = [], head.count("\n")
    for cell in cells:
        starts.append(count)
        count += cell.source.count("\n")
    if head:
        cells = tuple(_without_future(cell) if found else cell for cell, found in zip(cells, futures, strict=True))
    source = head + "".join(one.source for one in cells)
    READ[str(Path(path).resolve())] = found = Notebook(
        path, cells, source, left_out.notes(name), tuple(starts), is_late
    )
    return found


def notebook_text(cells: Sequence[str], *, is_late: bool = False) -> str:
    """The file of a notebook with these code cells. is_late: as in `Notebook`; the last one must begin with a magic."""
    written: list[dict[str, Any]] = [
        {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": cell} for cell in cells
    ]
    metadata = {LATE: True} if is_late else {}
    return json.dumps({"cells": written, "metadata": metadata, "nbformat": FORMAT, "nbformat_minor": 5})


def _document(path: str, name: str, text: str | None) -> dict[str, Any]:
    """The checked JSON of a notebook."""
    document: Any
    try:
        document = parse(Path(path).read_text(encoding="utf-8-sig") if text is None else text)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}") from error
    except ValueError as error:  # also what is not UTF-8
        raise UsageError(f"{name} is damaged, or not a notebook: expected JSON, found: {error}") from error
    version = document.get("nbformat") if isinstance(document, dict) else None
    if not isinstance(document, dict) or version is None:
        raise UsageError(f"{name} is not a Jupyter notebook: the entry 'nbformat' is missing")
    if version != FORMAT:
        raise UsageError(
            f"{name} has version {version!r:.40} of the notebook format; expected {FORMAT}. To convert it, type: "
            f"jupyter nbconvert --to notebook --nbformat 4 {name}"
        )
    cells = document.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise UsageError(f"{name} is damaged: it has no list of cells")
    language = _language(document.get("metadata"))
    if language is not None and language.lower() not in PYTHON:
        raise UsageError(f"{name} is written in {language}; mlpprof runs notebooks in Python only")
    return document


def _language(metadata: Any) -> str | None:
    """The language that a notebook names; None if it names none."""
    for entry, key in (("language_info", "name"), ("kernelspec", "language")):
        found = metadata.get(entry) if isinstance(metadata, dict) else None
        if isinstance(found, dict) and isinstance(found.get(key), str):
            return str(found[key])
    return None


def _joined(name: str, source: Any) -> str:
    """The text of a cell, which is stored as one string or as a list of lines. Its lines end in a newline."""
    lines = source or [] if isinstance(source, list | None) else [source]
    if not all(isinstance(line, str) for line in lines):
        raise UsageError(f"{name} is damaged: the source of a cell is {source!r:.40}, and expected was text")
    text = "".join(lines)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") else f"{text}\n"


@dataclass
class _LeftOut:
    """What was left out, for the notes. lines: text and place. cells: cell magic and cell."""

    lines: list[tuple[str, int, int]] = field(default_factory=list)
    cells: list[tuple[str, int]] = field(default_factory=list)

    def notes(self, name: str) -> tuple[str, ...]:
        notes = []
        if self.lines:
            shown = [f"`{text}` (cell {cell}:{line})" for text, cell, line in self.lines]
            notes.append(f"mlpprof left out of {name} what only Jupyter understands: {_listed(shown)}")
        if self.cells:
            shown = [f"cell {cell} (`{magic}`)" for magic, cell in self.cells]
            notes.append(f"mlpprof left out whole cells of {name}, because of their magics: {_listed(shown)}")
        return tuple(notes)


def _listed(shown: Sequence[str]) -> str:
    more = len(shown) - MOST_NAMED
    return ", ".join(shown[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


def _cell(number: int, text: str, left_out: _LeftOut) -> Cell:
    """A cell as plain Python, with the same number of lines."""
    lines = _unindented(text.removesuffix("\n").split("\n"))
    if _is_automagic(lines):
        left_out.lines.append((lines[0].strip(), number, 1))
        return Cell(number, text, f"pass  # {lines[0]}\n")
    i = next(i for i, line in enumerate(lines) if line.strip())
    while i < len(lines) and lines[i].startswith("%%"):
        if _magic_name(lines[i]) not in CODE_MAGICS:
            left_out.cells.append((lines[i].strip(), number))
            return Cell(number, text, "".join(f"# {line}".rstrip() + "\n" for line in lines))
        if not lines[i].startswith("%%mlpprof"):
            left_out.lines.append((lines[i].strip(), number, i + 1))
        lines[i] = f"# {lines[i]}"
        i += 1
    return Cell(number, text, "".join(f"{line}\n" for line in _plain_lines(lines, number, left_out)))


def _unindented(lines: list[str]) -> list[str]:
    """The lines without the indentation that all of them have, as IPython runs a cell."""
    first = next(line for line in lines if line.strip())
    return textwrap.dedent("\n".join(lines)).split("\n") if first[0].isspace() else lines


def _is_automagic(lines: list[str]) -> bool:
    """Whether a cell of one line is a magic without its %."""
    if len(lines) > 1 or lines[0].split()[0] not in AUTOMAGICS:
        return False
    try:
        tree = ast.parse(lines[0])
    except SyntaxError:
        return True
    match tree.body:
        case [ast.Expr(value=ast.Name())]:  # such as `ls`; as Python, it would do nothing
            return True
    return False


def _plain_lines(lines: list[str], number: int, left_out: _LeftOut) -> Iterator[str]:
    """The lines as Python. A magic becomes `pass`, so that a block around it still has a statement."""
    scanner, i = _Scanner(), 0
    while i < len(lines):
        line = lines[i]
        if scanner.is_within or not line.strip():
            scanner.scan(line)
        elif _is_magic(line):
            last = i
            while lines[last].endswith("\\") and last + 1 < len(lines):
                last += 1
            named, plain = _without_magic(lines[i : last + 1])
            if not named.startswith(OWN_MAGICS):
                left_out.lines.append((named, number, i + 1))
            yield from plain
            i = last + 1
            continue
        else:
            code = scanner.scan(line).rstrip()
            if code.endswith("?") and not scanner.is_within:
                named, (line,) = _without_magic([line])
                left_out.lines.append((named, number, i + 1))
        yield line
        i += 1


def _is_magic(line: str) -> bool:
    return line.lstrip().startswith(STATEMENT_MARKS) or MAGIC_VALUE.fullmatch(line) is not None


def _without_magic(lines: list[str]) -> tuple[str, list[str]]:
    """What is left out of the lines of a magic, and these lines as Python: the statement that it runs, or `pass`."""
    first, rest = lines[0], lines[1:]
    stripped = first.lstrip()
    indent = first[: len(first) - len(stripped)]
    value = MAGIC_VALUE.fullmatch(stripped)
    targets, magic = (value["targets"], value["magic"]) if value else ("", stripped)
    statement = _statement(magic)
    if statement:
        return f"%{_magic_name(magic)}", [f"{indent}{targets}{statement}", *rest]
    text = stripped.rstrip("\\").rstrip()
    return text, [f"{indent}pass  # {text}", *(f"# {line}".rstrip("\\").rstrip() for line in rest)]


def _magic_name(text: str) -> str:
    return re.split(r"\s", text.lstrip("%"), maxsplit=1)[0]


def _statement(magic: str) -> str:
    """The statement that a line magic runs in the namespace of the notebook; '' for other magics."""
    name = _magic_name(magic)
    folder = CHANGE_FOLDER.fullmatch(magic)
    if folder is not None:
        return f"__import__('os').chdir(__import__('os').path.expanduser({folder['folder']!r}))"
    if not magic.startswith("%") or magic.startswith("%%") or name not in VALUES_OF_OPTIONS:
        return ""
    rest = magic[1:].removeprefix(name).lstrip()
    while match := re.match(r"--?(\w)[\w-]*\s+", rest):
        rest = rest[match.end() :]
        if match[0].strip() == f"-{match[1]}" and match[1] in VALUES_OF_OPTIONS[name]:
            rest = re.sub(r"\S+\s*", "", rest, count=1)
    return rest


class _Scanner:
    """Follows the strings, brackets and continued lines of a cell, so that `%` within one is not taken for a magic."""

    TOKEN = re.compile(r"""\#.*|\"{3}|'{3}|["']|[(\[{]|[)\]}]|\\$""")

    def __init__(self) -> None:
        self._quote, self._depth, self._continued = "", 0, False

    @property
    def is_within(self) -> bool:
        """Whether the next line continues a statement."""
        return bool(self._quote) or self._depth > 0 or self._continued

    def scan(self, line: str) -> str:
        """Follow one line, and return it without its comment."""
        self._continued = False
        at = self._end_of_string(line, 0) if self._quote else 0
        while match := self.TOKEN.search(line, at):
            token, at = match[0], match.end()
            if token.startswith("#"):
                return line[: match.start()]
            if token == "\\":
                self._continued = True
            elif token[0] in "\"'":
                self._quote = token
                at = self._end_of_string(line, at)
            else:
                self._depth = max(self._depth + (1 if token in "([{" else -1), 0)
        return line

    def _end_of_string(self, line: str, at: int) -> int:
        """Where the open string ends; at the end of the line if it goes on, or if its quote is missing."""
        for match in re.compile(rf"\\(.|$)|{self._quote}").finditer(line, at):
            if match[0] == self._quote:
                self._quote = ""
                return match.end()
            if match[0] == "\\":  # the string goes on in the next line
                return len(line)
        if len(self._quote) == 1:
            self._quote = ""
        return len(line)


def _checked(name: str, cell: Cell) -> set[str]:
    """The names of its `from __future__` imports. Raises UsageError if a cell is not valid Python."""
    try:
        tree = ast.parse(cell.source)
        waiting = next(_waits(tree), None)
        if waiting is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the program itself shows them
                compile(cell.source, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        place = Place(name, error.lineno or 1, cell.number)
        raise UsageError(f"{place.text}: SyntaxError: {error.msg}") from error
    except ValueError as error:  # a null character
        raise UsageError(f"{Place(name, 1, cell.number).text}: {error}") from error
    if waiting is not None:
        raise UsageError(
            f"{Place(name, waiting.lineno, cell.number).text}: `await` outside of a function works in Jupyter only. "
            "Put it into `async def main(): ...`, and call asyncio.run(main())"
        )
    return {alias.name for node in tree.body if _is_future(node) for alias in node.names}


def _is_future(node: ast.stmt) -> TypeGuard[ast.ImportFrom]:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.level == 0


def _waits(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Where code outside of functions awaits something."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _waits(child)


def _without_future(cell: Cell) -> Cell:
    """The cell whose `from __future__` imports are at the head of the program instead."""
    lines = cell.source.split("\n")
    for node in ast.parse(cell.source).body:
        if _is_future(node):
            end = node.end_lineno or node.lineno
            first, last = lines[node.lineno - 1].encode(), lines[end - 1].encode()
            before, after = first[: node.col_offset].decode(), last[node.end_col_offset :].decode()
            lines[node.lineno - 1 : end] = [f"{before}pass{after}", *([""] * (end - node.lineno))]
    return Cell(cell.number, cell.text, "\n".join(lines))


@dataclass(frozen=True)
class SourceEdit:
    """Lines of the program's source that are replaced: those from `start` up to but without `stop`, 0-based."""

    start: int
    stop: int
    lines: tuple[str, ...]


def with_edits(path: str, text: str, edits: Iterable[SourceEdit]) -> str:
    """The file of a notebook whose cells contain these edits of its source; all else stays as it is.

    text: the file as it was when its source was read. Edits must not overlap. Raises as `read_notebook`.
    """
    notebook = read_notebook(path, text)
    by_cell: dict[int, list[SourceEdit]] = {}
    for edit in edits:
        by_cell.setdefault(notebook.place(edit.start + 1)[0], []).append(edit)
    document = json.loads(text)
    code = [one for one in document["cells"] if one.get("cell_type") == "code"]
    stored = [one for one in code if _joined(path, one.get("source")).strip()]
    for cell, start, entry in zip(notebook.cells, notebook.starts, stored, strict=True):
        if cell.number not in by_cell:
            continue
        lines = re.findall(r".*\n", cell.text)
        for edit in sorted(by_cell[cell.number], key=lambda one: (one.start, one.stop), reverse=True):
            first = max(edit.start - start, 0)
            lines[first : max(edit.stop - start, first)] = edit.lines
        changed = "".join(lines)
        if not "".join(entry["source"]).endswith("\n"):
            changed = changed.removesuffix("\n")
        entry["source"] = lines_of(changed)
    indent = re.match(r"\{\n(\s+)", text)
    written = json.dumps(
        document, indent=len(indent[1]) if indent else None, ensure_ascii=text.isascii() and "\\u" in text
    )
    return f"{written}\n" if text.endswith("\n") else written
