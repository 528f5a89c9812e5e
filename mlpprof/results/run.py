"""One profile of one variant or program: every raw sample of every pass, the code, the data and the machine.

What is not known of a program (its network, its data, its batch size) is None or 0, and reports leave it out.

All times are seconds. Medians, shares and ratios are properties of these records, so that every report shows the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpprof.model import Network
from mlpprof.results.shares import own_shares_of, shares_of
from mlpprof.results.step_profile import ProgramRecord, StepProfile

Samples = NDArray[np.float64]
"""Raw samples, (n_rounds, steps_per_round); a row contains the consecutive steps of one block."""

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
    """The time of one phase in every step of the phases pass, and the memory that it needs.

    step_s: (n_rounds, steps_per_round), seconds that a step spent in the phase.
    bytes_allocated: allocated in one step, summed line by line (median over the steps of the memory pass).
    peak_bytes: highest allocation at a time above what was held when the phase began.
    page_faults: minor faults per step (mean); None where the system does not count them.
    """

    step_s: Samples
    bytes_allocated: float | None = None
    peak_bytes: float | None = None
    page_faults: float | None = None


@dataclass(frozen=True)
class LabelSamples:
    """The time of the statements under one label in every step of the labels pass.

    layer: the value of the innermost loop variable `l`, None outside such a loop. Time under a nested label counts for
    the inner label only, so that labels never overlap. calls: timed executions in one step.
    """

    phase: str
    layer: int | None
    label: str
    step_s: Samples
    calls: int

    @property
    def key(self) -> tuple[str, int | None, str]:
        """The key that no other label of a step has."""
        return self.phase, self.layer, self.label


@dataclass(frozen=True)
class Operation:
    """Equal operations of one statement in one step, from the counts pass: all figures are sums over all `times`.

    phase, layer, label: as in LabelSamples; label None for a statement without one. line: of the variant's file, or of
    the program's file that contains the expression.
    kind: product, evaluation (exp, tanh, the sigmoid ...), arithmetic, copy or fill. name: matmul, add, gather ...
    shape: (p, k, q) of a product (p, k) by (k, q), else of the result or of what was reduced.
    orders: memory orders of the operands, such as 'C·F'. bytes_moved: operands read and result written once.
    useful_flop, useful_bytes: the part that the network's mathematics needs (`instrument.needed_work`); None in a
    program, whose network is not known.
    bytes_allocated: of new arrays. bytes_copied: moved by an operation that computes nothing.
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
    useful_flop: int | None
    bytes_moved: int
    useful_bytes: int | None
    bytes_allocated: int
    bytes_copied: int


@dataclass(frozen=True)
class StreamRecord:
    """How a set was read from its file while it was trained on.

    part_rows: rows that are shuffled together. run_rows: neighbouring rows that are read at once. row_bytes: of a row
    of the file, unpacked. rows: that were read. read_s: seconds that it took to read and convert them. waited_s:
    seconds of these for which the steps had to wait. rereads: how often a chunk of the file is read in an epoch.
    disk_bytes_s: what the disk gives if the file is read from its beginning; None if that is not known.
    """

    part_rows: int
    run_rows: int
    row_bytes: int
    rows: int
    read_s: float
    waited_s: float
    rereads: float = 1.0
    disk_bytes_s: float | None = None

    @property
    def hidden_share(self) -> float | None:
        """The share of reading that went on beside the steps, 0 to 1; None if nothing was read."""
        return max(0.0, 1.0 - self.waited_s / self.read_s) if self.read_s > 0 else None

    @property
    def disk_rows_s(self) -> float | None:
        """Rows a second that the disk gives if it is read from the beginning."""
        return None if self.disk_bytes_s is None else self.disk_bytes_s / self.row_bytes


