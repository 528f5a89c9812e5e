"""`mlpprof calibrate OLD NEW [NEW ...]` stores measured speedups, which tests then require."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import click

from mlpprof.catalog import Entry, find_all
from mlpprof.cli.options import measuring_options
from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.compare.decide import decide, log_ratios
from mlpprof.compare.entrants import Environment
from mlpprof.compare.live_race import variant_race
from mlpprof.compare.verdict import add_replicates
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.testing.baseline import DEFAULT_FILE, Claim, claim_key, machine_class, read_claims, write_claim
from mlpprof.workloads import DEFAULT_WORKLOAD, WORKLOADS, Workload, resolve

SCHEMA = 1
PROCESSES = 8
"""This is more than a comparison needs, because tests will require the lower end of the interval again and again."""


@click.command("calibrate")
@click.argument("old")
@click.argument("new", nargs=-1, required=True)
@click.option(
    "--workload",
    default=DEFAULT_WORKLOAD,
    show_default=True,
    metavar="NAME",
    help=f"Network, data and batch, the same as in the test: {', '.join(WORKLOADS)}.",
)
@measuring_options
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_FILE,
    show_default=True,
    help="The file where speedups are stored.",
)
@click.option(
    "--processes", type=click.IntRange(2, 100), default=PROCESSES, show_default=True, help="Number of processes."
)
@click.option("--update", is_flag=True, help="Replace a stored speedup of the same pair on this kind of machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(old: str, new: tuple[str, ...], **options: Any) -> None:
    """Measure how much faster each NEW is than OLD, and store the speedup for tests.

    A test with at_least="baseline" then requires the lower end of the stored 95 % interval. A stored speedup is valid
    on machines of the same kind: architecture, vector width, cores, BLAS and its kernel. It is replaced only with
    --update.
    """
    path = options["file"]
    require_writable(path)
    batches = options["batch"] or (resolve(options["workload"]).batch,)
    workloads = [resolve(options["workload"], batch=batch) for batch in batches]
    pairs = [find_all((old, name)) for name in new]  # with the names that a test of these two uses
    saving = Saving()
    measured = []
    with progress_bar() as progress:
        for workload, (base, entry) in product(workloads, pairs):
            claim = _measured(base, entry, workload, options, progress)
            measured.append(claim)
            with saving.attempt():
                write_claim(path, claim)
            if saving.failures:  # the next one could not be stored either
                break
    with saving.report_first():
        if options["as_json"]:
            print_json([{"schema": SCHEMA, **asdict(claim)} for claim in measured])
            return
        console = output_console()
        for claim in measured:
            line = f"{claim.what}: {claim.ratio:.3f} x as fast (95 %: {claim.low:.3f}–{claim.high:.3f})"
            print_sentence(console, line)
        if not saving.failures:
            print_sentence(console, f"stored in {path}, for {measured[0].machine}")


def _measured(old: Entry, new: Entry, workload: Workload, options: dict[str, Any], progress: Progress) -> Claim:
    """Race the two; raises UsageError early if a stored speedup must not be replaced."""
    path = options["file"]
    environment = Environment(options["threads"] or None, options["native_blas"])
    requests = [
        Request(entry.reference, workload.network, workload.source, options["dtype"], options["seed"], entry.name)
        for entry in (old, new)
    ]
    live = variant_race(requests, workload.batch, environment, check=True)
    live.open(progress)
    what = claim_key(new.name, old.name, workload.name, workload.batch, options["dtype"], environment.threads)
    machine = machine_class(live.described["machine"])
    known = next((claim for claim in read_claims(path) if (claim.what, claim.machine) == (what, machine)), None)
    if known is not None and not options["update"]:
        raise UsageError(f"{path} already has {known.ratio:.3f} for '{what}' on {machine}; to replace it, add --update")
    add_replicates(live, options["processes"], progress)
    found = decide(log_ratios(live.race()))
    return Claim(what, machine, found.estimate, found.low, found.high, datetime.now(UTC).date().isoformat())
