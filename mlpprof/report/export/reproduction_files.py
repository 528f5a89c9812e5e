"""A folder with everything of a reproduction: report.txt, reproduction.json, and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlpprof.claims import Reproduction
from mlpprof.errors import MissingExtra
from mlpprof.files import make_folder, write_atomically
from mlpprof.report.export.json_text import json_text
from mlpprof.report.export.reproduce_json import kept_json
from mlpprof.report.reproduction import reproductions_text


def write_reproductions(reproductions: Sequence[Reproduction], folder: Path, command: str, created: str) -> list[Path]:
    """Write report and data, then the figures, into a folder that is made if it is missing; returns the paths.

    Raises UsageError where a file cannot be written, and MissingExtra, once the rest is written, where there are
    figures to draw and no matplotlib.
    """
    make_folder(folder)
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
