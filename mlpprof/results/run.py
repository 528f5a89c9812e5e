"""One profile of one variant: every raw sample of every pass, and what it was taken on.

All times are seconds. Medians, shares and ratios are derived here, so that each is computed in one way only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpprof.model import Network

Samples = NDArray[np.float64]
"""Raw samples, (n_rounds, steps_per_round); a row holds the consecutive steps of one block of the interleaving."""

Json = dict[str, Any]
"""A plain JSON object."""


@dataclass(frozen=True)
class Quantiles:
    """Median and the 2.5 and 97.5 % quantiles of raw samples: the spread of single steps, not an error bar."""

    median: float
    low: float
    high: float


def quantiles(samples: NDArray[np.float64]) -> Quantiles:
    """Median, 2.5 % and 97.5 % quantile of samples of any shape, in their unit."""
    low, median, high = np.quantile(samples, (0.025, 0.5, 0.975))
    return Quantiles(float(median), float(low), float(high))


@dataclass(frozen=True)
class PhaseSamples:
    """What one phase cost in every step of the phases pass, and what it asked of memory.

    step_s: (n_rounds, steps_per_round), seconds a step spent in the phase.
    bytes_allocated: allocated in one step, summed line by line (median over the steps of the memory pass).
    peak_bytes: highest allocation at a time above what was held when the phase began.
    page_faults: minor faults a step (mean); None where the system does not count them.
    """

    step_s: Samples
    bytes_allocated: float | None = None
    peak_bytes: float | None = None
    page_faults: float | None = None


@dataclass(frozen=True)
class LabelSamples:
    """What the statements under one label cost in every step of the labels pass.

    layer is the value of the innermost loop variable `l`, None outside such a loop. Time under a nested label counts
    for the inner label alone, so that labels never overlap. calls: clocked executions in one step.
    """

    phase: str
    layer: int | None
    label: str
    step_s: Samples
    calls: int


@dataclass(frozen=True)
class Operation:
    """Equal operations of one statement in one step, from the counts pass: figures are of all `times` together.

    phase, layer, label: as in LabelSamples; label None for a statement without one. line: of the variant's file.
    kind: product, evaluation (exp, tanh, the sigmoid ...), arithmetic, copy or fill. name: matmul, add, gather ...
    shape: (p, k, q) of a product (p, k) by (k, q), else of the result or of what was reduced.
    orders: memory orders of the operands, such as 'C·F'. bytes_moved: operands read and result written once.
    useful_flop, useful_bytes: the part that the network's mathematics needs (`instrument.useful`).
    bytes_allocated: of new arrays. bytes_copied: only moved, by an operation that computes nothing.
    """

    phase: str
    layer: int | None
    label: str | None
    line: int
    kind: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    orders: str
    times: int
    flop: int
    useful_flop: int
    bytes_moved: int
    useful_bytes: int
    bytes_allocated: int
    bytes_copied: int


@dataclass(frozen=True)
class BatchResult:
    """Everything that was measured at one batch size.

    total_s, phases_pass_s, labels_pass_s: (n_rounds, steps_per_round), the clock around whole steps in the pass
    without instruments, with clocks on phases and with clocks on labels; the passes alternate within a round.
    losses: of the steps of the total pass, in order. warmup_steps: steps before anything was kept.
    separable: False where train_step does not call the five methods, so that no phase can be told from another.
    operations: what one step computes and moves; empty where it could not be counted.
    uncounted: names of functions on arrays that the counts pass does not understand, or why it gave up.
    steps_a_sample: above 1 where the variant's `train` spans steps: a sample is then the mean over so many steps.
    """

    batch: int
    steps_per_epoch: int
    total_s: Samples
    phases_pass_s: Samples
    labels_pass_s: Samples
    phases: Mapping[str, PhaseSamples]
    labels: tuple[LabelSamples, ...]
    losses: NDArray[np.float64]
    warmup_steps: int
    separable: bool = True
    operations: tuple[Operation, ...] = ()
    uncounted: tuple[str, ...] = ()
    steps_a_sample: int = 1

    @property
    def step_s(self) -> Quantiles:
        """Seconds a step, from the uninstrumented pass."""
        return quantiles(self.total_s)

    @property
    def epoch_s(self) -> Quantiles:
        """Seconds an epoch: the quantiles of a step times the steps of an epoch."""
        step = self.step_s
        n = self.steps_per_epoch
        return Quantiles(step.median * n, step.low * n, step.high * n)

    def phase_median_s(self, name: str) -> float:
        """Median seconds a step spent in a phase."""
        return float(np.median(self.phases[name].step_s))

    def phase_share(self, name: str) -> float:
        """Share of a phase in the sum of all phases (medians), 0 to 1."""
        total = sum(self.phase_median_s(phase) for phase in self.phases)
        return self.phase_median_s(name) / total if total > 0 else 0.0

    def label_share(self, label: LabelSamples) -> float:
        """Share of a label in the step of the labels pass (median of the ratios step by step), 0 to 1."""
        return float(np.median(label.step_s / self.labels_pass_s))

    @property
    def phases_over_total(self) -> float | None:
        """Sum of the phases over the clock around the same step, median over steps; 1 is perfect."""
        if not self.separable:
            return None
        return float(np.median(sum(p.step_s for p in self.phases.values()) / self.phases_pass_s))

    @property
    def phases_disturbance(self) -> float | None:
        """Step with clocks on phases over the plain step: median of the ratios of neighbouring blocks."""
        return paired_ratio(self.phases_pass_s, self.total_s) if self.separable else None

    @property
    def labels_disturbance(self) -> float | None:
        """Step with clocks on labels over the plain step: median of the ratios of neighbouring blocks."""
        return paired_ratio(self.labels_pass_s, self.total_s) if self.labels else None


def paired_ratio(instrumented_s: Samples, plain_s: Samples) -> float:
    """Median over rounds of the ratio of block medians.

    instrumented_s, plain_s: (n_rounds, steps), seconds; rows of the same index ran next to each other.
    Raises ValueError if the numbers of rounds differ.
    """
    if len(instrumented_s) != len(plain_s):
        raise ValueError(f"{len(instrumented_s)} rounds against {len(plain_s)}")
    return float(np.median(np.median(instrumented_s, axis=1) / np.median(plain_s, axis=1)))


@dataclass(frozen=True)
class LineTime:
    """One line of the variant's file in the lines pass: executions and seconds, all steps together."""

    line: int
    hits: int
    time_s: float


