"""The options that several commands share: for the network, for the data, and for measuring."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from mlpprof.advise import Subject
from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.streams import complain
from mlpprof.compare.error_bounds import RESOLUTION
from mlpprof.compare.resolution import share_of
from mlpprof.data import DataSource, memory_needed, peek
from mlpprof.data.reading_order import WINDOW_BYTES, part_rows_for
from mlpprof.engines.members import RANKS_VARIABLE, WORKERS_VARIABLE
from mlpprof.engines.mpiexec import HOSTFILE_VARIABLE
from mlpprof.errors import UsageError
from mlpprof.machine.linux import free_memory_bytes
from mlpprof.model.network import HIDDEN, LOSS_NAMES, OUTPUTS, parse_layers
from mlpprof.process import TIME_LIMIT_S, TIME_LIMIT_VARIABLE, time_limit_s
from mlpprof.profile.request import Request
from mlpprof.profile.variant import DEFAULT_THREADS
from mlpprof.programs.name import EXPECTED, MODULE, ProgramName
from mlpprof.programs.request import STILL_S, ProgramRequest, request_for
from mlpprof.report.numbers import format_size
from mlpprof.workloads import DEFAULT_WORKLOAD, WORKLOADS, Workload, resolve

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_OF_MEMORY = 0.25
"""The rows of a file that are in memory while training take no more than this share of what is free."""

NETWORK_OPTIONS = ("hidden", "output", "loss", "rate", "momentum", "l1", "l2")


class SecondsRange(click.FloatRange):
    """A number of seconds; NaN is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does, which takes NaN for a number that is in every range."""
        seconds = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number of seconds.", param, ctx) if seconds != seconds else seconds


class Resolution(click.ParamType):  # type: ignore[type-arg]  # it takes types in newer versions only
    """'2%' or '0.02' -> 0.02."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises UsageError for what is no share, or too fine or too coarse."""
        try:
            return share_of(value)
        except UsageError as error:
            raise UsageError(f"--resolution {value}: {error}") from error


class BatchSizes(click.ParamType):  # type: ignore[type-arg]  # it takes types in newer versions only
    """'32,500' -> (32, 500)."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Raises UsageError with the part that is not a batch size."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        for part in parts:
            if not (part.isascii() and part.isdigit()) or int(part) < 1:
                raise UsageError(f"--batch {value}: '{part}' is not a batch size; expected numbers such as 32,500")
        return tuple(dict.fromkeys(int(part) for part in parts))


def _environment_setter(variable: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that sets an environment variable for workers and variants, as long as the command runs."""

    def set_variable(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is not None:
            before = os.environ.get(variable)
            os.environ[variable] = str(value)
            ctx.call_on_close(lambda: _restore(variable, before))
        return value

    return set_variable


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator; --help shows them in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


data_options = together(
    click.option(
        "--workload",
        default=DEFAULT_WORKLOAD,
        show_default=True,
        metavar="NAME",
        help=f"Network, data and batch to start from: {', '.join(WORKLOADS)}.",
    ),
    click.option(
        "--data", metavar="FILE|FOLDER", help="Data: HDF5, IDX (a folder or a file, gzipped or not), .npz or .npy."
    ),
    click.option("--x", metavar="NAME", help="Name of the samples in the data file."),
    click.option("--y", metavar="NAME", help="Name of the labels or targets in the data file."),
)
"""The options for the data."""

stream_option = click.option(
    "--stream",
    is_flag=True,
    help="Read the data file while training, a part at a time, instead of loading it first. This happens by itself if "
    "the data does not fit into memory.",
)
"""The option for commands that can train from a file; `workload_from` reads it."""

network_options = together(
    click.option("--hidden", metavar="NAME", help=f"Hidden activation: {', '.join(HIDDEN)}."),
    click.option("--output", metavar="NAME", help=f"Output activation: {', '.join(OUTPUTS)}."),
    click.option("--loss", metavar="NAME", help=f"Loss: {', '.join(LOSS_NAMES)}."),
    click.option("--rate", type=float, help="Learning rate (gradients are averaged over the batch)."),
    click.option("--momentum", type=float, help="Heavy-ball momentum, from 0 to below 1."),
    click.option("--l1", type=float, help="L1 penalty on the weights."),
    click.option("--l2", type=float, help="L2 penalty on the weights."),
)
"""The options for the network but its layers."""

workload_options = together(
    data_options,
    click.option("--layers", metavar="SIZES", help="Neurons per layer, input first, such as 784-70-30-10."),
    network_options,
)
"""The options for network and data; `workload_from` reads them."""

time_limit_option = click.option(
    "--time-limit",
    type=SecondsRange(1),
    metavar="SECONDS",
    callback=_environment_setter(TIME_LIMIT_VARIABLE),
    expose_value=False,
    help="End code that makes no progress for so long, such as a step that does not end, or a program that does not "
    f"reach its training step (default: {TIME_LIMIT_S:.0f}). A program that stands still at one line is ended after "
    f"{STILL_S:.0f} seconds.",
)
"""The option for code that needs long, or runs for ever; `process.time_limit_s` reads it."""

scheduler_options = together(
    click.option("--scheduler", metavar="tcp://HOST:PORT", help="Use a dask scheduler that is already running."),
    click.option(
        "--scheduler-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Use the scheduler whose address is in FILE, which dask scheduler --scheduler-file has written.",
    ),
)
"""The options for commands that run on a cluster; `scheduler_from` reads them."""


def scheduler_from(options: Mapping[str, Any]) -> tuple[str | None, Path | None] | None:
    """The address or the file of a scheduler, None without one. Raises UsageError if both are given."""
    address, file = options["scheduler"], options["scheduler_file"]
    if address is not None and file is not None:
        raise UsageError(f"--scheduler {address} and --scheduler-file {file} name two schedulers; leave one out")
    return None if address is None and file is None else (address, file)


budget_option = click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Time limit per comparison; three processes always run, or two if the effect is clear.",
)
"""The option for the time of a race."""

