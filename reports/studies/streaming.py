"""`python -m reports.studies.streaming`: what training from a file costs that is larger than what a process may hold.

The same rows are trained on from memory and from the file, in turns. The process that streams is in a cgroup with a
limit of a quarter of the file, where one can be made; otherwise the peak of its memory is compared with that quarter.
The system is asked to forget the file before each turn, so that it comes from the disk.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from scipy import stats

from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.entrants import all_threads
from mlpprof.data import DataSource, load, peek
from mlpprof.data.reading_order import part_rows_for
from mlpprof.errors import DataError, UsageError
from mlpprof.machine.blas import worker_environment
from mlpprof.machine.linux import cgroup_folders, read_integer
from mlpprof.model import Array
from mlpprof.process import Progress, Worker, part_of
from mlpprof.profile.request import Request
from mlpprof.report.numbers import format_size
from mlpprof.workloads import resolve
from reports.program import Program, markdown_table, out_option
from reports.studies.study import FOLDER, Study

WORKER = "reports.studies.streaming_worker"
BATCH = 500
SIZE_OVER_LIMIT = 4
FEATURES, CLASSES = 784, 10
WRITTEN_ROWS = 16_384
"""The files are written this many rows at a time, a multiple of the chunks that `LAYOUTS` names."""
EPOCHS, SEEDS = 3, 20
PART_OF_THE_SET = 40
"""For the losses, a part has this share of the set, as in a file that is far larger than the window."""
LIMIT_FILES = (("memory.max", "memory.peak"), ("memory.limit_in_bytes", "memory.max_usage_in_bytes"))
"""In version 2 and 1 of cgroups: the limit of memory, and the most that was used."""

HEADING = """# Training from a file larger than memory

`--stream` reads the data file while training. 784-70-30-10, batch 500, float32. The text below
each table explains its columns.

"""


@dataclass(frozen=True)
class Layout:
    """A way to store the rows in HDF5."""

    name: str
    dtype: str
    options: dict[str, Any]


MAIN = Layout("float32, in one piece", "float32", {})
LAYOUTS = (
    Layout("uint8, in one piece", "uint8", {}),
    Layout("uint8, chunks of 64 rows", "uint8", {"chunks": (64, FEATURES)}),
    Layout("uint8, chunks of 64 rows, gzip", "uint8", {"chunks": (64, FEATURES), "compression": "gzip"}),
    Layout("uint8, h5py's own chunks, gzip", "uint8", {"chunks": True, "compression": "gzip"}),
    Layout("uint8, chunks of 8,192 rows x 16 columns", "uint8", {"chunks": (8192, 16)}),
)


@dataclass(frozen=True)
class Measured:
    """Training from one file: steps a second from memory and from the file.

    rows_s, fancy_rows_s: rows a second of batches without training, from the stream and as random rows through h5py.
    share: of the rate from memory, the median over pairs of neighbouring turns. memory_used_s, stream_used_s: processor
    time of a step with that of the reading thread.
    """

    layout: str
    rows: int
    nbytes: int
    memory_steps_s: float
    stream_steps_s: float
    share: float
    memory_used_s: float
    stream_used_s: float
    rows_s: float
    fancy_rows_s: float
    hidden: float | None
    rereads: float
    disk_steps_s: float
    peak: int

    @property
    def one_core_share(self) -> float:
        """The share of the rate from memory that is left if one core does all, and nothing can be hidden."""
        return self.memory_used_s / self.stream_used_s

    @property
    def over_fancy(self) -> float:
        return self.rows_s / self.fancy_rows_s


def write(path: Path, layout: Layout, rows: int, X: Array, labels: Array) -> int:
    """A file of so many rows, drawn from the digits with a little noise; returns its bytes."""
    rng = np.random.default_rng(0)
    # the chunks that h5py chooses depend on the size, so the datasets are made in their full size
    with h5py.File(path, "w") as file:
        X_file = file.create_dataset("X", (rows, FEATURES), layout.dtype, **layout.options)
        Y_file = file.create_dataset("Y", (rows,), "uint8")
        for start in range(0, rows, WRITTEN_ROWS):
            count = min(WRITTEN_ROWS, rows - start)
            chosen = rng.integers(len(X), size=count)
            block = X[chosen] ^ (rng.integers(0, 4, (count, 1)).astype(np.uint8) * (X[chosen] > 0))
            X_file[start : start + count] = block if layout.dtype == "uint8" else block / np.float32(255)
            Y_file[start : start + count] = labels[chosen]
    return path.stat().st_size


@contextmanager
def limited(limit: int) -> Iterator[Path | None]:
    """A cgroup within this process's own with a limit of memory; None where none can be made."""
    folder: Path | None = None
    for above in cgroup_folders(Path("/"), "memory"):
        with contextlib.suppress(OSError):
            made = above / f"mlpprof-streaming-{os.getpid()}"
            made.mkdir()
            for name, _ in LIMIT_FILES:
                if (made / name).exists():
                    (made / name).write_text(str(limit), encoding="utf-8")
                    folder = made
            if folder is not None:
                break
            made.rmdir()
    try:
        yield folder
    finally:
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.rmdir()