@dataclass(frozen=True)
class BatchResult:
    """Everything that was measured at one batch size.

    total_s, phases_pass_s, labels_pass_s: (n_rounds, steps_per_round), the clock around whole steps in the pass
    without instruments, with clocks on phases and with clocks on labels; the passes alternate within a round.
    losses: of the steps of the total pass, in order. warmup_steps: steps before anything was kept.
    separable: False where train_step does not call the five methods, so that no phase can be timed by itself.
    operations: what one step computes and moves; empty where it could not be counted.
    uncounted: names of functions on arrays that the counts pass does not understand, or why it stopped.
    steps_a_sample: above 1 where the variant's `train` spans steps: a sample is then the mean over so many steps.
    batch, steps_per_epoch: 0 where they are not known, as in a program.
    stream: None if the data were in memory. Otherwise a step contains its share of waiting for the file.
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
    stream: StreamRecord | None = None

    @property
    def step_s(self) -> Quantiles:
        """Seconds per step, from the uninstrumented pass."""
        return quantiles(self.total_s)

    @property
    def epoch_s(self) -> Quantiles | None:
        """Seconds per epoch: the quantiles of a step times the steps of an epoch; None if their number is not known."""
        if not self.steps_per_epoch:
            return None
        step = self.step_s
        n = self.steps_per_epoch
        return Quantiles(step.median * n, step.low * n, step.high * n)

    @property
    def samples_per_s(self) -> float | None:
        """Samples trained in a second, at the median step; NaN where a step took no time, None without a batch size."""
        if not self.batch:
            return None
        median_s = self.step_s.median
        return self.batch / median_s if median_s > 0 else math.nan

    @property
    def steps_measured(self) -> int:
        """Steps that the uninstrumented pass has timed."""
        return self.total_s.size * self.steps_a_sample

    # A share is always of the step. A time is that share of the median step without instruments, so that the parts of
    # a step add up to the step, and the rest is what `phases_over_total` leaves.

    @cached_property
    def phase_shares(self) -> dict[str, float]:
        """Phase -> its share of the step, 0 to 1; the sum of its labels if the same clocks timed both."""
        if self.is_one_pass:
            shares = self.label_shares
            return {name: sum(share for key, share in shares.items() if key[0] == name) for name in self.phases}
        return shares_of({name: phase.step_s for name, phase in self.phases.items()}, self.phases_pass_s)

    @cached_property
    def label_shares(self) -> dict[tuple[str, int | None, str], float]:
        """(phase, layer, label) -> its share of the step, 0 to 1.

        If the labels of a phase add up to more than the phase does in its own pass, they are scaled down to it.
        """
        parts_s = {label.key: label.step_s for label in self.labels}
        if self.is_one_pass:
            return own_shares_of(parts_s, self.labels_pass_s)
        shares = shares_of(parts_s, self.labels_pass_s)
        for name, phase_share in self.phase_shares.items():
            keys = [key for key in shares if key[0] == name]
            labelled = sum(shares[key] for key in keys)
            if labelled > phase_share:
                shares.update({key: shares[key] * phase_share / labelled for key in keys})
        return shares

    def phase_share(self, name: str) -> float:
        return self.phase_shares[name]

    def label_share(self, label: LabelSamples) -> float:
        return self.label_shares[label.key]

    def phase_s(self, name: str) -> float:
        return self.phase_share(name) * self.step_s.median

    def label_s(self, label: LabelSamples) -> float:
        return self.label_share(label) * self.step_s.median

    def unlabelled_share(self, phase: str) -> float:
        """Share of the step that a phase spends outside its labels, 0 to 1."""
        labelled = sum(share for (name, _, _), share in self.label_shares.items() if name == phase)
        rest = self.phase_share(phase) - labelled
        return rest if rest > 1e-9 else 0.0  # sums of floats differ in the last digits

    @property
    def rest_share(self) -> float:
        """Share of the step that no phase covers, 0 to 1; the whole step where the phases cannot be separated."""
        return max(0.0, 1.0 - sum(self.phase_shares.values()))

    @property
    def phases_over_total(self) -> float | None:
        """Sum of the phases divided by the clock around the same step, median over steps; 1 is perfect.

        Of a program, it is the sum of the shares of its expressions.
        """
        if not self.separable:
            return None
        if self.is_one_pass:
            return sum(self.label_shares.values())
        return float(np.median(sum(p.step_s for p in self.phases.values()) / self.phases_pass_s))

    @property
    def is_one_pass(self) -> bool:
        """Whether phases and labels were timed by the same clocks in the same steps, as in a program."""
        return not self.batch and bool(self.labels)

    @property
    def phases_disturbance(self) -> float | None:
        """Step with clocks on phases divided by the plain step: median of the ratios of neighbouring blocks."""
        return paired_ratio(self.phases_pass_s, self.total_s) if self.separable else None

    @property
    def labels_disturbance(self) -> float | None:
        """Step with clocks on labels divided by the plain step: median of the ratios of neighbouring blocks."""
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
    """One line in the lines pass: executions and seconds, all steps together.

    file: of a program, as in `ProgramRecord.sources`; "" for the variant's file.
    """

    line: int
    hits: int
    time_s: float
    file: str = ""


@dataclass(frozen=True)
class LineProfile:
    """The line view: line_profiler's counts over `steps` steps at one batch size, and their wall time."""

    batch: int
    steps: int
    wall_s: float
    lines: tuple[LineTime, ...]

    def calls(self, line: LineTime) -> float:
        """Executions of a line per step."""
        return line.hits / self.steps

    def line_s(self, line: LineTime) -> float:
        """Seconds per step, with all that the line calls."""
        return line.time_s / self.steps

    def share(self, line: LineTime) -> float:
        """Share of the wall time, 0 to 1. Shares add up to 1 within a function, because a line contains its calls."""
        return line.time_s / self.wall_s if self.wall_s > 0 else 0.0


