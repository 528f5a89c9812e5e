"""`mlpprof data show` shows what is in a data file, `repack` writes one that reads fast, `fetch` downloads MNIST."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.data import Dataset, DataSource
from mlpprof.data.download import fetch_mnist
from mlpprof.data.reading_cost import ReadingCost
from mlpprof.data.repack import WRITERS, repack
from mlpprof.data.show import ArrayDescription, Description, describe, is_pictorial, thumbnails
from mlpprof.data.source import open_container
from mlpprof.errors import DataError, counted
from mlpprof.report.numbers import encodable, printable
from mlpprof.workloads import resolve

SCHEMA = 1
PICTURES, SIDE = 5, 28
"""The largest number of pictures that are shown, and the largest number of pixels on each side."""

MAX_CLASSES_SHOWN = 20
SHADES = " ░▒▓█"
ASCII_SHADES = " .:*#"


@click.group("data")
def command() -> None:
    """Show what is in a data file, write it in a layout that reads fast, or download MNIST."""


@command.command("show", short_help="Show what is in a file, and the command to profile with it.")
@click.argument("file")
@click.option("--x", metavar="NAME", help="Name of the samples in the file.")
@click.option("--y", metavar="NAME", help="Name of the labels or targets in the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def show(file: str, x: str | None, y: str | None, as_json: bool) -> None:
    """Show what is in FILE: arrays, samples, classes, a few pictures, and the command to profile with it.

    FILE is an IDX file of images (as MNIST has it, gzipped or not), the folder of the four files of MNIST, an HDF5 or
    .npz file, or the name of an embedded set: digits, tiny, random, teacher, cats. If its arrays have other names than
    X and Y, give the names with --x and --y. The exit code is 2 if FILE cannot be used.

    Of a file it also shows how the arrays lie in it (chunks, compression), and what reading X costs: about a second is
    spent on reading rows in runs, random rows, and the file as it is.
    """
    description = describe(DataSource.parse(file, x, y))
    if as_json:
        print_json(_as_json(description))
    else:
        _print(description, output_console())
    if description.dataset is None:
        raise DataError(description.problem)


@command.command("repack", short_help="Write the arrays of a file in a layout that reads fast.")
@click.argument("file")
@click.option(
    "-o",
    "--output",
    required=True,
    type=WrittenPath(dir_okay=False),
    metavar="NEW",
    help=f"The new file. Its ending chooses the format: {', '.join(WRITERS)}.",
)
@click.option("--overwrite", is_flag=True, help="Replace NEW if it exists already.")
def repack_command(file: str, output: Path, overwrite: bool) -> None:
    """Write the arrays of FILE to NEW in a layout that reads fast: uncompressed, each array in one piece.

    FILE is an HDF5 file, an .npz file, or an IDX file or folder, each compressed or not. The values, the names and the
    dtypes stay the same. Attributes, and what is not an array of numbers, are left out. NEW appears only when it is
    complete; if you press Ctrl-C, nothing of it stays.
    """
    source = DataSource.parse(file)
    with progress_bar() as progress:
        written = repack(open_container(source), output, progress, overwrite)
    click.echo(f"{output}: {counted(len(written.arrays), 'array')}, {written.nbytes / 1e6:,.1f} MB, uncompressed")
    for name, problem in written.left_out:
        click.echo(f"left out: {printable(name)}: {printable(problem)}", err=True)
    click.echo(shlex.join(["mlpprof", "data", "show", str(output)]))


@command.command("fetch", short_help="Download MNIST from a server of your choice.")
@click.option(
    "--url", required=True, metavar="URL", help="Folder on a server that contains the four .gz files of MNIST."
)
@click.option(
    "--to",
    "folder",
    type=WrittenPath(file_okay=False),
    metavar="FOLDER",
    help="Where to save them (default: your cache folder).",
)
def fetch(url: str, folder: Path | None) -> None:
    """Download MNIST from a server of your choice; every file must have its published md5 sum.

    Files that exist already are not downloaded again. This needs pooch (the extra `data`). It prints the command to
    profile with.
    """
    with progress_bar() as progress:
        target = fetch_mnist(url, folder, progress)
    click.echo(_next_line(DataSource(path=str(target))))


def _next_line(source: DataSource, has_targets: bool = False) -> str:
    """The command to type next, with the sizes that fit the data."""
    network = {"output": "identity", "loss": "squared_error"} if has_targets else {}
    layers = resolve(source=source, output=network.get("output"), loss=network.get("loss")).network.text
    options = {"data": source.text, "x": source.x, "y": source.y, "layers": layers, **network}
    typed = [word for option, value in options.items() if value is not None for word in (f"--{option}", value)]
    return shlex.join(["mlpprof", "profile", "cached", *typed])


def _as_json(description: Description) -> dict[str, Any]:
    document = {
        "schema": SCHEMA,
        "source": description.source,
        "kind": description.kind,
        "arrays": [
            {
                "name": array.name,
                "role": array.role,
                "shape": list(array.shape),
                "dtype": array.dtype,
                "low": array.low,
                "high": array.high,
                "not_finite": array.not_finite,
                "problem": array.problem,
                "chunks": list(array.layout.chunks) if array.layout is not None else None,
                "filters": list(array.layout.filters) if array.layout is not None else None,
                "stored_bytes": array.layout.stored_bytes if array.layout is not None else None,
            }
            for array in description.arrays
        ],
        "reading": _reading_json(description.reading),
        "problem": description.problem,
    }
    dataset = description.dataset
    if dataset is None:
        return document
    return document | {
        "samples": dataset.samples,
        "test_samples": dataset.test_samples,
        "features": dataset.features,
        "sample_shape": list(dataset.sample_shape),
        "scale": dataset.scale,
        "classes": [{"label": label, "samples": n, "test_samples": t} for label, n, t in _class_counts(dataset)],
        "targets": dataset.n_targets,
        "sha256": dataset.fingerprint(),
        "next": _next_line(description.source, dataset.targets is not None),
    }


def _reading_json(cost: ReadingCost | None) -> dict[str, Any] | None:
    """What reading X costs, in bytes of values per second."""
    if cost is None:
        return None
    return {
        "name": cost.name,
        "run_rows": cost.run_rows,
        "run_bytes_s": cost.run_bytes_s,
        "run_share_of_disk": cost.run_share,
        "random_bytes_s": cost.random_bytes_s,
        "random_share_of_disk": cost.random_share,
        "random_is_estimated": cost.is_estimated,
        "disk_bytes_s": cost.disk_bytes_s,
        "is_from_disk": cost.is_from_disk,
        "reads_fast": cost.reads_fast,
    }


def _class_counts(dataset: Dataset) -> list[tuple[int, int, int]]:
    """Label, number of training samples and number of test samples of every class."""
    if dataset.labels is None:
        return []
    test = np.zeros(0, np.int64) if dataset.labels_test is None else dataset.labels_test
    counts, test_counts = (np.bincount(labels, minlength=dataset.classes) for labels in (dataset.labels, test))
    return list(zip(range(dataset.classes), counts.tolist(), test_counts.tolist(), strict=True))


def _print(description: Description, console: Console) -> None:
    console.print(_text(f"{description.source.text}: {description.kind}", console, "bold"), soft_wrap=True)
    console.print(_array_table(description.arrays, console))
    if description.reading is not None:
        _print_reading(description.source, description.reading, console)
    dataset = description.dataset
    if dataset is None:
        return
    shape = "x".join(str(n) for n in dataset.sample_shape)
    features = f"{dataset.features:,} features" + (f" ({shape})" if len(dataset.sample_shape) > 1 else "")
    test = f" and {dataset.test_samples:,} test" if dataset.test_samples else ", no test"
    console.print(Text(f"\n{dataset.samples:,} training{test} samples of {features}"))
    if dataset.scale > 1:
        console.print(Text(f"pixels are divided by {dataset.scale}, so the network gets values from 0 to 1"))
    if dataset.labels is None:
        console.print(Text(f"{dataset.n_targets} real targets per sample"))
    else:
        console.print(_class_table(dataset))
    if is_pictorial(dataset):
        _print_pictures(dataset, console)
    console.print(Text("\nnext command:"))
    console.print(_text(_next_line(description.source, dataset.labels is None), console, "bold"), soft_wrap=True)


def _print_reading(source: DataSource, cost: ReadingCost, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column(_text(f"reading {cost.name}", console))
    for title in ("rows/s", "MB/s", "share of the disk's limit"):
        table.add_column(title, justify="right")
    about = "about " if cost.is_estimated else ""
    for what, bytes_s in (
        (f"rows in runs of {cost.run_rows:,}", cost.run_bytes_s),
        (f"{about}rows one by one, in random order", cost.random_bytes_s),
        ("the disk's limit: the file as it is", cost.disk_bytes_s),
    ):
        share = bytes_s / cost.disk_bytes_s
        table.add_row(what, f"{bytes_s / cost.row_bytes:,.0f}", f"{bytes_s / 1e6:,.1f}", f"{share:.2%}")
    console.print(Text(""))
    console.print(table)
    if not cost.is_from_disk:
        console.print(Text("This system cannot be asked to forget a file, so the figures may be those of its memory."))
    if not cost.reads_fast:
        console.print(Text("\nfor a file that reads faster:"))
        path = Path(source.text)
        new = path / "fast.h5" if path.is_dir() else path.with_name(f"{path.stem}-fast.h5")
        line = shlex.join(["mlpprof", "data", "repack", source.text, "-o", str(new)])
        console.print(_text(line, console), soft_wrap=True)


def _text(foreign: str, console: Console, style: str = "") -> Text:
    """Text of a file without control characters, and only with characters that the console's encoding has."""
    return Text(encodable(printable(foreign), console.encoding), style)


