"""Runs as files for people and for other programs; the end of the file's name picks the format, or --format does.

| --format           | name ends in    | what                                                                    |
| ------------------ | --------------- | ----------------------------------------------------------------------- |
| h5                 | .h5             | the run itself, which every report can be made from (`mlpprof.store`)   |
| json               | .json           | figures and raw samples, as `schemas/profile.schema.json` tells         |
| csv                | .csv            | raw samples, one a row (`samples_csv`)                                  |
| txt                | .txt            | the report of the terminal                                              |
| html               | .html           | one page that tells everything (`report.page`), also of several runs     |
| png, svg           | .png .svg       | one figure (`--figure`, `report.gallery`), also of several runs         |
| speedscope         | .speedscope.json| phases and labels for speedscope, also of several runs                  |
| chrome-trace       | .trace.json     | the same as trace events for Perfetto, also of several runs             |
| line-profiler      | .lprof          | the line view for `python -m line_profiler`                             |
| line-profiler-text | .lprof.txt      | the same as text, with its source                                       |
| pyinstrument       | .pyisession     | the call view for `pyinstrument --load`                                 |

`write_stacks` writes the call view alone, in pyinstrument's own formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.files import write_atomically
from mlpprof.report.export.chrome_trace import chrome_trace_json
from mlpprof.report.export.json_text import json_text
from mlpprof.report.export.pictures import PICTURES, require_picture, write_picture
from mlpprof.report.export.profile_json import profile_json
from mlpprof.report.export.samples_csv import samples_csv
from mlpprof.report.export.speedscope import speedscope_json
from mlpprof.report.story import Story
from mlpprof.report.terminal import report_text
from mlpprof.results import Run
from mlpprof.store import save_run

ENDINGS = {
    ".h5": "h5",
    ".json": "json",
    ".csv": "csv",
    ".txt": "txt",
    ".html": "html",
    ".png": "png",
    ".svg": "svg",
    ".speedscope.json": "speedscope",
    ".trace.json": "chrome-trace",
    ".lprof": "line-profiler",
    ".lprof.txt": "line-profiler-text",
    ".pyisession": "pyinstrument",
}
"""End of a file's name -> format; the longest end that fits is meant."""

FORMATS = tuple(ENDINGS.values())
LINE_FORMATS = ("html", "line-profiler", "line-profiler-text")
"""What shows the line view."""
STACK_FORMATS = ("pyinstrument",)
"""What needs the call view."""

_TEXTS_OF_ONE: dict[str, Callable[[Run], str]] = {
    "json": lambda run: json_text(profile_json(run)),
    "csv": samples_csv,
    "txt": report_text,
    "line-profiler-text": lambda run: _line_profile_text(run),
    "pyinstrument": lambda run: _stacks(run),
}
_TEXTS_OF_SEVERAL: dict[str, Callable[[Sequence[Run]], str]] = {
    "speedscope": lambda runs: json_text(speedscope_json(runs)),
    "chrome-trace": lambda runs: json_text(chrome_trace_json(runs)),
}
STACKS_ENDINGS = (".html", ".speedscope.json", ".pyisession")


def choose_format(path: Path, named: str | None = None, figure: str | None = None) -> str:
    """The format to write a file in, as named or by the end of its name: before time is spent on measuring.

    Raises UsageError for an unknown format or ending, and for a figure that is to be written as something else.
    """
    if named is not None and named not in FORMATS:
        raise UsageError(f"no format '{named}'{did_you_mean(named, FORMATS)} (known: {', '.join(FORMATS)})")
    fitting = [end for end in ENDINGS if path.name.lower().endswith(end) and len(path.name) > len(end)]
    if named is None and not fitting:
        found = f"has extension '{path.suffix}'" if path.suffix else "has no extension"
        raise UsageError(f"cannot write {path}: it {found}; expected one of {', '.join(ENDINGS)}, or --format NAME")
    chosen = named or ENDINGS[max(fitting, key=len)]
    require_picture(figure, path, chosen)
    return chosen


def write_runs(runs: Sequence[Run], path: Path, named: str | None = None, figure: str | None = None) -> Path:
    """Write runs in the format that `choose_format` chooses, replacing what is there; returns the path.

    figure: which one is drawn, of those that `report.gallery` has for the runs; else the most telling one.
    Raises UsageError as `choose_format` does, for several runs in a format of one, where a run lacks the view that is
    asked for, and where the file cannot be written.
    """
    chosen = choose_format(path, named)
    if chosen in PICTURES:
        # which tells an unknown figure with the names of all that these runs have data for
        return write_picture(path, Story.of(runs=runs), figure, chosen)
    require_picture(figure, path, chosen)
    if chosen == "html":
        from mlpprof.report.page.write import write_page

        return write_page(path, runs=runs)
    if chosen in _TEXTS_OF_SEVERAL:
        return _write(path, _TEXTS_OF_SEVERAL[chosen](runs))
    if len(runs) != 1:
        several = ", ".join((*_TEXTS_OF_SEVERAL, "html", *PICTURES))
        raise UsageError(f"cannot write {path}: {chosen} holds one run, not {len(runs)}; of several: {several}")
    (run,) = runs
    if chosen == "h5":
        return save_run(run, path)
    if chosen == "line-profiler":
        from mlpprof.report.export.line_profiler_files import write_line_profile

        with write_atomically(path) as temporary:
            write_line_profile(run, temporary)
        return path
    return _write(path, _TEXTS_OF_ONE[chosen](run))


def _line_profile_text(run: Run) -> str:
    # loading line_profiler takes a while, too
    from mlpprof.report.export.line_profiler_files import line_profile_text

    return line_profile_text(run)


def _stacks(run: Run) -> str:
    if run.stacks is None:
        raise UsageError(f"the run of {run.variant.name} has no call view; profile it with --stacks")
    return run.stacks.session_json


def require_known_stacks_ending(path: Path) -> str:
    """The ending of a file that `write_stacks` can write; raises UsageError for any other, before time is spent."""
    for ending in STACKS_ENDINGS:
        if path.name.lower().endswith(ending):
            return ending
    raise UsageError(
        f"cannot write the call view as {path}; expected a name that ends in {' or '.join(STACKS_ENDINGS)}"
    )


def write_stacks(run: Run, path: Path) -> Path:
    """Write a run's call view as a page, for speedscope or for pyinstrument, by the end of its name; returns the path.

    Raises UsageError for another ending, for a run without a call view, and where the file cannot be written.
    """
    ending = require_known_stacks_ending(path)
    session = _stacks(run)
    if ending == ".pyisession" or run.stacks is None:
        return _write(path, session)
    # loading pyinstrument takes longer than all other formats together
    from mlpprof.report.call_view import call_page, call_speedscope_json

    return _write(path, call_page(run.stacks) if ending == ".html" else call_speedscope_json(run.stacks))


def _write(path: Path, text: str) -> Path:
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
