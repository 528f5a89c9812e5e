"""`mlpprof advise TARGET` finds slow operations in a training script, and shows how to fix them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from mlpprof.advise import Subject, find
from mlpprof.advise.proof import patch
from mlpprof.advise.proof.trials import how_often_proven, proven
from mlpprof.advise.selection import Baseline, FailOn, Selection, selected
from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import (
    ProgramCommand,
    allow_writes_option,
    announce,
    arguments_argument,
    modules_options,
    step_option,
    subject_from,
    time_limit_option,
    trained_on,
    variant_options,
)
from mlpprof.cli.review import print_format
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, print_text, progress_bar
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, UsageError
from mlpprof.files import require_writable
from mlpprof.process import Progress
from mlpprof.programs.name import EXPECTED
from mlpprof.report.files.formats import ADVICE
from mlpprof.report.json_documents import advice_json
from mlpprof.report.terminal.advise import print_advice
from mlpprof.report.terminal.proof import print_proof
from mlpprof.results.advice import Advice
from mlpprof.results.category_pages import explanation


@click.command("advise", cls=ProgramCommand)
@click.argument("target", required=False)
@arguments_argument
@step_option
@modules_options
@allow_writes_option
@time_limit_option
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="Number of BLAS threads (default: unchanged for programs; 1 for variants, and with --prove).",
)
@click.option(
    "-o",
    "--out",
    type=WrittenPath(dir_okay=False),
    metavar="FILE",
    help="Write the report to FILE: .html, .json, .txt, or .patch (with the proven cures; it needs --prove).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.option(
    "--format",
    "file_format",
    metavar="NAME",
    help="Print this format, or write it to FILE: github (annotations), markdown, sarif, json, txt, html or patch.",
)
@click.option("--select", metavar="NAMES", help="Report only these categories, such as recomputation,float64.")
@click.option("--ignore", metavar="NAMES", help="Leave out these categories.")
@click.option(
    "--baseline",
    type=WrittenPath(is_kept=True, dir_okay=False),
    metavar="FILE",
    help="Leave out the findings that are in FILE.",
)
@click.option("--update-baseline", is_flag=True, help="Write all findings into the file of --baseline.")
@click.option(
    "--fail-on",
    metavar="WHAT",
    help="End with exit code 1 if a finding has this category, or saves this share of the step (5%).",
)
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
@click.option("--explain", metavar="CATEGORY", help="Print what a category means: why it costs time, and the cure.")
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
    safe_only: bool,
    times_to_apply: int,
    undo: bool,
    explain: str | None,
    file_format: str | None,
    fail_on: str | None,
    **options: Any,
) -> None:
    """Find the slow operations in the training step of TARGET: your unchanged script, or a variant (mlpprof list).

    The script runs with its own arguments until a few training steps are recorded; then it is stopped. mlpprof then
    looks in the recording for unnecessary and slow work. Each finding shows the line, the reason, a suggested change,
    and the time that it saves, measured with the values of your step. Your files are not changed.

    The script is run once if you name the step with --step, and up to two times if you do not. What it
    writes, a checkpoint for instance, goes into a copy of its folder that is dropped, unless you add --allow-writes.

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
    if explain is not None:
        print_text(explanation(explain))
        return
    if undo:
        for path in patch.undo(target):
            complain(f"{path} is as it was before the patch")
        return
    if target is None:
        raise UsageError(f"name the program to analyse: mlpprof advise train.py; {EXPECTED}")
    wanted, failing = wanted_from(ctx.params), None if fail_on is None else FailOn.parse(fail_on)
    require_format(out, file_format)
    proving = wanted.prove
    if is_patch(out, file_format) and not proving:
        raise UsageError("a patch holds proven cures; add --prove")
    if safe_only and not proving:
        raise UsageError("--safe-only is about proven cures; add --prove")
    subject = trained_on(subject_from(target, options, threads), options, ctx)
    announce(subject, how_often_proven() if proving else subject.how_often)
    saving = Saving()
    advice = advise_as_asked(subject, out, progress_bar, saving, wanted)
    if options["update_baseline"]:
        Baseline.of(advice).write(options["baseline"])
    is_applied = times_to_apply > 0 and advice.proof is not None and advice.proof.is_proven
    if is_applied and advice.proof is not None:
        patch.apply(advice.proof.files, is_asked_twice=times_to_apply > 1)
        complain("the patch is applied; mlpprof advise --undo takes it back")
    with saving.report_first():
        if as_json:
            print_json(advice_json(advice))
        elif file_format is not None and out is None:
            print_format(ADVICE, advice, file_format)
        elif proving:
            name, with_patch = subject.program.name.short, not is_patch(out)
            print_proof(advice, name, output_console(), with_patch=with_patch, is_applied=is_applied)
        else:
            print_advice(advice, output_console())
    if proving and (code := exit_code(advice)):
        ctx.exit(code)
    if failing is not None and failing.fails(advice):
        ctx.exit(EXIT_FAILED)


