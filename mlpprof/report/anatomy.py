"""One median step as a tree: its phases, and in each phase its labelled statements and the time without a label.

Figures and traces draw this tree. Its shares and times are those of `BatchResult`, so its parts add up to the step.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.model import PHASES
from mlpprof.results import BatchResult


@dataclass(frozen=True)
class Part:
    """The statements under one label in one layer. label "" stands for all statements without a label.

    layer: None outside a loop over layers. share: of the step, 0 to 1. time_s: seconds of a median step.
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
    """A phase of a median step, and its parts in the order in which they run. The parts add up to the phase."""

    phase: str
    share: float
    time_s: float
    parts: tuple[Part, ...]

    def layers(self) -> list[tuple[int | None, tuple[Part, ...]]]:
        """Groups of neighbouring parts that belong to one layer."""
        groups: list[tuple[int | None, tuple[Part, ...]]] = []
        for part in self.parts:
            if groups and groups[-1][0] == part.layer:
                groups[-1] = (part.layer, (*groups[-1][1], part))
            else:
                groups.append((part.layer, (part,)))
        return groups


def anatomy(result: BatchResult) -> tuple[PhasePart, ...]:
    """The phases of a median step with their parts; only labelled parts where the phases cannot be separated."""
    step_s = result.step_s.median
    found = []
    for name in dict.fromkeys([*PHASES, *result.phases, *(label.phase for label in result.labels)]):
        labels = [label for label in result.labels if label.phase == name]
        labels.sort(key=lambda label: _layer_order(name, label.layer))
        if not labels and name not in result.phases:
            continue
        parts = [
            Part(name, label.layer, label.label, result.label_share(label), result.label_s(label), label.calls)
            for label in labels
        ]
        rest = result.unlabelled_share(name) if name in result.phases else 0.0
        if rest > 0:
            parts.append(Part(name, None, "", rest, rest * step_s, None))
        share = result.phase_share(name) if name in result.phases else sum(part.share for part in parts)
        found.append(PhasePart(name, share, share * step_s, tuple(parts)))
    return tuple(found)


def _layer_order(phase: str, layer: int | None) -> int:
    """Layers in the order in which a step visits them: backward starts at the last one. Code in no loop comes first."""
    if layer is None:
        return -(10**9)
    return -layer if phase == "backward" else layer
