"""`mlpprof sweep TARGET...` measures every cell of a grid, here or on a cluster, and keeps a file for each."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.cli.compare import ARGUMENTS, PairCommand, require_no_program_options, require_programs
from mlpprof.cli.configuration import WrittenPath, by_parameter
from mlpprof.cli.options import (
    BatchSizes,
    allow_writes_option,
    budget_option,
    data_options,
    given_options,
    modules_options,
    network_options,
    program_request,
    scheduler_from,
    scheduler_options,
    step_option,
    time_limit_option,
    workload_from,
)
from mlpprof.cli.saving import REPORTS
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.errors import EXIT_FAILED, EXIT_OK, MlpprofError, UsageError, one_line
from mlpprof.files import require_writable_folder
from mlpprof.profile.variant import DEFAULT_THREADS
from mlpprof.programs.name import is_program
from mlpprof.report.files.formats import write_sweep
from mlpprof.report.json_documents import sweep_json
from mlpprof.report.sweep_rows import counts_text
from mlpprof.report.terminal.sweep import print_sweep
from mlpprof.results.sweep import DONE, Sweep, SweepCell
from mlpprof.sweep.cluster import DaskPool, local_client, remote_client, require_dask
from mlpprof.sweep.grid import Cell, program_cells, values_of, variant_cells
from mlpprof.sweep.measure import class_of_node, measure_cell
from mlpprof.sweep.run import Sweeping

FOLDER = REPORTS / "sweep"
DTYPES = ("float32", "float64")
MOST_THREADS = 1024
MOST_CELLS = 100_000
"""A grid of more cells is refused, because it is more likely a mistake than a plan."""

GRID_TARGETS = "mlpprof.targets"
"""Where the targets of a --grid file are kept."""

OF_VARIANTS = ("layers", "batch", "dtype", "seed", "steps", "workload", "data", "x", "y")


def _read_grid(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Take the options of a TOML file as defaults: what is typed has priority."""
    if path is None:
        return None
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read the grid in {path}: {one_line(error)}") from error
    targets = table.pop("targets", [])
    if not isinstance(targets, list) or not all(isinstance(one, str) for one in targets):
        raise UsageError(f'{path}: targets is {targets!r:.60}; expected a list of texts, such as ["naive", "cached"]')
    lists = {option.name for option in ctx.command.params if isinstance(option, click.Option) and option.multiple}
    table = {key: [value] if key in lists and not isinstance(value, list) else value for key, value in table.items()}
    ctx.meta[GRID_TARGETS] = tuple(targets)
    ctx.default_map = {**(ctx.default_map or {}), **by_parameter(ctx.command, ("sweep",), table, path, str(path))}
    return path


@click.command("sweep", cls=PairCommand)
@click.argument("targets", nargs=-1, metavar="TARGET...")
@click.option(
    "--grid",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_read_grid,
    is_eager=True,
    expose_value=False,
    metavar="FILE.toml",
    help="Take the grid from a file: targets = [...], and any option by its name, such as batch = [8, 500].",
)
@click.option("--over", metavar="TARGET", help="Race every target with this one, instead of profiling it.")
@data_options
@click.option(
    "--layers",
    multiple=True,
    metavar="SIZES",
    help="Neurons per layer, such as 784-70-30-10; for several networks, repeat it.",
)
@click.option("--batch", multiple=True, type=BatchSizes(), metavar="SIZES", help="Batch sizes, such as 8,500.")
@click.option("--dtype", multiple=True, metavar="NAMES", help="Precisions, instead of the variant's own.")
@click.option(
    "--threads", multiple=True, metavar="COUNTS", help="Numbers of BLAS threads; with 0 the BLAS decides. [default: 1]"
)
@network_options
@click.option("--native-blas", is_flag=True, help="Ignore variables that fix the BLAS kernel (OPENBLAS_CORETYPE, ...).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed for weights.")
@click.option("--steps", type=click.IntRange(1, 1_000_000), help="Timed steps per pass of a profile.")
@budget_option
@time_limit_option
@step_option
@modules_options
@allow_writes_option
@scheduler_options
@click.option(
    "-o",
    "--out",
    type=WrittenPath(file_okay=False),
    default=FOLDER,
    show_default=True,
    metavar="FOLDER",
    help="Folder for a file of each cell, and for the report: sweep.html, .txt, .csv, .json, and figures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the tables.")
