"""`python -m reports.verdicts.simulated`: how often verdicts are wrong, with modelled and with recorded noise.

Many assertions are simulated at once, with the procedure of `mlpprof.compare` and with naive alternatives to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import betaincinv

from mlpprof.cli.options import Resolution
from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.decide import PSEUDO_REPLICATE_BLOCKS, interval_margin
from mlpprof.compare.error_bounds import (
    CLEAR_REPLICATES,
    IN_PROCESS,
    REPLICATED,
    RESOLUTION,
    Procedure,
    bounds,
    clear_factor,
    procedure_for,
)
from mlpprof.errors import EXIT_FAILED
from reports.program import Program, json_option, markdown_table, seed_option
from reports.verdicts.noise import BLOCKS, KINDS, RECORDED, Array, Kind, Trace, load, simulate
from reports.verdicts.record_noise import record

PASS, FAIL, INCONCLUSIVE = 1, -1, 0


@dataclass(frozen=True)
class Rate:
    """How many of `trials` had the event; low and high are the exact 95 % bounds of Clopper and Pearson."""

    events: int
    trials: int

    @property
    def value(self) -> float:
        return self.events / self.trials

    @property
    def low(self) -> float:
        return 0.0 if self.events == 0 else float(betaincinv(self.events, self.trials - self.events + 1, 0.025))

    @property
    def high(self) -> float:
        misses = self.trials - self.events
        return 1.0 if misses == 0 else float(betaincinv(self.events + 1, misses, 0.975))


@dataclass(frozen=True)
class Assertions:
    """The outcomes (trials,) of many assertions, PASS, FAIL or INCONCLUSIVE, and the replicates (trials,) they took."""

    outcome: NDArray[np.int8]
    replicates: NDArray[np.int64]

    def rate(self, outcome: int) -> Rate:
        return Rate(int(np.count_nonzero(self.outcome == outcome)), len(self.outcome))


class Runs:
    """The noise of many runs; a true speedup and a bias only shift it, so that one noise serves all of them.

    log_ratios: (trials, replicates of the last look), for an old and a new variant that are equally fast. ended_after:
    the number of replicates after which the time of every run is spent.
    """

    def __init__(self, log_ratios: Array, procedure: Procedure = REPLICATED, ended_after: int | None = None) -> None:
        self.trials = len(log_ratios)
        self.procedure = procedure
        self._looks = bounds(procedure, ended_after)
        self._means = [log_ratios[:, : look.replicates].mean(axis=1) for look in self._looks]
        self._sds = [log_ratios[:, : look.replicates].std(axis=1, ddof=1) for look in self._looks]
        decided_at = {CLEAR_REPLICATES[0], *(look.replicates for look in self._looks)}
        self._clear = [log_ratios[:, :n] for n in CLEAR_REPLICATES if n in decided_at]

    @property
    def first_look(self) -> int:
        return self._looks[0].replicates

    def judge(self, speedup: float, shift: Array | float = 0.0, side: int = 1) -> Assertions:
        """Assert a speedup of at least 1 where the true one is `speedup`.

        shift: bias of the runs in logs, one for all or (trials,). side: -1 changes the sign of the noise.
        """
        procedure = self.procedure
        fail_below, pass_above = -math.log(procedure.bias), math.log(procedure.bias / procedure.resolution)
        outcome = np.full(self.trials, INCONCLUSIVE, dtype=np.int8)
        replicates = np.zeros(self.trials, dtype=np.int64)
        for noises in self._clear:
            n = noises.shape[1]
            clear = side * noises + math.log(speedup) + np.broadcast_to(shift, self.trials)[:, None]
            middle, far = clear.mean(axis=1), math.log(clear_factor(n))
            margin = interval_margin(clear.std(axis=1, ddof=1), n, procedure=procedure)
            undecided = outcome == INCONCLUSIVE
            outcome[undecided & (clear.max(axis=1) < fail_below - far) & (middle + margin < 0)] = FAIL
            outcome[undecided & (clear.min(axis=1) > pass_above + far) & (middle - margin > 0)] = PASS
            replicates[undecided & (outcome != INCONCLUSIVE)] = n
        for look, noise, sd in zip(self._looks, self._means, self._sds, strict=True):
            mean = side * noise + math.log(speedup) + shift
            undecided = outcome == INCONCLUSIVE
            replicates[undecided] = look.replicates
            fails = mean + look.failing.margin(sd) < fail_below
            passes = ~fails & (mean - look.passing.margin(sd) > pass_above)
            outcome[undecided & fails] = FAIL
            outcome[undecided & passes] = PASS
        return Assertions(outcome, replicates)


@dataclass(frozen=True)
class Material:
    """Noise of one kind as each procedure sees it, in logs: replicates, and one value of each naive alternative.

    All have the shape (n,), and `runs` draws from them with replacement.
    """

    replicates: Array
    best_of_five: Array
    separate_medians: Array

    def runs(
        self,
        trials: int,
        rng: np.random.Generator,
        ended_after: int | None = None,
        procedure: Procedure = REPLICATED,
    ) -> Runs:
        """Draw runs with as many replicates as the last look needs."""
        log_ratios = rng.choice(self.replicates, size=(trials, procedure.looks[-1]))
        return Runs(log_ratios, procedure, ended_after)


def modelled(kind: Kind, cv: float, replicate_sd: float, processes: int, rng: np.random.Generator) -> Material:
    """Material from simulated processes of 25 blocks."""
    noise = simulate(kind, cv, replicate_sd, (processes, BLOCKS), BLOCKS, rng)
    medians = np.median(noise.log_timings, axis=1)
    return Material(
        replicates=np.median(noise.block_log_ratios, axis=1) + noise.process_effects,
        best_of_five=noise.log_timings[:, :5].min(axis=1)
        - noise.log_timings[:, 5:10].min(axis=1)
        + noise.process_effects,
        separate_medians=medians - np.roll(medians, 1) + noise.process_effects,
    )


def recorded(trace: Trace, processes: int, rng: np.random.Generator) -> Material:
    """Material from processes of 25 blocks, drawn from a recorded trace."""
    return Material(
        trace.replicates(processes, BLOCKS, rng),
        trace.best_of_five(processes, rng),
        trace.separate_medians(processes, rng),
    )


def in_process(
    kind: Kind, cv: float, pseudo_sd: float, trials: int, procedure: Procedure, rng: np.random.Generator
) -> Runs:
    """Runs that stay in one process: pseudo-replicates that scatter by pseudo_sd, with one normal process effect.

    The deviation of that effect is the one that the procedure allows for.
    """
    count, size = procedure.looks[-1], PSEUDO_REPLICATE_BLOCKS
    noise = simulate(replace(kind, process_share=0.0), cv, pseudo_sd, (trials, count * size), size, rng)
    medians = np.median(noise.block_log_ratios.reshape(trials, count, size), axis=2)
    return Runs(medians + procedure.process_sd * rng.standard_normal((trials, 1)), procedure)


# A false FAIL: the true speedup is exactly at_least, and the run is biased against it by all that is tolerated (3 % by
# default). A missed slowdown: the true speedup is exactly at_least / (1 + resolution), and the run is biased in its
# favour by as much. All other figures are for runs with a bias that is uniform within the tolerance.

CVS = (0.05, 0.15, 0.25, 0.40)
REPLICATE_SDS = (0.004, 0.01, 0.015, 0.03)
GUARANTEED_CV, GUARANTEED_SD = 0.25, 0.015
SLOWDOWNS = (0.5, 1.0, 2.0)
"""The slowdowns that are detected, as multiples of the resolution: 5, 10 and 20 % by default."""
CLEAR = 1.5 / 1.15
"""A clear case has a true speedup of 1.5 where at_least is 1.15."""
ENDS = (3, 4, 6, 10)
"""A spent budget ends runs after these numbers of replicates, between two looks or before the first."""
IN_PROCESS_SHARE = 5
"""Runs in one process need memory for all their timings, so there are this many times fewer of them."""

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Naive:
    """How often a bare threshold half way between at_least and at_least / (1 + resolution) is wrong at either end."""

    false_fail: Rate
    missed: Rate


@dataclass(frozen=True)
class Row:
    """The rates for one noise, or the worst and the average of several.

    cv, replicate_sd: the coefficient of variation and the deviation of replicates of the noise, as fractions.
    false_fail, missed: for the worst bias; all other rates are for any bias within the tolerance. detected: slowdown as
    a multiple of the resolution -> the share of FAIL. decided_at_once: PASS at the first look for CLEAR. replicates:
    their mean number at the claim.
    """

    noise: str
    cv: float
    replicate_sd: float
    guaranteed: bool
    false_fail: Rate
    missed: Rate
    claim_passes: Rate
    claim_inconclusive: Rate
    slower_inconclusive: Rate
    detected: dict[float, Rate]
    decided_at_once: Rate
    replicates: float
    resolution: float = RESOLUTION
    best_of_five: Naive | None = None
    separate_medians: Naive | None = None

    @property
    def kept(self) -> bool:
        """Whether both rates agree with the guarantee: their lower bounds do not exceed the budgets."""
        return self.false_fail.low <= REPLICATED.false_fail and self.missed.low <= REPLICATED.missed


def by_size(processes: int, trials: int, seed: int, report: Report, procedure: Procedure = REPLICATED) -> list[Row]:
    """One row for each combination of CV and replicate deviation, over all kinds of noise."""
    sizes = [(cv, sd) for cv in CVS for sd in REPLICATE_SDS]
    rows = []
    for i, (cv, sd) in enumerate(sizes):
        report(f"timings vary by {100 * cv:.0f} %, replicates by {100 * sd:.1f} %", i / len(sizes))
        rows.append(_over(by_kind(cv, sd, processes, trials, seed, procedure), "all kinds"))
    return rows


def by_kind(
    cv: float, replicate_sd: float, processes: int, trials: int, seed: int, procedure: Procedure = REPLICATED
) -> list[Row]:
    """One row for each kind of modelled noise."""
    rows = []
    for i, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, i, round(1000 * cv), round(1000 * replicate_sd)])
        material = modelled(kind, cv, replicate_sd, processes, rng)
        row = _row(kind.name, cv, replicate_sd, material.runs(trials, rng, procedure=procedure), rng)
        rows.append(_with_naive(row, material, rng, procedure))
    return rows


def by_trace(
    traces: dict[str, Trace], processes: int, trials: int, seed: int, procedure: Procedure = REPLICATED
) -> list[Row]:
    """Each recorded condition as it was, and with replicates scaled to the largest deviation of the guarantee."""
    rows = []
    for i, (name, trace) in enumerate(traces.items()):
        rng = np.random.default_rng([seed, 100 + i])
        material = recorded(trace, processes, rng)
        sd = float(material.replicates.std())
        row = _row(f"recorded, {name}", trace.cv, sd, material.runs(trials, rng, procedure=procedure), rng)
        scaled = replace(material, replicates=material.replicates * GUARANTEED_SD / sd)
        rows.append(_with_naive(row, material, rng, procedure))
        runs = scaled.runs(trials, rng, procedure=procedure)
        rows.append(_row(f"recorded, {name}, scaled", trace.cv, GUARANTEED_SD, runs, rng))
    return rows


def by_process(trials: int, seed: int) -> list[Row]:
    """One row per CV for runs that stay in one process, as closures do, over all kinds of noise."""
    rows = []
    for cv in CVS[:3]:
        kinds = []
        for i, kind in enumerate(KINDS):
            rng = np.random.default_rng([seed, 200 + i, round(1000 * cv)])
            runs = in_process(kind, cv, GUARANTEED_SD, max(1, trials // IN_PROCESS_SHARE), IN_PROCESS, rng)
            kinds.append(_row(kind.name, cv, GUARANTEED_SD, runs, rng))
        rows.append(_over(kinds, "in one process"))
    return rows


def by_end(processes: int, trials: int, seed: int, procedure: Procedure = REPLICATED) -> list[Row]:
    """Runs that a spent budget ends, over all kinds of noise at the largest deviation of the guarantee."""
    rows: dict[int, list[Row]] = {ended_after: [] for ended_after in ENDS}
    for i, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, 300 + i])
        material = modelled(kind, GUARANTEED_CV, GUARANTEED_SD, processes, rng)
        for ended_after, kinds in rows.items():
            runs = material.runs(trials, rng, ended_after, procedure)
            kinds.append(_row(kind.name, GUARANTEED_CV, GUARANTEED_SD, runs, rng))
    return [_over(kinds, f"ended after {ended_after}") for ended_after, kinds in rows.items()]


def _row(noise: str, cv: float, replicate_sd: float, runs: Runs, rng: np.random.Generator) -> Row:
    procedure = runs.procedure
    tolerated = math.log(procedure.bias)
    bias = rng.uniform(-tolerated, tolerated, runs.trials)
    claim = runs.judge(1.0, bias)
    slower = {times: runs.judge(1 / (1 + times * procedure.share), bias) for times in SLOWDOWNS}
    clear = runs.judge(CLEAR, bias)
    at_once = (clear.outcome == PASS) & (clear.replicates <= runs.first_look)
    return Row(
        noise=noise,
        cv=cv,
        replicate_sd=replicate_sd,
        # Recorded and scaled deviations are computed, and have rounding errors.
        guaranteed=cv <= GUARANTEED_CV and replicate_sd <= GUARANTEED_SD + 1e-9,
        false_fail=runs.judge(1.0, -tolerated).rate(FAIL),
        missed=runs.judge(1 / procedure.resolution, tolerated, side=-1).rate(PASS),
        claim_passes=claim.rate(PASS),
        claim_inconclusive=claim.rate(INCONCLUSIVE),
        slower_inconclusive=slower[1.0].rate(INCONCLUSIVE),
        detected={slowdown: assertions.rate(FAIL) for slowdown, assertions in slower.items()},
        decided_at_once=Rate(int(at_once.sum()), runs.trials),
        replicates=float(claim.replicates.mean()),
        resolution=procedure.share,
    )


def _with_naive(row: Row, material: Material, rng: np.random.Generator, procedure: Procedure) -> Row:
    return replace(
        row,
        best_of_five=_naive(material.best_of_five, rng, procedure),
        separate_medians=_naive(material.separate_medians, rng, procedure),
    )


def _naive(log_ratios: Array, rng: np.random.Generator, procedure: Procedure) -> Naive:
    tolerated, between = math.log(procedure.bias), math.log(procedure.resolution)
    measured = log_ratios + rng.uniform(-tolerated, tolerated, len(log_ratios))
    return Naive(
        false_fail=Rate(int(np.count_nonzero(measured < -between / 2)), len(measured)),
        missed=Rate(int(np.count_nonzero(measured - between > -between / 2)), len(measured)),
    )


def _over(rows: Sequence[Row], noise: str) -> Row:
    """The worst of the guaranteed rates and the average of everything else."""
    naive = [(row.best_of_five, row.separate_medians) for row in rows if row.best_of_five and row.separate_medians]
    return replace(
        rows[0],
        noise=noise,
        false_fail=max((row.false_fail for row in rows), key=lambda rate: rate.value),
        missed=max((row.missed for row in rows), key=lambda rate: rate.value),
        claim_passes=_pooled(row.claim_passes for row in rows),
        claim_inconclusive=_pooled(row.claim_inconclusive for row in rows),
        slower_inconclusive=_pooled(row.slower_inconclusive for row in rows),
        detected={slowdown: _pooled(row.detected[slowdown] for row in rows) for slowdown in SLOWDOWNS},
        decided_at_once=_pooled(row.decided_at_once for row in rows),
        replicates=float(np.mean([row.replicates for row in rows])),
        best_of_five=_pooled_naive(pair[0] for pair in naive) if naive else None,
        separate_medians=_pooled_naive(pair[1] for pair in naive) if naive else None,
    )


def _pooled(rates: Iterable[Rate]) -> Rate:
    kept = list(rates)
    return Rate(sum(rate.events for rate in kept), sum(rate.trials for rate in kept))


def _pooled_naive(naives: Iterable[Naive]) -> Naive:
    kept = list(naives)
    return Naive(_pooled(naive.false_fail for naive in kept), _pooled(naive.missed for naive in kept))


def columns(resolution: float) -> tuple[str, ...]:
    """The heads of the columns of `cells`."""
    slowdowns = [f"{100 * times * resolution:g} %" for times in SLOWDOWNS]
    return (
        *("noise", "timings vary by", "replicates vary by", "false FAIL", f"missed {slowdowns[1]}"),
        *("PASS at the claim", "no verdict at the claim", *(f"FAIL {slowdown} slower" for slowdown in slowdowns)),
        *(f"no verdict {slowdowns[1]} slower", "replicates", "1.5 x decided at once"),
        *("best of 5: false, missed", "separate medians: false, missed"),
    )


BEYOND = "*"
"""This marks a noise that the guarantee does not cover."""


def cells(row: Row) -> list[str]:
    """One row as text, in the order of `columns`; guaranteed rates come with their upper 95 % bound."""
    return [
        row.noise + ("" if row.guaranteed else f" {BEYOND}"),
        _percent(row.cv),
        _percent(row.replicate_sd),
        _bounded(row.false_fail),
        _bounded(row.missed),
        _percent(row.claim_passes.value),
        _percent(row.claim_inconclusive.value),
        *(_percent(rate.value) for rate in row.detected.values()),
        _percent(row.slower_inconclusive.value),
        f"{row.replicates:.1f}",
        _percent(row.decided_at_once.value),
        _naive_row(row.best_of_five),
        _naive_row(row.separate_medians),
    ]


def rich_table(title: str, rows: Sequence[Row]) -> Table:
    """The rows as a table for the terminal."""
    table = Table(*columns(rows[0].resolution), title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*cells(row))
    return table


def markdown_section(title: str, rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    return "\n".join(
        [f"### {title}", "", *markdown_table(columns(rows[0].resolution), [cells(row) for row in rows]), ""]
    )


def as_json(row: Row) -> dict[str, Any]:
    """A row as plain JSON: every rate with its counts and its 95 % bounds."""

    def plain(value: Any) -> Any:
        if isinstance(value, Rate):
            return {
                "rate": value.value,
                "low": value.low,
                "high": value.high,
                "events": value.events,
                "trials": value.trials,
            }
        if isinstance(value, Naive):
            return {"false_fail": plain(value.false_fail), "missed": plain(value.missed)}
        if isinstance(value, dict):
            return {f"{key:.2f}": plain(item) for key, item in value.items()}
        return value

    return {name: plain(value) for name, value in vars(row).items()} | {"kept": row.kept}


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 0.9995 or share == 1 else f"{100 * share:.2f} %"


def _bounded(rate: Rate) -> str:
    return f"{100 * rate.value:.2g} % (at most {100 * rate.high:.2g} %)"


def _naive_row(naive: Naive | None) -> str:
    return "" if naive is None else f"{_percent(naive.false_fail.value)}, {_percent(naive.missed.value)}"


TRIALS, QUICK_TRIALS = 100_000, 20_000
PROCESSES, QUICK_PROCESSES = 20_000, 5_000
WIDTH = 200

LEGEND = """\
false FAIL: the true speedup is exactly at_least, and the run is biased against it by all that is tolerated (3 % at a
resolution of 10 %, 0.7 % at 5 %, 0.3 % at 2 %); 0.1 % is allowed.
missed: it is smaller than at_least by the resolution, and the run is biased in its favour as much; 1 % is allowed.
Both are followed by their upper 95 % bound; in a row for several kinds of noise they are those of the worst kind.
All other figures are averages over runs with any tolerated bias. The guarantee does not cover rows marked with *.
best of 5, separate medians: how often a bare threshold half way between the two is wrong."""


@click.command(cls=Program)
@click.option("--trials", type=click.IntRange(100), help=f"Simulated assertions per cell [default: {TRIALS}].")
@click.option(
    "--resolution",
    "resolutions",
    type=Resolution(),
    multiple=True,
    metavar="SHARE",
    help="Simulate this resolution, such as 2% [default: 10%]. Can be repeated.",
)
@click.option("--quick", is_flag=True, help=f"{QUICK_TRIALS} trials per cell, which take less than a minute.")
@seed_option("The same seed gives the same table.", least=0, default=1)
@json_option("Print all counts as JSON.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option("--noise", type=click.Path(path_type=Path), default=RECORDED, help="Use this recording of noise.")
@click.option(
    "--record",
    "recording",
    type=click.Path(path_type=Path),
    help="Record the noise of this machine into a file, and stop.",
)
@click.pass_context
def main(
    ctx: click.Context,
    trials: int | None,
    resolutions: tuple[float, ...],
    quick: bool,
    seed: int,
    to_json: bool,
    markdown: bool,
    noise: Path,
    recording: Path | None,
) -> None:
    """Simulate how often the verdicts of mlpprof are wrong, with modelled and with recorded noise.

    Exit codes: 0 the guarantee is kept; 1 a noise that it covers exceeds the budget; 2 bad usage or input.
    """
    trials = trials or (QUICK_TRIALS if quick else TRIALS)
    processes = QUICK_PROCESSES if quick else PROCESSES
    with progress_bar() as report:
        if recording is not None:
            record(recording, report)
            return
        traces = load(noise)
        tables = {}
        for share in resolutions or (RESOLUTION,):
            tables.update(_tables(procedure_for(share), traces, processes, trials, seed, report))
    _show(tables, trials, seed, to_json, markdown)
    if any(row.guaranteed and not row.kept for rows in tables.values() for row in rows):
        ctx.exit(EXIT_FAILED)


def _tables(
    procedure: Procedure, traces: dict[str, Trace], processes: int, trials: int, seed: int, report: Report
) -> dict[str, list[Row]]:
    """All tables of a resolution. Runs in one process are for the default only: a finer one is refused there."""
    of = "" if procedure == REPLICATED else f", at a resolution of {100 * procedure.share:g} %"
    largest = (GUARANTEED_CV, GUARANTEED_SD)
    tables = {
        "By size, over all kinds of modelled noise": by_size(processes, trials, seed, report, procedure),
        "By kind, at the largest noise that is guaranteed for": by_kind(*largest, processes, trials, seed, procedure),
        "Recorded noise": by_trace(traces, processes, trials, seed, procedure),
    }
    if procedure == REPLICATED:
        tables["Callables measured in one process"] = by_process(trials, seed)
    tables["Runs that a spent budget ends"] = by_end(processes, trials, seed, procedure)
    return {f"{title}{of}": rows for title, rows in tables.items()}


def _show(tables: dict[str, list[Row]], trials: int, seed: int, to_json: bool, markdown: bool) -> None:
    if to_json:
        plain = {title: [as_json(row) for row in rows] for title, rows in tables.items()}
        document = {"schema": 1, "trials": trials, "seed": seed, "tables": plain}
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    elif markdown:
        click.echo("\n".join(markdown_section(title, rows) for title, rows in tables.items()))
        click.echo(LEGEND)
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=WIDTH)
        for title, rows in tables.items():
            console.print(rich_table(title, rows))
        console.print(LEGEND, markup=False)


if __name__ == "__main__":
    main(prog_name="python -m reports.verdicts.simulated")