def wanted_from(options: Mapping[str, Any]) -> Wanted:
    """What the options ask for beside the findings. Raises UsageError as `Selection`."""
    is_proof = options["prove"] or options["times_to_apply"] > 0
    return Wanted(options["file_format"], _selection(options), is_proof, options["safe_only"])


def _selection(options: Mapping[str, Any]) -> Selection:
    """The findings that the options ask for. Raises UsageError for an unknown category, or a wrong baseline."""
    baseline: Path | None = options["baseline"]
    if options["update_baseline"]:
        if baseline is None:
            raise UsageError("--update-baseline needs to know the file; add --baseline FILE")
        require_writable(baseline)
    select, ignore = (_names(options[name]) for name in ("select", "ignore"))
    known = Baseline() if baseline is None or options["update_baseline"] else Baseline.read(baseline)
    return Selection(select, ignore, known)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def exit_code(advice: Advice) -> int:
    """The exit code of a proof: whether there is a patch."""
    proof = advice.proof
    if proof is None or proof.verdict is None or proof.training is None or proof.training.is_same is not True:
        return EXIT_FAILED
    if proof.is_proven:
        return EXIT_OK
    return EXIT_FAILED if proof.verdict.is_slower else EXIT_INCONCLUSIVE


@dataclass(frozen=True)
class Wanted:
    """What is wanted beside the findings: a format by its name, a selection, and perhaps a proof of the cures.

    safe_only: leave cures that change the precision out of the proof.
    """

    file_format: str | None = None
    selection: Selection = field(default_factory=Selection)
    prove: bool = False
    safe_only: bool = False


def is_patch(out: Path | None, file_format: str | None = None) -> bool:
    """Whether this file is to hold the patch."""
    return file_format == "patch" or (out is not None and ADVICE.choose(out, file_format).name == "patch")


def require_format(out: Path | None, file_format: str | None = None) -> None:
    """Raise UsageError if the file cannot be written, or if its ending or its format's name is of no format."""
    require_writable(out)
    if out is not None or file_format is not None:
        ADVICE.choose(out or Path("-"), file_format)


def advise_as_asked(
    subject: Subject,
    out: Path | None,
    bar: Callable[[], AbstractContextManager[Progress]],
    saving: Saving,
    wanted: Wanted | None = None,
) -> Advice:
    """Find the slow operations, and write the file; do everything but print. Raises as `find`.

    bar: a context that shows progress. saving: contains afterwards what could not be written.
    """
    wanted = wanted or Wanted()
    require_format(out, wanted.file_format)
    with bar() as progress:
        if not wanted.prove:
            advice = find(subject, progress=progress)
            advice = selected(advice, wanted.selection.wanted(advice))
        else:
            advice = proven(subject, progress, safe_only=wanted.safe_only, selection=wanted.selection)
    has_patch = advice.proof is not None and bool(advice.proof.patch)
    if out is not None and (has_patch or not is_patch(out, wanted.file_format)):
        with saving.attempt():
            ADVICE.write(advice, out, wanted.file_format)
    return advice
