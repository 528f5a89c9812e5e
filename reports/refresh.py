"""`python -m reports.refresh` makes the committed reports again, and the figures of the README from them.

The order begins with what the README shows, and goes on with the studies; together they fit into two hours on two quiet
cores. The other studies have commands of their own, which the README of their folder names.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import psutil

from mlpprof.cli.terminal import progress_bar
from mlpprof.errors import EXIT_FAILED, UsageError, did_you_mean
from mlpprof.files import require_writable_folder, write_atomically
from mlpprof.machine.facts import describe
from reports.program import Program, markdown_table
from reports.readme_figures import refresh_readme

FOLDER = Path("reports")
README = Path("README.md")
TABLE = FOLDER / "refreshed.md"
COLUMNS = ("report", "made", "commit", "machine", "minutes", "load before", "ended")

BUSY = 0.5
"""With a higher load average per core, other programs would slow down what is measured."""

KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that would fix the kernel or the threads of the BLAS; published figures are measured without them."""


@dataclass(frozen=True)
class Report:
    """What one command makes. minutes: how long it takes on two quiet cores, about."""

    name: str
    command: str
    minutes: float

    def words(self, data: Path) -> list[str]:
        """The command as this Python runs it."""
        program, *rest = shlex.split(self.command.format(data=shlex.quote(str(data))))
        return [sys.executable, *(["-m", "mlpprof", *rest] if program == "mlpprof" else rest)]


REPORTS = (
    Report(
        "ladder",
        "mlpprof ladder --data {data} --batch 500 --processes 6 -o reports/ladder/ladder.html "
        "-o reports/ladder/ladder-500.png -o reports/ladder/ladder-500.json",
        3,
    ),
    Report(
        "ladder-20000",
        "mlpprof ladder --data {data} --batch 20000 --processes 6 -o reports/ladder/ladder-20000.png",
        7,
    ),
    Report("peers", "mlpprof peers", 45),
    Report("reproduce", "mlpprof reproduce --data {data}", 22),
    Report("goals", "python -m reports.studies.goals --data {data} --processes 2", 8),
    Report("shapes", "python -m reports.studies.shapes", 5),
    Report("scaling", "python -m reports.studies.scaling --data {data}", 2),
    Report("memory", "python -m reports.studies.memory", 2),
    Report("scaling-network", "python -m reports.studies.scaling_network --data {data}", 2),
    Report("sweep", "mlpprof sweep --grid reports/studies/sweep.toml -o reports/studies/sweep", 10),
    Report("advice", "python -m reports.studies.advice --data {data}", 3),
    Report("advise-page", "mlpprof advise naive -o reports/advise/naive.html", 0.3),
    Report("notebook", "python -m reports.build_notebook reports/notebook.md reports/notebook.ipynb", 1),
    Report("submissions", "python -m reports.workshop.submissions --minutes 6", 6),
)
"""The reports in the order in which they are made."""


@dataclass(frozen=True)
class Made:
    """A row of the table about a report that was made, or could not be."""

    name: str
    cells: tuple[str, ...]
    is_good: bool = True


def chosen(names: Sequence[str]) -> list[Report]:
    """The reports of these names in their order; all if no name is given."""
    known = [report.name for report in REPORTS]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UsageError(f"there is no report '{name}'{hint} (reports: {', '.join(known)})")
    return [report for report in REPORTS if not names or report.name in names]


def fitting(reports: Iterable[Report], minutes: float) -> tuple[list[Report], list[Report]]:
    """The reports that fit into so many minutes, one after the other, and those that are left."""
    taken: list[Report] = []
    left: list[Report] = []
    for report in reports:
        fits = sum(one.minutes for one in taken) + report.minutes <= minutes
        (taken if fits else left).append(report)
    return taken, left


