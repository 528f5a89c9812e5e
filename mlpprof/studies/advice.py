"""`python -m mlpprof.studies.advice`: what `mlpprof advise` promises on every rung's parent, and what the rung gives.

Every rung of the ladder up to `buffered` cures one flaw of its parent. `advise` is run on the parent; what it says of
that flaw is held against the ratio of the two rungs, measured as the ladder does: interleaved, in fresh processes.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import psutil

from mlpprof.advise import Subject, find
from mlpprof.catalog import ladder
from mlpprof.data import DataSource
from mlpprof.errors import EXIT_INTERRUPTED, MlpprofError
from mlpprof.measure.gate import add_replicates, log_ratios, verdict_of
from mlpprof.measure.racers import Environment, VariantRacer
from mlpprof.measure.request import Request
from mlpprof.process import Progress
from mlpprof.results import Race
from mlpprof.results.advice import Advice
from mlpprof.stats import decide
from mlpprof.studies.advice_table import Pair, Row, advice_text, as_json
from mlpprof.studies.output import (
    FOLDER,
    circumstances,
    circumstances_text,
    part_of,
    prepare_folder,
    progress_bar,
    write_document,
)
from mlpprof.workloads import DEFAULT_WORKLOAD, WORKLOADS, Workload, resolve

CURES = {
    "per_sample": "neuron-loop",
    "naive": "sample-loop",
    "float32": "float64",
    "no_input_delta": "dead-computation",
    "contiguous": "layout",
    "cached": "recomputation",
    "sliced": "bias-stacking",
    "tanh_sigmoid": "slow-primitive",
    "buffered": "temporaries",
}
"""Rung -> the category of the flaw that it cures in its parent."""

SILENT = ("buffered", "chunked", "fused_update")
"""Rungs with nothing left to cure."""

LARGEST_BATCH = {"scalar": 10, "per_sample": 500}
"""Parent -> most samples a step, so that one takes a quarter of a second at most on the default network."""

PROCESSES, QUICK_PROCESSES = 5, 2


def pairs_of(batch: int) -> tuple[Pair, ...]:
    """All rungs with a cure, each on its parent, with the batch that the slower of the two can do."""
    known = ladder()
    pairs = []
    for child, category in CURES.items():
        parent = known[child].parent
        assert parent is not None
        most = LARGEST_BATCH.get(parent, batch)
        pairs.append(Pair(parent, child, category, min(batch, most), most < batch))
    return tuple(pairs)


def lines_of(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs that race together: neighbours, and none but the first of a race with a parent that is slow."""
    lines: list[list[Pair]] = []
    for pair in pairs:
        follows = lines and lines[-1][-1].child == pair.parent and lines[-1][-1].batch == pair.batch
        if follows and not {pair.parent, lines[-1][-1].parent} & set(LARGEST_BATCH):
            lines[-1].append(pair)
        else:
            lines.append([pair])
    return lines


def measure_race(workload: Workload, line: Sequence[Pair], processes: int, progress: Progress) -> Race:
    """The rungs of a line in turns."""
    names = [line[0].parent, *(pair.child for pair in line)]
    requests = [Request(name, workload.network, workload.source) for name in names]
    racer = VariantRacer(requests, line[0].batch, Environment(threads=1))
    add_replicates(racer, processes, progress)
    return racer.race()


def ask(workload: Workload, name: str, batch: int, progress: Progress) -> Advice:
    """What `mlpprof advise` says of a rung."""
    request = Request(name, workload.network, workload.source)
    return find(Subject(name, request=request, batch=batch, threads=1), progress=progress)


def measure(
    workload: Workload,
    pairs: Sequence[Pair],
    processes: int,
    progress: Progress,
    asking: Callable[[Workload, str, int, Progress], Advice] = ask,
    racing: Callable[[Workload, Sequence[Pair], int, Progress], Race] = measure_race,
) -> tuple[list[Row], dict[str, Advice]]:
    """A row a pair, and what is said of the last rungs."""
    asked = [*((pair.parent, pair.batch) for pair in pairs), *((name, workload.batch) for name in SILENT)]
    advices: dict[str, Advice] = {}
    for i, (name, batch) in enumerate(asked):
        advices[name] = asking(workload, name, batch, part_of(progress, 0.5 * i / len(asked), 0.5 / len(asked), name))
    rows = []
    lines = lines_of(pairs)
    done = 0
    for line in lines:
        part = part_of(progress, 0.5 + 0.5 * done / len(pairs), 0.5 * len(line) / len(pairs), line[0].parent)
        rows += rows_of(line, racing(workload, line, processes, part), advices)
        done += len(line)
    return rows, {name: advices[name] for name in SILENT}


def rows_of(line: Sequence[Pair], race: Race, advices: Mapping[str, Advice]) -> list[Row]:
    """The pairs of one race with their ratios, paired within processes."""
    place = {name: i for i, name in enumerate(race.variants)}
    return [
        Row(
            pair,
            advices[pair.parent],
            verdict_of(decide(log_ratios(race, place[pair.parent], place[pair.child]))),
        )
        for pair in line
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--workload", "name", type=click.Choice(list(WORKLOADS)), default=DEFAULT_WORKLOAD, show_default=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="MNIST [default: the workload's own data].")
@click.option("--batch", type=click.IntRange(1), help="Samples a step [default: the workload's].")
@click.option("--processes", type=click.IntRange(2, 50), help=f"Replicates of a race [default: {PROCESSES}].")
@click.option(
    "--quick", is_flag=True, help=f"{QUICK_PROCESSES} processes: a look, with intervals too wide to judge by."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True)
@click.pass_context
def main(
    ctx: click.Context,
    name: str,
    data: Path | None,
    batch: int | None,
    processes: int | None,
    quick: bool,
    out: Path,
) -> None:
    """Hold the payoffs of `mlpprof advise` against the ladder; writes advice.md and advice.json."""
    begun, load = datetime.now(UTC), psutil.getloadavg()[0]
    count = processes or (QUICK_PROCESSES if quick else PROCESSES)
    try:
        folder = prepare_folder(out)
        workload = resolve(name, source=None if data is None else DataSource(path=str(data)), batch=batch)
        with progress_bar() as progress:
            rows, silent = measure(workload, pairs_of(workload.batch), count, progress)
    except MlpprofError as error:
        click.echo(f"mlpprof: {error}", err=True)
        ctx.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("mlpprof: interrupted; nothing was written", err=True)
        ctx.exit(EXIT_INTERRUPTED)
    found = circumstances(shlex.join(["python", "-m", "mlpprof.studies.advice", *sys.argv[1:]]), begun, load)
    text = f"# Payoffs of `mlpprof advise`, held against the ladder\n\n{circumstances_text(found)}"
    text += advice_text(rows, silent, workload.name, workload.network.text, count)
    document = {
        "schema": 1,
        **found,
        "workload": workload.name,
        "network": workload.network.text,
        "batch": workload.batch,
        "data": workload.source.text,
        **as_json(rows, silent),
    }
    write_document(folder, "advice", text, document, text_suffix="md")
    click.echo(text)


if __name__ == "__main__":
    main(prog_name="python -m mlpprof.studies.advice")
