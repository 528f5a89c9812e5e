"""The interleaved passes of `profile`: total, phases and labels in turn, each on an instance of its own.

A round contains one block of steps of every pass, in an order that is reversed from round to round, so that a machine
that slows down slows all of them alike. The disturbance by an instrument is then the median ratio of neighbouring
blocks.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from mlpprof.data import Stream
from mlpprof.instrument.clocks import Clock, LabelClock, LabelKey, PhaseClock
from mlpprof.instrument.memory import MemoryWatch, page_faults
from mlpprof.model import PHASES, Array, Variant
from mlpprof.model.gradcheck import closed_after
from mlpprof.process import PULSE, Progress
from mlpprof.results import BatchResult, LabelSamples, PhaseSamples

BLOCK_S = 0.015
"""A block lasts at least this long: far above the clock's resolution and the cost of changing instances."""
BUDGET_S = 4.0
"""The three timed passes of one batch size take this long, unless the step is so slow that few rounds take longer."""
ROUNDS = (5, 40)
"""There are at least and at most this many ROUNDS, but only SLOW_ROUNDS if a step takes longer than SLOW_STEP_S."""
SLOW_STEP_S = 0.5
SLOW_ROUNDS = 3
WARMUP_S, FIRST_STEP_S = 0.5, 2.5
"""A warm-up ends after WARMUP_S, but has a second step if the first, which may compile, took less than FIRST_STEP_S."""
WARMUP_WINDOW = 5
SETTLED = 0.05
"""A warm-up also ends when the medians of two successive windows of steps differ by less than this share."""
FETCHING, WAITING = PHASES[0], "wait for the file"
"""The phase in which a step that is trained from a stream waits for its rows, and the label of that."""
MEMORY_STEPS = 3
FAULT_STEPS = 10
"""Page faults are counted in this many steps, after as many that warm up; if steps are slow, in a single one."""


def batches(samples: int, m: int, seed: int) -> Iterator[Array]:
    """Endless indices (m,) into `samples` rows, shuffled anew every epoch, the same for every instance of a run.

    The last, incomplete batch of an epoch is left out, since a shorter one would be a different measurement.
    """
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(samples)
        for start in range(0, samples - m + 1, m):
            yield order[start : start + m]