def _array_table(arrays: tuple[ArrayDescription, ...], console: Console) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("array", "used as", "shape", "dtype"):
        table.add_column(title)
    for title in ("lowest", "highest", "NaN, inf"):
        table.add_column(title, justify="right")
    has_layout = any(array.layout is not None for array in arrays)
    if has_layout:
        table.add_column("in the file", justify="right")
        table.add_column("layout")
    if any(array.problem for array in arrays):
        table.add_column("cannot be used")
    for array in arrays:
        low, high = ("" if value is None else f"{value:g}" for value in (array.low, array.high))
        table.add_row(
            _text(array.name, console),
            array.role,
            Text(" x ".join(f"{n:,}" for n in array.shape)),
            Text(array.dtype),
            low,
            high,
            Text(f"{array.not_finite:,}", "bold red" if array.not_finite else "dim"),
            *(_layout_cells(array, console) if has_layout else ()),
            *([_text(array.problem, console, "yellow")] if array.problem else []),
        )
    return table


def _layout_cells(array: ArrayDescription, console: Console) -> tuple[str | Text, ...]:
    if array.layout is None:
        return "", ""
    return f"{array.layout.stored_bytes / 1e6:,.2f} MB", _text(array.layout.text, console)


def _class_table(dataset: Dataset) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("class", "training", "test")[: 3 if dataset.test_samples else 2]:
        table.add_column(title, justify="right")
    counts = _class_counts(dataset)
    for row in counts[:MAX_CLASSES_SHOWN]:
        table.add_row(*(f"{n:,}" for n in row[: len(table.columns)]))
    if len(counts) > MAX_CLASSES_SHOWN:
        table.add_row(f"... {len(counts):,}")
    return table


