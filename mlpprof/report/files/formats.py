"""Every kind of result with every format that it can be written in: the one table from an ending to its writer.

| kind          | formats                                                                                             |
| ------------- | --------------------------------------------------------------------------------------------------- |
| RUNS          | .h5 (the run itself, from which every report can be made), .json, .csv (raw samples), .txt (the     |
|               | report of the terminal), .html, .png, .svg, .speedscope.json, .trace.json (Perfetto), .lprof and    |
|               | .lprof.txt (line_profiler), .pyisession (pyinstrument)                                              |
| COMPARISONS   | .h5 (with every sample), .json, .csv, .html, .png, .svg, .md; by --format alone github,             |
|               | pytest-benchmark and github-action-benchmark                                                        |
| CLAIMS        | .json, .md; by --format alone github                                                                |
| LADDERS       | .h5 (with every sample), .json, .csv, .html, .png, .svg                                             |
| ADVICE        | .html, .json, .txt, .md, .sarif, .patch (the proven cures); by --format alone github                |
| TUNING        | .py (the winner as a file of its own)                                                               |
| CALL_VIEW     | .html, .speedscope.json, .pyisession (the call view of a run alone)                                 |

Three kinds are folders with fixed names in them: `write_peers`, `write_reproductions` and `write_sweep`.

Libraries that take long to import (matplotlib, jinja2 and the other profilers) are imported in the functions that use
them, because every command that writes files imports this module before it reads its options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.files import make_folder, write_atomically
from mlpprof.report.files.benchmarks import github_action_json, pytest_benchmark_json
from mlpprof.report.files.claims import (
    claims_github,
    claims_markdown,
    comparisons_github,
    comparisons_markdown,
)
from mlpprof.report.files.csv_tables import comparisons_csv, ladders_csv, samples_csv, sweep_csv
from mlpprof.report.files.findings import github_text, markdown_text, sarif_text
from mlpprof.report.files.traces import chrome_trace_json, speedscope_json
from mlpprof.report.files.tuned_file import tuned_file
from mlpprof.report.json_documents import (
    advice_json,
    claims_json,
    comparison_json,
    kept_json,
    ladder_json,
    peers_json,
    profile_json,
    sweep_json,
)
from mlpprof.report.story import Story
from mlpprof.report.terminal.advise import print_advice
from mlpprof.report.terminal.console import text_of
from mlpprof.report.terminal.peers import peers_markdown, peers_text
from mlpprof.report.terminal.profile import call_page, call_speedscope_json, report_text
from mlpprof.report.terminal.reproduce import reproductions_text
from mlpprof.report.terminal.sweep import print_sweep
from mlpprof.results import Comparison, Ladder, Run, StackProfile
from mlpprof.results.advice import Advice
from mlpprof.results.json import json_text
from mlpprof.results.on_disk import run_bytes
from mlpprof.results.peers import PeersTable
from mlpprof.results.races_on_disk import races_bytes
from mlpprof.results.reproduction import Reproduction
from mlpprof.results.sweep import Sweep
from mlpprof.results.tuning import Tuning

PICTURES = ("png", "svg")

Content = str | bytes
Results = TypeVar("Results")


@dataclass(frozen=True)
class Format(Generic[Results]):
    """One way to write a kind of result.

    name: what --format calls it. ending: of the file's name; "" if only --format selects the format.
    content: makes the file's content; None for a picture, whose content depends on the figure that is wanted.
    for_one: it holds a single run. shows: "lines" or "stacks" if it shows a view that a profile makes only on request.
    is_text: it can be printed.
    """

    name: str
    ending: str
    content: Callable[[Results], Content] | None
    for_one: bool = False
    shows: str = ""
    is_text: bool = True


@dataclass(frozen=True)
class Formats(Generic[Results]):
    """A kind of result: all its formats. story: what its figures are drawn from, None if it has none."""

    formats: tuple[Format[Results], ...]
    story: Callable[[Results], Story] | None = None

    def choose(self, path: Path, named: str | None = None, figure: str | None = None) -> Format[Results]:
        """The format of a file: the named one, else the one with the longest ending that fits the file's name.

        Commands call this before they spend time on measuring. Raises UsageError for a format or an ending that this
        kind does not have, for text in a file whose name says that it is a picture, for a figure that does not exist,
        and for a figure in a format that is not a picture.
        """
        chosen = self._named(named) if named is not None else self._by_ending(path)
        if chosen.name not in PICTURES and path.suffix.lower().lstrip(".") in PICTURES:
            raise UsageError(
                f"--format {named} cannot be written into {path}, which would be a picture; give the file another "
                "extension, or leave --format out"
            )
        if figure is not None:
            _require_picture(figure, path, chosen.name)
            from mlpprof.report.figures.gallery import require_known_kind

            require_known_kind(figure)
        return chosen

    def write(self, results: Results, path: Path, named: str | None = None, figure: str | None = None) -> Path:
        """Write results in the format that `choose` chooses, replacing the file that is there; returns the path.

        figure: the one to draw, by default the most telling one. Raises UsageError as `choose` does, for several runs
        in a format that holds one, for a view that the run does not have, and if the file cannot be written.
        """
        chosen = self.choose(path, named)
        if figure is not None:
            _require_picture(figure, path, chosen.name)
        if chosen.content is None:
            assert self.story is not None
            from mlpprof.report.figures.gallery import write_figure

            return write_figure(path, self.story(results), figure, chosen.name)
        if chosen.for_one and isinstance(results, Sequence) and len(results) != 1:
            several = ", ".join(one.name for one in self.formats if not one.for_one)
            raise UsageError(
                f"cannot write {path}: {chosen.name} holds one run, not {len(results)}; these hold several: {several}"
            )
        return _write(path, chosen.content(results))

    def require_text(self, named: str) -> None:
        """Raise UsageError for a format that does not exist, or that cannot be printed."""
        if not self._named(named).is_text:
            raise UsageError(f"--format {named} needs a file; add -o FILE")

    def text(self, results: Results, named: str) -> str:
        """The content of a named format, to be printed. Raises UsageError as `require_text`."""
        self.require_text(named)
        content = self._named(named).content
        assert content is not None
        return str(content(results))

    def _named(self, name: str) -> Format[Results]:
        names = [one.name for one in self.formats]
        if name not in names:
            raise UsageError(f"there is no format '{name}'{did_you_mean(name, names)} (known: {', '.join(names)})")
        return self.formats[names.index(name)]

    def _by_ending(self, path: Path) -> Format[Results]:
        name = path.name.lower()
        fitting = [one for one in self.formats if one.ending and name.removesuffix(one.ending) not in ("", name)]
        if not fitting:
            found = f"has extension '{path.suffix}'" if path.suffix else "has no extension"
            endings = " or ".join(", ".join(one.ending for one in self.formats if one.ending).rsplit(", ", 1))
            by_name = ", ".join(one.name for one in self.formats if not one.ending)
            hint = f"; --format selects {by_name}" if by_name else ""
            raise UsageError(f"cannot write {path}: it {found}; expected a name that ends in {endings}{hint}")
        return max(fitting, key=lambda one: len(one.ending))


def _require_picture(figure: str, path: Path, name: str) -> None:
    if name not in PICTURES:
        raise UsageError(
            f"--figure {figure} needs a picture, but {path} would be {name}; give the file a name that ends in .png "
            "or .svg"
        )


def _write(path: Path, content: Content) -> Path:
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def _page_and_pictures(story: Callable[[Results], Story], shows: str = "") -> tuple[Format[Results], ...]:
    def page(results: Results) -> str:
        from mlpprof.report.page.page import page_html

        return page_html(story(results))

    return (
        Format("html", ".html", page, shows=shows),
        Format("png", ".png", None, is_text=False),
        Format("svg", ".svg", None, is_text=False),
    )


def _line_profile(runs: Sequence[Run]) -> bytes:
    from mlpprof.report.files.line_profiler import line_profile_bytes

    return line_profile_bytes(runs[0])


def _line_profile_text(runs: Sequence[Run]) -> str:
    from mlpprof.report.files.line_profiler import line_profile_text

    return line_profile_text(runs[0])


def _stacks(run: Run) -> StackProfile:
    if run.stacks is None:
        raise UsageError(f"the run of {run.variant.name} has no call view; profile it with --stacks")
    return run.stacks


def _advice_page(advice: Advice) -> str:
    from mlpprof.report.page.advice import advice_html

    return advice_html(advice)


def _story_of_runs(runs: Sequence[Run]) -> Story:
    return Story.of(runs=runs)


def _story_of_comparisons(comparisons: Sequence[Comparison]) -> Story:
    return Story.of(comparisons=comparisons)


def _story_of_ladders(ladders: Sequence[Ladder]) -> Story:
    return Story.of(ladders=ladders)


RUNS: Formats[Sequence[Run]] = Formats(
    (
        Format("h5", ".h5", lambda runs: run_bytes(runs[0]), for_one=True, is_text=False),
        Format("json", ".json", lambda runs: json_text(profile_json(runs[0])), for_one=True),
        Format("csv", ".csv", lambda runs: samples_csv(runs[0]), for_one=True),
        Format("txt", ".txt", lambda runs: report_text(runs[0]), for_one=True),
        *_page_and_pictures(_story_of_runs, shows="lines"),
        Format("speedscope", ".speedscope.json", lambda runs: json_text(speedscope_json(runs))),
        Format("chrome-trace", ".trace.json", lambda runs: json_text(chrome_trace_json(runs))),
        Format("line-profiler", ".lprof", _line_profile, for_one=True, shows="lines", is_text=False),
        Format("line-profiler-text", ".lprof.txt", _line_profile_text, for_one=True, shows="lines"),
        Format("pyinstrument", ".pyisession", lambda runs: _stacks(runs[0]).session_json, for_one=True, shows="stacks"),
    ),
    _story_of_runs,
)

CALL_VIEW: Formats[Run] = Formats(
    (
        Format("html", ".html", lambda run: call_page(_stacks(run))),
        Format("speedscope", ".speedscope.json", lambda run: call_speedscope_json(_stacks(run))),
        Format("pyinstrument", ".pyisession", lambda run: _stacks(run).session_json),
    )
)

COMPARISONS: Formats[Sequence[Comparison]] = Formats(
    (
        Format("h5", ".h5", races_bytes, is_text=False),
        Format("json", ".json", lambda comparisons: json_text([comparison_json(one) for one in comparisons])),
        Format("csv", ".csv", comparisons_csv),
        *_page_and_pictures(_story_of_comparisons),
        Format("markdown", ".md", comparisons_markdown),
        Format("github", "", comparisons_github),
        Format("pytest-benchmark", "", lambda comparisons: json_text(pytest_benchmark_json(comparisons))),
        Format("github-action-benchmark", "", lambda comparisons: json_text(github_action_json(comparisons))),
    ),
    _story_of_comparisons,
)

LADDERS: Formats[Sequence[Ladder]] = Formats(
    (
        Format("h5", ".h5", races_bytes, is_text=False),
        Format("json", ".json", lambda ladders: json_text([ladder_json(one) for one in ladders])),
        Format("csv", ".csv", ladders_csv),
        *_page_and_pictures(_story_of_ladders),
    ),
    _story_of_ladders,
)

ADVICE: Formats[Advice] = Formats(
    (
        Format("html", ".html", _advice_page),
        Format("json", ".json", lambda advice: json_text(advice_json(advice))),
        Format("txt", ".txt", lambda advice: text_of(partial(print_advice, advice))),
        Format("markdown", ".md", markdown_text),
        Format("sarif", ".sarif", sarif_text),
        Format("github", "", github_text),
        Format("patch", ".patch", lambda advice: advice.proof.patch if advice.proof is not None else ""),
    )
)

CLAIMS: Formats[Sequence[Mapping[str, Any]]] = Formats(
    (
        Format("json", ".json", lambda claims: json_text(claims_json(claims))),
        Format("markdown", ".md", claims_markdown),
        Format("github", "", claims_github),
    )
)

TUNING: Formats[Tuning] = Formats((Format("python", ".py", tuned_file),))


def write_peers(table: PeersTable, folder: Path) -> list[Path]:
    """Write table.txt, README.md, peers.json and the figure into a folder, made if it is missing; returns the paths.

    Raises UsageError if a file cannot be written.
    """
    from mlpprof.report.figures.peers import peers_pictures

    return _write_folder(
        folder,
        {
            "table.txt": peers_text(table),
            "README.md": f"# Against the frameworks\n\n{peers_markdown(table)}\n![ratios](peers.png)\n",
            "peers.json": json_text(peers_json(table)),
            **peers_pictures(table),
        },
    )


def write_reproductions(reproductions: Sequence[Reproduction], folder: Path, command: str, created: str) -> list[Path]:
    """Write report.txt, reproduction.json and the figures into a folder, made if it is missing; returns the paths.

    Raises UsageError if a file cannot be written.
    """
    from mlpprof.report.figures.reproduction import write_figure

    written = _write_folder(
        folder,
        {
            "report.txt": f"{command}\n{created}\n\n{reproductions_text(reproductions)}",
            "reproduction.json": json_text(kept_json(reproductions, command, created)),
        },
    )
    return [
        *written,
        *(path for one in reproductions for figure in one.figures for path in write_figure(figure, folder)),
    ]


def write_sweep(sweep: Sweep, folder: Path) -> list[Path]:
    """Write sweep.txt, .csv, .json and .html, and the figures, into the folder of a sweep; returns the paths.

    Raises UsageError if a file cannot be written.
    """
    from mlpprof.report.figures.sweep import sweep_pictures
    from mlpprof.report.page.sweep import sweep_html

    return _write_folder(
        folder,
        {
            "sweep.txt": text_of(partial(print_sweep, sweep)),
            "sweep.csv": sweep_csv(sweep),
            "sweep.json": json_text(sweep_json(sweep)),
            "sweep.html": sweep_html(sweep),
            **sweep_pictures(sweep),
        },
    )


def _write_folder(folder: Path, contents: Mapping[str, Content]) -> list[Path]:
    make_folder(folder)
    return [_write(folder / name, content) for name, content in contents.items()]