def steps_per_epoch(samples: int, m: int) -> int:
    """Steps that visit every sample once; the last batch may be short."""
    return -(-samples // m)


@dataclass(frozen=True)
class Subject:
    """A variant that is ready to be measured: its data in the run's dtype, and makers of fresh instances.

    X (N, n_0), Y (N, n_L). make: a plain instance. make_labelled: one whose labelled statements report to the clock.
    stream: None if X and Y are the whole set in memory. Otherwise they are the window of this stream.
    """

    X: Array
    Y: Array
    seed: int
    make: Callable[[], Variant]
    make_labelled: Callable[[LabelClock], Variant]
    stream: Stream | None = None

    @property
    def samples(self) -> int:
        """N of the whole set."""
        return len(self.X) if self.stream is None else self.stream.data.samples

    @property
    def waited_s(self) -> float:
        """Seconds that the batches so far have waited for their file."""
        return 0.0 if self.stream is None else self.stream.charged_s

    def walk(self, m: int) -> Iterator[Array]:
        """The batches of this run, from the first one on."""
        return batches(len(self.X), m, self.seed) if self.stream is None else self.stream.walk(m)

    def drawn(self, indices: Iterator[Array], count: int) -> Iterator[list[Array]]:
        """The next batches of a walk in lists, each of which can be trained on as a whole: in memory a single one."""
        while count > 0:
            first = next(indices)
            together = count if self.stream is None else min(count, self.stream.together(len(first)))
            yield [first, *islice(indices, together - 1)]
            count -= together


def rounds_and_steps(step_s: float, steps: int | None) -> tuple[int, int]:
    """How many rounds, and steps of each pass in a round, for a step of `step_s` seconds; `steps` fixes their product.

    With `steps` given, a round has the largest divisor of it that makes no block longer than needed.
    """
    wanted = max(1, math.ceil(BLOCK_S / step_s))
    if steps is not None:
        in_round = max(d for d in range(1, min(wanted, steps) + 1) if steps % d == 0)
        return steps // in_round, in_round
    if step_s > SLOW_STEP_S:
        return SLOW_ROUNDS, 1
    fewest, most = ROUNDS
    return min(most, max(fewest, int(BUDGET_S / (3 * wanted * step_s)))), wanted


class Warming(Protocol):
    """Something that can be warmed up."""

    def warming_s(self) -> float:
        """Seconds of one more step."""


class TimedPass:
    """One instance that walks through the batches; take: what an instrument has seen since it was last asked.

    A variant that spans steps has a method `train`. It is run and timed through that, a whole block at a time: a row
    then contains one sample of the clock and one of the instrument, the means over the block.
    """

    def __init__(
        self, subject: Subject, instance: Variant, indices: Iterator[Array], take: Callable[[], Any], clock: Clock
    ) -> None:
        self.instance = instance
        self._subject = subject
        self._indices = indices
        self._take = take
        self._clock = clock
        self._train: Any = getattr(instance, "train", None)
        self._span = 1
        self.step_s: list[list[float]] = []
        self.taken: list[list[Any]] = []
        self.losses: list[float] = []

    def step(self) -> tuple[float, Any]:
        """One step: its seconds, and what the instrument saw."""
        before_s = self._subject.waited_s
        index = next(self._indices)
        waited_s = self._subject.waited_s - before_s
        X, Y, train_step, clock = self._subject.X, self._subject.Y, self.instance.train_step, self._clock
        start = clock()
        loss = train_step(X, Y, index)
        seconds = clock() - start
        PULSE.beat()
        self.losses.append(float(loss))
        return seconds + waited_s, self._taken(waited_s)

    def span(self, steps: int) -> tuple[float, Any]:
        """So many steps through `train`: seconds a step, and what the instrument saw in a step on average."""
        before_s, seconds = self._subject.waited_s, 0.0
        for indices in self._subject.drawn(self._indices, steps):
            start = self._clock()
            losses = self._train(self._subject.X, self._subject.Y, indices)
            seconds += self._clock() - start
            PULSE.beat()
            self.losses += [float(loss) for loss in losses]
        waited_s = self._subject.waited_s - before_s
        return (seconds + waited_s) / steps, _per_step(self._taken(waited_s), steps)

    def _taken(self, waited_s: float) -> Any:
        """What the instrument has seen since it was last asked, and that the batches have waited for their file."""
        taken = self._take()
        if self._subject.stream is None or not taken:
            return taken
        if FETCHING in taken:
            return {**taken, FETCHING: taken[FETCHING] + waited_s}
        return {**taken, (FETCHING, None, WAITING): (waited_s, 1)}

    def warming_s(self) -> float:
        """Seconds of one more step; through `train` of twice as many as before, until they last as long as a block."""
        if self._train is None:
            return self.step()[0]
        step_s, _ = self.span(self._span)
        if step_s * self._span < BLOCK_S:
            self._span *= 2
        return step_s

    def get_ready(self, steps: int) -> None:
        """Let a variant that spans steps prepare itself for blocks of so many, as a compiler does."""
        if self._train is not None:
            self.span(steps)

    def block(self, steps: int) -> None:
        pairs = [self.step() for _ in range(steps)] if self._train is None else [self.span(steps)]
        self.step_s.append([seconds for seconds, _ in pairs])
        self.taken.append([taken for _, taken in pairs])


def _per_step(taken: Any, steps: int) -> Any:
    """What an instrument has summed over steps, divided by their number."""
    return taken and {
        key: tuple(part / steps for part in value) if isinstance(value, tuple) else value / steps
        for key, value in taken.items()
    }


def warm_up(timed: Warming, clock: Clock) -> tuple[int, float]:
    """Run steps until their time settles or half a second is over: how many, and the fastest in seconds."""
    seconds: list[float] = []
    start = clock()
    while True:
        seconds.append(timed.warming_s())
        PULSE.beat()
        if len(seconds) >= 2 * WARMUP_WINDOW:
            before, now = np.median([seconds[-2 * WARMUP_WINDOW : -WARMUP_WINDOW], seconds[-WARMUP_WINDOW:]], axis=1)
            if abs(now - before) < SETTLED * before:
                break
        if clock() - start > (WARMUP_S if len(seconds) > 1 else FIRST_STEP_S):
            break
    return len(seconds), min(seconds)


def profile_batch(
    subject: Subject, m: int, steps: int | None, report: Progress, clock: Clock = perf_counter
) -> BatchResult:
    """All passes at batch size m: warm-up, the interleaved timed passes, then page faults and memory."""
    label_clock = LabelClock(clock)
    with (
        closed_after(subject.make()) as plain,
        closed_after(subject.make()) as phased,
        closed_after(subject.make_labelled(label_clock)) as labelled,
    ):
        phase_clock = PhaseClock(phased, clock)
        label_clock.watch(labelled)
        own_phases = getattr(phased, "phase_seconds", None)
        total = TimedPass(subject, plain, subject.walk(m), lambda: None, clock)
        phases = TimedPass(subject, phased, subject.walk(m), own_phases or phase_clock.take, clock)
        labels = TimedPass(subject, labelled, subject.walk(m), label_clock.take, clock)
        passes = (total, phases, labels)
        report("warming up", 0.0)
        with paused_garbage_collection():
            warm = [warm_up(timed, clock) for timed in passes]
        rounds, in_round = rounds_and_steps(warm[0][1], steps)
        for timed in passes:
            timed.get_ready(in_round)
        total.losses.clear()
        if subject.stream is not None:
            subject.stream.restart()
        for i in range(rounds):
            report("timing", (i + 0.5) / (rounds + 1))
            with paused_garbage_collection():
                for timed in passes if i % 2 == 0 else reversed(passes):
                    timed.block(in_round)
    stream = None if subject.stream is None else subject.stream.record()
    separable = own_phases is not None or phase_clock.complete
    report("memory", rounds / (rounds + 1))
    return BatchResult(
        batch=m,
        steps_per_epoch=steps_per_epoch(subject.samples, m),
        total_s=np.array(total.step_s),
        phases_pass_s=np.array(phases.step_s),
        labels_pass_s=np.array(labels.step_s),
        phases=_phase_samples(subject, m, phases.taken, warm[0][1]) if separable else {},
        labels=_label_samples(labels.taken),
        losses=np.array(total.losses),
        warmup_steps=warm[0][0],
        separable=separable,
        steps_a_sample=in_round if hasattr(plain, "train") else 1,
        stream=stream,
    )


def _phase_samples(
    subject: Subject, m: int, taken: list[list[dict[str, float]]], expected_step_s: float
) -> dict[str, PhaseSamples]:
    memory = _memory(subject, m)
    faults = _faults(subject, m, FAULT_STEPS if expected_step_s < SLOW_STEP_S else 1)
    return {
        name: PhaseSamples(
            step_s=np.array([[step.get(name, 0.0) for step in row] for row in taken]),
            bytes_allocated=memory.get(name, (None, None))[0],
            peak_bytes=memory.get(name, (None, None))[1],
            page_faults=faults.get(name),
        )
        for name in PHASES
    }


def _label_samples(taken: list[list[dict[LabelKey, tuple[float, int]]]]) -> tuple[LabelSamples, ...]:
    keys = dict.fromkeys(key for row in taken for step in row for key in step)
    return tuple(
        LabelSamples(
            phase=key[0],
            layer=key[1],
            label=key[2],
            step_s=np.array([[step.get(key, (0.0, 0))[0] for step in row] for row in taken]),
            calls=math.ceil(max(step.get(key, (0.0, 0))[1] for row in taken for step in row)),
        )
        for key in keys
    )


def _memory(subject: Subject, m: int) -> dict[str, tuple[float, float]]:
    """Bytes allocated and peak by phase: medians over the steps without the first one, which fills lists."""
    with closed_after(subject.make()) as instance, MemoryWatch(instance) as watch:
        taken = []
        for index in islice(subject.walk(m), MEMORY_STEPS):
            instance.train_step(subject.X, subject.Y, index)
            taken.append(watch.take())
    return {
        name: (
            float(np.median([step[name].bytes_allocated for step in taken[1:]])),
            float(np.median([step[name].peak_bytes for step in taken[1:]])),
        )
        for name in taken[-1]
    }


def _faults(subject: Subject, m: int, steps: int) -> dict[str, float]:
    """Minor page faults per step by phase: means over the steps of a warm instance."""
    if page_faults() is None:
        return {}
    with closed_after(subject.make()) as instance:
        count = PhaseClock(instance, lambda: page_faults() or 0)
        indices = subject.walk(m)
        for _ in ("warming up", "counted"):
            count.take()
            for index in islice(indices, steps):
                instance.train_step(subject.X, subject.Y, index)
        return {name: faults / steps for name, faults in count.take().items()}


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Collect no garbage inside a timed block, but before it."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
