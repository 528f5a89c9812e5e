"""What the studies share: the state of the machine they ran on, and files that appear whole."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import psutil
from matplotlib.figure import Figure

from mlpprof.files import make_folder, require_writable_folder, write_atomically
from mlpprof.machine.facts import describe
from mlpprof.results.json import plain

FOLDER = Path("reports") / "studies"
DOTS_PER_INCH = 150


@dataclass(frozen=True)
class Study:
    """A study that has begun: its name, where its files go, when that was, and how busy the machine was then."""

    name: str
    folder: Path
    begun: datetime
    load: float

    @staticmethod
    def begin(name: str, folder: Path) -> Study:
        """Make the folder if it is missing. Raises UsageError if no file can be written into it."""
        make_folder(folder)
        require_writable_folder(folder)
        return Study(name, folder, datetime.now(UTC), psutil.getloadavg()[0])

    def end(self, text: str, document: dict[str, Any], heading: str = "") -> None:
        """Print the tables after the circumstances, and write NAME.txt (with a heading NAME.md) and NAME.json."""
        found = self.circumstances()
        text = heading + circumstances_text(found) + text
        self.write(text, {"schema": 1, **found, **document}, "md" if heading else "txt")
        click.echo(text)

    def keep(self, tables: str, document: dict[str, Any], package: str) -> tuple[str, dict[str, Any]]:
        """Write NAME.md and NAME.json with what there is so far, and the circumstances after it; returns both."""
        found = self.circumstances(package)
        text, whole = f"{tables}\n{circumstances_text(found)}", {**document, "circumstances": found}
        self.write(text, whole, "md")
        return text, whole

    def write(self, text: str, document: dict[str, Any], suffix: str) -> None:
        """Write NAME.txt (or another suffix) and NAME.json."""
        as_json = json.dumps(plain(document), indent=1, allow_nan=False)
        for ending, content in ((suffix, text), ("json", f"{as_json}\n")):
            with write_atomically(self.folder / f"{self.name}.{ending}") as temporary:
                temporary.write_text(content, encoding="utf-8")

    def circumstances(self, package: str = "reports.studies") -> dict[str, Any]:
        """When, where, by which command and on how busy a machine the study measured; it ends now."""
        return {
            "command": shlex.join(["python", "-m", f"{package}.{self.name}", *sys.argv[1:]]),
            "begun": self.begun.isoformat(timespec="seconds"),
            "minutes": round((datetime.now(UTC) - self.begun).total_seconds() / 60, 1),
            "load_before": round(self.load, 1),
            "load_after": round(psutil.getloadavg()[0], 1),
            "machine": describe(),
        }


def circumstances_text(found: dict[str, Any]) -> str:
    """The circumstances of a study as two lines of text, which say if other programs kept the machine busy."""
    machine = found["machine"]
    busy = "; others kept the machine busy" if found["load_before"] > 1 else ""
    return (
        f"{machine.get('cpu_model_name', 'unknown processor')}, {machine.get('cpu_count')} cores, measured "
        f"{found['begun']} in {found['minutes']:g} min by {found['command']}\n"
        f"load {found['load_before']:g} before, {found['load_after']:g} after{busy}\n"
    )


def write_figure(folder: Path, name: str, figure: Figure, caption: str) -> None:
    """Write NAME.png and NAME.svg."""
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        # the salt makes the ids in an SVG the same each time
        with write_atomically(folder / f"{name}.{suffix}") as temporary, mpl.rc_context({"svg.hashsalt": "mlpprof"}):
            figure.savefig(temporary, format=suffix, dpi=DOTS_PER_INCH, metadata={"Description": caption, **metadata})
