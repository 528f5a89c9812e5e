"""Options that several commands share: the network, the data, and how to measure."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from mlpprof.advise import Subject
from mlpprof.data import DataSource
from mlpprof.engines.mpiexec import HOSTFILE_VARIABLE, RANKS_VARIABLE
from mlpprof.engines.team import WORKERS_VARIABLE
from mlpprof.errors import UsageError
from mlpprof.model.network import HIDDEN, LOSS_NAMES, OUTPUTS, parse_layers
from mlpprof.profile.profile import DEFAULT_THREADS
from mlpprof.profile.request import Request
from mlpprof.workloads import DEFAULT_WORKLOAD, WORKLOADS, Workload, resolve

Command = TypeVar("Command", bound=Callable[..., Any])

NETWORK_OPTIONS = ("hidden", "output", "loss", "rate", "momentum", "l1", "l2")


def _batch_sizes(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """'32,500' -> (32, 500); raises UsageError naming the part that is no batch size."""
    if value is None:
        return None
    parts = [part.strip() for part in str(value).split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit()) or int(part) < 1:
            raise UsageError(f"--batch {value}: '{part}' is no batch size; expected whole numbers such as 32,500")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _told_by(variable: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that tells workers and variants through their environment, for as long as the command runs."""

    def tell(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            before = os.environ.get(variable)
            os.environ[variable] = str(value)
            ctx.call_on_close(lambda: _restore(variable, before))

    return tell


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown by --help in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


workload_options = together(
    click.option(
        "--workload",
        default=DEFAULT_WORKLOAD,
        show_default=True,
        metavar="NAME",
        help=f"Network, data and batch to start from: {', '.join(WORKLOADS)}.",
    ),
    click.option("--data", metavar="FILE|FOLDER", help="HDF5, IDX (a folder or a file, gzipped or not) or .npz."),
    click.option("--x", metavar="NAME", help="Name of the samples in the data file."),
    click.option("--y", metavar="NAME", help="Name of the labels or targets in the data file."),
    click.option("--layers", metavar="SIZES", help="Neurons a layer, input first, such as 784-70-30-10."),
    click.option("--hidden", metavar="NAME", help=f"Hidden activation: {', '.join(HIDDEN)}."),
    click.option("--output", metavar="NAME", help=f"Output activation: {', '.join(OUTPUTS)}."),
    click.option("--loss", metavar="NAME", help=f"Loss: {', '.join(LOSS_NAMES)}."),
    click.option("--rate", type=float, help="Learning rate, for the mean gradient of the batch."),
    click.option("--momentum", type=float, help="Heavy-ball momentum, from 0 to below 1."),
    click.option("--l1", type=float, help="L1 penalty on the weights."),
    click.option("--l2", type=float, help="L2 penalty on the weights."),
)
"""What is trained on what; read them with `workload_from`."""

rank_options = together(
    click.option(
        "--ranks",
        type=click.IntRange(1, 100_000),
        callback=_told_by(RANKS_VARIABLE),
        expose_value=False,
        help="Of variants that are MPI programs (mpi); as many as --workers by default.",
    ),
    click.option(
        "--hostfile",
        metavar="FILE",
        callback=_told_by(HOSTFILE_VARIABLE),
        expose_value=False,
        help="Machines for the ranks, as mpiexec takes it.",
    ),
)
"""How many ranks and where, for commands that run `mpi`."""

measuring_options = together(
    click.option("--batch", callback=_batch_sizes, metavar="SIZES", help="Batch sizes, such as 32,500,20000."),
    click.option(
        "--dtype", type=click.Choice(["float32", "float64"]), help="Precision, instead of the variant's own DTYPE."
    ),
    click.option(
        "--threads",
        type=click.IntRange(0, 1024),
        default=DEFAULT_THREADS,
        show_default=True,
        help="BLAS threads; 0 leaves it to the BLAS and the environment.",
    ),
    click.option("--native-blas", is_flag=True, help="Clear what pins the BLAS kernel (OPENBLAS_CORETYPE, ...)."),
    click.option(
        "--workers",
        type=click.IntRange(1, 1024),
        callback=_told_by(WORKERS_VARIABLE),
        expose_value=False,
        help="Of variants that share a step (processes, threaded ...); all CPUs by default.",
    ),
    rank_options,
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights and shuffling."),
)
"""How it is measured."""


FILE_HELP = "Write it: .html .h5 .json .csv .txt .png .svg .speedscope.json .trace.json .lprof .lprof.txt .pyisession"


def _needs_a_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Raise UsageError where the option tells how to write a file, but none is named."""
    if value is not None and not ctx.params.get("out"):
        raise UsageError(f"{param.opts[0]} {value} is of a file, but none is named; add -o FILE")
    return value


figure_option = click.option(
    "--figure",
    metavar="NAME",
    callback=_needs_a_file,
    help="Which one a .png or .svg shows: layers, roofline, samples ... (default: the most telling one).",
)
"""For commands whose option -o is eager, so that this one knows it."""

file_options = together(
    click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), is_eager=True, help=FILE_HELP),
    click.option(
        "--format",
        "file_format",
        metavar="NAME",
        callback=_needs_a_file,
        help="Of the file, where its name does not tell: chrome-trace, speedscope, line-profiler ...",
    ),
    figure_option,
)
"""Where a run's report goes, and as what."""


def workload_from(options: Mapping[str, Any]) -> Workload:
    """The workload that the `workload_options` describe, with the largest of the batch sizes asked for.

    Raises UsageError or DataError, naming the value that does not fit.
    """
    data, x, y = options["data"], options["x"], options["y"]
    if data is None and (x is not None or y is not None):
        raise UsageError(f"--x and --y name arrays in a file, but no file is given ('{x or y}'); add --data FILE")
    return resolve(
        options["workload"],
        source=None if data is None else DataSource.parse(data, x, y),
        batch=None if options["batch"] is None else max(options["batch"]),
        layers=None if options["layers"] is None else parse_layers(options["layers"]),
        **{name: options[name] for name in NETWORK_OPTIONS if options[name] is not None},
    )


# Options of the commands that look at a program as it stands, a script or a variant, and the `Subject` they make.


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