@dataclass(frozen=True)
class LineProfile:
    """The line view: line_profiler's counts over `steps` steps at one batch size, and their wall time."""

    batch: int
    steps: int
    wall_s: float
    lines: tuple[LineTime, ...]


@dataclass(frozen=True)
class StackProfile:
    """The call view: a pyinstrument session over `steps` steps at one batch size, as its own JSON text."""

    batch: int
    steps: int
    session_json: str


@dataclass(frozen=True)
class CheckResult:
    """Whether a variant computes what it should.

    ok: None where it could not be run (skipped says why).
    deviation, tolerance: of the comparison that came closest to its tolerance or went furthest beyond it;
    layer: where (None for a whole-network figure); what: which comparison, in words.
    message: for ok False, one line with the layer and the size of the deviation; for ok True, which networks other
    than the run's own it does not do.
    """

    variant: str
    ok: bool | None
    deviation: float | None = None
    tolerance: float | None = None
    layer: int | None = None
    what: str = ""
    skipped: str | None = None
    message: str = ""


@dataclass(frozen=True)
class VariantRecord:
    """The code that was measured: name, first line of its docstring, parent, whole source and its SHA-256."""

    name: str
    summary: str
    parent: str | None
    source: str
    source_sha256: str


@dataclass(frozen=True)
class DataRecord:
    """The samples that were trained on: where they came from, how many, and a fingerprint of their values."""

    name: str
    samples: int
    sha256: str


@dataclass(frozen=True)
class Run:
    """One `mlpprof profile`: what was run, on what, where, and every raw sample."""

    created: str
    """UTC, ISO 8601 with seconds."""
    mlpprof_version: str
    command: str
    variant: VariantRecord
    workload: str
    network: Network
    dtype: str
    seed: int
    threads: int | None
    native_blas: bool
    data: DataRecord
    check: CheckResult | None
    """None where the user said --no-check, which the report repeats."""
    machine: Json
    results: tuple[BatchResult, ...]
    lines: LineProfile | None = None
    stacks: StackProfile | None = None
    warnings: tuple[str, ...] = field(default=())
    limits: Json = field(default_factory=dict)
    """What the machine can do at this run's threads: name -> {"value", "unit"}; empty where it was not measured."""