def most_used(folder: Path) -> int:
    """The most memory that a cgroup has used, kept files included."""
    return max(read_integer(folder, name) or 0 for _, name in LIMIT_FILES)


@dataclass(frozen=True)
class Measure:
    """How the files are measured."""

    variant: str
    turns: int
    turn_s: float

    def file(self, layout: Layout, path: Path, nbytes: int, cgroup: Path | None, progress: Progress) -> Measured:
        """All rates of one file. Turns from memory and from the file alternate, and medians are compared."""
        environment = worker_environment(os.environ, 1, native_blas=True)
        source = DataSource(path=str(path))
        workload = resolve("digits", source=source, batch=BATCH)
        facts = peek(source)
        whole = Request(self.variant, workload.network, source, "float32")
        stream = replace(whole, source=replace(source, part_rows=part_rows_for(facts, BATCH)))
        with Worker(WORKER, environment) as in_memory, Worker(WORKER, environment) as streaming:
            if cgroup is not None:
                streaming.call("join", folder=str(cgroup))
            disk = in_memory.call("disk", path=str(path))
            streaming.call("open", request=stream.to_json(), batch=BATCH)
            in_memory.call("open", request=whole.to_json(), batch=BATCH)
            memory, streamed = [], []
            for turn in range(self.turns):
                progress(f"{layout.name}: training", turn / (self.turns + 1))
                memory.append(in_memory.call("turn", batch=BATCH, limit_s=self.turn_s))
                streamed.append(streaming.call("turn", batch=BATCH, limit_s=self.turn_s))
            rows_s = streaming.call("rows", batch=BATCH, limit_s=self.turn_s)
            fancy_rows_s = streaming.call("fancy_rows", path=str(path), batch=BATCH, limit_s=self.turn_s)
        last = streamed[-1]
        return Measured(
            layout=layout.name,
            rows=facts.samples,
            nbytes=nbytes,
            memory_steps_s=float(np.median([one["steps_s"] for one in memory])),
            stream_steps_s=float(np.median([one["steps_s"] for one in streamed])),
            share=float(np.median([b["steps_s"] / a["steps_s"] for a, b in zip(memory, streamed, strict=True)])),
            memory_used_s=float(np.median([one["used_s"] for one in memory])),
            stream_used_s=float(np.median([one["used_s"] for one in streamed])),
            rows_s=rows_s,
            fancy_rows_s=fancy_rows_s,
            hidden=last["hidden"],
            rereads=last["rereads"],
            disk_steps_s=disk / (nbytes / facts.samples) / BATCH,
            peak=max(one["peak"] for one in streamed),
        )


