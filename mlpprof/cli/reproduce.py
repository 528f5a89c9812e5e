"""`mlpprof reproduce [NAME ...]` measures what published sources claim, and shows both."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.saving import Saving, is_default
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
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
    help="Folder with the four files of MNIST, the HDF5 files of the cats, or both; or one HDF5 file.",
)
@click.option("--quick", is_flag=True, help="Shorten the long measurements; the report says by how much.")
@click.option(
    "-o",
    "--out",
    type=WrittenPath(file_okay=False),
    default=FOLDER,
    show_default=True,
    help="Folder for the report, its data and figures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.pass_context
def command(
    ctx: click.Context, /, names: tuple[str, ...], data: Path | None, quick: bool, out: Path, as_json: bool
) -> None:
    """Reproduce published sources (default: all): show what the author measured and what we measure.

    All versions run alternately. Without --data, embedded sets replace MNIST and the cats. If a claim does not hold,
    the report says so, and the exit code is still 0. A whole run takes about twenty minutes, --quick about two.
    """
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    created = datetime.now(UTC).isoformat(timespec="seconds")
    saving = Saving(out)
    saving.try_folder(by_default=is_default(ctx, "out"))
    with progress_bar() as progress:
        done = reproduce(names, data, quick, progress)
    written = saving.keep("the report", lambda folder: write_reproductions(done, folder, typed, created))
    with saving.report_first():
        if as_json:
            print_json(reproduce_json(done))
        else:
            console = output_console()
            print_reproductions(done, console)
            if written is not None:
                print_sentence(console, f"{len(written)} files in {saving.folder}", "dim")
