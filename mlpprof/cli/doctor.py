"""`mlpprof doctor`: what this machine can do, and which settings hold it back."""

from __future__ import annotations

import click

from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.machine.doctor import examine
from mlpprof.report.json_documents import doctor_json
from mlpprof.report.terminal.doctor import print_examination


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Half the time: coarser limits, fewer settings, fewer pairs of processes.")
@click.option("--fresh", is_flag=True, help="Forget the limits that were measured before on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
def command(quick: bool, fresh: bool, as_json: bool) -> None:
    """Examine this machine: cores, BLAS and its kernel, memory, limits, and settings that would make steps faster.

    Every advice carries a gain that was measured in fresh processes with and without the setting, and the line to
    set; what gives less than 3 % is not advice. The limits are kept for `mlpprof profile`, which holds steps against
    them. Takes about a minute; run it while nothing else does.
    """
    with progress_bar() as progress:
        found = examine(progress, quick=quick, forget=fresh)
    if as_json:
        print_json(doctor_json(found))
    else:
        print_examination(found, output_console())
