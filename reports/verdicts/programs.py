"""`python -m reports.verdicts.programs`: how often verdicts about programs are wrong on a real machine.

A/A trials compare a script with a copy that has one more comment, and claim that the copy is as fast (at_least 1.0, the
boundary of the guarantee). Every other answer than PASS and "no verdict" is wrong. Slowdown trials compare it with a
copy in which one expression needs so much longer that a step takes 10 % more time; the answer must be FAIL, and the
report has to name that expression. A trial is a complete comparison, from the check of the training to the profiles.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.entrants import Environment
from mlpprof.compare.programs import ProgramComparer, Wanted
from mlpprof.errors import CheckFailed
from mlpprof.process import Progress, part_of
from mlpprof.profile.program import profile_step
from mlpprof.programs.request import ProgramRequest, request_for
from reports.program import Program, json_option, markdown_table, out_option, show
from reports.studies.study import Study
from reports.verdicts.kept_trials import keep_trials
from reports.verdicts.real_trials import upper_bound

FOLDER = Path("reports") / "verdicts"
SCRIPT = Path(__file__).resolve().parents[1] / "advise" / "train.py"
STEP, STEPS = "Network.step", 1_000_000
"""The step of the script, and how many it is asked for; each run is stopped when it has made enough of them."""

EXPRESSION = "delta = (self.forward(X) - Y) / X.shape[1]"
SLOWER = "delta = (self.forward(X) - Y + 0 * np.sin(WASTE).sum()) / X.shape[1]"
"""An expression of the step, and what stands in its place in the slower copy: it gives the same values."""

OUTCOMES = ("pass", "fail", "inconclusive", "not the same")
"""The answers; the last one means that mlpprof says both do not train the same, which they do."""


COLUMNS = (
    *("new is", "trials", "PASS", "FAIL", "no verdict", "not the same", "measured ratio", "expression named"),
    "FAIL rate",
)


@dataclass(frozen=True)
class Trial:
    """One comparison. ratio: the measured speedup, None if nothing was timed. named: the expression of the report."""

    kind: str
    outcome: str
    ratio: float | None
    named: str
    is_right_place: bool
    seconds: float


def slower_copy(source: str, step_s: float, slowdown: float) -> str:
    """The script with more work in one expression, so that a step of `step_s` seconds takes 1 + slowdown times as long.

    Raises ValueError if the script does not have the expression once.
    """
    if source.count(EXPRESSION) != 1:
        raise ValueError(f"the script has the expression {source.count(EXPRESSION)} times; expected it once")
    size = max(1, round(slowdown * step_s / _seconds_per_sine()))
    return source.replace(EXPRESSION, SLOWER).replace(
        "import numpy as np\n", f"import numpy as np\nWASTE = np.ones({size})\n"
    )


def _seconds_per_sine(size: int = 20_000) -> float:
    values, taken = np.ones(size), []
    for _ in range(50):
        start = time.perf_counter()
        np.sin(values).sum()
        taken.append(time.perf_counter() - start)
    return median(taken) / size


def compared(old: Path, new: Path, kind: str, budget_s: float | None, progress: Progress) -> Trial:
    """One trial: the claim that the new script is as fast as the old one."""
    requests = [_request(old), _request(new)]
    wanted = Wanted(at_least=1.0, budget_s=budget_s, profile_step=_profiled)
    begun_s = time.monotonic()
    try:
        [found] = ProgramComparer(requests, Environment(1), wanted, lambda sentence: None).compare("", progress)
    except CheckFailed as error:
        return Trial(kind, "not the same", None, str(error), False, time.monotonic() - begun_s)
    lost = found.lost
    planted = [n for n, text in enumerate(new.read_text(encoding="utf-8").splitlines(), 1) if SLOWER in text]
    return Trial(
        kind,
        str(found.verdict.outcome),
        found.verdict.ratio,
        "" if lost is None else lost.text,
        lost is not None and lost.line in planted,
        time.monotonic() - begun_s,
    )


def _request(path: Path) -> ProgramRequest:
    return request_for(path, arguments=(str(STEPS),), step=STEP)


def _profiled(request: ProgramRequest) -> Any:
    return profile_step(request, threads=1)


def trials(aa: int, slow: int, slowdown: float, budget_s: float | None, progress: Progress) -> Iterator[Trial]:
    """A/A trials and those with a slowdown, one after the other."""
    source = SCRIPT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        old, copy, slower = (Path(folder, f"{name}.py") for name in ("old", "copy", "slower"))
        old.write_text(source, encoding="utf-8")
        copy.write_text(f"{source}\n# The same program with one more comment.\n", encoding="utf-8")
        step_s = median(profile_step(_request(old), threads=1).step_s)
        slower.write_text(slower_copy(source, step_s, slowdown), encoding="utf-8")
        kinds = [("A/A", copy)] * aa + [(f"{100 * slowdown:g} % slower", slower)] * slow
        for number, (kind, new) in enumerate(kinds):
            part = part_of(progress, number / len(kinds), 1 / len(kinds), f"{kind} {number + 1} of {len(kinds)}")
            yield compared(old, new, kind, budget_s, part)


def table(found: list[Trial]) -> str:
    """The counts as Markdown."""
    rows = []
    for kind in dict.fromkeys(trial.kind for trial in found):
        of_kind = [trial for trial in found if trial.kind == kind]
        counts = [sum(trial.outcome == outcome for trial in of_kind) for outcome in OUTCOMES]
        ratios = [trial.ratio for trial in of_kind if trial.ratio is not None]
        ratio = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})" if ratios else ""
        named = "" if kind == "A/A" else f"{sum(trial.is_right_place for trial in of_kind)}"
        bound = f"at most {upper_bound(counts[1], len(of_kind)):.1%} (95 %)" if kind == "A/A" else ""
        rows.append([kind, str(len(of_kind)), *map(str, counts), ratio, named, bound])
    return "\n".join(markdown_table(COLUMNS, rows)) + "\n"


@click.command(cls=Program)
@click.option("--aa", type=click.IntRange(0), default=200, show_default=True, help="Number of A/A trials.")
@click.option("--slow", type=click.IntRange(0), default=50, show_default=True, help="Number of trials with a slowdown.")
@click.option(
    "--slowdown",
    type=click.FloatRange(0, min_open=True),
    default=0.10,
    show_default=True,
    help="Share of a step's time that the slower copy needs in addition.",
)
@click.option(
    "--budget", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Time limit for the race of a trial."
)
@out_option(FOLDER, "programs.md and programs.json")
@click.option("--add", is_flag=True, help="Add the trials to those that programs.json in the folder has already.")
@json_option("Print JSON instead of the table.")
def main(aa: int, slow: int, slowdown: float, budget: float | None, out: Path, add: bool, to_json: bool) -> None:
    """Compare programs many times on this machine, and count the answers."""
    report(out, to_json, lambda progress: trials(aa, slow, slowdown, budget, progress), add)


def report(out: Path, to_json: bool, made: Callable[[Progress], Iterator[Trial]], add: bool = False) -> None:
    """Make the trials, write them after each one, so that an interrupted study keeps what it has, and print them."""
    study = Study.begin("programs", out)
    with progress_bar() as progress:
        text, document = keep_trials(study, study, 2, made(progress), Trial, table, add)
    show(text, document, to_json)


if __name__ == "__main__":
    main(prog_name="python -m reports.verdicts.programs")
