"""`mlpprof report RUN.h5`: a stored run's report, from the file alone."""

from __future__ import annotations

from pathlib import Path

import click

from mlpprof.cli.terminal import output_console, print_json
from mlpprof.report.export import require_known_extension, write_run, write_stacks
from mlpprof.report.export.profile_json import profile_json
from mlpprof.report.terminal import print_run
from mlpprof.store import load_run


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it: .h5 .json .csv .txt")
@click.option(
    "--stacks-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the call view, if the run has one: .html, or .speedscope.json for speedscope.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.option("-v", "--verbose", is_flag=True, help="Show small labels too.")
def command(run: Path, out: Path | None, stacks_file: Path | None, as_json: bool, verbose: bool) -> None:
    """Show the report of a stored RUN again; its digest is verified before it is opened."""
    if out is not None:
        require_known_extension(out)
    stored = load_run(run)
    if out is not None:
        write_run(stored, out)
    if stacks_file is not None:
        write_stacks(stored, stacks_file)
    if as_json:
        print_json(profile_json(stored))
    elif out is None and stacks_file is None:
        print_run(stored, output_console(), verbose=verbose)
