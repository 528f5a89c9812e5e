"""One median step taken apart: phases, and within each its labelled statements and what has no label.

Shares come from the instrumented passes and are scaled to the median step without instruments, so that the parts of
pictures and of traces add up to the step that a reader knows. Where the labels of a phase add up to more than the
phase does in its own pass, which is noise, they are made smaller together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlpprof.model import PHASES
from mlpprof.results import BatchResult


@dataclass(frozen=True)
class Part:
    """Labelled statements of one layer; label "" is what has no label, and layer None what is in no loop over layers.

    share: of the step, 0 to 1. time_s: seconds of a median step.
    """

    phase: str
    layer: int | None
    label: str
    share: float
    time_s: float
    calls: int | None

    @property
    def text(self) -> str:
        """'gradient, layer 1'."""
        return (self.label or "no label") + ("" if self.layer is None else f", layer {self.layer}")


@dataclass(frozen=True)
class PhasePart:
    """A phase of a median step and its parts, which add up to it; in the order in which they run."""

    phase: str
    share: float
    time_s: float
    parts: tuple[Part, ...]

    def layers(self) -> list[tuple[int | None, tuple[Part, ...]]]:
        """Neighbouring parts of one layer together, in the order of execution."""
        groups: list[tuple[int | None, tuple[Part, ...]]] = []
        for part in self.parts:
            if groups and groups[-1][0] == part.layer:
                groups[-1] = (part.layer, (*groups[-1][1], part))
            else:
                groups.append((part.layer, (part,)))
        return groups


def anatomy(result: BatchResult) -> tuple[PhasePart, ...]:
    """The phases of a median step with their parts; only labelled parts where the phases cannot be told apart."""
    step_s = result.step_s.median
    names = [*PHASES, *result.phases, *(label.phase for label in result.labels)]
    found = []
    for name in dict.fromkeys(names):
        labels = [label for label in result.labels if label.phase == name]
        labels.sort(key=lambda label: _layer_order(name, label.layer))
        shares = [result.label_share(label) for label in labels]
        share = _phase_share(result, name) if name in result.phases else sum(shares)
        if not labels and name not in result.phases:
            continue
        shrunk = min(1.0, share / sum(shares)) if sum(shares) > 0 else 1.0
        parts = [
            Part(name, label.layer, label.label, part * shrunk, part * shrunk * step_s, label.calls)
            for label, part in zip(labels, shares, strict=True)
        ]
        rest = share - sum(part.share for part in parts)
        if rest > 1e-9:
            parts.append(Part(name, None, "", rest, rest * step_s, None))
        found.append(PhasePart(name, share, share * step_s, tuple(parts)))
    return tuple(found)


def _phase_share(result: BatchResult, name: str) -> float:
    return float(np.median(result.phases[name].step_s / result.phases_pass_s))


def _layer_order(phase: str, layer: int | None) -> int:
    """Layers as a step meets them: backward comes down from the last one. What is in no loop comes first."""
    if layer is None:
        return -(10**9)
    return -layer if phase == "backward" else layer
