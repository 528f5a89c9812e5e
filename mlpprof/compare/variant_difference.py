"""Where the difference between two steps lies: 100 % of it, by phase and by labelled statement.

The shares come from a profile and the whole step from the race, so every figure is a share of the raced step. What no
phase covers is shown as a rest of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from mlpprof.model import PHASES
from mlpprof.results import BatchResult, PhaseChange

REST = "(rest)"
"""The name under which the time that no phase covers is shown."""


def waterfall(old: BatchResult, new: BatchResult, old_step_s: float, new_step_s: float) -> tuple[PhaseChange, ...]:
    """The phases, the rest, then the labels of both; shares are of old_step_s - new_step_s.

    If a variant does not separate its phases, its whole step is rest. Programs have phases of their own.
    """
    difference_s = old_step_s - new_step_s
    before, after = _phases(old, old_step_s), _phases(new, new_step_s)
    ours = () if old.is_one_pass and new.is_one_pass else PHASES
    rows: list[tuple[tuple[str, int | None, str], float, float]] = [
        ((phase, None, ""), before.get(phase, 0.0), after.get(phase, 0.0))
        for phase in dict.fromkeys([*ours, *before, *after])
    ]
    rows.append(((REST, None, ""), old_step_s - sum(before.values()), new_step_s - sum(after.values())))
    labels_before, labels_after = _labels(old, old_step_s), _labels(new, new_step_s)
    for key in dict.fromkeys([*labels_before, *labels_after]):
        rows.append((key, labels_before.get(key, 0.0), labels_after.get(key, 0.0)))
    return tuple(
        PhaseChange(phase, layer, label, old_s, new_s, (old_s - new_s) / difference_s if difference_s else 0.0)
        for (phase, layer, label), old_s, new_s in rows
    )


def _phases(result: BatchResult, step_s: float) -> dict[str, float]:
    return {name: share * step_s for name, share in result.phase_shares.items()}


def _labels(result: BatchResult, step_s: float) -> dict[tuple[str, int | None, str], float]:
    return {key: share * step_s for key, share in result.label_shares.items()}


PAIRS = 3
"""After a FAIL, old and new are profiled in so many pairs of processes, so that each difference gets an interval."""


def averaged(pairs: Sequence[Sequence[PhaseChange]]) -> tuple[PhaseChange, ...]:
    """The changes of several pairs of profiles as one: the means, and the interval of the time lost."""
    if len(pairs) == 1:
        return tuple(pairs[0])
    found = [{(one.phase, one.layer, one.label): one for one in changes} for changes in pairs]
    rows = []
    for key in dict.fromkeys(key for changes in found for key in changes):
        same = [changes[key] for changes in found if key in changes]
        old_s, new_s, share = (
            float(np.mean([getattr(one, name) for one in same])) for name in ("old_s", "new_s", "share")
        )
        low_s, high_s = interval_s([one.lost_s for one in same])
        rows.append(replace(same[0], old_s=old_s, new_s=new_s, share=share, low_s=low_s, high_s=high_s))
    return tuple(rows)


def interval_s(lost_s: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of a mean, by Student's t; (None, None) of fewer than two values."""
    if len(lost_s) < 2:
        return None, None
    margin = float(-stdtrit(len(lost_s) - 1, 0.025)) * float(np.std(lost_s, ddof=1)) / len(lost_s) ** 0.5
    mean = float(np.mean(lost_s))
    return mean - margin, mean + margin