rank_options = together(
    click.option(
        "--ranks",
        type=click.IntRange(1, 100_000),
        callback=_environment_setter(RANKS_VARIABLE),
        expose_value=False,
        help="Number of MPI processes, for the variant mpi (default: the same as --workers).",
    ),
    click.option(
        "--hostfile",
        metavar="FILE",
        callback=_environment_setter(HOSTFILE_VARIABLE),
        expose_value=False,
        help="File with the machines for the ranks; it is passed to mpiexec.",
    ),
)
"""The options for commands that run the variant `mpi`."""

measuring_options = together(
    click.option("--batch", type=BatchSizes(), metavar="SIZES", help="Batch sizes, such as 32,500,20000."),
    click.option(
        "--dtype", type=click.Choice(["float32", "float64"]), help="Precision, instead of the variant's own DTYPE."
    ),
    click.option(
        "--threads",
        type=click.IntRange(0, 1024),
        default=DEFAULT_THREADS,
        show_default=True,
        help="Number of BLAS threads; with 0 the BLAS and the environment decide.",
    ),
    click.option(
        "--native-blas", is_flag=True, help="Ignore variables that fix the BLAS kernel (OPENBLAS_CORETYPE, ...)."
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 1024),
        callback=_environment_setter(WORKERS_VARIABLE),
        expose_value=False,
        help="Number of worker processes, for variants that split a step (default: all CPUs).",
    ),
    rank_options,
    time_limit_option,
    click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed for weights and shuffling."
    ),
)
"""The options for measuring."""

resolution_option = click.option(
    "--resolution",
    type=Resolution(),
    default=RESOLUTION,
    show_default="10%",
    metavar="SHARE",
    help="How fine the result is, from 1% to 50%. With 2%, a PASS says that NEW is more than R / 1.02 times as fast; "
    "finer ones take more time.",
)
"""The option for the resolution of verdicts and intervals."""

FILE_HELP = (
    "Write the report to FILE. The extension selects the format: .html .h5 .json .csv .txt .png .svg .speedscope.json "
    ".trace.json .lprof .lprof.txt .pyisession"
)


