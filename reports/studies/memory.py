"""`python -m reports.studies.memory`: how much memory every rung needs on S1, each in a fresh process.

The study reports memory in addition to what an interpreter without imports holds: libraries, data, and the peak of the
steps. Where a rung has several processes, only the first one counts: memory that they share would count several times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from mlpprof.catalog import Entry, ladder
from mlpprof.cli.terminal import progress_bar
from mlpprof.data import DataSource
from mlpprof.errors import MissingExtra, UnsupportedNetwork, UsageError
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker, part_of
from mlpprof.profile.request import Request
from mlpprof.report.numbers import format_size
from mlpprof.workloads import resolve
from reports.program import Program, out_option
from reports.studies.memory_worker import CLEAR
from reports.studies.study import FOLDER, Study

WORKER = "reports.studies.memory_worker"
BATCHES = (500, 20_000)
LEFT_OUT = {"numeric", "scalar"}
"""These rungs take minutes for a step on S1."""
BARE = "import re, pathlib; print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])"


@dataclass(frozen=True)
class Need:
    """Bytes that the bare interpreter does not hold: the peak, and of it the libraries, the data and the steps."""

    variant: str
    batch: int
    peak: int
    libraries: int
    data: int
    steps: int


def bare_bytes() -> int:
    """The peak of an interpreter that has imported next to nothing."""
    done = subprocess.run([sys.executable, "-I", "-c", BARE], capture_output=True, text=True, check=True)
    return 1024 * int(done.stdout)


def measure(
    entries: Sequence[Entry], batches: Sequence[int], source: DataSource | None, progress: Progress
) -> tuple[list[Need], dict[str, str]]:
    """What all variants need at all batch sizes, and the reasons why some did not take part."""
    if not CLEAR.exists():
        raise UsageError(
            "this study reads the peak of a process from /proc, and this system has no /proc; run the study on Linux"
        )
    workload = resolve("digits", source=source)
    environment = worker_environment(os.environ, 1, native_blas=True)
    bare = bare_bytes()
    needs, refused = [], {}
    total = len(entries) * len(batches)
    for i, (entry, batch) in enumerate((entry, batch) for entry in entries for batch in batches):
        part = part_of(progress, i / total, 1 / total, f"{entry.name}, batch {batch:,}")
        request = Request(entry.reference, workload.network, workload.source)
        try:
            with Worker(WORKER, environment) as worker:
                answer = worker.call("steps", part, request=request.to_json(), batch=batch)
        except (MissingExtra, UnsupportedNetwork) as reason:
            refused[entry.name] = str(reason)
            continue
        needs.append(
            Need(
                variant=entry.name,
                batch=batch,
                peak=answer["peak"] - bare,
                libraries=answer["libraries"] - bare,
                data=answer["data"],
                steps=answer["peak"] - answer["with_data"],
            )
        )
    return needs, refused


def memory_text(needs: Sequence[Need], refused: dict[str, str]) -> str:
    """One row per rung and batch size."""
    width = max(len(need.variant) for need in needs)
    lines = [
        "\nResident memory above the bare interpreter's on S1 (784-70-30-10, 60,000 samples), one process:",
        f"  {'rung':<{width}} {'batch':>7} {'peak':>10} {'libraries':>10} {'X and Y':>10} {'steps':>10}",
    ]
    for need in needs:
        sizes = (format_size(size) for size in (need.peak, need.libraries, need.data, need.steps))
        lines.append(f"  {need.variant:<{width}} {need.batch:>7,} " + " ".join(f"{size:>10}" for size in sizes))
    lines += [f"  {name} did not take part: {why}" for name, why in refused.items()]
    lines.append(
        "steps: the peak of the instance and its steps; the rest of the whole peak is what loading left in memory."
    )
    return "\n".join(lines) + "\n"


@click.command(cls=Program)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="MNIST [default: embedded digits].")
@click.option("--quick", is_flag=True, help="Only buffered and chunked.")
@out_option(FOLDER, "memory.txt and memory.json")
def main(data: Path | None, quick: bool, out: Path) -> None:
    """Measure the memory that every rung needs; write memory.txt and memory.json."""
    known = [entry for name, entry in ladder().items() if name not in LEFT_OUT and entry.extra != "peers"]
    if quick:
        known = [entry for entry in known if entry.name in ("buffered", "chunked")]
    study = Study.begin("memory", out)
    with progress_bar() as progress:
        source = None if data is None else DataSource(path=str(data))
        needs, refused = measure(known, BATCHES, source, progress)
    study.end(memory_text(needs, refused), {"needs": needs, "refused": refused})


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.memory")
