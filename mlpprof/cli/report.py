"""`mlpprof report RUN.h5 ...` shows the reports of stored runs and races again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import file_options
from mlpprof.cli.terminal import output_console, print_json
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.report.files.formats import CALL_VIEW, COMPARISONS, LADDERS, RUNS
from mlpprof.report.json_documents import comparison_json, ladder_json, profile_json
from mlpprof.report.terminal.compare import print_comparisons, print_ladder
from mlpprof.report.terminal.profile import print_run
from mlpprof.results import Comparison, Ladder
from mlpprof.results.on_disk import OF_RACES, intact_schema, load_run
from mlpprof.results.races_on_disk import load_races


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@file_options
@click.option(
    "--stacks-file",
    type=WrittenPath(dir_okay=False),
    help="Write the call view to a file, if the run has one: .html, .speedscope.json or .pyisession.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.option("-v", "--verbose", is_flag=True, help="Also show labels that take little time.")
def command(
    runs: tuple[Path, ...],
    out: Path | None,
    file_format: str | None,
    figure: str | None,
    stacks_file: Path | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show the report of a stored RUN again. Its checksum is verified before the file is opened.

    If you give several runs, traces and figures show them together. The file of a race (mlpprof compare or ladder with
    -o RACE.h5) is shown as it was measured.
    """
    if intact_schema(runs[0]) == OF_RACES:
        _show_races(runs, out, file_format, figure, stacks_file, as_json)
        return
    if out is not None:
        RUNS.choose(out, file_format, figure)
    if stacks_file is not None:
        CALL_VIEW.choose(stacks_file)
        if len(runs) > 1:
            raise UsageError(
                f"--stacks-file {stacks_file} takes the call view of one run, not of {len(runs)}; give one run"
            )
    require_writable(out, stacks_file)
    stored = [load_run(path) for path in runs]
    if out is not None:
        RUNS.write(stored, out, file_format, figure)
    if stacks_file is not None:
        CALL_VIEW.write(stored[0], stacks_file)
    if as_json:
        documents = [profile_json(run) for run in stored]
        print_json(documents if len(documents) > 1 else documents[0])
    elif out is None and stacks_file is None:
        _print_each([partial(print_run, run, verbose=verbose) for run in stored])


def _show_races(
    files: tuple[Path, ...],
    out: Path | None,
    file_format: str | None,
    figure: str | None,
    stacks_file: Path | None,
    as_json: bool,
) -> None:
    if len(files) > 1:
        raise UsageError(f"{files[0]} is a race, and a race is shown alone; leave out {files[1]}")
    if stacks_file is not None:
        raise UsageError(f"{files[0]} is a race, which has no call view; leave out --stacks-file")
    records = [stored.record for stored in load_races(files[0])]
    comparisons = [one for one in records if isinstance(one, Comparison)]
    ladders = [one for one in records if isinstance(one, Ladder)]
    if out is not None:
        require_writable(out)
        if ladders:
            LADDERS.write(ladders, out, file_format, figure)
        else:
            COMPARISONS.write(comparisons, out, file_format, figure)
    if as_json:
        print_json([*map(comparison_json, comparisons), *map(ladder_json, ladders)])
    elif out is None:
        first = [partial(print_comparisons, comparisons)] if comparisons else []
        _print_each([*first, *(partial(print_ladder, one) for one in ladders)])


def _print_each(shows: Sequence[Callable[[Console], None]]) -> None:
    console = output_console()
    for i, show in enumerate(shows):
        if i:
            console.print()
        show(console)
