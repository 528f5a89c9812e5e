"""What the studies share on their way out: a progress bar, the state of the machine, files that appear whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from mlpprof.files import make_folder, require_writable_folder, write_atomically
from mlpprof.machine.facts import describe
from mlpprof.process import Progress

FOLDER = Path("reports") / "studies"
DOTS_PER_INCH = 150


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error, gone when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        yield report


def part_of(progress: Progress, before: float, share: float, name: str = "") -> Progress:
    """Progress of a part that begins at `before` of the whole and is `share` of it."""

    def part(what: str, done: float) -> None:
        progress(f"{name}: {what}" if name else what, before + share * min(1.0, done))

    return part


def circumstances(command: str, begun: datetime, load_before: float) -> dict[str, Any]:
    """Where, when and beside what a study was measured."""
    machine = describe()
    return {
        "command": command,
        "begun": begun.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - begun).total_seconds() / 60, 1),
        "load_before": round(load_before, 1),
        "load_after": round(psutil.getloadavg()[0], 1),
        "machine": machine,
    }


def circumstances_text(found: dict[str, Any]) -> str:
    """The same as two lines of text; a load above the study's own is said to be one."""
    machine = found["machine"]
    busy = "; others kept the machine busy" if found["load_before"] > 1 else ""
    return (
        f"{machine.get('cpu_model_name', 'unknown processor')}, {machine.get('cpu_count')} cores, measured "
        f"{found['begun']} in {found['minutes']:g} min by {found['command']}\n"
        f"load {found['load_before']:g} before, {found['load_after']:g} after{busy}\n"
    )


def prepare_folder(folder: Path) -> Path:
    """The folder for the files, made if it is missing; raises UsageError where no file can be written into it."""
    make_folder(folder)
    require_writable_folder(folder)
    return folder


def write_document(folder: Path, name: str, text: str, document: dict[str, Any], text_suffix: str = "txt") -> None:
    """NAME.txt, or with another ending, and NAME.json."""
    for suffix, content in ((text_suffix, text), ("json", json.dumps(document, indent=1, allow_nan=False) + "\n")):
        with write_atomically(folder / f"{name}.{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")


def write_figure(folder: Path, name: str, figure: Figure, caption: str) -> None:
    """NAME.png and NAME.svg."""
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with write_atomically(folder / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, dpi=DOTS_PER_INCH, metadata={"Description": caption, **metadata})
