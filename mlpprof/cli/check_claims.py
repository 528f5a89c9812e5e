"""`mlpprof check-claims` measures the speedups that pyproject.toml claims."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mlpprof.cli.configuration import CLAIMS as KEY
from mlpprof.cli.configuration import FILE, WrittenPath, configuration
from mlpprof.cli.options import SecondsRange, allow_writes_option, resolution_option, time_limit_option
from mlpprof.cli.review import print_format
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.compare.entrants import Environment
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, EXIT_USAGE, UsageError
from mlpprof.files import require_writable
from mlpprof.process import part_of
from mlpprof.profile.variant import DEFAULT_THREADS
from mlpprof.report.files.formats import CLAIMS
from mlpprof.report.json_documents import claims_json
from mlpprof.report.terminal.claims import print_claim, print_count
from mlpprof.testing.claims import EXAMPLE, ClaimedSpeedup, announcements, decided, read_claimed
from mlpprof.testing.speedup import Measuring, measure_speedup

EXIT_CODES = (("error", EXIT_USAGE), ("fail", EXIT_FAILED), ("inconclusive", EXIT_INCONCLUSIVE))
"""The exit code for each outcome of a claim, the one that counts most first."""


@click.command("check-claims")
@resolution_option
@click.option("--budget", type=SecondsRange(0, min_open=True), metavar="SECONDS", help="Time limit per claim.")
@click.option(
    "--threads",
    type=click.IntRange(0, 1024),
    default=DEFAULT_THREADS,
    show_default=True,
    help="Number of BLAS threads; with 0 the BLAS and the environment decide.",
)
@click.option("--native-blas", is_flag=True, help="Ignore variables that fix the BLAS kernel (OPENBLAS_CORETYPE, ...).")
@allow_writes_option
@time_limit_option
@click.option(
    "-o",
    "--out",
    type=WrittenPath(dir_okay=False),
    metavar="FILE",
    help="Write the report to FILE. The extension selects the format: .json .md (others: --format).",
)
@click.option(
    "--format",
    "file_format",
    metavar="NAME",
    help="Print this format, or write it to FILE: github (annotations), markdown or json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    resolution: float,
    budget: float | None,
    threads: int,
    native_blas: bool,
    allow_writes: bool,
    out: Path | None,
    file_format: str | None,
    as_json: bool,
) -> None:
    """Measure the speedups that the nearest pyproject.toml claims, without pytest.

    Each claim is a table. It says that one version of your program, or one variant, is at least so many times as fast
    as another one:

    \b
    [[tool.mlpprof.claims]]
    new = "train.py"
    over = "train.py@HEAD^1"
    at_least = 0.95
    arguments = ["--epochs", "3"]

    For variants there are the keys workload, batch and dtype; for programs arguments, step and over_step; for both,
    resolution. Paths begin at the folder of pyproject.toml. With at_least = "baseline" the ratio is the one that
    mlpprof calibrate has stored.

    All claims are measured, also after one that fails. The exit code is 0 if all hold, 1 if one does not, 2 if one
    could not be measured, and 3 if the machine was too noisy for an answer.

    With --format github, the report is one annotation per claim, and the summary of the workflow's step gets a table.
    """
    if out is not None:
        require_writable(out)
        CLAIMS.choose(out, file_format)
        out = out.absolute()
    elif file_format is not None:
        CLAIMS.require_text(file_format)
    path, table = configuration(Path.cwd()) or (None, {})
    if path is None:
        raise UsageError(f"there is no {FILE} in this folder or above it; {EXAMPLE}")
    as_document = as_json or (file_format is not None and out is None)
    saving = Saving()
    with contextlib.chdir(path.parent):
        claims = read_claimed(table.get(KEY), Path(path.name))
        environment = Environment(threads or None, native_blas)
        found = _measured(
            claims, Measuring(environment, budget, resolution=resolution), allow_writes, prints=not as_document
        )
    if out is not None:
        with saving.attempt():
            CLAIMS.write(found, out, file_format)
    with saving.report_first():
        if as_json:
            print_json(claims_json(found))
        elif file_format is not None and out is None:
            print_format(CLAIMS, found, file_format)
        else:
            print_count(found, output_console())
    ctx.exit(exit_code(found))


def _measured(
    claims: Sequence[ClaimedSpeedup], measuring: Measuring, allow_writes: bool, prints: bool
) -> list[dict[str, Any]]:
    """The JSON of all claims. prints: each is shown as soon as it is decided."""
    for place, claim in enumerate(claims):
        complain(f"claim {place + 1} of {len(claims)}: {claim.name}")
        for sentence in announcements(claim, measuring, allow_writes):
            complain(sentence)
    found = []
    for place, claim in enumerate(claims):
        with progress_bar() as progress:
            shown = replace(
                measuring,
                progress=part_of(progress, place / len(claims), 1 / len(claims), f"claim {place + 1} of {len(claims)}"),
            )
            found.append(decided(place, claim, shown, allow_writes=allow_writes, measure=measure_speedup))
        if prints:
            print_claim(found[-1], output_console())
    return found


def exit_code(claims: Sequence[Mapping[str, Any]]) -> int:
    """The exit code of the worst outcome."""
    outcomes = {claim["verdict"] for claim in claims}
    return next((code for outcome, code in EXIT_CODES if outcome in outcomes), EXIT_OK)