@dataclass(frozen=True)
class StackProfile:
    """The call view: a pyinstrument session over `steps` steps at one batch size, as its own JSON text."""

    batch: int
    steps: int
    session_json: str


@dataclass(frozen=True)
class CheckResult:
    """Whether a variant computes the right values.

    ok: None where it could not be run (skipped says why).
    deviation, tolerance: of the comparison with the largest deviation in units of its tolerance;
    layer: its layer (None for a figure of the whole network); what: which comparison, in words.
    message: for ok False, one line with the layer and the size of the deviation; for ok True, which networks other
    than the run's own it does not do; for ok None, how its worker was killed, if that is the reason.
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
    """The code that was measured: name, first line of its docstring, parent, whole source and its SHA-256.

    Of a program, the source is that of the file that contains the step; `ProgramRecord.sources` has all files.
    """

    name: str
    summary: str
    parent: str | None
    source: str
    source_sha256: str


@dataclass(frozen=True)
class DataRecord:
    """The training samples: their source, their number, and a fingerprint of their values."""

    name: str
    samples: int
    sha256: str


@dataclass(frozen=True)
class Run:
    """One `mlpprof profile`: the code, the data, the machine, and every raw sample."""

    created: str
    """UTC, ISO 8601 with seconds."""
    mlpprof_version: str
    command: str
    variant: VariantRecord
    workload: str | None
    network: Network | None
    dtype: str
    """A program's is the precision of most of its arithmetic."""
    seed: int | None
    threads: int | None
    native_blas: bool
    data: DataRecord | None
    check: CheckResult | None
    """It is None after --no-check, and then the report says so. A program has nothing to check against."""
    machine: Json
    results: tuple[BatchResult, ...]
    lines: LineProfile | None = None
    stacks: StackProfile | None = None
    warnings: tuple[str, ...] = field(default=())
    limits: Json = field(default_factory=dict)
    """The limits of the machine with this run's threads: name -> {"value", "unit"}; empty if they were not measured."""
    program: ProgramRecord | None = None
    """It is None for a variant. A program has neither workload nor network, seed, data and check."""

    @property
    def step_profile(self) -> StepProfile:
        """The step of a program as `mlpprof profile --json` shows it; raises ValueError for a variant."""
        if self.program is None:
            raise ValueError(f"{self.variant.name} is a variant and has no expressions")
        result = self.results[0]
        return StepProfile(
            step=self.program.step,
            step_s=_flat(result.total_s),
            clocked_s=_flat(result.labels_pass_s),
            phases={name: _flat(phase.step_s) for name, phase in result.phases.items()},
            phases_from=self.program.phases_from,
            expressions=self.program.expressions,
            notes=self.program.notes,
            environment=self.machine,
        )


def _flat(samples: Samples) -> tuple[float, ...]:
    return tuple(samples.ravel().tolist())
