"""What is derived from a step profile, for the terminal and for files alike: medians, shares, rates, disturbance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mlpprof.results.step_profile import Expression, StepProfile

MOST_DISTURBED = 1.2
"""Clocked over plain steps, above which shares are rough."""

PHASES_FROM = {
    "comments": "from the step's `# phase:` comments",
    "calls": "from the calls that the step makes; `# phase: NAME` behind a statement names others",
    "statements": "a statement each; `# phase: NAME` behind a statement names others",
}


def median_s(seconds: Sequence[float]) -> float:
    """Median of raw samples; NaN of none."""
    return float(np.median(seconds)) if len(seconds) else math.nan


def share_of(seconds: Sequence[float], profile: StepProfile) -> float:
    """Median over the median clocked step, because both were under clocks."""
    whole_s = median_s(profile.clocked_s)
    return median_s(seconds) / whole_s if whole_s > 0 else math.nan


def disturbance(profile: StepProfile) -> float:
    """Median clocked step over median plain step: 1 where the clocks cost nothing."""
    plain_s = median_s(profile.step_s)
    return median_s(profile.clocked_s) / plain_s if plain_s > 0 else math.nan


def gflop_per_s(one: Expression) -> float:
    """Floating-point operations a second, in thousands of millions; NaN where it does none."""
    time_s = median_s(one.seconds)
    return one.flop / time_s / 1e9 if one.flop and time_s > 0 else math.nan
