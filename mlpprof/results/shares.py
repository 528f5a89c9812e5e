"""The share of each part of a step in the step: one formula for phases, labels and expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key")


def shares_of(parts_s: Mapping[Key, NDArray[np.float64]], whole_s: NDArray[np.float64]) -> dict[Key, float]:
    """The share of each part in the step around it: the median over the steps, because drift cancels within a step.

    parts_s, whole_s: seconds, arrays of one shape. On a busy machine the medians of parts add up to less or more than
    the parts do together in a step. So they are scaled to the median of all parts together, which is at most 1.
    """
    shares = {key: float(np.median(part_s / whole_s)) for key, part_s in parts_s.items()}
    total = sum(shares.values())
    if total <= 0:
        return shares
    together = min(1.0, float(np.median(sum(parts_s.values()) / whole_s)))
    return {key: share / total * together for key, share in shares.items()}


def own_shares_of(parts_s: Mapping[Key, NDArray[np.float64]], whole_s: NDArray[np.float64]) -> dict[Key, float]:
    """The same for the expressions of a program, whose medians are already shares of the undisturbed step.

    The parts of a single step may add up to more than the step, because an interruption of an expression whose time is
    mostly that of the clocks counts too much. So only the medians are added, and scaled if they are more than the step.
    """
    shares = {key: float(np.median(part_s / whole_s)) for key, part_s in parts_s.items()}
    together = max(1.0, sum(shares.values()))
    return {key: share / together for key, share in shares.items()}