@dataclass(frozen=True)
class Losses:
    """The losses after some epochs with one order, for each seed, and with a full shuffle of the same seeds."""

    name: str
    full: list[float]
    streamed: list[float]

    @property
    def wilcoxon_p(self) -> float:
        return float(stats.wilcoxon(self.streamed, self.full).pvalue)

    @property
    def mann_whitney_p(self) -> float:
        return float(stats.mannwhitneyu(self.streamed, self.full).pvalue)

    @property
    def interval(self) -> tuple[float, float, float]:
        """The mean difference as a share of the mean loss of a full shuffle, with its 95 % interval."""
        differences = (np.array(self.streamed) - self.full) / np.mean(self.full)
        half = float(stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1))
        mean = float(differences.mean())
        return mean, mean - half, mean + half


def losses(
    variant: str, X: Array, labels: Array, seeds: int, folder: Path, progress: Progress
) -> tuple[Losses, Losses]:
    """The losses with the rows in the order of the set, and with rows that are sorted by their class."""
    environment = worker_environment(os.environ, 1, native_blas=True)
    by_class = np.argsort(labels, kind="stable")
    found: list[list[float]] = []
    with Worker(WORKER, environment) as worker:
        for number, (order, is_streamed) in enumerate(((None, False), (None, True), (by_class, True))):
            path = folder / f"digits{number}.h5"
            with h5py.File(path, "w") as file:
                file["X"] = X if order is None else X[order]
                file["Y"] = labels if order is None else labels[order]
            source = DataSource(path=str(path))
            workload = resolve("digits", source=source)
            part_rows = max(3 * BATCH, len(X) // PART_OF_THE_SET) if is_streamed else None
            request = Request(variant, workload.network, replace(source, part_rows=part_rows), "float32")
            part = part_of(progress, number / 3, 1 / 3, "losses")
            found.append(
                worker.call("losses", part, request=request.to_json(), batch=BATCH, epochs=EPOCHS, seeds=seeds)
            )
    return Losses("as the set has them", found[0], found[1]), Losses("sorted by class", found[0], found[2])


def rates_text(rows: Sequence[Measured]) -> Iterator[str]:
    header = (
        *("file", "size", "from memory", "streamed", "share", "share on one core", "disk's limit", "hidden"),
        *("chunks read", "rows of the stream", "h5py's random rows", "ratio"),
    )
    yield from markdown_table(
        header,
        [
            (
                f"{one.layout}, {one.rows:,} rows",
                format_size(one.nbytes),
                f"{one.memory_steps_s:,.0f}/s",
                f"{one.stream_steps_s:,.0f}/s",
                f"{100 * one.share:.0f} %",
                f"{100 * one.one_core_share:.0f} %",
                f"{one.disk_steps_s:,.0f}/s",
                "" if one.hidden is None else f"{100 * one.hidden:.0f} %",
                f"{one.rereads:.1f} x",
                f"{one.rows_s:,.0f}/s",
                f"{one.fancy_rows_s:,.0f}/s",
                f"{one.over_fancy:,.0f} x",
            )
            for one in rows
        ],
    )


def losses_text(rows: Sequence[Losses]) -> Iterator[str]:
    header = ("rows in the file", "full shuffle", "streamed", "difference (95 %)", "Wilcoxon p", "Mann-Whitney p")
    cells = []
    for one in rows:
        mean, low, high = one.interval
        cells.append(
            (
                one.name,
                *(f"{np.mean(part):.5f} ± {np.std(part, ddof=1):.5f}" for part in (one.full, one.streamed)),
                f"{100 * mean:+.2f} % ({100 * low:+.2f} to {100 * high:+.2f})",
                f"{one.wilcoxon_p:.2f}",
                f"{one.mann_whitney_p:.2f}",
            )
        )
    yield from markdown_table(header, cells)


def memory_text(limit: int, cgroup: bool, used: int, peak: int) -> str:
    how = (
        f"The process that streams was in a cgroup with a limit of {format_size(limit)}; the cgroup used "
        f"{format_size(used)} at most, with the pages of files that the system keeps."
        if cgroup
        else f"No cgroup could be made here, so the limit of {format_size(limit)} is compared with the measured peak."
    )
    inside = "within" if peak <= limit else "above"
    return f"{how} The peak of its own memory was {format_size(peak)}, which is {inside} the limit."


@click.command(cls=Program)
@click.option("--variant", default="fused_update", show_default=True, help="The variant that trains.")
@click.option("--limit", type=click.IntRange(64), default=256, show_default=True, help="What it may hold, MiB.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Where the files are written for it.")
@click.option("--quick", is_flag=True, help="Small files, few seeds and short turns.")
@out_option(FOLDER, "streaming.md and streaming.json")
def main(variant: str, limit: int, folder: Path | None, quick: bool, out: Path) -> None:
    """Measure training from files of several layouts and its losses; write streaming.md and streaming.json."""
    study = Study.begin("streaming", out)
    digits = load(DataSource("digits"))
    assert digits.labels is not None
    X, labels = digits.X, digits.labels
    nbytes = limit << 20
    rows = SIZE_OVER_LIMIT * nbytes // (4 * FEATURES)
    turns, turn_s, seeds = (2, 1.0, 3) if quick else (6, 1.5, SEEDS)
    measure = Measure(variant, turns, turn_s)
    found: list[Measured] = []
    layouts = (MAIN, *LAYOUTS)
    with progress_bar() as progress, tempfile.TemporaryDirectory(dir=folder) as temporary, limited(nbytes) as cgroup:
        for number, layout in enumerate(layouts):
            part = part_of(progress, 0.8 * number / len(layouts), 0.8 / len(layouts))
            part(f"{layout.name}: writing", 0.0)
            path = Path(temporary, f"rows{number}.h5")
            written = write(path, layout, rows if layout is MAIN else rows // 8, X, labels)
            try:
                how = measure if layout is MAIN else replace(measure, turns=max(2, turns // 2))
                found.append(how.file(layout, path, written, cgroup, part))
            except DataError as error:
                raise UsageError(f"{error}; choose a smaller --limit") from error
            path.unlink()
            if layout is MAIN:
                used = 0 if cgroup is None else most_used(cgroup)
        kinds = losses(variant, X, labels, seeds, Path(temporary), part_of(progress, 0.8, 0.2))
        has_cgroup = cgroup is not None
    text = "\n".join(
        (
            "## Steps a second",
            "",
            *rates_text(found),
            "",
            f"`{variant}` with {all_threads()} core(s). The rates are medians of turns of {turn_s:g} s, which "
            "alternate with those from memory; the share is the median of neighbouring turns. Other programs on the "
            "machine change these. The share on one core compares the processor time of a step with that of the "
            "reading thread: nothing can be hidden there. The file is read from the disk in every turn. disk's limit: "
            "what the disk gives if the file is read from its beginning. hidden: the share of reading that went on "
            "beside the steps. chunks read: how often in an epoch. rows of the stream, h5py's random rows: batches "
            "without training, the latter as `X[sorted rows]` of the file, in the same process.",
            "",
            "## Memory",
            "",
            memory_text(nbytes, has_cgroup, used, found[0].peak),
            "",
            f"## Loss after {EPOCHS} epochs, {seeds} seeds",
            "",
            *losses_text(kinds),
            "",
            f"60,000 digits; 1 of {PART_OF_THE_SET} parts is shuffled at a time. The loss is the mean over all rows. "
            "Each seed has the same weights in both orders: Wilcoxon's signed-rank test compares the pairs, Mann and "
            "Whitney's test compares the two samples without pairs.",
            "",
        )
    )
    document = {
        "variant": variant,
        "limit_bytes": nbytes,
        "in_cgroup": has_cgroup,
        "most_used_bytes": used,
        "files": [{**asdict(one), "one_core_share": one.one_core_share, "over_fancy": one.over_fancy} for one in found],
        "losses": [
            {
                **asdict(one),
                "wilcoxon_p": one.wilcoxon_p,
                "mann_whitney_p": one.mann_whitney_p,
                "interval": one.interval,
            }
            for one in kinds
        ],
    }
    study.end(text, document, HEADING)


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.streaming")
