"""`python -m reports.verdicts.elsewhere`: what other procedures would have said about the same timings.

All of them see the same noise, modelled and recorded, and decide whether the new version is slower. The slowdown is
planted in the logarithms of its timings. The procedures are simple forms of those in use, and not the tools themselves:

- paired median: one process, blocks ABBA or BAAB; slower if the median of their ratios is beyond half of 2 %.
- duet interval: one process, neighbouring timings as pairs; slower if the 99 % interval of their mean ratio is below 1.
- best of 5: the fastest of 5 timings of each, one after the other; slower if it is so by more than half of 2 %.
- two runs, 5 %: each version in a process of its own; slower if its mean time is longer by more than 5 %.
- paired median of 20: the same threshold for the mean of 20 processes, each with the median of its blocks.
- mlpprof, 2 %: processes until the claim "as fast as before" is decided at a resolution of 2 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from scipy.special import ndtri

from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.error_bounds import procedure_for
from mlpprof.files import write_atomically
from reports.program import Program, markdown_table, seed_option
from reports.verdicts.noise import BLOCKS, KINDS, Array, Trace, load, simulate
from reports.verdicts.simulated import FAIL, GUARANTEED_CV, GUARANTEED_SD, INCONCLUSIVE, PASS, Assertions, Runs

PAGE = Path("reports") / "verdicts" / "elsewhere.md"
SLOWDOWNS = (0.02, 0.05, 0.10)
THRESHOLD, HOSTED_THRESHOLD, DUET_LEVEL = math.log(1.01), math.log(1.05), 0.99
MANY = 20
COLUMNS = (
    "noise",
    "procedure",
    "false FAIL",
    *(f"missed {100 * one:g} %" for one in SLOWDOWNS),
    "no verdict 2 %",
    "processes",
)

Judge = Callable[[float], Assertions]
"""The outcomes of all trials for a true speedup."""


@dataclass(frozen=True)
class Timings:
    """Processes of both versions, in logarithms, without a slowdown.

    log_s: (processes, blocks, 4) in the order of time; is_old: the same shape. effects: what a process adds to the log
    ratio of everything that is timed in it, (processes,).
    """

    log_s: Array
    is_old: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    effects: Array

    @property
    def block_ratios(self) -> Array:
        """The log ratio of old over new in each block, (processes, blocks)."""
        ratios: Array = (np.where(self.is_old, 0.5, -0.5) * self.log_s).sum(axis=2) + self.effects[:, None]
        return ratios

    def of(self, is_old: bool) -> Array:
        """The log timings of one version, (processes, 2 * blocks)."""
        timings: Array = self.log_s[self.is_old == is_old].reshape(len(self.log_s), -1)
        return timings


def drawn(trace: Trace, processes: int, rng: np.random.Generator) -> Timings:
    """Processes from a recording; which of two equal instances is the old one is random in each."""
    chosen = rng.integers(len(trace.log_timings), size=processes)
    is_old = trace.is_a[chosen] ^ (rng.random(processes) < 0.5)[:, None, None]
    return Timings(trace.log_timings[chosen], is_old, np.zeros(processes))


def modelled(kind: int, processes: int, rng: np.random.Generator) -> Timings:
    """Processes of one kind of modelled noise, at the largest deviations of the guarantee."""
    noise = simulate(KINDS[kind], GUARANTEED_CV, GUARANTEED_SD, (processes, BLOCKS), BLOCKS, rng)
    orders = np.array([[True, False, False, True], [False, True, True, False]])
    is_old = orders[rng.integers(2, size=(processes, BLOCKS))]
    return Timings(noise.log_timings.reshape(processes, BLOCKS, 4), is_old, noise.process_effects)


def procedures(timings: Timings, trials: int, rng: np.random.Generator) -> Iterator[tuple[str, Judge]]:
    """Each procedure by name; all but ours decide once for each process."""
    blocks = timings.block_ratios
    old, new = timings.of(True), timings.of(False)
    yield "paired median", partial(_beyond, np.median(blocks, axis=1), THRESHOLD)
    pairs = old - new + timings.effects[:, None]
    margin = float(ndtri((1 + DUET_LEVEL) / 2)) * pairs.std(axis=1, ddof=1) / math.sqrt(pairs.shape[1])
    yield "duet interval", partial(_beyond, pairs.mean(axis=1) + margin, 0.0)
    series = timings.log_s.reshape(len(timings.log_s), -1)
    best = series[:, :5].min(axis=1) - series[:, 5:10].min(axis=1) + timings.effects
    yield "best of 5", partial(_beyond, best, THRESHOLD)
    means = [np.log(np.exp(one).mean(axis=1)) for one in (old, new)]
    yield (
        "two runs, 5 %",
        partial(_beyond, means[0] - np.roll(means[1], 1) + timings.effects, HOSTED_THRESHOLD, processes=2),
    )
    procedure = procedure_for(SLOWDOWNS[0])
    replicates = rng.choice(np.median(blocks, axis=1), size=(trials, procedure.looks[-1]))
    yield f"paired median of {MANY}", partial(_beyond, replicates[:, :MANY].mean(axis=1), THRESHOLD, processes=MANY)
    yield "mlpprof, 2 %", Runs(replicates, procedure).judge


def _beyond(log_ratios: Array, threshold: float, speedup: float, processes: int = 1) -> Assertions:
    """FAIL where the log ratio of a process is below minus the threshold, else PASS."""
    outcome = np.where(log_ratios + math.log(speedup) < -threshold, FAIL, PASS).astype(np.int8)
    return Assertions(outcome, np.full(len(outcome), processes))


def table(processes: int, trials: int, seed: int, report: Callable[[str, float], None]) -> list[list[str]]:
    """The rows: each procedure with each noise."""
    rng = np.random.default_rng(seed)
    noises = {kind.name: partial(modelled, place) for place, kind in enumerate(KINDS)}
    noises |= {f"recorded, {name}": partial(drawn, trace) for name, trace in load().items()}
    rows = []
    for place, (noise, make) in enumerate(noises.items()):
        report(noise, place / len(noises))
        for name, judge in procedures(make(processes, rng), trials, rng):
            slower = [judge(1 / (1 + one)) for one in SLOWDOWNS]
            rates = [judge(1.0).rate(FAIL), *(one.rate(PASS) for one in slower), slower[0].rate(INCONCLUSIVE)]
            processes_taken = f"{judge(1.0).replicates.mean():.3g}"
            rows.append([noise, name, *(f"{100 * rate.value:.2g} %" for rate in rates), processes_taken])
    return rows


@click.command(cls=Program)
@click.option("--processes", type=click.IntRange(10), default=20_000, show_default=True, help="Processes per noise.")
@click.option("--trials", type=click.IntRange(10), default=20_000, show_default=True, help="Claims per noise, of ours.")
@seed_option("The same seed gives the same table.", least=0, default=1)
def main(processes: int, trials: int, seed: int) -> None:
    """Decide the same timings by other procedures, and write the table."""
    with progress_bar() as report:
        rows = table(processes, trials, seed, report)
    lines = [
        "# The same timings, decided by other procedures",
        "",
        f"`python -m reports.verdicts.elsewhere --processes {processes} --trials {trials} --seed {seed}` wrote this.",
        *str(__doc__).strip().splitlines()[1:],
        "",
        "A false FAIL is one where both are equally fast. A slowdown is missed if the answer is PASS. Only mlpprof may",
        "end without a verdict, and it takes more processes. Modelled noise is the largest that its guarantee covers;",
        "recorded noise is beyond it.",
        "",
        *markdown_table(COLUMNS, rows, words=2),
    ]
    text = "\n".join(lines) + "\n"
    with write_atomically(PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    click.echo(text, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m reports.verdicts.elsewhere")
