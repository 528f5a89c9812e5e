"""Options of the commands that look at a program as it stands, a script or a variant, and the `Subject` they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mlpprof.advise import Subject
from mlpprof.cli.options import NETWORK_OPTIONS, together, workload_from, workload_options
from mlpprof.errors import UsageError
from mlpprof.measure.request import Request

arguments_argument = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS]...")
"""What stands behind `--` and goes to the script."""

modules_options = together(
    click.option(
        "--include",
        multiple=True,
        metavar="PATTERN",
        help="Look into these modules too, though they are in an installed library; may be given several times.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Leave these modules of the program alone, such as plots.py or '*/drawing/*.py'; stronger than --include.",
    ),
)
"""Which of the program's modules are looked into."""


allow_writes_option = click.option(
    "--allow-writes",
    is_flag=True,
    help="Let the script write files, though it is stopped early; else it is ended before it writes.",
)
"""Whether a script that is run may write outside temporary folders."""


variant_options = together(
    workload_options,
    click.option("--batch", type=click.IntRange(1), help="Batch size, instead of the workload's."),
    click.option(
        "--dtype", type=click.Choice(["float32", "float64"]), help="Precision, instead of the variant's own DTYPE."
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights and shuffling."),
)
"""What a variant trains on; a script brings its own."""

_VARIANT_ONLY = ("workload", "data", "x", "y", "layers", *NETWORK_OPTIONS, "batch", "dtype", "seed")


def given_options(ctx: click.Context, names: Sequence[str]) -> list[str]:
    """Those of the parameters that stand on the command line, as their flags; not what pyproject.toml sets."""
    flags = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    typed = click.core.ParameterSource.COMMANDLINE
    return [flags[name] for name in names if ctx.get_parameter_source(name) is typed]


def subject_from(target: str, options: Mapping[str, Any], threads: int | None) -> Subject:
    """The program that the options mean; threads: of BLAS, None for its own or the default.

    Raises UsageError for arguments without a script to take them.
    """
    arguments, include, exclude = options["arguments"], options["include"], options["exclude"]
    allow_writes = options["allow_writes"]
    subject = Subject(target, options["step"], arguments, include, exclude, threads=threads, allow_writes=allow_writes)
    if arguments and not subject.is_script:
        raise UsageError(f"'{arguments[0]}' would go to a script, but '{target}' is none; a script needs its .py")
    return subject


def announce(subject: Subject) -> None:
    """Say on standard error how often a script is going to be run: it may do more than to train."""
    if subject.is_script:
        click.echo(
            f"mlpprof: {Path(subject.target).name} is run {subject.how_often}, and stopped after the recorded steps",
            err=True,
        )


def trained_on(subject: Subject, options: Mapping[str, Any], ctx: click.Context) -> Subject:
    """The same, a variant with what the `variant_options` say.

    Raises UsageError where a script is given any of them, and as `workload_from`.
    """
    if subject.is_script:
        given = given_options(ctx, _VARIANT_ONLY)
        if given:
            raise UsageError(
                f"{', '.join(given)} cannot be used with the script '{subject.target}', which brings its own network "
                "and data; what stands behind -- goes to the script"
            )
        return subject
    batch = options["batch"]
    workload = workload_from({**options, "batch": None if batch is None else (batch,)})
    request = Request(str(subject.target), workload.network, workload.source, options["dtype"], options["seed"])
    return replace(subject, request=request, batch=workload.batch)
