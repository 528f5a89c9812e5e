"""The recorded trace: timings of real steps, from which processes are drawn again by bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpprof.errors import DataError
from mlpprof.testing.simulation.noise import Array

RECORDED = Path(__file__).with_name("recorded_noise.npz")
UNDISTURBED = "shared machine"
CONDITIONS = (UNDISTURBED, "CPU burner")
RUN = 5
"""Blocks that are drawn together, so that what is correlated stays together (moving-block bootstrap)."""
NAMES = ("timings_s", "is_a")


@dataclass(frozen=True)
class Trace:
    """One condition of a recording: log_timings and is_a, both (processes, blocks, 4) in the order of time."""

    log_timings: Array
    is_a: NDArray[np.bool_]

    @property
    def cv(self) -> float:
        """Coefficient of variation of single timings, all processes together."""
        timings = np.exp(self.log_timings)
        return float(timings.std() / timings.mean())

    @property
    def block_log_ratios(self) -> Array:
        """(processes, blocks), of instance A over B, which run the same code."""
        ratios: Array = (np.where(self.is_a, 0.5, -0.5) * self.log_timings).sum(axis=2)
        return ratios

    def replicates(self, count: int, blocks: int, rng: np.random.Generator) -> Array:
        """Log ratios (count,) of replicates of `blocks` blocks drawn from one recorded process each.

        The sign is up to chance, as it is which of two like instances is called A: the true log ratio is 0.
        """
        recorded = self.block_log_ratios
        process = rng.integers(len(recorded), size=(count, 1))
        start = rng.integers(recorded.shape[1] - RUN + 1, size=(count, blocks // RUN, 1))
        index = (start + np.arange(RUN)).reshape(count, -1)
        medians: Array = np.median(recorded[process, index], axis=1)
        return rng.choice([-1.0, 1.0], size=count) * medians

    def best_of_five(self, count: int, rng: np.random.Generator) -> Array:
        """Log ratios (count,) of the fastest of 5 timings over the fastest of the 5 that follow."""
        series = self.log_timings.reshape(len(self.log_timings), -1)
        process = rng.integers(len(series), size=(count, 1))
        start = rng.integers(series.shape[1] - 9, size=(count, 1))
        ten = series[process, start + np.arange(10)]
        fastest: Array = ten[:, :5].min(axis=1) - ten[:, 5:].min(axis=1)
        return fastest

    def separate_medians(self, count: int, rng: np.random.Generator) -> Array:
        """Log ratios (count,) of the median of all A in one process over the median of all B in another."""
        a, b = (
            np.array([np.median(log[which]) for log, which in zip(self.log_timings, mask, strict=True)])
            for mask in (self.is_a, ~self.is_a)
        )
        first = rng.integers(len(a), size=count)
        second = (first + rng.integers(1, len(a), size=count)) % len(a)
        ratios: Array = a[first] - b[second]
        return ratios


def load(path: Path = RECORDED) -> dict[str, Trace]:
    """The traces of a recording by condition. Raises DataError if the file is not one of `recorder`'s."""
    try:
        with np.load(path, allow_pickle=False) as file:
            timings_s, is_a = (file[name] for name in NAMES)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot read {path} as recorded noise: {error}; make one with --record") from error
    wrong = timings_s.ndim != 4 or timings_s.shape[::3] != (len(CONDITIONS), 4) or is_a.shape != timings_s.shape
    if wrong or not (np.isfinite(timings_s).all() and (timings_s > 0).all()):
        raise DataError(f"{path} holds no recorded noise; make one with --record")
    log_timings = np.log(timings_s.astype(np.float64))
    return {name: Trace(log_timings[i], is_a[i]) for i, name in enumerate(CONDITIONS)}
