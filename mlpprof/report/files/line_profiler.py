"""The line view of a run in line_profiler's own formats: its file, and the text that it prints.

The file (.lprof, for `python -m line_profiler`) is a pickle, as line_profiler defines it; mlpprof writes one and never
loads one. It holds the name of the variant's file, because the reader prints the lines of that file beside the times.
The name has a path if the file that was measured is found and unchanged, as the catalog's own variants are; otherwise
the reader looks for the file in the working directory. The text (.lprof.txt) contains the source that was measured,
and is the better one to pass on.
"""

from __future__ import annotations

import ast
import io
import linecache
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from line_profiler import LineProfiler, show_text

from mlpprof.catalog import find
from mlpprof.errors import MlpprofError, UsageError
from mlpprof.report.terminal.profile import by_file, source_of
from mlpprof.results import LineProfile, Run

UNIT_S = 1e-9
"""The times in the file are whole numbers of this unit."""

Timings = dict[tuple[str, int, str], list[tuple[int, int, int]]]
"""(file, first line, qualified name) of a function -> (line, hits, ticks)."""


def line_profile_bytes(run: Run) -> bytes:
    """line_profiler's file. Raises UsageError for a run without a line view."""
    stats_class = type(LineProfiler().get_stats())
    timings: Timings = {}
    for file, lines in by_file(_line_view(run)):
        timings |= _timings(lines, source_of(run, file), _measured_file(run, file))
    stored = _Stored(stats_class(timings, UNIT_S))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.lprof"
        stored.dump_stats(str(path))
        return path.read_bytes()


def line_profile_text(run: Run) -> str:
    """What line_profiler prints, with the source that was measured. Raises UsageError for a run without a line view."""
    return "".join(
        _file_text(lines, source_of(run, file), file or f"{run.variant.name}.py")
        for file, lines in by_file(_line_view(run))
    )


def _file_text(view: LineProfile, source: str, file: str) -> str:
    # line_profiler takes this name for generated code and asks linecache for its lines
    name = f"<generated {file}>"
    lines = [line + "\n" for line in source.splitlines()]
    linecache.cache[name] = (len(source), None, lines, name)
    try:
        text = io.StringIO()
        show_text(_timings(view, source, name), UNIT_S, output_unit=1e-6, stream=text)
    finally:
        del linecache.cache[name]
    return text.getvalue().replace(name, file)


class _Stored(LineProfiler):
    """A profiler that has finished; its own method writes the file in the format of its version."""

    def __init__(self, stats: Any) -> None:
        super().__init__()
        self._stats = stats

    def get_stats(self) -> Any:
        return self._stats


def _line_view(run: Run) -> LineProfile:
    if run.lines is None:
        raise UsageError(f"the run of {run.variant.name} has no line view; profile it with --lines")
    return run.lines


def _timings(view: LineProfile, source: str, file: str) -> Timings:
    """The timed lines of every function; line_profiler has no place for lines outside of functions."""
    found: Timings = {}
    functions = list(_functions(ast.parse(source)))
    for line in view.lines:
        for first, last, name in functions:
            if first <= line.line <= last:
                entries = found.setdefault((file, first, name), [])
                entries.append((line.line, line.hits, round(line.time_s / UNIT_S)))
                break
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    """First line (of the first decorator, if there is one), last line and qualified name of functions and methods."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef):
                first = min([member.lineno, *(decorator.lineno for decorator in member.decorator_list)])
                yield first, member.end_lineno or member.lineno, prefix + member.name


def _measured_file(run: Run, file: str) -> str:
    """The path of a file for the reader: absolute if the file is found and unchanged."""
    if file:
        path = Path(file)
        is_same = path.is_file() and path.read_text(encoding="utf-8", errors="replace") == source_of(run, file)
        return str(path.resolve()) if is_same else file
    try:
        entry = find(run.variant.name)
        if entry.source() == run.variant.source:
            return str(entry.path)
    except MlpprofError:  # a file of the user's, or a variant that has gone since
        pass
    return f"{run.variant.name}.py"
