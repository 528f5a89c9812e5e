"""`python -m reports.verdicts.real_trials`: how often verdicts are wrong on a real machine.

A/A trials compare a variant with itself and claim that it is as fast (at_least 1.0, the boundary of the guarantee), so
every FAIL is wrong. Slowdown trials compare it with a copy that waits for a share of every step; if the claim that the
copy is as fast gets a PASS, a regression of that size was missed. A trial is a complete race with processes of its own.

Every trial is kept with the ratios of its processes. `--replay` decides many more claims on them: each draws whole
processes of its kind with replacement.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from scipy.stats import beta

from mlpprof.catalog import find
from mlpprof.cli.options import Resolution
from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.decide import NullResult, log_ratios
from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import RESOLUTION, Procedure, procedure_for
from mlpprof.compare.live_race import variant_race
from mlpprof.compare.verdict import measure, measure_null
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.workloads import resolve
from reports.program import Program, json_option, markdown_table, out_option, show
from reports.studies.study import Study
from reports.verdicts.kept_trials import keep_trials
from reports.verdicts.simulated import FAIL, INCONCLUSIVE, PASS, Runs

FOLDER = Path("reports") / "verdicts"
VARIANT = "sliced"
WORKLOAD = "tiny"
OUTCOMES = ("pass", "fail", "inconclusive")
SAME = "the same code (A/A)"
COLUMNS = ("new is", "beside a CPU burner", "trials", *(outcome.upper() for outcome in OUTCOMES))
MORE = (
    "FAIL rate at most (95 %)",
    "PASS rate at most (95 %)",
    "median time",
    "median processes",
    "replayed: PASS, FAIL",
)

SLOWED = '''

class SlowMLP(MLP):
    """Spins after every step for a share of the time that the step took."""

    def train_step(self, X, Y, index):
        start = perf_counter()
        loss = super().train_step(X, Y, index)
        end = perf_counter()
        until = end + {share} * (end - start)
        while perf_counter() < until:
            pass
        return loss
'''


def slowed_copy(folder: Path, share: float) -> str:
    """Write a copy of the variant whose step takes 1 + share times as long, and return its reference."""
    entry = find(VARIANT)
    path = folder / f"slower_by_{round(1000 * share)}.py"
    source = entry.source().replace("import numpy as np\n", "from time import perf_counter\n\nimport numpy as np\n", 1)
    path.write_text(source + SLOWED.format(share=share), encoding="utf-8")
    return f"{path}:SlowMLP"


@dataclass(frozen=True)
class Trial:
    """One claim. kind: what the new one is. log_ratios: of its processes, (processes,)."""

    kind: str
    burners: int
    outcome: str
    ratio: float
    seconds: float
    log_ratios: list[float]


class Trials:
    """Claims that a variant is as fast as `sliced`. The A/A null is measured once, as in a session of tests."""

    def __init__(self, procedure: Procedure, burners: int) -> None:
        self._procedure, self._burners = procedure, burners
        self._null: NullResult | None = None

    def run(self, kind: str, new: str) -> Trial:
        """One trial."""
        begun_s = time.monotonic()
        live = self._race(VARIANT, new)
        [verdict] = measure(live, _quiet, 1.0, self._session_null, procedure=self._procedure)
        ratios = log_ratios(live.race()).tolist()
        return Trial(kind, self._burners, str(verdict.outcome), verdict.ratio, time.monotonic() - begun_s, ratios)

    def _session_null(self) -> NullResult:
        if self._null is None:
            self._null = measure_null(self._race(VARIANT, VARIANT), _quiet, self._procedure)
        return self._null

    def _race(self, *variants: str) -> Any:
        workload = resolve(WORKLOAD)
        requests = [Request(find(one).reference, workload.network, workload.source, None) for one in variants]
        return variant_race(requests, workload.batch, Environment(1), is_fine=self._procedure.is_fine)


def _quiet(what: str, share: float) -> None:
    """The progress of one process is not shown."""


def trials(
    procedure: Procedure, aa: int, slow: int, slowdowns: Sequence[float], burners: int, at_a_time: int
) -> Iterator[Trial]:
    """A/A trials and those with slowdowns, beside so many processes that keep the CPU busy."""
    with tempfile.TemporaryDirectory() as folder, _burning(burners):
        kinds = [(SAME, VARIANT, aa)]
        kinds += [(f"{100 * share:g} % slower", slowed_copy(Path(folder), share), slow) for share in slowdowns]
        run = Trials(procedure, burners).run
        with ThreadPoolExecutor(at_a_time) as pool:
            for kind, new, count in kinds:
                yield from pool.map(partial(run, kind), [new] * count)


def replayed(found: Sequence[Trial], procedure: Procedure, count: int, seed: int = 0) -> tuple[int, int, int]:
    """PASS, FAIL and no verdict of so many claims whose processes are drawn from these trials."""
    processes = np.concatenate([trial.log_ratios for trial in found])
    drawn = np.random.default_rng(seed).choice(processes, size=(count, procedure.looks[-1]))
    outcome = Runs(drawn, procedure).judge(1.0).outcome
    passed, failed, undecided = (int(np.count_nonzero(outcome == one)) for one in (PASS, FAIL, INCONCLUSIVE))
    return passed, failed, undecided


def table(found: Sequence[Trial], procedure: Procedure, replays: int) -> str:
    """The counts as Markdown."""
    rows = []
    for kind, burners in dict.fromkeys((trial.kind, trial.burners) for trial in found):
        some = [trial for trial in found if (trial.kind, trial.burners) == (kind, burners)]
        counts = {outcome: sum(trial.outcome == outcome for trial in some) for outcome in OUTCOMES}
        bounds = [f"{upper_bound(counts[one], len(some)):.1%}" for one in ("fail", "pass")]
        again = "" if replays == 0 else "{}, {} of ".format(*replayed(some, procedure, replays)) + str(replays)
        rows.append(
            [
                *(kind, str(burners), str(len(some)), *(str(count) for count in counts.values())),
                *(bounds if kind != SAME else [bounds[0], ""]),
                f"{median(trial.seconds for trial in some):.0f} s",
                f"{median(len(trial.log_ratios) for trial in some):g}",
                again,
            ]
        )
    return "\n".join(markdown_table((*COLUMNS, *MORE), rows)) + "\n"


def upper_bound(events: int, trials: int, level: float = 0.95) -> float:
    """The one-sided Clopper-Pearson bound on a rate, for example 1 % if 300 trials have no event."""
    return 1.0 if events >= trials else float(beta.ppf(level, events + 1, trials - events))


@contextmanager
def _burning(count: int) -> Iterator[None]:
    processes = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()


def _burn() -> None:
    while True:
        pass


@click.command(cls=Program)
@click.option("--aa", type=click.IntRange(0), default=300, show_default=True, help="Number of A/A trials.")
@click.option(
    "--slow", type=click.IntRange(0), default=50, show_default=True, help="Number of trials with each slowdown."
)
@click.option(
    "--slowdown",
    "slowdowns",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    help="Share of a step's time that the slower copy waits [default: 0.05, and the resolution]. Can be repeated.",
)
@click.option("--resolution", type=Resolution(), default=RESOLUTION, metavar="SHARE", help="[default: 10%]")
@click.option(
    "--at-a-time", type=click.IntRange(1), default=1, show_default=True, help="Trials that run at the same time."
)
@click.option(
    "--burners",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Processes that keep the CPU busy meanwhile.",
)
@click.option(
    "--replay", type=click.IntRange(0), default=1000, show_default=True, help="Claims that are replayed, of each kind."
)
@out_option(FOLDER, "the table and for the trials, such as real_trials_2.md and real_trials_2.json for 2 %")
@click.option("--add", is_flag=True, help="Add the trials to those that the folder has already.")
@json_option("Print JSON instead of the table.")
def main(
    aa: int,
    slow: int,
    slowdowns: tuple[float, ...],
    resolution: float,
    at_a_time: int,
    burners: int,
    replay: int,
    out: Path,
    add: bool,
    to_json: bool,
) -> None:
    """Count the outcomes of real claims on this machine. They are written after each one."""
    procedure = procedure_for(resolution)
    study = Study.begin("real_trials", out)
    of_resolution = replace(study, name=f"real_trials_{100 * resolution:g}")
    shares = slowdowns or tuple(dict.fromkeys((resolution, 0.05)))
    count = aa + slow * len(shares)

    def made(progress: Progress) -> Iterator[Trial]:
        progress(f"trial 1 of {count}", 0.0)
        for number, trial in enumerate(trials(procedure, aa, slow, shares, burners, at_a_time), 1):
            progress(f"trial {number + 1} of {count}; {trial.kind}: {trial.outcome}", number / count)
            yield trial

    with progress_bar() as progress:
        text, document = keep_trials(
            study, of_resolution, 1, made(progress), Trial, lambda found: table(found, procedure, replay), add
        )
    show(text, document, to_json)


if __name__ == "__main__":
    main(prog_name="python -m reports.verdicts.real_trials")
