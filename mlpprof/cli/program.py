"""Options of the commands that look at a program as it stands, a script or a variant, and the `Subject` they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mlpprof.advise import Subject
from mlpprof.cli.options import together
from mlpprof.errors import UsageError

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


def is_script(target: str) -> bool:
    """Whether a target is a file; if not, it is the name of a variant."""
    return target.endswith(".py") or Path(target).is_file()


def given_options(ctx: click.Context, names: Sequence[str]) -> list[str]:
    """Those of the parameters that stand on the command line, as their flags; not what pyproject.toml sets."""
    flags = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    typed = click.core.ParameterSource.COMMANDLINE
    return [flags[name] for name in names if ctx.get_parameter_source(name) is typed]


def subject_from(target: str, options: Mapping[str, Any]) -> Subject:
    """The program that the options mean. Raises UsageError for arguments without a script to take them."""
    arguments = options["arguments"]
    if arguments and not is_script(target):
        raise UsageError(f"'{arguments[0]}' would go to a script, but '{target}' is no file; a script needs its .py")
    return Subject(
        target,
        step=options["step"],
        arguments=arguments,
        include=options["include"],
        exclude=options["exclude"],
    )
