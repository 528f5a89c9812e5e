"""What the figures of a run say, in sentences that every report shows alike: its slowest part, and its doubts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlpprof.machine.blas import pinned_kernel_warning
from mlpprof.report.distance import distance
from mlpprof.report.numbers import of_layer, plain
from mlpprof.results import BatchResult, LabelSamples, Run

PHASES_LIMIT = 0.03
LABELS_LIMIT = 0.05
"""If clocks change the step by more than this share, a report warns that the shares are rough."""

NOT_SEPARABLE = "the phases are not separable because train_step fuses them"


EXPRESSIONS_LIMIT = 0.15
"""If a program spends more than this share of its step outside of its expressions, in loops and names, a report says
so."""


def batch_text(result: BatchResult) -> str:
    """'batch 20,000'; 'step' where the batch size is not known, as in a program."""
    return f"batch {result.batch:,}" if result.batch else "step"


def batches_text(batches: Iterable[int]) -> str:
    """'batch 32, 500'; 'step' where the batch size is not known."""
    known = [f"{batch:,}" for batch in batches if batch]
    return f"batch {', '.join(known)}" if known else "step"


def at_batch(result: BatchResult) -> str:
    """'At batch 20,000, '; empty where the batch size is not known."""
    return f"At batch {result.batch:,}, " if result.batch else ""


def not_separable(result: BatchResult) -> str:
    """Why the phases cannot be timed one by one."""
    if not result.batch:
        return "the step has no phases because none of its expressions could be timed"
    spans = "the phases are not separable because train does several steps in one call"
    return NOT_SEPARABLE if result.steps_a_sample == 1 else spans


def slowest_part(result: BatchResult) -> str:
    """'backward takes 48 % of the step; its slowest statement is the derivative of layer 1 (22 % of the step)'."""
    labels: tuple[LabelSamples, ...] = result.labels
    sentence = not_separable(result)
    owner = "the"
    if result.phases:
        phase = max(result.phases, key=result.phase_share)
        sentence = f"{plain(phase)} takes {100 * result.phase_share(phase):.0f} % of the step"
        labels = tuple(label for label in labels if label.phase == phase)
        owner = "its"
    if not labels:
        return sentence
    slowest = max(labels, key=result.label_share)
    share = f"{100 * result.label_share(slowest):.0f} % of the step"
    if result.is_one_pass and len(result.phases) == 1:
        return f"the slowest expression of the step is {plain(slowest.label)} ({share})"
    if result.is_one_pass:
        return f"{sentence}; its slowest expression is {plain(slowest.label)} ({share})"
    return f"{sentence}; {owner} slowest statement is the {of_layer(slowest.label, slowest.layer)} ({share})"


def run_sentences(run: Run) -> list[tuple[str, str]]:
    """(batch size, sentence): what is slowest, and how far the step is from the minimum of this machine."""
    found = []
    for result in run.results:
        found.append((batch_text(result), f"{slowest_part(result)}."))
        far = distance(run, result)
        if far is not None:
            found.append((batch_text(result), f"{far.sentence}."))
    return found


@dataclass(frozen=True)
class Agreement:
    """How well two passes agree: a ratio that is 1 at best, and how far from 1 it may be.

    meaning: what a ratio beyond the limit means for the other figures of the report.
    """

    name: str
    ratio: float | None
    limit: float
    meaning: str

    @property
    def is_within(self) -> bool:
        """True also where there is nothing to judge."""
        return self.ratio is None or abs(self.ratio - 1) <= self.limit


def agreements(result: BatchResult) -> tuple[Agreement, ...]:
    """The figures of a batch: the phases against the step, and what the clocks on phases and labels cost."""
    if result.is_one_pass:
        return (
            Agreement(
                "sum of the phases",
                result.phases_over_total,
                EXPRESSIONS_LIMIT,
                "part of the step is outside of its expressions, in loops, names and calls, and has no share",
            ),
            Agreement(
                "with clocks on expressions",
                result.phases_disturbance,
                LABELS_LIMIT,
                "the clocks slowed the step down, or the machine was busy; their time was subtracted, and the shares "
                "of short expressions are rough",
            ),
        )
    return (
        Agreement(
            "sum of the phases",
            result.phases_over_total,
            PHASES_LIMIT,
            "the step does work outside its five phases, or phases overlap",
        ),
        Agreement(
            "with clocks on phases",
            result.phases_disturbance,
            PHASES_LIMIT,
            "the clocks on phases slowed the step down, or the machine was busy: the shares are rough",
        ),
        Agreement(
            "with clocks on labels",
            result.labels_disturbance,
            LABELS_LIMIT,
            "the clocks on labels slowed the step down, or the machine was busy: short statements look too expensive",
        ),
    )


def doubts(run: Run) -> dict[str, list[int]]:
    """What a figure beyond its limit means -> the batch sizes with such a figure."""
    found: dict[str, list[int]] = {}
    for result in run.results:
        for figure in agreements(result):
            if not figure.is_within:
                found.setdefault(figure.meaning, []).append(result.batch)
    return found


def run_warnings(run: Run) -> list[str]:
    """What you have to know before you trust the figures, without the doubts about agreement."""
    pinned = pinned_kernel_warning(run.machine)
    return [plain(text) for text in dict.fromkeys([*([pinned] if pinned else []), *run.warnings])]
