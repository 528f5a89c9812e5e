"""`mlpprof`: the commands, the configuration, and the one place that turns errors into exit codes.

Nothing here imports numpy. The module of a command is imported only when that command runs, so that `--help` and
shell completion answer at once.
"""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from mlpprof import __version__
from mlpprof.cli.commands import COMMANDS, SECTIONS, module_of
from mlpprof.cli.configuration import by_parameter, configuration
from mlpprof.cli.mistyped import no_command, usage_message
from mlpprof.cli.streams import complain, discard, guard_output
from mlpprof.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    MlpprofError,
    OutputClosed,
    OutputError,
    UsageError,
)
from mlpprof.owned import sweep

CONFIGURED_IN = "mlpprof.configured_in"
"""The key of click's context under which the path of the configuration is kept."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(module_of(cmd_name)).command
        path = ctx.meta.get(CONFIGURED_IN)
        if path is not None and isinstance(ctx.default_map, dict) and cmd_name in ctx.default_map:
            ctx.default_map[cmd_name] = by_parameter(command, (cmd_name,), ctx.default_map[cmd_name], path)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Do what click does, but name the command to type next if there is no such command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError(no_command(args))
        ctx.meta[CONFIGURED_IN], ctx.default_map = configuration(_working_folder()) or (None, {})
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists of commands without importing the commands."""
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "MLPPROF"})
@click.version_option(__version__, prog_name="mlpprof")
def cli() -> None:
    """Find the slow NumPy operations in a neural network that you wrote by hand.

    Start with your own program: a script, a notebook (work.ipynb) or a module (-m package.train). It stays unchanged.

    \b
    mlpprof advise train.py                        what is slow in it, and how to fix that
    mlpprof profile train.py                       where the time of a training step goes
    mlpprof compare train.py@HEAD train.py         how much faster your changes made it
    mlpprof advise train.py -- --epochs 3          the arguments of your program go after --

    mlpprof also contains reference networks, called variants. They form a ladder: each one adds one optimization to
    the one before. For an overview: mlpprof list, then mlpprof profile cached

    In tests, the pytest fixture speedup requires that a program stays as fast as it is, and mlpprof workshop teaches
    all this with exercises.

    You can set defaults of options in pyproject.toml ([tool.mlpprof.profile] threads = 4) or in environment variables
    (MLPPROF_PROFILE_THREADS=4). The command line has priority over the environment, and the environment over the file.

    Exit codes: 0 done; 1 a check or a required speedup failed; 2 wrong usage or input; 3 inconclusive; 130
    interrupted; 141 the program that reads the output has ended (| head).
    """


def _working_folder() -> Path:
    """The working directory; raises UsageError if it was deleted."""
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError("the working directory does not exist any more; change to another folder with cd") from error


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    for name in ("SIGTERM", "SIGHUP"):  # so that workers and half files are cleaned up, also if a terminal is closed
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    sweep()
    try:
        guard_output()
    except OutputError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code; print errors to standard error."""
    try:
        code = cli.main(args=arguments, prog_name="mlpprof", standalone_mode=False)
        sys.stdout.flush()  # here, because an error in the flush at exit is a traceback
    except click.ClickException as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2 and newer
            error.show()
        else:
            complain(usage_message(error, sys.argv[1:] if arguments is None else arguments))
        return EXIT_USAGE
    except OutputError as error:
        if not isinstance(error, OutputClosed):
            complain(str(error))
        discard(sys.stdout)
        return error.exit_code
    except MlpprofError as error:
        complain(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        complain(f"interrupted; {str(stop) or 'nothing was kept'}")
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else EXIT_OK
