"""Comparisons and ladders as files for people and for other programs.

| comparison: --format     | extension | what                                                                    |
| ------------------------ | --------- | ----------------------------------------------------------------------- |
| json                     | .json     | figures and raw timings, as `schemas/compare.schema.json` tells         |
| csv                      | .csv      | a row a comparison                                                      |
| pytest-benchmark         |           | what `pytest-benchmark compare` reads                                   |
| github-action-benchmark  |           | for its tool `customSmallerIsBetter`                                    |
| by the extension alone   | .html     | one page that tells everything (`report.page`)                          |
| by the extension alone   | .png .svg | the ratios with their intervals                                         |

A ladder is written as .html, .json (`schemas/ladder.schema.json`), .csv, .png or .svg.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.files import write_atomically
from mlpprof.report.export.comparison_csv import comparisons_csv, ladders_csv
from mlpprof.report.export.comparison_json import comparison_json
from mlpprof.report.export.github_action import github_action_json
from mlpprof.report.export.json_text import json_text
from mlpprof.report.export.ladder_json import ladder_json
from mlpprof.report.export.pictures import PICTURES, require_picture, write_picture
from mlpprof.report.export.pytest_benchmark import pytest_benchmark_json
from mlpprof.report.story import Story
from mlpprof.results import Comparison, Ladder

__all__ = [
    "comparison_json",
    "ladder_json",
    "require_comparison_format",
    "require_ladder_extension",
    "write_comparisons",
    "write_ladders",
]

_COMPARISON_TEXTS: dict[str, Callable[[Sequence[Comparison]], str]] = {
    "json": lambda comparisons: json_text([comparison_json(one) for one in comparisons]),
    "csv": comparisons_csv,
    "pytest-benchmark": lambda comparisons: json_text(pytest_benchmark_json(comparisons)),
    "github-action-benchmark": lambda comparisons: json_text(github_action_json(comparisons)),
}
_LADDER_TEXTS: dict[str, Callable[[Sequence[Ladder]], str]] = {
    ".json": lambda ladders: json_text([ladder_json(one) for one in ladders]),
    ".csv": ladders_csv,
}

COMPARISON_FORMATS = tuple(_COMPARISON_TEXTS)
LADDER_EXTENSIONS = (".html", *_LADDER_TEXTS, *(f".{picture}" for picture in PICTURES))


def require_comparison_format(path: Path, file_format: str | None, figure: str | None = None) -> str:
    """The format to write, as named or by the extension; raises UsageError for any other, before time is spent.

    figure: raises as `require_picture` does.
    """
    chosen = _comparison_format(path, file_format)
    require_picture(figure, path, chosen)
    return chosen


def _comparison_format(path: Path, file_format: str | None) -> str:
    if file_format is not None:
        if file_format not in COMPARISON_FORMATS:
            raise UsageError(
                f"no format '{file_format}'{did_you_mean(file_format, COMPARISON_FORMATS)} "
                f"(known: {', '.join(COMPARISON_FORMATS)})"
            )
        return file_format
    by_extension = path.suffix.lower().removeprefix(".")
    if by_extension not in ("json", "csv", "html", *PICTURES):
        raise UsageError(
            f"cannot tell the format of {path}; name it .html, .json, .csv, .png or .svg, "
            f"or use --format ({', '.join(COMPARISON_FORMATS)})"
        )
    return by_extension


def write_comparisons(
    comparisons: Sequence[Comparison], path: Path, file_format: str, figure: str | None = None
) -> Path:
    """Write comparisons in a format that `require_comparison_format` has given; returns the path.

    figure: the one that a picture shows, else the ratios. Raises UsageError where there is no such figure, and where
    the file cannot be written.
    """
    if file_format == "html":
        from mlpprof.report.page.write import write_page

        return write_page(path, comparisons=comparisons)
    if file_format in PICTURES:
        return write_picture(path, Story.of(comparisons=comparisons), figure, file_format)
    return _write(path, _COMPARISON_TEXTS[file_format](comparisons))


def require_ladder_extension(path: Path, figure: str | None = None) -> str:
    """The extension of a file that `write_ladders` can write; raises UsageError for any other.

    figure: raises as `require_picture` does.
    """
    extension = path.suffix.lower()
    if extension not in LADDER_EXTENSIONS:
        found = f"has extension '{path.suffix}'" if path.suffix else "has no extension"
        raise UsageError(f"cannot write {path}: it {found}; expected one of {', '.join(LADDER_EXTENSIONS)}")
    require_picture(figure, path, extension.removeprefix("."))
    return extension


def write_ladders(ladders: Sequence[Ladder], path: Path, figure: str | None = None) -> Path:
    """Write ladders in the format of the path's extension; returns the path.

    figure: the one that a picture shows, else the speedups of the first ladder. Raises UsageError for an extension or a
    figure that is not known, and where the file cannot be written.
    """
    extension = require_ladder_extension(path)
    if extension == ".html":
        from mlpprof.report.page.write import write_page

        return write_page(path, ladders=ladders)
    if extension.removeprefix(".") in PICTURES:
        return write_picture(path, Story.of(ladders=ladders), figure, extension.removeprefix("."))
    return _write(path, _LADDER_TEXTS[extension](ladders))


def _write(path: Path, text: str) -> Path:
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
