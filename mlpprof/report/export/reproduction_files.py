"""A folder with everything of a reproduction: report.txt, reproduction.json, and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlpprof.claims import Reproduction
from mlpprof.errors import MissingExtra, UsageError
from mlpprof.files import write_atomically
from mlpprof.report.export.json_text import json_text
from mlpprof.report.export.reproduce_json import kept_json
from mlpprof.report.reproduction import reproductions_text


def require_folder(folder: Path) -> None:
    """Make the folder if it is not there; raises UsageError where it cannot be made, before time is spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}; choose another with -o") from error


def write_reproductions(reproductions: Sequence[Reproduction], folder: Path, command: str, created: str) -> list[Path]:
    """Write report and data, then the figures; returns the paths.

    Raises MissingExtra, once the rest is written, where there are figures to draw and no matplotlib.
    """
    report, data = folder / "report.txt", folder / "reproduction.json"
    with write_atomically(report) as temporary:
        text = f"{command}\n{created}\n\n{reproductions_text(reproductions)}"
        temporary.write_text(text, encoding="utf-8", newline="\n")
    with write_atomically(data) as temporary:
        temporary.write_text(json_text(kept_json(reproductions, command, created)), encoding="utf-8", newline="\n")
    written = [report, data]
    figures = [figure for one in reproductions for figure in one.figures]
    if figures:
        try:
            # matplotlib is an extra, and takes longer to load than the rest of the command
            from mlpprof.report.reproduction_figures import write_figure
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"the figures were not drawn, as {error.name} is not installed: pip install 'mlpprof[figures]'"
            ) from error
        for figure in figures:
            written += write_figure(figure, folder)
    return written