def made(report: Report, data: Path, log: Path, environment: Mapping[str, str]) -> Made:
    """Run the command of a report; its output goes to the log. Its old files stay if it fails."""
    load, begun_s, begun = psutil.getloadavg()[0], time.monotonic(), datetime.now(UTC)
    with log.open("w", encoding="utf-8") as output:
        code = subprocess.run(
            report.words(data), stdout=output, stderr=subprocess.STDOUT, env=dict(environment), check=False
        ).returncode
    machine = describe()
    return Made(
        report.name,
        (
            f"{begun:%Y-%m-%d %H:%M}",
            _commit(),
            f"{machine.get('cpu_model_name', 'unknown processor')}, {machine.get('cpu_affinity_count')} cores",
            f"{(time.monotonic() - begun_s) / 60:.1f}",
            f"{load:.1f}",
            "well" if code == 0 else f"with exit code {code}; the files are older",
        ),
        code == 0,
    )


def with_rows(table: str, rows: Sequence[Made]) -> str:
    """The table with these rows in the place of older ones about the same reports."""
    known = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines() if line.startswith("| ")}
    new = {row.name: f"| {' | '.join((row.name, *row.cells))} |" for row in rows}
    lines = {**known, **new}
    header = list(markdown_table(COLUMNS, [], words=4))
    body = [lines[report.name] for report in REPORTS if report.name in lines]
    return "\n".join(["# When the reports were made", "", *header, *body]) + "\n"


def _commit() -> str:
    """The commit of the code; '+' if it was changed since."""
    commit = _git("rev-parse", "--short", "HEAD")
    return commit + ("+" if _git("status", "--porcelain", "--", "mlpprof", "variants") else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()


def _require_quiet() -> None:
    load, cores = psutil.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > BUSY * cores:
        raise UsageError(
            f"the machine is busy (load {load:.1f} on {cores} cores); wait for other programs, or type --busy to "
            "measure beside them"
        )


@click.command(cls=Program)
@click.argument("names", nargs=-1, metavar="[REPORT]...")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    default=Path("..") / "shared" / "data",
    show_default=True,
    help="Folder with the four files of MNIST and the HDF5 files of the cats.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Leave out reports that would take longer than this together.",
)
@click.option("--busy", is_flag=True, help="Measure although other programs keep the machine busy.")
@click.option("--list", "only_list", is_flag=True, help="Show the reports, their commands and how long they take.")
def main(names: tuple[str, ...], data: Path, minutes: float, busy: bool, only_list: bool) -> None:
    """Make the committed reports again (default: all), and the figures of the README from them.

    Run it from the root of the repository. Each report replaces its old files only when it is complete, so Ctrl-C loses
    the one that runs. reports/refreshed.md shows when, at which commit and on which machine each was made.
    """
    taken, left = fitting(chosen(names), minutes)
    if only_list:
        for report in taken:
            click.echo(f"{report.name:13} {report.minutes:4g} min  {report.command.format(data=data)}")
        return
    if not README.is_file():
        raise UsageError(f"there is no {README} here; run this from the root of the repository")
    require_writable_folder(FOLDER)
    if not busy:
        _require_quiet()
    environment = {name: value for name, value in os.environ.items() if name not in KERNELS}
    logs = Path(tempfile.mkdtemp(prefix="refresh-"))
    whole, done = sum(report.minutes for report in taken), 0.0
    failed = []
    for report in taken:
        with progress_bar() as progress:
            progress(f"{report.name}, about {report.minutes:g} min", done / whole)
            row = made(report, data, logs / f"{report.name}.log", environment)
        old = TABLE.read_text(encoding="utf-8") if TABLE.is_file() else ""
        with write_atomically(TABLE) as temporary:
            temporary.write_text(with_rows(old, [row]), encoding="utf-8")
        click.echo(f"{report.name}: ended {row.cells[-1]}, {row.cells[-3]} min")
        if not row.is_good:
            failed.append(report.name)
            click.echo(f"  its output is in {logs / report.name}.log")
        done += report.minutes
    if refresh_readme(README, FOLDER):
        click.echo("README.md has new figures")
    for report in left:
        click.echo(f"left out: {report.name}, which takes about {report.minutes:g} min")
    if failed:
        click.get_current_context().exit(EXIT_FAILED)


if __name__ == "__main__":
    main(prog_name="python -m reports.refresh")
