"""`mlpprof peers [ROW ...]` compares the variants with PyTorch, JAX, TensorFlow and scikit-learn."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.saving import Saving, is_default
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.compare.peers import FULL, PLANS, QUICK, measure_row, plans_of, require_a_framework
from mlpprof.process import part_of
from mlpprof.report.files.formats import write_peers
from mlpprof.report.json_documents import peers_json
from mlpprof.report.terminal.peers import print_peers
from mlpprof.results.peers import PeersRow, PeersTable

FOLDER = Path("reports") / "peers"


@click.command("peers")
@click.argument("rows", nargs=-1, metavar=f"[{'|'.join(PLANS)}]...")
@click.option(
    "--quick", is_flag=True, help="Use fewer processes, and only the beginning of long epochs; the table says so."
)
@click.option(
    "-o",
    "--out",
    type=WrittenPath(file_okay=False),
    default=FOLDER,
    show_default=True,
    help="Folder for the table, its data and a figure.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.pass_context
def command(ctx: click.Context, /, rows: tuple[str, ...], quick: bool, out: Path, as_json: bool) -> None:
    """Compare the variants with the frameworks that are installed (extra: peers), on eight networks.

    Each one trains whole epochs, with shuffling and gathering; all of a row run alternately. A framework that cannot
    train a network is left out of that row, and the reason is shown. The files are written after every row, so Ctrl-C
    keeps the finished rows.
    """
    plans = plans_of(rows)
    require_a_framework()
    saving = Saving(out)
    saving.try_folder(by_default=is_default(ctx, "out"))
    effort = QUICK if quick else FULL
    typed, created = shlex.join(["mlpprof", *sys.argv[1:]]), datetime.now(UTC).isoformat(timespec="seconds")
    finished: list[PeersRow] = []
    with progress_bar() as progress:
        for i, plan in enumerate(plans):
            part = part_of(progress, i / len(plans), 1 / len(plans), plan.title)
            try:
                row, machine = measure_row(plan, effort, part)
            except KeyboardInterrupt:
                raise click.Abort(
                    f"rows that are kept in {saving.folder}: {len(finished)}" if finished else ""
                ) from None
            finished.append(row)
            table = PeersTable(created, typed, quick, 1 + effort.finals, tuple(finished), dict(machine))
            written = saving.keep("the table", partial(write_peers, table))
    with saving.report_first():
        if as_json:
            print_json(peers_json(table))
            return
        console = output_console()
        print_peers(table, console)
        if written is not None:
            print_sentence(console, f"{len(written)} files in {saving.folder}", "dim")
