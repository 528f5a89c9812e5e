"""`mlpprof calibrate OLD NEW [NEW ...]` stores measured speedups, which tests then require."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any

import click

from mlpprof.catalog import Entry, find_all
from mlpprof.cli.compare import (
    ARGUMENTS,
    PairCommand,
    requests_for,
    require_no_program_options,
    require_programs,
    step_option,
)
from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import (
    allow_writes_option,
    measuring_options,
    require_options_of_programs,
    resolution_option,
)
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.compare.decide import decide, log_ratios
from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import procedure_for
from mlpprof.compare.live_race import LiveRace, variant_race
from mlpprof.compare.programs import ProgramComparer, Wanted, announcement
from mlpprof.compare.same_code import require_different_variants
from mlpprof.compare.verdict import race_until_narrow
from mlpprof.errors import UsageError
from mlpprof.files import require_writable
from mlpprof.machine.facts import machine_class
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.programs.name import is_program
from mlpprof.testing.baseline import DEFAULT_FILE, Claim, claim_key, read_claims, write_claim
from mlpprof.testing.programs import Programs
from mlpprof.workloads import DEFAULT_WORKLOAD, WORKLOADS, Workload, resolve

OF_PROGRAMS = (
    *(
        "old",
        "new",
        "steps",
        "allow_writes",
        "threads",
        "native_blas",
        "file",
        "processes",
        "resolution",
        "update",
        "as_json",
    ),
)
"""The parameters that can be used with programs; the others are for variants."""

SCHEMA = 1
PROCESSES = 8
"""This is more than a comparison needs, because tests will require the lower end of the interval again and again."""


@click.command("calibrate", cls=PairCommand)
@click.argument("old")
@click.argument("new", nargs=-1)
@step_option
@allow_writes_option
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
    type=WrittenPath(is_kept=True, dir_okay=False),
    default=DEFAULT_FILE,
    show_default=True,
    help="The file where speedups are stored.",
)
@click.option(
    "--processes", type=click.IntRange(2, 100), default=PROCESSES, show_default=True, help="Number of processes."
)
@resolution_option
@click.option("--update", is_flag=True, help="Replace a stored speedup of the same pair on this kind of machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, /, old: str, new: tuple[str, ...], **options: Any) -> None:
    """Measure how much faster each NEW is than OLD, and store the speedup for tests.

    Both are your own programs (train.py@v1.0 train.py), or variants (mlpprof list). A single program is compared with
    itself as it was at the last commit. The arguments of programs follow after --.

    A test with at_least="baseline" then requires the lower end of the stored 95 % interval. A stored speedup is valid
    on machines of the same kind: architecture, vector width, cores, BLAS and its kernel. It is replaced only with
    --update. With a --resolution finer than 10%, further processes run until the interval is no wider than that.
    """
    path = options["file"]
    require_writable(path)
    saving = Saving()
    options["arguments"] = ctx.meta.get(ARGUMENTS, ())
    names = (old, *new)
    if any(is_program(name) for name in names):
        names = names if new else (f"{old.strip()}@HEAD", old)
        require_programs(names, options)
        require_options_of_programs(ctx, OF_PROGRAMS)
        measuring = _of_programs(names, options)
    else:
        require_no_program_options(options)
        if not new:
            raise UsageError("the argument NEW is missing; type mlpprof calibrate OLD NEW")
        measuring = _of_variants(names, options)
    measured = []
    with progress_bar() as progress:
        for measure in measuring:
            claim = measure(progress)
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


Measure = Callable[[Progress], Claim]
"""Measures one pair; raises UsageError early if a stored speedup must not be replaced."""


def _of_variants(names: Sequence[str], options: dict[str, Any]) -> list[Measure]:
    batches = options["batch"] or (resolve(options["workload"]).batch,)
    workloads = [resolve(options["workload"], batch=batch) for batch in batches]
    pairs = [find_all((names[0], name)) for name in names[1:]]  # with the names that a test of these two uses
    for old, new in pairs:
        require_different_variants(old, new)
    return [partial(_variants, old, new, workload, options) for workload, (old, new) in product(workloads, pairs)]


def _variants(old: Entry, new: Entry, workload: Workload, options: dict[str, Any], progress: Progress) -> Claim:
    environment = Environment(options["threads"] or None, options["native_blas"])
    requests = [
        Request(entry.reference, workload.network, workload.source, options["dtype"], options["seed"], entry.name)
        for entry in (old, new)
    ]
    is_fine = procedure_for(options["resolution"]).is_fine
    live = variant_race(requests, workload.batch, environment, check=True, is_fine=is_fine)
    live.open(progress)
    what = claim_key(new.name, old.name, workload.name, workload.batch, options["dtype"], environment.threads)
    machine = machine_class(live.described["machine"])
    _require_new(what, machine, options)
    return _claim(live, what, machine, options, progress)


def _of_programs(names: Sequence[str], options: dict[str, Any]) -> list[Measure]:
    environment = Environment(options["threads"] or None, options["native_blas"])
    requests = requests_for(names, {**options, "include": (), "exclude": ()})
    wanted = Wanted(replicates=options["processes"], procedure=procedure_for(options["resolution"]))
    comparer = ProgramComparer(requests, environment, wanted, complain)
    for sentence in announcement(requests, wanted):
        complain(sentence)

    def measure(place: int, progress: Progress) -> Claim:
        programs = Programs(names[place].strip(), names[0].strip(), tuple(options["arguments"]))
        with environment.worker() as worker:
            machine = machine_class(worker.call("machine"))
        what = programs.key(environment.threads)
        _require_new(what, machine, options)
        subjects = comparer.subjects(progress)
        old, new = subjects[0], subjects[place]
        comparer.require_same_training(old, new, progress)
        return _claim(comparer.race(old, new), what, machine, options, progress)

    return [partial(measure, place) for place in range(1, len(names))]


def _claim(live: LiveRace, what: str, machine: str, options: dict[str, Any], progress: Progress) -> Claim:
    """Race the two; with a fine resolution, until the interval is as narrow."""
    procedure = procedure_for(options["resolution"])
    race_until_narrow(live, progress, lambda race: [log_ratios(race)], options["processes"], procedure)
    found = decide(log_ratios(live.race()), procedure=procedure)
    return Claim(what, machine, found.estimate, found.low, found.high, datetime.now(UTC).date().isoformat())


def _require_new(what: str, machine: str, options: dict[str, Any]) -> None:
    """Raise UsageError if a speedup is stored that must not be replaced."""
    path = options["file"]
    known = next((claim for claim in read_claims(path) if (claim.what, claim.machine) == (what, machine)), None)
    if known is not None and not options["update"]:
        raise UsageError(f"{path} already has {known.ratio:.3f} for '{what}' on {machine}; to replace it, add --update")
