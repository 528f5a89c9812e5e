"""`mlpprof advise TARGET` finds slow operations in a training script, and shows how to fix them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mlpprof.advise import Subject, find
from mlpprof.advise.cures import patch
from mlpprof.advise.cures.trials import how_often_proven, proven
from mlpprof.cli.options import (
    ProgramCommand,
    allow_writes_option,
    announce,
    arguments_argument,
    modules_options,
    subject_from,
    trained_on,
    variant_options,
)
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.programs.name import EXPECTED
from mlpprof.report.files.formats import ADVICE
from mlpprof.report.json_documents import advice_json
from mlpprof.report.terminal.advise import print_advice
from mlpprof.report.terminal.proof import print_proof
from mlpprof.results.advice import Advice


@click.command("advise", cls=ProgramCommand)
@click.argument("target", required=False)
@arguments_argument
@click.option(
    "--step",
    metavar="NAME",
    help="The training step: Class.method, a function, or LINE of the training loop (default: mlpprof finds it).",
)
@modules_options
@allow_writes_option
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Number of BLAS threads (default: unchanged for scripts, 1 for variants).",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report to FILE: .html, .json, .txt, or .patch (with the proven cures; it needs --prove).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.option(
    "--prove",
    is_flag=True,
    help="Apply the cures in memory, and keep those with which the program trains the same, and faster: as a patch.",
)
@click.option("--safe-only", is_flag=True, help="With --prove, leave out the cures that change the precision.")
@click.option(
    "--apply",
    "times_to_apply",
    count=True,
    help="Prove the cures, and write them into your files. Type it twice for files with changes not committed.",
)
@click.option("--undo", is_flag=True, help="Take back what the last --apply has changed.")
@variant_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    target: str | None,
    out: Path | None,
    as_json: bool,
    threads: int | None,
    prove: bool,
    safe_only: bool,
    times_to_apply: int,
    undo: bool,
    **options: Any,
) -> None:
    """Find the slow operations in the training step of TARGET: your unchanged script, or a variant (mlpprof list).

    The script runs with its own arguments until a few training steps are recorded; then it is stopped. mlpprof then
    looks in the recording for unnecessary and slow work. Each finding shows the line, the reason, a suggested change,
    and the time that it saves, measured with the values of your step. Your files are not changed.

    The script is run once if you name the step with --step, and up to two times if you do not. It is ended before it
    writes a file, a checkpoint for instance, unless you add --allow-writes.

    With --prove, mlpprof applies the cures in memory. It runs your program with each of them, from the same random
    seeds, compares the parameters after some steps, and races the program with the cures against the original. The
    result is one patch with its measured speedup. The exit code is 0 if there is a patch, 1 if no cure could be proven,
    and 3 if the gain was too small to be certain.

    The options below, from --workload on, apply only to built-in variants.

    \b
    mlpprof advise train.py
    mlpprof advise train.py --step Net.update_mini_batch
    mlpprof advise train.py -o page.html -- --epochs 3
    mlpprof advise train.py --prove -o train.patch
    mlpprof advise naive --batch 2000
    """
    if undo:
        for path in patch.undo():
            complain(f"{path} is as it was before the patch")
        return
    if target is None:
        raise UsageError(f"name the program to analyse: mlpprof advise train.py; {EXPECTED}")
    require_format(out)
    proving = prove or times_to_apply > 0
    if is_patch(out) and not proving:
        raise UsageError(f"{out} is for proven cures; add --prove")
    if safe_only and not proving:
        raise UsageError("--safe-only is about proven cures; add --prove")
    subject = trained_on(subject_from(target, options, threads), options, ctx)
    announce(subject, how_often_proven() if proving else subject.how_often)
    saving = Saving()
    advice = advise_as_asked(subject, out, progress_bar, saving, Proving(safe_only) if proving else None)
    if times_to_apply and advice.proof is not None and advice.proof.is_proven:
        patch.apply(advice.proof.files, is_asked_twice=times_to_apply > 1)
        complain("the patch is applied; mlpprof advise --undo takes it back")
    with saving.report_first():
        if as_json:
            print_json(advice_json(advice))
        elif proving:
            print_proof(advice, subject.program.name.short, output_console(), with_patch=not is_patch(out))
        else:
            print_advice(advice, output_console())
    if proving:
        ctx.exit(exit_code(advice))


@dataclass(frozen=True)
class Proving:
    """That the cures are to be proven; safe_only: without those that change the precision."""

    safe_only: bool = False


def exit_code(advice: Advice) -> int:
    """The exit code of a proof: whether there is a patch."""
    proof = advice.proof
    if proof is None or proof.verdict is None or proof.training is None or proof.training.is_same is not True:
        return EXIT_FAILED
    if proof.is_proven:
        return EXIT_OK
    return EXIT_FAILED if proof.verdict.is_slower else EXIT_INCONCLUSIVE


def is_patch(out: Path | None) -> bool:
    """Whether this file is to hold the patch."""
    return out is not None and ADVICE.choose(out).name == "patch"


def require_format(out: Path | None) -> None:
    """Raise UsageError if the file cannot be written, or if its ending is of no format."""
    require_writable(out)
    if out is not None:
        ADVICE.choose(out)


def advise_as_asked(
    subject: Subject,
    out: Path | None,
    bar: Callable[[], AbstractContextManager[Progress]],
    saving: Saving,
    proving: Proving | None = None,
) -> Advice:
    """Find the slow operations, and write the file; do everything but print. Raises as `find`.

    bar: a context that shows progress. saving: contains afterwards what could not be written. proving: prove the cures.
    """
    require_format(out)
    with bar() as progress:
        if proving is None:
            advice = find(subject, progress=progress)
        else:
            advice = proven(subject, progress, safe_only=proving.safe_only)
    if out is not None and not (is_patch(out) and (advice.proof is None or not advice.proof.patch)):
        with saving.attempt():
            ADVICE.write(advice, out)
    return advice
