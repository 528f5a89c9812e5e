"""Runs as files for people and for other programs; the end of the file's name picks the format, or --format does.

| --format           | name ends in    | what                                                                    |
| ------------------ | --------------- | ----------------------------------------------------------------------- |
| h5                 | .h5             | the run itself, which every report can be made from (`results.on_disk`)   |
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

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from mlpprof import __version__
from mlpprof.errors import MissingExtra, UsageError, did_you_mean
from mlpprof.files import make_folder, write_atomically
from mlpprof.report.files.csv_tables import comparisons_csv, ladders_csv, samples_csv
from mlpprof.report.files.other_tools import github_action_json, pytest_benchmark_json
from mlpprof.report.files.traces import chrome_trace_json, speedscope_json
from mlpprof.report.json_documents import (
    advice_json,
    comparison_json,
    kept_json,
    ladder_json,
    profile_json,
    step_profile_csv,
    step_profile_json,
)
from mlpprof.report.story import Story
from mlpprof.report.terminal.advise import print_advice, print_step_profile
from mlpprof.report.terminal.peers import peers_markdown, peers_text
from mlpprof.report.terminal.profile import TEXT_WIDTH, report_text
from mlpprof.report.terminal.reproduce import reproductions_text
from mlpprof.results import Comparison, Ladder, Run, Verdict
from mlpprof.results.advice import Advice
from mlpprof.results.json import json_text, without_nan
from mlpprof.results.on_disk import save_run
from mlpprof.results.peers import Competitor, PeersRow, PeersTable
from mlpprof.results.reproduction import Reproduction
from mlpprof.results.step_profile import StepProfile

# One figure as a file, of those that `report.gallery` has data for.


PICTURES = ("png", "svg")


def require_picture(figure: str | None, path: Path, file_format: str) -> None:
    """Raise UsageError for a figure that no data could give, or that is to be written as something else."""
    if figure is None:
        return
    if file_format not in PICTURES:
        raise UsageError(f"--figure {figure} is drawn as .png or .svg, but {path} is to be {file_format}; name it so")
    # loading matplotlib takes longer than writing all other formats together
    from mlpprof.report.figures.gallery import require_known_kind

    require_known_kind(figure)


def write_picture(path: Path, story: Story, figure: str | None, file_format: str) -> Path:
    """Draw a figure, else the most telling one, as "png" or "svg"; returns the path.

    Raises UsageError that tells the names there are, and where the file cannot be written.
    """
    from mlpprof.report.figures.gallery import write_figure

    return write_figure(path, story, figure, file_format)


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
        from mlpprof.report.page.page import write_page

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
        from mlpprof.report.files.other_tools import write_line_profile

        with write_atomically(path) as temporary:
            write_line_profile(run, temporary)
        return path
    return _write(path, _TEXTS_OF_ONE[chosen](run))


def _line_profile_text(run: Run) -> str:
    # loading line_profiler takes a while, too
    from mlpprof.report.files.other_tools import line_profile_text

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
    from mlpprof.report.terminal.profile import call_page, call_speedscope_json

    return _write(path, call_page(run.stacks) if ending == ".html" else call_speedscope_json(run.stacks))


def _write(path: Path, text: str) -> Path:
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


# Comparisons and ladders as files for people and for other programs.
#
# | comparison: --format     | extension | what                                                                    |
# | ------------------------ | --------- | ----------------------------------------------------------------------- |
# | json                     | .json     | figures and raw timings, as `schemas/compare.schema.json` tells         |
# | csv                      | .csv      | a row a comparison                                                      |
# | pytest-benchmark         |           | what `pytest-benchmark compare` reads                                   |
# | github-action-benchmark  |           | for its tool `customSmallerIsBetter`                                    |
# | by the extension alone   | .html     | one page that tells everything (`report.page`)                          |
# | by the extension alone   | .png .svg | the ratios with their intervals                                         |
#
# A ladder is written as .html, .json (`schemas/ladder.schema.json`), .csv, .png or .svg.


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
        from mlpprof.report.page.page import write_page

        return write_page(path, comparisons=comparisons)
    if file_format in PICTURES:
        return write_picture(path, Story.of(comparisons=comparisons), figure, file_format)
    return _write_comparison(path, _COMPARISON_TEXTS[file_format](comparisons))


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
        from mlpprof.report.page.page import write_page

        return write_page(path, ladders=ladders)
    if extension.removeprefix(".") in PICTURES:
        return write_picture(path, Story.of(ladders=ladders), figure, extension.removeprefix("."))
    return _write_comparison(path, _LADDER_TEXTS[extension](ladders))


def _write_comparison(path: Path, text: str) -> Path:
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


# Findings, and the profile of a program's own step, as files; the end of the file's name picks the format.
#
# | name ends in | findings                       | step profile                            |
# | ------------ | ------------------------------ | --------------------------------------- |
# | .html        | one page (`report.page.advice`)|                                         |
# | .json        | `schemas/advice.schema.json`   | `schemas/step.schema.json`              |
# | .csv         |                                | raw samples, one a row                  |
# | .txt         | the report of the terminal     | the report of the terminal              |


def write_advice(path: Path, advice: Advice) -> Path:
    """Write findings, replacing what is there; returns the path.

    Raises UsageError as `require_advice_ending`, and where the file cannot be written.
    """
    return _write_advice(path, _ADVICE_TEXTS[require_advice_ending(path)](advice))


def write_step_profile(path: Path, profile: StepProfile) -> Path:
    """Write a step profile, replacing what is there; returns the path.

    Raises UsageError as `require_step_ending`, and where the file cannot be written.
    """
    return _write_advice(path, _STEP_TEXTS[require_step_ending(path)](profile))


def require_advice_ending(path: Path) -> str:
    """The ending of a file that `write_advice` can write; raises UsageError for any other, before time is spent."""
    return _ending(path, _ADVICE_TEXTS)


def require_step_ending(path: Path) -> str:
    """The ending of a file that `write_step_profile` can write; raises UsageError for any other."""
    return _ending(path, _STEP_TEXTS)


def _ending(path: Path, known: Iterable[str]) -> str:
    ending = path.suffix.lower()
    if ending not in known:
        found = f"has extension '{path.suffix}'" if path.suffix else "has no extension"
        raise UsageError(f"cannot write {path}: it {found}; expected one of {', '.join(known)}")
    return ending


def _advice_page(advice: Advice) -> str:
    # drawing needs matplotlib, which takes a while to load
    from mlpprof.report.page.advice import advice_html

    return advice_html(advice)


def _printed(show: Callable[[Console], None]) -> str:
    """What is printed on a console, as text without colours, whatever the environment says."""
    buffer = io.StringIO()
    show(Console(file=buffer, width=TEXT_WIDTH, color_system=None, force_terminal=False, force_jupyter=False))
    return buffer.getvalue()


def _write_advice(path: Path, text: str) -> Path:
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


_ADVICE_TEXTS: dict[str, Callable[[Advice], str]] = {
    ".html": _advice_page,
    ".json": lambda advice: json_text(advice_json(advice)),
    ".txt": lambda advice: _printed(lambda console: print_advice(advice, console)),
}
_STEP_TEXTS: dict[str, Callable[[StepProfile], str]] = {
    ".json": lambda profile: json_text(step_profile_json(profile)),
    ".csv": step_profile_csv,
    ".txt": lambda profile: _printed(lambda console: print_step_profile(profile, console)),
}


# A folder with everything of `mlpprof peers`: table.txt, README.md, peers.json, and the figure.


SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""
DESCRIPTION = "Dots on a logarithmic axis: the best variant of the project over the best framework, row by row: "


def peers_json(table: PeersTable) -> dict[str, Any]:
    """The table as plain JSON with the raw timings of every turn; times in seconds; null where a slow one sat out."""
    document = {
        "schema": SCHEMA,
        "mlpprof": __version__,
        "created": table.created,
        "command": table.command,
        "quick": table.quick,
        "replicates": table.replicates,
        "machine": table.machine,
        "rows": [_row(row) for row in table.rows],
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def write_peers(table: PeersTable, folder: Path) -> list[Path]:
    """Write all files into a folder, made if it is missing; returns their paths. Raises UsageError where that fails."""
    make_folder(folder)
    texts = {
        "table.txt": peers_text(table),
        "README.md": f"# Against the frameworks\n\n{peers_markdown(table)}\n![ratios](peers.png)\n",
        "peers.json": json_text(peers_json(table)),
    }
    written = []
    for name, text in texts.items():
        with write_atomically(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
        written.append(folder / name)
    return [*written, *_draw(table, folder)]


def _draw(table: PeersTable, folder: Path) -> list[Path]:
    # loading matplotlib takes longer than all the rest
    from mlpprof.report.figures.canvas import WIDE, png_bytes, standalone_svg, style
    from mlpprof.report.figures.ratios import Ratio, ratio_rows

    ratios = [
        Ratio(f"{row.name}: {one.variant}", number, verdict.ratio, verdict.low, verdict.high)
        for number, row in enumerate(table.rows)
        for one in (row.best_ours, row.best_single, row.best_direct)
        if one is not None and (verdict := one.over_best_peer) is not None
    ]
    ratios = list({one.name: one for one in ratios}.values())  # they are often the same
    if not ratios:
        return []
    with style():
        sheet = ratio_rows(ratios, WIDE)
        text = DESCRIPTION + "; ".join(f"{one.name} {one.ratio:.2f}" for one in ratios)
        contents = {
            "png": png_bytes(sheet),
            "svg": standalone_svg(sheet, "Ours over the best framework", text).encode(),
        }
    written = []
    for kind, content in contents.items():
        path = folder / f"peers.{kind}"
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)
        written.append(path)
    return written


def _row(row: PeersRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "network": asdict(row.network),
        "samples": row.samples,
        "batch": row.batch,
        "steps": row.steps,
        "whole_epoch": row.is_whole_epoch,
        "entrants": [_competitor(one) for one in row.competitors],
        "absent": dict(row.absent),
        "best_ours": None if row.best_ours is None else row.best_ours.name,
        "best_single": None if row.best_single is None else row.best_single.name,
        "best_peer": None if row.best_peer is None else row.best_peer.name,
        "variants": row.race.variants,
        "turns_s": [turns.tolist() for turns in row.race.turns_s],
    }


def _competitor(one: Competitor) -> dict[str, Any]:
    return {**asdict(one), "over_best_peer": _ratio(one.over_best_peer)}


def _ratio(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else {"ratio": verdict.ratio, "interval": [verdict.low, verdict.high]}


# A folder with everything of a reproduction: report.txt, reproduction.json, and the figures.


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
            from mlpprof.report.figures.reproduction import write_figure
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"the figures were not drawn, as {error.name} is not installed: pip install 'mlpprof[figures]'"
            ) from error
        for figure in figures:
            written += write_figure(figure, folder)
    return written
