"""What a batch's figures say, in one sentence, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.results import BatchResult, LabelSamples

PHASES_LIMIT = 0.03
LABELS_LIMIT = 0.05

NOT_SEPARABLE = "not separable: train_step fuses the phases"


def not_separable(result: BatchResult) -> str:
    """Why no phase can be told from another."""
    return NOT_SEPARABLE if result.steps_a_sample == 1 else "not separable: train spans steps"


def verdict(result: BatchResult) -> str:
    """'backward takes 48 % of the step; its dearest statement is the derivative of layer 1, 22 %'."""
    labels = result.labels
    sentence = f"{not_separable(result)}; the dearest statement is"
    if result.phases:
        phase = max(result.phases, key=result.phase_share)
        sentence = f"{phase} takes {100 * result.phase_share(phase):.0f} % of the step"
        labels = tuple(label for label in labels if label.phase == phase)
        if not labels:
            return sentence
        sentence += "; its dearest statement is"
    elif not labels:
        return not_separable(result)
    dearest = max(labels, key=result.label_share)
    return f"{sentence} {label_text(dearest)}, {100 * result.label_share(dearest):.0f} %"


def label_text(label: LabelSamples) -> str:
    """'the derivative of layer 1'."""
    return f"the {label.label}" + ("" if label.layer is None else f" of layer {label.layer}")


@dataclass(frozen=True)
class Agreement:
    """One figure on how well the passes agree: its ratio, which would best be 1, and the distance it may have."""

    name: str
    ratio: float | None
    limit: float
    meaning: str
    """What it means for the reader when the ratio is further from 1 than the limit."""

    @property
    def is_within(self) -> bool:
        """True also where there is nothing to judge."""
        return self.ratio is None or abs(self.ratio - 1) <= self.limit


def agreements(result: BatchResult) -> tuple[Agreement, Agreement, Agreement]:
    """The three figures of a batch: phases against the step, and what the clocks on phases and on labels cost."""
    return (
        Agreement(
            "sum of the phases",
            result.phases_over_total,
            PHASES_LIMIT,
            "the step does work outside its five phases, or phases overlap: shares are of the phases, not of the step",
        ),
        Agreement(
            "with clocks on phases",
            result.phases_disturbance,
            PHASES_LIMIT,
            "the clocks on phases change what they time, or the machine was busy: read the shares as rough",
        ),
        Agreement(
            "with clocks on labels",
            result.labels_disturbance,
            LABELS_LIMIT,
            "the clocks on labels change what they time, or the machine was busy: short statements look too dear",
        ),
    )
