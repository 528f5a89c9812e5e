"""Models of timing noise, and timing noise that was recorded on a real machine.

All noise is on the log scale, and is the sum of three parts. The slow part (spells of a busy machine, drift) makes most
of the variation of single timings, and nearly cancels within a block. The fast part does not cancel. The third part is
the effect of a process: its memory layout, its huge pages, and the core on which it runs. The size of the fast part is
chosen so that replicates scatter as much as the caller wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from mlpprof.errors import DataError

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
"""A function that draws noise of unit deviation and shape (processes, timings), the timings in order of time."""

BLOCKS = 25
"""A replicate has this many blocks; with 4 timings of 15 ms each they take 1.5 seconds."""
OUTLIER_FACTORS = (2.0, 10.0)
OUTLIER_SHARE = 0.5
"""Outliers, in a kind that has them, make this share of the variance of single timings."""


@dataclass(frozen=True)
class Kind:
    """One model: the shapes of the three parts, each of unit deviation.

    outliers: whether rare slow timings are added. process_share: the share of the variance of replicates that the
    effects of processes make.
    """

    name: str
    summary: str
    slow: Draw
    fast: Draw
    process: Draw
    outliers: bool = False
    process_share: float = 0.5


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return rng.standard_normal(shape)


def _heavy(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    heavy: Array = rng.standard_t(3, shape) / math.sqrt(3)
    return heavy


def _autoregressive(memory: float) -> Draw:
    """Stationary noise in which neighbours have the correlation `memory`."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        shocks = rng.standard_normal(shape)
        shocks[:, 0] /= math.sqrt(1 - memory**2)
        correlated: Array = lfilter([math.sqrt(1 - memory**2)], [1, -memory], shocks, axis=1)
        return correlated

    return draw