def _print_pictures(dataset: Dataset, console: Console) -> None:
    pictures = thumbnails(dataset, PICTURES, SIDE)
    width = max(10, *(picture.shape[1] + 2 for _, picture in pictures))
    pictures = pictures[: max(1, console.width // width)]
    console.print(Text("\n" + "".join(f"class {label}".ljust(width) for label, _ in pictures if label), "dim"))
    lines = [_half_blocks(picture, console) for _, picture in pictures]
    for same_line in zip(*lines, strict=True):
        for line in same_line:
            line.pad_right(width - len(line))
        console.print(Text("").join(same_line), overflow="crop", no_wrap=True)


def _half_blocks(picture: NDArray[np.uint8], console: Console) -> list[Text]:
    """A picture (h, w, 3) as lines of text, each for two rows of pixels; in colours if the terminal has them."""
    height = picture.shape[0] // 2 * 2
    lines = [Text() for _ in range(height // 2)] or [Text()]
    shades = SHADES if console.encoding.startswith("utf") else ASCII_SHADES
    for line, upper, lower in zip(lines, picture[:height:2].tolist(), picture[1:height:2].tolist(), strict=False):
        for above, below in zip(upper, lower, strict=True):
            if console.color_system is None or shades is ASCII_SHADES:
                line.append(shades[sum(above + below) * len(shades) // (6 * 256)])
            else:
                line.append("▀", f"rgb({above[0]},{above[1]},{above[2]}) on rgb({below[0]},{below[1]},{below[2]})")
    return lines
