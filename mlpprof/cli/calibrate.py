"""`mlpprof calibrate OLD NEW`: store a measured speedup as the claim of tests."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from mlpprof.catalog import find
from mlpprof.cli.options import measuring_options, require_folder, workload_from, workload_options
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.errors import UsageError
from mlpprof.measure.gate import measure
from mlpprof.measure.racers import Environment, VariantRacer
from mlpprof.measure.request import Request
from mlpprof.testing.baseline import DEFAULT_FILE, Claim, claim_key, machine_class, read_claims, write_claim

SCHEMA = 1


@click.command("calibrate")
@click.argument("old")
@click.argument("new")
@workload_options
@measuring_options
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_FILE,
    show_default=True,
    help="Where claims are stored.",
)
@click.option("--update", is_flag=True, help="Replace what is stored about this on this class of machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(old: str, new: str, **options: Any) -> None:
    """Measure how much faster NEW is than OLD, and store it as a claim.

    A test that says at_least="baseline" then claims the lower end of the stored interval, on machines of this class:
    architecture, vector width, cores, BLAS kernel.
    """
    path = options["file"]
    require_folder(path)
    stored = read_claims(path)
    workload = workload_from(options)
    batch = workload.batch
    entries = [find(name) for name in (old, new)]
    what = claim_key(entries[1].name, entries[0].name, workload.name, batch)
    requests = [
        Request(entry.reference, workload.network, workload.source, options["dtype"], options["seed"])
        for entry in entries
    ]
    racer = VariantRacer(requests, batch, Environment(options["threads"] or None, options["native_blas"]), check=True)
    with progress_bar() as progress:
        racer.open(progress)
        machine = machine_class(racer.described["machine"])
        known = next((claim for claim in stored if (claim.what, claim.machine) == (what, machine)), None)
        if known is not None and not options["update"]:
            raise UsageError(f"{path} has '{what}' with {known.ratio:.3f} on {machine}; --update replaces it")
        verdict = measure(racer, progress)
    claim = Claim(what, machine, verdict.ratio, verdict.low, verdict.high, datetime.now(UTC).date().isoformat())
    write_claim(path, claim)
    if options["as_json"]:
        print_json({"schema": SCHEMA, **asdict(claim)})
        return
    line = f"{what}: {claim.ratio:.3f} x (95 %: {claim.low:.3f}–{claim.high:.3f}) on {machine}, stored in {path}"
    output_console().print(Text(line), soft_wrap=True)
