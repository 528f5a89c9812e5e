"""Where the difference between two steps lies: 100 % of it, by phase and by labelled statement.

Instrumented passes tell the proportions, the uninstrumented race tells the whole: so every figure is scaled by the
raced step over the instrumented step, and what the phases do not cover stands as a rest of its own.
"""

from __future__ import annotations

import numpy as np

from mlpprof.model import PHASES
from mlpprof.results import BatchResult, Change

REST = "(rest)"
"""The pseudo-phase of what no phase covers: the calls between them, and rounding of medians."""


def waterfall(old: BatchResult, new: BatchResult, old_step_s: float, new_step_s: float) -> tuple[Change, ...]:
    """The phases, the rest, then the labels of both; shares are of old_step_s - new_step_s.

    Where a variant does not tell its phases apart, all of its step is rest.
    """
    difference_s = old_step_s - new_step_s
    before, after = _phases(old, old_step_s), _phases(new, new_step_s)
    rows: list[tuple[tuple[str, int | None, str], float, float]] = [
        ((phase, None, ""), before.get(phase, 0.0), after.get(phase, 0.0)) for phase in PHASES
    ]
    rows.append(((REST, None, ""), old_step_s - sum(before.values()), new_step_s - sum(after.values())))
    labels_before, labels_after = _labels(old, old_step_s), _labels(new, new_step_s)
    for key in dict.fromkeys([*labels_before, *labels_after]):
        rows.append((key, labels_before.get(key, 0.0), labels_after.get(key, 0.0)))
    return tuple(
        Change(phase, layer, label, old_s, new_s, (old_s - new_s) / difference_s if difference_s else 0.0)
        for (phase, layer, label), old_s, new_s in rows
    )


def _phases(result: BatchResult, step_s: float) -> dict[str, float]:
    if not result.phases:
        return {}  # a fused step has no pass with clocks on phases
    scale = step_s / float(np.median(result.phases_pass_s))
    return {name: result.phase_median_s(name) * scale for name in result.phases}


def _labels(result: BatchResult, step_s: float) -> dict[tuple[str, int | None, str], float]:
    if not result.labels:
        return {}
    scale = step_s / float(np.median(result.labels_pass_s))
    return {(label.phase, label.layer, label.label): float(np.median(label.step_s)) * scale for label in result.labels}