@click.pass_context
def command(ctx: click.Context, /, targets: tuple[str, ...], **options: Any) -> None:
    """Measure every combination of TARGETs, layers, batches, precisions and threads, and keep a file for each.

    A cell is one combination: a profile, or with --over a race on the same machine. To give an option of the grid
    several values, separate them with commas or repeat the option. Programs have their own network, data and
    batch, so only --threads makes a grid of them.

    Without --scheduler the cells run one after another on this machine. A cell that is done is not measured again when
    you run the same command with the same -o: its file is found by its code, data, settings and class of machine. If
    other programs used the CPUs that a cell needed, it is measured up to two times again. Times of different classes of
    machines are never compared.

    The exit code is 0 if all cells are done, 1 if some are not, and 130 after Ctrl-C, which keeps what is done.

    \b
    mlpprof sweep naive cached --batch 8,500 --dtype float32,float64
    mlpprof sweep cached compiled --over naive --layers 784-30-10 --layers 784-300-100-10
    mlpprof sweep --grid grid.toml -o reports/night --scheduler tcp://node1:8786
    """
    require_dask()
    targets = targets or ctx.meta.get(GRID_TARGETS, ())
    options["arguments"] = ctx.meta.get(ARGUMENTS, ())
    cells = cells_from(ctx, targets, options)
    require_writable_folder(options["out"])
    with _client(options) as client:
        class_of = partial(class_of_node, options["native_blas"])
        pool = DaskPool(client, measure_cell, class_of, complain)
        sweeping = Sweeping(cells, options["out"], pool)
        sweep = swept(sweeping, cells, options)
    if options["as_json"]:
        print_json(sweep_json(sweep))
    else:
        console = output_console()
        print_sweep(sweep, console)
        print_sentence(console, f"kept in {options['out']}", "dim")
    ctx.exit(EXIT_OK if sweep.count(DONE) == len(cells) else EXIT_FAILED)


def _client(options: Mapping[str, Any]) -> AbstractContextManager[Any]:
    scheduler = scheduler_from(options)
    return local_client() if scheduler is None else remote_client(*scheduler)


def swept(sweeping: Sweeping, cells: Sequence[Cell], options: Mapping[str, Any]) -> Sweep:
    """Run the sweep and write its report, also if it was interrupted or has failed."""
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    created = datetime.now(UTC).isoformat(timespec="seconds")

    def sweep() -> Sweep:
        workload = options["workload"] if cells[0].variants else None
        return Sweep(created, typed, workload, cells[0].shown.over, tuple(sweeping.shown))

    try:
        with progress_bar(with_lines=True) as progress:
            sweeping.run(progress)
    except (KeyboardInterrupt, MlpprofError) as error:
        with contextlib.suppress(UsageError):  # a full disk is in the message already
            write_sweep(sweep(), options["out"])
        if not isinstance(error, KeyboardInterrupt):
            raise
        if options["as_json"]:
            print_json(sweep_json(sweep()))
        raise click.Abort(
            f"{counts_text(sweep())}. What is done is kept in {options['out']}, and the same command continues with "
            "the rest"
        ) from None
    write_sweep(sweep(), options["out"])
    return sweep()


def cells_from(ctx: click.Context, targets: Sequence[str], options: dict[str, Any]) -> list[Cell]:
    """The cells of the grid, each once. Raises UsageError for a value that cannot be used, before anything starts."""
    over = options["over"]
    if not targets:
        raise UsageError("there is nothing to measure; type variants or programs, as in: mlpprof sweep naive cached")
    threads = _threads(options["threads"])
    blank = SweepCell("", None, None, None, None, None)
    typed = shlex.join(["mlpprof", *sys.argv[1:]])
    if options["budget"] is not None and over is None:
        raise UsageError(f"--budget {options['budget']:g} is for races; add --over TARGET, or use --steps for profiles")
    common = Cell(
        blank,
        str(Path.cwd()),
        typed,
        native_blas=options["native_blas"],
        steps=options["steps"],
        budget_s=options["budget"],
    )
    everything = [*targets, *([over] if over is not None else [])]
    if any(is_program(name) for name in everything):
        require_programs(everything, options)
        if given := given_options(ctx, OF_VARIANTS):
            raise UsageError(f"{', '.join(given)} cannot be used with programs, which have their own network and data")
        requests = [program_request(name, options) for name in targets]
        baseline = None if over is None else program_request(over, options)
        found = list(program_cells(requests, baseline, threads or [None], replace(common, steps=None)))
    else:
        require_no_program_options({**options, "steps": (options["step"],) if options["step"] else ()})
        batches = list(dict.fromkeys(size for sizes in options["batch"] for size in sizes))
        layers: list[str | None] = [*values_of(options["layers"])] or [None]
        workloads = [workload_from({**options, "layers": one, "batch": batches or None}) for one in layers]
        dtypes = _dtypes(options["dtype"])
        found = list(
            variant_cells(
                *(targets, over, workloads, batches, dtypes, threads or [DEFAULT_THREADS], options["seed"], common)
            )
        )
    cells = list({cell.text: cell for cell in found}.values())
    if not cells:
        raise UsageError(f"--over {over} is the only target; type the targets that you want to race with it")
    if len(cells) > MOST_CELLS:
        raise UsageError(f"the grid has {len(cells):,} cells; expected at most {MOST_CELLS:,}")
    return cells


def _threads(texts: Sequence[str]) -> list[int | None]:
    values = values_of(texts)
    for value in values:
        if not (value.isascii() and value.isdigit()) or int(value) > MOST_THREADS:
            raise UsageError(f"--threads {value}: expected numbers from 0 to {MOST_THREADS}, such as 1,4")
    return [int(value) or None for value in values]


def _dtypes(texts: Sequence[str]) -> list[str | None]:
    values = values_of(texts)
    for value in values:
        if value not in DTYPES:
            raise UsageError(f"--dtype {value}: expected {' or '.join(DTYPES)}")
    return [*values] or [None]
