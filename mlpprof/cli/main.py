"""`mlpprof`: the commands, the configuration, and the one place that turns errors into exit codes.

Nothing here imports numpy: a command's module is imported when that command runs, so that `--help` and completion
answer at once.
"""

from __future__ import annotations

import importlib
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import click

from mlpprof import __version__
from mlpprof.cli.streams import discard, guard_output
from mlpprof.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    MlpprofError,
    OutputClosed,
    OutputError,
    UsageError,
    did_you_mean,
)

COMMANDS = {
    "profile": "Profile a variant's training step, phase by phase.",
    "advise": "Find what to fix in your own program's training step, and what that gives.",
    "report": "Show a stored run again.",
    "compare": "Compare variants, or gate on a speedup.",
    "ladder": "Race all rungs of the ladder at once.",
    "peers": "Race the variants against PyTorch, JAX, TensorFlow and scikit-learn.",
    "autotune": "Find the fastest variant for a network, and write it as a file of its own.",
    "calibrate": "Store a measured speedup as a claim for tests.",
    "reproduce": "Run the published sources: claimed beside measured.",
    "doctor": "Examine this machine: what it can do, and what holds it back.",
    "check": "Check that variants compute the right gradients.",
    "list": "List the variants as the ladder they form.",
    "diff": "Show the code that two variants differ by.",
    "data": "Look into data files, or fetch MNIST.",
    "workshop": "Teach performance with exercises that learners check themselves.",
}
"""Command -> its help in the list. The module is mlpprof.cli.NAME, its click command is called `command`."""

EXIT_TERMINATED = 128 + signal.SIGTERM


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, from its module."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"mlpprof.cli.{cmd_name}").command
        if isinstance(ctx.default_map, dict) and cmd_name in ctx.default_map:
            ctx.default_map[cmd_name] = _by_parameter(command, cmd_name, ctx.default_map[cmd_name])
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a hint for a mistyped name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError(f"no command '{args[0]}'{did_you_mean(args[0], COMMANDS)} (mlpprof --help shows all)")
        ctx.default_map = _configuration(Path.cwd())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "MLPPROF"})
@click.version_option(__version__, prog_name="mlpprof")
def cli() -> None:
    """Profile hand-written NumPy multi-layer perceptrons.

    Which array operation, on which shape and memory order, what it costs, and what the cure is worth.
    Start with: mlpprof profile cached

    Defaults of options may stand in pyproject.toml ([tool.mlpprof.profile] threads = 4) or in the environment
    (MLPPROF_PROFILE_THREADS=4); the command line wins over the environment, and that over the file.

    Exit codes: 0 done; 1 a check or gate failed; 2 bad usage or input; 3 inconclusive; 130 interrupted;
    141 the reader of the output has gone (| head).
    """


def _configuration(folder: Path) -> dict[str, Any]:
    """Option defaults by command from [tool.mlpprof] of the nearest pyproject.toml, named as the options are."""
    path = next((f / "pyproject.toml" for f in (folder, *folder.parents) if (f / "pyproject.toml").is_file()), None)
    if path is None:
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("mlpprof", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    for name, options in table.items():
        if name not in COMMANDS or not isinstance(options, dict):
            raise UsageError(
                f"{path}: [tool.mlpprof] has '{name}'{did_you_mean(name, COMMANDS)}; expected a table a command, such "
                "as [tool.mlpprof.profile]"
            )
    return dict(table)


def _by_parameter(command: click.Command, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Configured values by the parameter names that click goes by: `native-blas` or `native_blas` is one option."""
    known = {flag.lstrip("-"): p.name for p in command.params if isinstance(p, click.Option) for flag in p.opts}
    by_parameter = {}
    for option, value in options.items():
        parameter = known.get(option.replace("_", "-"))
        if parameter is None:
            raise UsageError(
                f"pyproject.toml: [tool.mlpprof.{name}] has '{option}'{did_you_mean(option, known)} "
                f"(mlpprof {name} --help shows the options)"
            )
        by_parameter[parameter] = value
    return by_parameter


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # so that workers and half files are cleaned up
    try:
        guard_output()
    except OutputError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code; errors are printed in one line on standard error."""
    try:
        code = cli.main(args=arguments, prog_name="mlpprof", standalone_mode=False)
        sys.stdout.flush()  # here, because an error in the flush at exit is a traceback
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except OutputError as error:
        if not isinstance(error, OutputClosed):
            _complain(str(error))
        discard(sys.stdout)
        return error.exit_code
    except MlpprofError as error:
        _complain(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        _complain(f"interrupted; {str(stop) or 'nothing was kept'}")
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else EXIT_OK


def _complain(text: str) -> None:
    try:
        click.echo(f"mlpprof: {text}", err=True)
    except OSError:  # nowhere is left to say it; the exit code does
        discard(sys.stderr)