def _needs_a_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Raise UsageError if the option needs a file, but -o is missing."""
    if value is not None and not ctx.params.get("out"):
        raise UsageError(f"{param.opts[0]} {value} needs a file; add -o FILE")
    return value


figure_option = click.option(
    "--figure",
    metavar="NAME",
    callback=_needs_a_file,
    help="Figure for a .png or .svg file: layers, roofline, samples ... (default: the most useful one).",
)
"""The option for figures; the command's option -o must be eager, so that it is parsed before."""

file_options = together(
    click.option("-o", "--out", type=WrittenPath(dir_okay=False), is_eager=True, metavar="FILE", help=FILE_HELP),
    click.option(
        "--format",
        "file_format",
        metavar="NAME",
        callback=_needs_a_file,
        help="Format of FILE, if the extension does not say it: chrome-trace, speedscope, line-profiler ...",
    ),
    figure_option,
)
"""The options for the file of a report, and for its format."""


def workload_from(options: Mapping[str, Any]) -> Workload:
    """The workload that the `workload_options` describe, with the largest of the given batch sizes.

    Raises UsageError or DataError with the value that does not fit.
    """
    data, x, y = options["data"], options["x"], options["y"]
    if data is None and (x is not None or y is not None):
        raise UsageError(
            f"--x and --y are names of arrays in a file ('{x or y}'), but there is no file; add --data FILE"
        )
    workload = resolve(
        options["workload"],
        source=None if data is None else DataSource.parse(data, x, y),
        batch=None if options["batch"] is None else max(options["batch"]),
        layers=None if options["layers"] is None else parse_layers(options["layers"]),
        **{name: options[name] for name in NETWORK_OPTIONS if options[name] is not None},
    )
    wanted = options.get("stream")
    return workload if wanted is None else streamed(workload, wanted, options["dtype"])


def streamed(
    workload: Workload,
    wanted: bool,
    dtype: str | None,
    free_bytes: Callable[[], int] = free_memory_bytes,
    say: Callable[[str], None] = complain,
) -> Workload:
    """The workload with a source that is read while training, if that is wanted or the data does not fit into memory.

    dtype: of the training; None counts with float64, which a variant may need. say: gets a note if it was not wanted.
    Raises UsageError if it is wanted for an embedded set.
    """
    source = workload.source
    if source.path is None:
        if wanted:
            raise UsageError(f"--stream reads a data file, but '{source.text}' is an embedded set; add --data FILE")
        return workload
    free = free_bytes()
    if not wanted:
        needed = memory_needed(source, np.dtype(dtype or "float64").itemsize)
        if needed <= free:
            return workload
        say(
            f"{source.text} takes {format_size(needed)} in memory, but {format_size(free)} are free; it is read while "
            "training, as with --stream"
        )
    part_rows = part_rows_for(peek(source), workload.batch, min(WINDOW_BYTES, int(free * MOST_OF_MEMORY)))
    return replace(workload, source=replace(source, part_rows=part_rows))


# The options of commands that run an unchanged program, and the `Subject` that is made from them.


class ProgramCommand(click.Command):
    """A command that takes programs: it reads '-m package.module' as one word, wherever it stands before '--'."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the words; the space in front keeps click from reading an option."""
        end = args.index("--") if "--" in args else len(args)
        joined: list[str] = []
        words = iter(args[:end])
        for word in words:
            if word == MODULE.strip():
                module = next(words, None)
                if module is None:
                    raise UsageError("-m needs the name of a module; write -m package.module")
                word = f" {MODULE}{module}"
            elif word.startswith(MODULE):  # one word already, as reports show it
                word = f" {word}"
            joined.append(word)
        return super().parse_args(ctx, joined + args[end:])


arguments_argument = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS]...")
"""The words after `--`, which are passed to the script."""

step_option = click.option(
    "--step",
    metavar="NAME",
    help="The training step of your program: Class.method, a function, or LINE of the training loop (default: mlpprof "
    "finds it).",
)

modules_options = together(
    click.option(
        "--include",
        multiple=True,
        metavar="PATTERN",
        help="Also analyse these modules, even if they belong to an installed library. Can be repeated.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Do not analyse these modules, such as plots.py or '*/drawing/*.py'. Has priority over --include.",
    ),
)
"""The options that select modules of the program."""