def _ramp(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A linear drift during the process, up or down by a random amount."""
    ramp = np.linspace(-math.sqrt(3), math.sqrt(3), shape[1])
    return np.asarray(rng.standard_normal((shape[0], 1)) * ramp, dtype=np.float64)


def _bimodal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Two speeds in turn, as when another process uses the CPU in spells of 200 timings (3 s) on average."""
    start = rng.integers(2, size=(shape[0], 1))
    switches = np.cumsum(rng.random(shape) < 1 / 200, axis=1)
    return np.asarray(2.0 * ((start + switches) % 2) - 1, dtype=np.float64)


def _modes(share: float) -> Draw:
    """Two values with mean 0 and deviation 1; a `share` of the processes has the high one."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        odds = math.sqrt((1 - share) / share)
        two_valued: Array = np.where(rng.random(shape) < share, odds, -1 / odds)
        return two_valued

    return draw


_SPELLS = _autoregressive(0.999)

KINDS = (
    Kind("lognormal", "spells of 15 s on average; timings and processes lognormal", _SPELLS, _normal, _normal),
    Kind("t3", "heavy tails: timings and processes as Student's t with 3 degrees of freedom", _SPELLS, _heavy, _heavy),
    Kind("outliers", "rare timings, 2 to 10 times as slow, make half of the variance", _SPELLS, _normal, _normal, True),
    Kind("drift", "every process gets steadily slower or faster", _ramp, _normal, _normal),
    Kind("autocorrelated", "neighbours correlate by 0.8 also in the fast part", _SPELLS, _autoregressive(0.8), _normal),
    Kind("burner", "two speeds, as beside a process that burns the CPU in spells of 3 s", _bimodal, _normal, _normal),
    Kind("two modes", "half of the processes are in another mode", _SPELLS, _normal, _modes(0.5), process_share=0.95),
    Kind("rare mode", "one process in ten is in another mode", _SPELLS, _normal, _modes(0.1), process_share=0.95),
)


@dataclass(frozen=True)
class Noise:
    """Simulated processes of one kind.

    log_timings: (processes, 4 * blocks), in the order of time. block_log_ratios: (processes, blocks).
    process_effects: (processes,), which a process adds to the log ratio of everything that is timed in it.
    """

    log_timings: Array
    block_log_ratios: Array
    process_effects: Array


def simulate(
    kind: Kind, cv: float, replicate_sd: float, shape: tuple[int, int], median_of: int, rng: np.random.Generator
) -> Noise:
    """Timings whose coefficient of variation is about `cv`, in processes that scatter by `replicate_sd`.

    shape: (processes, blocks). `replicate_sd` is the deviation of the process effect and of the median of `median_of`
    blocks together; replicates scatter more if the slow part alone exceeds it.
    """
    processes, blocks = shape
    timings = (processes, 4 * blocks)
    total_variance = math.log1p(cv**2)
    outlier_variance = OUTLIER_SHARE * total_variance if kind.outliers else 0.0
    fast = kind.fast(rng, timings)
    unit_sd = _median_sd(block_log_ratios(fast, rng), median_of)
    within_sd = math.sqrt(1 - kind.process_share) * replicate_sd
    fast_variance = min(total_variance - outlier_variance, (within_sd / unit_sd) ** 2)
    slow_variance = total_variance - outlier_variance - fast_variance
    log_timings = math.sqrt(slow_variance) * kind.slow(rng, timings) + math.sqrt(fast_variance) * fast
    if outlier_variance > 0:
        log_timings += _outliers(outlier_variance, timings, rng)
    ratios = block_log_ratios(log_timings, rng)
    process_sd = math.sqrt(max(0.0, replicate_sd**2 - _median_sd(ratios, median_of) ** 2))
    return Noise(log_timings, ratios, process_sd * kind.process(rng, (processes, 1))[:, 0])


def block_log_ratios(log_timings: Array, rng: np.random.Generator) -> Array:
    """Log ratios (processes, blocks) of successive groups of four timings (processes, 4 * blocks).

    Each group counts as ABBA or BAAB at random. `mlpprof.compare.block_log_ratio` computes the same for one block.
    """
    processes, timings = log_timings.shape
    first, second, third, fourth = np.moveaxis(log_timings.reshape(processes, timings // 4, 4), -1, 0)
    signs = rng.choice([-0.5, 0.5], size=first.shape)
    ratios: Array = signs * (first - second - third + fourth)
    return ratios


def _median_sd(ratios: Array, median_of: int) -> float:
    return float(np.median(ratios[:, :median_of], axis=1).std())


def _outliers(variance: float, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Zeros, with enough rare timings, log-uniformly 2 to 10 times as slow, to have the variance."""
    low, high = (math.log(factor) for factor in OUTLIER_FACTORS)
    share = variance / ((high**3 - low**3) / (3 * (high - low)))
    return np.where(rng.random(shape) < share, rng.uniform(low, high, shape), 0.0)


RECORDED = Path(__file__).with_name("recorded_noise.npz")
UNDISTURBED = "shared machine"
CONDITIONS = (UNDISTURBED, "CPU burner")
RUN = 5
"""This many successive blocks are drawn together, to keep their correlation (moving-block bootstrap)."""
NAMES = ("timings_s", "is_a")


@dataclass(frozen=True)
class Trace:
    """One condition of a recording: log_timings and is_a, both (processes, blocks, 4) in the order of time."""

    log_timings: Array
    is_a: NDArray[np.bool_]

    @property
    def cv(self) -> float:
        """The coefficient of variation of the single timings of all processes."""
        timings = np.exp(self.log_timings)
        return float(timings.std() / timings.mean())

    @property
    def block_log_ratios(self) -> Array:
        """Log ratios (processes, blocks) of instance A and instance B, which run the same code."""
        ratios: Array = (np.where(self.is_a, 0.5, -0.5) * self.log_timings).sum(axis=2)
        return ratios

    def replicates(self, count: int, blocks: int, rng: np.random.Generator) -> Array:
        """Log ratios (count,) of replicates of `blocks` blocks drawn from one recorded process each.

        The sign is random, since either of two equal instances could have been called A: the true log ratio is 0.
        """
        recorded = self.block_log_ratios
        process = rng.integers(len(recorded), size=(count, 1))
        start = rng.integers(recorded.shape[1] - RUN + 1, size=(count, blocks // RUN, 1))
        index = (start + np.arange(RUN)).reshape(count, -1)
        medians: Array = np.median(recorded[process, index], axis=1)
        return rng.choice([-1.0, 1.0], size=count) * medians

    def best_of_five(self, count: int, rng: np.random.Generator) -> Array:
        """Log ratios (count,) of the fastest of 5 timings to the fastest of the next 5."""
        series = self.log_timings.reshape(len(self.log_timings), -1)
        process = rng.integers(len(series), size=(count, 1))
        start = rng.integers(series.shape[1] - 9, size=(count, 1))
        ten = series[process, start + np.arange(10)]
        fastest: Array = ten[:, :5].min(axis=1) - ten[:, 5:].min(axis=1)
        return fastest

    def separate_medians(self, count: int, rng: np.random.Generator) -> Array:
        """Log ratios (count,) of the median of all A in one process to the median of all B in another."""
        a, b = (
            np.array([np.median(log[which]) for log, which in zip(self.log_timings, mask, strict=True)])
            for mask in (self.is_a, ~self.is_a)
        )
        first = rng.integers(len(a), size=count)
        second = (first + rng.integers(1, len(a), size=count)) % len(a)
        ratios: Array = a[first] - b[second]
        return ratios


def load(path: Path = RECORDED) -> dict[str, Trace]:
    """The traces of a recording by condition. Raises DataError if the file is no such recording."""
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
