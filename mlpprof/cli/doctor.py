"""`mlpprof doctor` shows what this machine can do, and which settings make it slow."""

from __future__ import annotations

import click

from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.machine.doctor import examine
from mlpprof.report.json_documents import doctor_json
from mlpprof.report.terminal.doctor import print_examination


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Take half the time, with fewer settings and less exact limits.")
@click.option("--fresh", is_flag=True, help="Measure the limits again, even if they are stored for this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
def command(quick: bool, fresh: bool, as_json: bool) -> None:
    """Examine this machine: cores, BLAS and its kernel, memory, speed limits, and settings that would make it faster.

    Each recommendation is one setting, with the line to type and the gain that was measured in new processes with and
    without it. Settings that gain less than 3 % are listed as 'tried'. `mlpprof profile` compares
    steps with the limits, which are stored. The examination takes about a minute. Close other programs first.
    """
    with progress_bar() as progress:
        found = examine(progress, quick=quick, forget=fresh)
    if as_json:
        print_json(doctor_json(found))
    else:
        print_examination(found, output_console())
