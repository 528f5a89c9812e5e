"""From timings to log ratios of replicates, and from those to an interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from mlpprof.stats.bounds import REPLICATED, Procedure

PSEUDO_REPLICATE_BLOCKS = 5
"""Blocks in a pseudo-replicate: enough that its median shrugs off one or two that were disturbed."""


def block_log_ratio(old_s: ArrayLike, new_s: ArrayLike) -> float:
    """Mean log ratio of one block, ABBA or BAAB: what drifts linearly within the block cancels.

    old_s, new_s: (2,) or any equal length, seconds. Returns log(old/new); above 0, new is faster.
    Raises ValueError if the lengths differ or a time is not positive and finite.
    """
    old = _finite(old_s, "times of old")
    new = _finite(new_s, "times of new")
    if old.shape != new.shape:
        raise ValueError(f"{old.size} times of old against {new.size} of new; a block holds as many of each")
    if min(old.min(), new.min()) <= 0:
        raise ValueError(f"a time is {min(old.min(), new.min())} s; expected positive times")
    return float(np.mean(np.log(old) - np.log(new)))


def replicate_log_ratio(block_log_ratios: ArrayLike) -> float:
    """Median of a replicate's blocks, (n_blocks,): a few disturbed blocks do not move it.

    Raises ValueError if there is none or one is not finite.
    """
    return float(np.median(_finite(block_log_ratios, "log ratios of blocks")))


def pseudo_replicates(block_log_ratios: ArrayLike, size: int = PSEUDO_REPLICATE_BLOCKS) -> NDArray[np.float64]:
    """Medians of groups of `size` consecutive blocks of one process, (n_blocks // size,); a rest is left out.

    Neighbours share a group, so that what is correlated over a few blocks stays within one (the method of batch
    means). To be judged by the procedure IN_PROCESS. Raises ValueError if a block is not finite or none fills a group.
    """
    blocks = _finite(block_log_ratios, "log ratios of blocks")
    count = len(blocks) // size
    if count == 0:
        raise ValueError(f"{len(blocks)} blocks do not fill a group of {size}")
    medians: NDArray[np.float64] = np.median(blocks[: count * size].reshape(count, size), axis=1)
    return medians


def interval(log_ratios: ArrayLike, level: float = 0.95, procedure: Procedure = REPLICATED) -> tuple[float, float]:
    """Confidence interval of the speedup, as ratios (low, high), from the log ratios of replicates (n,).

    Student's t, with the standard deviation never taken below the procedure's floor; in one process widened by what
    cannot be seen between processes, half of the error going to each. Run-level bias is not included: a run that is
    biased by 3 % shifts the whole interval, and only the verdicts allow for that. Nor is it corrected for the look
    at which a run stopped. Raises ValueError for fewer than 2 replicates, values not finite, or a level not in (0, 1).
    """
    x = replicates_of(log_ratios)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a probability between 0 and 1")
    tail = (1 - level) / 2
    process_margin = 0.0
    if procedure.process_sd > 0:
        tail /= 2
        process_margin = procedure.process_sd * float(-ndtri(tail))
    sd = max(float(x.std(ddof=1)), procedure.sd_floor)
    margin = float(-stdtrit(len(x) - 1, tail)) * sd / math.sqrt(len(x)) + process_margin
    mean = float(x.mean())
    return math.exp(mean - margin), math.exp(mean + margin)


def replicates_of(log_ratios: ArrayLike) -> NDArray[np.float64]:
    """The log ratios of replicates as an array (n,); raises ValueError for fewer than 2 or values not finite."""
    x = _finite(log_ratios, "log ratios of replicates")
    if len(x) < 2:
        raise ValueError("1 replicate shows no scatter; run at least 2")
    return x


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array: NDArray[Any] = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{what} have the shape {array.shape}; expected (n,) with n of at least 1")
    wrong = array[~np.isfinite(array)]
    if wrong.size:
        raise ValueError(f"{wrong.size} of {array.size} {what} are not finite ({wrong[0]})")
    return array