allow_writes_option = click.option(
    "--allow-writes",
    is_flag=True,
    help="Let the program write files. By default it writes into a copy of its folder that is dropped, or, where the "
    "system allows no such copy, is ended before it writes outside of temporary folders.",
)
"""The option that lets a program write files outside of temporary folders."""

variant_options = together(
    workload_options,
    click.option("--batch", type=click.IntRange(1), help="Batch size, instead of the workload's."),
    click.option(
        "--dtype", type=click.Choice(["float32", "float64"]), help="Precision, instead of the variant's own DTYPE."
    ),
    click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed for weights and shuffling."
    ),
)
"""The options for training a variant; a script has its own network and data."""

_VARIANT_ONLY = ("workload", "data", "x", "y", "layers", *NETWORK_OPTIONS, "batch", "dtype", "seed")


def given_options(ctx: click.Context, names: Sequence[str]) -> list[str]:
    """The flags of those parameters that are on the command line; pyproject.toml does not count."""
    flags = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    typed = click.core.ParameterSource.COMMANDLINE
    return [flags[name] for name in names if ctx.get_parameter_source(name) is typed]


def refuse_for_programs(ctx: click.Context, names: Sequence[str]) -> None:
    """Raise UsageError if one of these parameters is on the command line, because they are for variants only."""
    given = given_options(ctx, names)
    if given:
        # The programs are the command's first parameter, and for `compare` the second.
        programs = [ctx.params[parameter.name or ""] for parameter in ctx.command.params[:2]]
        typed = " ".join(name.strip() for one in programs for name in ([one] if isinstance(one, str) else one))
        raise UsageError(
            f"{', '.join(given)} cannot be used with a program, which has its own network and data; leave it out. An "
            f"option of your program itself goes after --, as in: mlpprof {ctx.info_name} {typed} -- {given[0]} ..."
        )


def require_options_of_programs(ctx: click.Context, allowed: Sequence[str]) -> None:
    """Raise UsageError for a parameter on the command line that is not one of these."""
    refuse_for_programs(ctx, [name for name in ctx.params if name not in allowed])


def program_request(target: str, options: Mapping[str, Any]) -> ProgramRequest:
    """The request for a program with the options of a command. Raises as `request_for`."""
    return request_for(
        target.strip(),
        arguments=options["arguments"],
        step=options.get("step"),
        include=options["include"],
        exclude=options["exclude"],
        allow_writes=options["allow_writes"],
        wait_s=time_limit_s(),
    )


def subject_from(target: str, options: Mapping[str, Any], threads: int | None) -> Subject:
    """The program for the options. threads: the number of BLAS threads; None takes the program's own or the default.

    Raises UsageError for arguments without a script.
    """
    arguments, include, exclude = options["arguments"], options["include"], options["exclude"]
    allow_writes = options["allow_writes"]
    subject = Subject(
        target,
        options["step"],
        arguments,
        include,
        exclude,
        threads=threads,
        allow_writes=allow_writes,
        wait_s=time_limit_s(),
    )
    if arguments and not subject.is_program:
        raise UsageError(f"'{arguments[0]}' is for a program, but '{target}' is a variant; {EXPECTED}")
    return subject


def announcement(name: ProgramName, how_often: str) -> str:
    """How often a program will run, because it may do more than training."""
    return f"{name.short} runs {how_often}, and is stopped after the recorded steps"


def announce(subject: Subject, how_often: str | None = None) -> None:
    """Print to standard error how often the program will run.

    how_often: in words, if it is more often than for finding and recording the step.

    Raises UsageError if there is no such script, so that no run of it is announced.
    """
    if subject.is_program:
        complain(announcement(subject.program.name, how_often or subject.how_often))


def trained_on(subject: Subject, options: Mapping[str, Any], ctx: click.Context) -> Subject:
    """The same subject; a variant gets the network and the data of the `variant_options`.

    Raises UsageError if these options are given for a script, and what `workload_from` raises.
    """
    if subject.is_program:
        refuse_for_programs(ctx, _VARIANT_ONLY)
        return subject
    batch = options["batch"]
    workload = workload_from({**options, "batch": None if batch is None else (batch,)})
    request = Request(str(subject.target), workload.network, workload.source, options["dtype"], options["seed"])
    return replace(subject, request=request, batch=workload.batch)
