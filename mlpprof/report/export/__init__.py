"""Runs as files for people and for other programs; the extension of the file picks the format.

| extension | what                                                                    |
| --------- | ----------------------------------------------------------------------- |
| .h5       | the run itself, which every report can be made from (`mlpprof.store`)   |
| .json     | figures and raw samples, as `schemas/profile.schema.json` tells         |
| .csv      | raw samples, one a row (`samples_csv`)                                  |
| .txt      | the report of the terminal                                              |

`write_stacks` writes the call view alone, in pyinstrument's own formats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlpprof.errors import UsageError
from mlpprof.files import write_atomically
from mlpprof.report.export.json_text import json_text
from mlpprof.report.export.profile_json import profile_json
from mlpprof.report.export.samples_csv import samples_csv
from mlpprof.report.terminal import report_text
from mlpprof.results import Run
from mlpprof.store import save_run

_TEXTS: dict[str, Callable[[Run], str]] = {
    ".json": lambda run: json_text(profile_json(run)),
    ".csv": samples_csv,
    ".txt": report_text,
}

EXTENSIONS = (".h5", *_TEXTS)
STACKS_EXTENSIONS = (".html", ".speedscope.json")


def require_known_extension(path: Path) -> str:
    """The extension of a file that `write_run` can write; raises UsageError for any other, before time is spent."""
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        found = f"has extension '{path.suffix}'" if path.suffix else "has no extension"
        raise UsageError(f"cannot write {path}: it {found}; expected one of {', '.join(EXTENSIONS)}")
    return extension


def write_run(run: Run, path: Path) -> Path:
    """Write a run in the format of the path's extension, replacing what is there; returns the path.

    Raises UsageError for an extension that is not known, and where the file cannot be written.
    """
    extension = require_known_extension(path)
    if extension == ".h5":
        return save_run(run, path)
    text = _TEXTS[extension](run)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def require_known_stacks_extension(path: Path) -> str:
    """The extension of a file that `write_stacks` can write; raises UsageError for any other, before time is spent."""
    for extension in STACKS_EXTENSIONS:
        if path.name.lower().endswith(extension):
            return extension
    raise UsageError(
        f"cannot write the call view as {path}; expected a name that ends in {' or '.join(STACKS_EXTENSIONS)}"
    )


def write_stacks(run: Run, path: Path) -> Path:
    """Write a run's call view as a page or for speedscope, by the path's extension; returns the path.

    Raises UsageError for another extension, for a run without a call view, and where the file cannot be written.
    """
    extension = require_known_stacks_extension(path)
    if run.stacks is None:
        raise UsageError(f"the run of {run.variant.name} has no call view; profile it with --stacks")
    # loading pyinstrument takes longer than all other formats together
    from mlpprof.report.call_view import call_page, speedscope_json

    text = call_page(run.stacks) if extension == ".html" else speedscope_json(run.stacks)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
