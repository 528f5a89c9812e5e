"""`mlpprof report RUN.h5 ...` shows the reports of stored runs again."""

from __future__ import annotations

from pathlib import Path

import click

from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import file_options
from mlpprof.cli.terminal import output_console, print_json
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.report.files.formats import CALL_VIEW, RUNS
from mlpprof.report.json_documents import profile_json
from mlpprof.report.terminal.profile import print_run
from mlpprof.results.on_disk import load_run


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

    If you give several runs, traces and figures show them together.
    """
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
        console = output_console()
        for i, run in enumerate(stored):
            if i:
                console.print()
            print_run(run, console, verbose=verbose)
