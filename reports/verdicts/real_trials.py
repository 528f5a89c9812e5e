"""`python -m reports.verdicts.real_trials`: how often verdicts are wrong on a real machine.

A/A trials compare a variant with itself and claim that it is as fast (at_least 1.0, the boundary of the guarantee), so
every FAIL is wrong. Slowdown trials compare it with a copy that waits for a share of every step; if the claim that the
copy is as fast gets a PASS, a regression was missed. A trial is a complete assertion with processes of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.stats import beta

from mlpprof.catalog import find
from mlpprof.testing.speedup import Measuring, measure_speedup
from reports.program import Program

VARIANT = "sliced"
WORKLOAD = "tiny"
OUTCOMES = ("pass", "fail", "inconclusive")

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
    path = folder / f"slower_by_{round(100 * share)}.py"
    source = entry.source().replace("import numpy as np\n", "from time import perf_counter\n\nimport numpy as np\n", 1)
    path.write_text(source + SLOWED.format(share=share), encoding="utf-8")
    return f"{path}:SlowMLP"


def run_trials(new: str, trials: int, at_a_time: int, name: str) -> Counter[str]:
    """The outcomes of `trials` assertions that `new` is as fast as the variant."""
    measuring = Measuring(check=False)

    def one(_: int) -> str:
        return str(
            measure_speedup(new, over=VARIANT, at_least=1.0, workload=WORKLOAD, measuring=measuring).verdict.outcome
        )

    outcomes: Counter[str] = Counter()
    with Progress(console=Console(stderr=True)) as bar, ThreadPoolExecutor(at_a_time) as pool:
        task = bar.add_task(name, total=trials)
        for outcome in pool.map(one, range(trials)):
            outcomes[outcome] += 1
            bar.update(task, advance=1, description=f"{name} {dict(outcomes)}")
    return outcomes


def upper_bound(events: int, trials: int, level: float = 0.95) -> float:
    """The one-sided Clopper-Pearson bound on a rate, for example 1 % if 300 trials have no event."""
    return 1.0 if events >= trials else float(beta.ppf(level, events + 1, trials - events))


def _burn() -> None:
    while True:
        pass


@click.command(cls=Program)
@click.option("--aa", type=click.IntRange(0), default=300, show_default=True, help="Number of A/A trials.")
@click.option(
    "--slow",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="Number of trials with a slowdown of 10 %, and of 5 %.",
)
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(aa: int, slow: int, at_a_time: int, burners: int, as_json: bool) -> None:
    """Count the outcomes of real assertions on this machine."""
    burning = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(burners)]
    for process in burning:
        process.start()
    begun = time.monotonic()
    rows: dict[str, tuple[int, Counter[str]]] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            kinds = [("A/A", VARIANT, aa)]
            kinds += [(f"{share:.0%} slower", slowed_copy(Path(folder), share), slow) for share in (0.10, 0.05)]
            for name, new, trials in kinds:
                if trials:
                    rows[name] = (trials, run_trials(new, trials, at_a_time, name))
    finally:
        for process in burning:
            process.terminate()
    if as_json:
        click.echo(json.dumps({name: {"trials": n, **outcomes} for name, (n, outcomes) in rows.items()}, indent=2))
        return
    table = Table("trials", "number", *OUTCOMES, "fail rate at most (95 %)", box=None)
    for name, (trials, outcomes) in rows.items():
        counts = [str(outcomes[outcome]) for outcome in OUTCOMES]
        table.add_row(name, str(trials), *counts, f"{upper_bound(outcomes['fail'], trials):.1%}")
    console = Console()
    console.print(table)
    console.print(
        f"{VARIANT} on {WORKLOAD}, at least 1.0 claimed; {at_a_time} at a time on {os.cpu_count()} cores, "
        f"{burners} burners; {time.monotonic() - begun:.0f} s"
    )


if __name__ == "__main__":
    main(prog_name="python -m reports.verdicts.real_trials")
