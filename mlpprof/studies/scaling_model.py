"""A model of a step that p ranks share: the time for the rows of one, and a sum over all that costs latency and bytes.

step(p, m) = c0 + c1 * m / p + sum(p, n), where c0 + c1 * r is the step of one process on r rows, and
sum(p, n) = 2 ceil(log2 p) * alpha + 2 (p - 1) / p * n * beta: an all-reduce of n bytes that halves and doubles its
blocks needs so many messages, each of latency alpha, and moves so many bytes through every rank, at beta seconds each
(Thakur, Rabenseifner, Gropp: Optimization of collective communication operations in MPICH, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls


@dataclass(frozen=True)
class Exchange:
    """alpha_s: seconds a message; beta_s: seconds a byte; error: mean of the fit's, as a share of what was measured."""

    alpha_s: float
    beta_s: float
    error: float = math.nan

    def sum_s(self, ranks: int, n_bytes: float) -> float:
        """Seconds until all ranks have the sum."""
        messages, share = _terms(ranks)
        return messages * self.alpha_s + share * n_bytes * self.beta_s


@dataclass(frozen=True)
class Compute:
    """fixed_s: of every step, however few its rows; row_s: of every row; error: as in Exchange."""

    fixed_s: float
    row_s: float
    error: float = math.nan

    def step_s(self, rows: float) -> float:
        """Seconds of a step of one process."""
        return self.fixed_s + self.row_s * rows


@dataclass(frozen=True)
class Model:
    """Both, and the bytes of a gradient."""

    compute: Compute
    exchange: Exchange
    gradient_bytes: int

    def step_s(self, ranks: int, batch: float) -> float:
        """Seconds of a step of so many ranks."""
        return self.compute.step_s(batch / ranks) + self.exchange.sum_s(ranks, self.gradient_bytes)

    def speedup(self, ranks: int, batch: float) -> float:
        """Over one process on the same batch."""
        return self.compute.step_s(batch) / self.step_s(ranks, batch)

    def efficiency(self, ranks: int, batch: float) -> float:
        """The speedup as a share of the ranks."""
        return self.speedup(ranks, batch) / ranks

    def least_batch(self, ranks: int, efficiency: float = 0.5) -> float:
        """The batch below which so many ranks are less efficient; 0 where they never are.

        From c0 + c1 p r = e p (c0 + c1 r + sum): r rows a rank.
        """
        fixed, row = self.compute.fixed_s, self.compute.row_s
        sum_s = self.exchange.sum_s(ranks, self.gradient_bytes)
        rows = (efficiency * (fixed + sum_s) - fixed / ranks) / (row * (1 - efficiency))
        return max(0.0, ranks * rows)


def fit_exchange(measured: Sequence[tuple[int, int, float]]) -> Exchange:
    """From (ranks, bytes, seconds), by least squares of the relative errors, neither below 0."""
    rows = [[messages, share * n] for messages, share, n in ((*_terms(p), n) for p, n, _ in measured)]
    (alpha, beta), error = _fit(rows, [seconds for *_, seconds in measured])
    return Exchange(alpha, beta, error)


def fit_compute(step_s: Mapping[int, float]) -> Compute:
    """From rows -> seconds of a step of one process, in the same way."""
    (fixed, row), error = _fit([[1, rows] for rows in step_s], list(step_s.values()))
    return Compute(fixed, row, error)


def _terms(ranks: int) -> tuple[int, float]:
    return 2 * math.ceil(math.log2(ranks)), 2 * (ranks - 1) / ranks


def _fit(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> tuple[tuple[float, float], float]:
    wanted = np.array(seconds)
    relative = np.array(rows) / wanted[:, None]
    scale = np.abs(relative).max(axis=0)  # a message and a byte differ by orders
    found, _ = nnls(relative / scale, np.ones(len(wanted)))
    error = float(np.mean(np.abs(relative / scale @ found - 1)))
    first, second = (found / scale).tolist()
    return (first, second), error
