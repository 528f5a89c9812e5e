"""`mlpprof reproduce [NAME ...]`: the published sources, their claims beside what this machine measures."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.text import Text

from mlpprof.cli.saving import Saving, is_default
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.errors import MissingExtra
from mlpprof.report.files.formats import write_reproductions
from mlpprof.report.json_documents import reproduce_json
from mlpprof.report.terminal.reproduce import print_reproductions
from mlpprof.reproduce.sources import SOURCES, reproduce

FOLDER = Path("reports") / "reproduce"


@click.command("reproduce")
@click.argument("names", nargs=-1, metavar=f"[{'|'.join(SOURCES)}]...")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="With MNIST's four files, the cats' HDF5 files, or both; or one HDF5 file.",
)
@click.option("--quick", is_flag=True, help="Shorten the long ones; the report says by how much.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    show_default=True,
    help="Folder for the report, its data and the figures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.pass_context
def command(
    ctx: click.Context, /, names: tuple[str, ...], data: Path | None, quick: bool, out: Path, as_json: bool
) -> None:
    """Reproduce published sources (default: all): what their authors claim beside what is measured here.

    Speeds come from interleaved races. Without --data, embedded sets stand in for MNIST and the cats. A claim that does
    not hold is a finding, not a failure: the exit code is 0. A whole run takes some twenty minutes, --quick about two.
    """
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    created = datetime.now(UTC).isoformat(timespec="seconds")
    saving = Saving(out)
    saving.try_folder(by_default=is_default(ctx, "out"))
    with progress_bar() as progress:
        done = reproduce(names, data, quick, progress)
    without_figures = ""
    try:
        written = saving.keep("the report", lambda folder: write_reproductions(done, folder, typed, created))
    except MissingExtra as missing:
        written, without_figures = [], str(missing)
    with saving.report_first():
        if as_json:
            print_json(reproduce_json(done))
        else:
            console = output_console()
            print_reproductions(done, console)
            if written is not None:
                files = f"{len(written)} files" if written else "report.txt and reproduction.json"
                console.print(Text(f"{files} in {saving.folder}", "dim"), soft_wrap=True)
        if without_figures:
            click.echo(f"mlpprof: {without_figures}", err=True)
