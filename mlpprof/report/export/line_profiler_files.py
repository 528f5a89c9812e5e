"""The line view in line_profiler's own forms: its file for `python -m line_profiler`, and the text that this prints.

Its file (.lprof) is a pickle, as line_profiler defines it; mlpprof writes one and never loads one. It names the
variant's file, whose lines the reader prints beside the times: with its path where the file that was measured is found
and unchanged, as for the catalog's own variants, else by its name alone, for which the reader looks in the working
directory. The text (.lprof.txt) holds the source that was measured, and is the form to pass on.
"""

from __future__ import annotations

import ast
import io
import linecache
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from line_profiler import LineProfiler, show_text

from mlpprof.catalog import find
from mlpprof.errors import MlpprofError, UsageError
from mlpprof.results import LineProfile, Run

UNIT_S = 1e-9
"""A tick of the times in the file."""

Timings = dict[tuple[str, int, str], list[tuple[int, int, int]]]
"""(file, first line, qualified name) of a function -> (line, hits, ticks)."""


def write_line_profile(run: Run, path: Path) -> None:
    """Write the line view as line_profiler's file. Raises UsageError for a run without one."""
    timings = _timings(run, _measured_file(run))
    stats_class = type(LineProfiler().get_stats())
    _Stored(stats_class(timings, UNIT_S)).dump_stats(str(path))


def line_profile_text(run: Run) -> str:
    """What line_profiler prints for the line view, with the source that was measured. Raises UsageError without one."""
    file = f"{run.variant.name}.py"
    # a name that line_profiler takes for generated code, whose lines it asks linecache for
    name = f"<generated {file}>"
    lines = [line + "\n" for line in run.variant.source.splitlines()]
    linecache.cache[name] = (len(run.variant.source), None, lines, name)
    try:
        text = io.StringIO()
        show_text(_timings(run, name), UNIT_S, output_unit=1e-6, stream=text)
    finally:
        del linecache.cache[name]
    return text.getvalue().replace(name, file)


class _Stored(LineProfiler):
    """A profiler that has finished, so that its own method writes the file, whatever the version."""

    def __init__(self, stats: Any) -> None:
        super().__init__()
        self._stats = stats

    def get_stats(self) -> Any:
        """What was stored."""
        return self._stats


def line_profile_of(run: Run) -> LineProfile:
    """The line view of a run. Raises UsageError where it has none."""
    if run.lines is None:
        raise UsageError(f"the run of {run.variant.name} has no line view; profile it with --lines")
    return run.lines


def _timings(run: Run, file: str) -> Timings:
    """Lines by the function that they are in; those in none are left out, as line_profiler knows functions only."""
    found: Timings = {}
    functions = list(_functions(ast.parse(run.variant.source)))
    for line in line_profile_of(run).lines:
        for first, last, name in functions:
            if first <= line.line <= last:
                entries = found.setdefault((file, first, name), [])
                entries.append((line.line, line.hits, round(line.time_s / UNIT_S)))
                break
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    """First line (a decorator's, where there is one), last line and qualified name of functions and methods."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef):
                first = min([member.lineno, *(decorator.lineno for decorator in member.decorator_list)])
                yield first, member.end_lineno or member.lineno, prefix + member.name


def _measured_file(run: Run) -> str:
    try:
        entry = find(run.variant.name)
        if entry.source() == run.variant.source:
            return str(entry.path)
    except MlpprofError:  # a file of the user's, or a variant that has gone since
        pass
    return f"{run.variant.name}.py"
