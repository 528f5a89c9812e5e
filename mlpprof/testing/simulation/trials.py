"""Many simulated assertions at once: the procedure of `mlpprof.stats`, vectorized, and the naive alternatives."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from mlpprof.stats import PSEUDO_REPLICATE_BLOCKS, REPLICATED, Procedure, bounds
from mlpprof.testing.simulation.noise import BLOCKS, Array, Kind, simulate
from mlpprof.testing.simulation.recorded import Trace

PASS, FAIL, INCONCLUSIVE = 1, -1, 0


@dataclass(frozen=True)
class Rate:
    """How many of `trials` had the event; low and high are the exact 95 % bounds of Clopper and Pearson."""

    events: int
    trials: int

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.events / self.trials

    @property
    def low(self) -> float:
        """Lower bound of the probability."""
        return 0.0 if self.events == 0 else float(betaincinv(self.events, self.trials - self.events + 1, 0.025))

    @property
    def high(self) -> float:
        """Upper bound of the probability."""
        misses = self.trials - self.events
        return 1.0 if misses == 0 else float(betaincinv(self.events + 1, misses, 0.975))


@dataclass(frozen=True)
class Assertions:
    """What many assertions said: outcome (trials,) PASS, FAIL or INCONCLUSIVE, and replicates (trials,) it took."""

    outcome: NDArray[np.int8]
    replicates: NDArray[np.int64]

    def rate(self, outcome: int) -> Rate:
        """How many ended so."""
        return Rate(int(np.count_nonzero(self.outcome == outcome)), len(self.outcome))


class Runs:
    """The noise of many runs, from which every true speedup and bias is judged: they shift it, and no more.

    log_ratios: (trials, replicates of the last look), of old and new that are equally fast. ended_after: of runs whose
    time is spent after so many replicates.
    """

    def __init__(self, log_ratios: Array, procedure: Procedure = REPLICATED, ended_after: int | None = None) -> None:
        self.trials = len(log_ratios)
        self._procedure = procedure
        self._looks = bounds(procedure, ended_after)
        self._means = [log_ratios[:, : look.replicates].mean(axis=1) for look in self._looks]
        self._sds = [log_ratios[:, : look.replicates].std(axis=1, ddof=1) for look in self._looks]

    @property
    def first_look(self) -> int:
        """Replicates at the first look."""
        return self._looks[0].replicates

    def judge(self, speedup: float, shift: Array | float = 0.0, side: int = 1) -> Assertions:
        """Assert a speedup of at least 1 where the true one is `speedup`.

        shift: run-level bias in logs, one for all or (trials,). side -1 turns the noise upside down.
        """
        procedure = self._procedure
        fail_below, pass_above = -math.log(procedure.bias), math.log(procedure.bias / procedure.resolution)
        outcome = np.full(self.trials, INCONCLUSIVE, dtype=np.int8)
        replicates = np.zeros(self.trials, dtype=np.int64)
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

    All (n,); `runs` draws from them with replacement.
    """

    replicates: Array
    best_of_five: Array
    separate_medians: Array

    def runs(self, trials: int, rng: np.random.Generator, ended_after: int | None = None) -> Runs:
        """Runs of as many replicates as the last look needs."""
        log_ratios = rng.choice(self.replicates, size=(trials, REPLICATED.looks[-1]))
        return Runs(log_ratios, ended_after=ended_after)


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
    """Runs in one process each: pseudo-replicates that scatter by pseudo_sd, all shifted by one normal process effect.

    That effect has the deviation that the procedure allows for.
    """
    count, size = procedure.looks[-1], PSEUDO_REPLICATE_BLOCKS
    noise = simulate(replace(kind, process_share=0.0), cv, pseudo_sd, (trials, count * size), size, rng)
    medians = np.median(noise.block_log_ratios.reshape(trials, count, size), axis=2)
    return Runs(medians + procedure.process_sd * rng.standard_normal((trials, 1)), procedure)
