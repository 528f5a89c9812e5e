"""`mlpprof profile FILE.py --step NAME`: the phases and expressions of somebody's own step."""

from __future__ import annotations

from typing import Any

import click

from mlpprof.advise import profile_step
from mlpprof.cli.options import require_folder
from mlpprof.cli.program import announce, given_options, subject_from
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.errors import UsageError
from mlpprof.report.export.advice_files import require_step_ending, write_step_profile
from mlpprof.report.export.step_profile_json import step_profile_json
from mlpprof.report.step_profile import print_step_profile

MEANINGFUL = (
    "variant",
    "arguments",
    "step",
    "include",
    "exclude",
    "allow_writes",
    "threads",
    "out",
    "as_json",
    "verbose",
)
"""Parameters of `mlpprof profile` that mean something where --step is given."""


def profile_program_step(ctx: click.Context, target: str, options: dict[str, Any]) -> None:
    """Profile the step and show it as the options say; raises UsageError for options of a variant's profile."""
    others = [name for name in ctx.params if name not in MEANINGFUL]
    meaningless = given_options(ctx, others)
    if meaningless:
        raise UsageError(
            f"--step {options['step']} profiles a program as it stands, so {', '.join(meaningless)} cannot be used; "
            "leave it out"
        )
    out = options["out"]
    require_folder(out)
    if out is not None:
        require_step_ending(out)
    threads = options["threads"] or None if given_options(ctx, ["threads"]) else None
    subject = subject_from(target, options, threads)
    announce(subject)
    with progress_bar() as progress:
        profile = profile_step(subject, progress=progress)
    if out is not None:
        write_step_profile(out, profile)
    if options["as_json"]:
        print_json(step_profile_json(profile))
    else:
        print_step_profile(profile, output_console(), verbose=options["verbose"])


def require_no_step_options(options: dict[str, Any]) -> None:
    """Raise UsageError where there is no --step, but something that only goes with it."""
    if options["arguments"]:
        raise UsageError(
            f"unexpected argument '{options['arguments'][0]}': profile takes one variant; with --step NAME it takes a "
            "script, to which goes what stands behind --"
        )
    for name in ("include", "exclude"):
        if options[name]:
            raise UsageError(f"--{name} {options[name][0]} is of a program's modules; add --step NAME")
