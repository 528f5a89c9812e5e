"""The interleaved passes, with a clock that only the variant's own work moves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlpprof.catalog import find, load, module_of
from mlpprof.errors import VariantError
from mlpprof.instrument.clocks import instrumented_module
from mlpprof.model import PHASES, Network
from mlpprof.profile.passes import (
    BLOCK_S,
    BUDGET_S,
    ROUNDS,
    SLOW_ROUNDS,
    SLOW_STEP_S,
    WARMUP_S,
    WARMUP_WINDOW,
    Subject,
    TimedPass,
    batches,
    paused_garbage_collection,
    profile_batch,
    rounds_and_steps,
    warm_up,
)

SOURCE = '''
class MLP:
    """Phases of 1, 2, 0, 4 and 1 ms; two layers forward of 1 ms each, of which half is labelled."""

    def __init__(self, world):
        self.world = world
        self.seen = []

    def work(self, ms):
        self.world.clock.advance(ms / 1000)

    def fetch_batch(self, X, Y, index):
        self.seen.append(index)
        self.work(1)  # phase: gather

    def forward(self):
        for l in (1, 2):
            self.work(0.5)  # phase: weighted sum
            self.work(0.5)

    def loss(self):
        return len(self.seen)

    def backward(self):
        self.work(4)  # phase: gradient

    def update(self):
        self.work(1)  # phase: descend
        self.work(0)  # phase: descend

    def train_step(self, X, Y, index):
        self.world.log.append(self)
        self.world.collecting.append(self.world.gc_enabled())
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def close(self):
        self.world.closed.append(self)
'''

FUSED = SOURCE.replace(
    "        self.backward()\n        self.update()\n        return loss",
    "        self.work(5)  # phase: fused\n        return loss",
)
TELLING = (
    FUSED
    + """
    def phase_seconds(self):
        return {"fetch_batch": 0.001, "forward": 0.002, "loss": 0.0, "backward": 0.003, "update": 0.002}
"""
)


class World:
    """What a variant of the test can see and do."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.log: list[Any] = []
        self.closed: list[Any] = []
        self.made: list[Any] = []
        self.collecting: list[bool] = []
        self.gc_enabled = gc.isenabled

    def subject(self, source: str = SOURCE, seed: int = 0) -> Subject:
        module = ModuleType("mine")
        module.__file__ = "mine.py"
        exec(source, vars(module))

        def keep(instance: Any) -> Any:
            self.made.append(instance)
            return instance

        return Subject(
            X=np.zeros((10, 3)),
            Y=np.zeros((10, 2)),
            seed=seed,
            make=lambda: keep(module.MLP(self)),
            make_labelled=lambda label_clock: keep(instrumented_module(module, source, label_clock).MLP(self)),
        )


@pytest.fixture
def world(clock: Any) -> World:
    return World(clock)


def quiet(what: str, share: float) -> None:
    pass


def total_pass(subject: Subject, clock: Any) -> TimedPass:
    return TimedPass(subject, subject.make(), subject.walk(4), lambda: None, clock)


# Plans


@given(st.floats(1e-7, 1e3), st.integers(1, 10_000))
@example(1e-6, 9973)
@example(BLOCK_S, 1)
def test_given_steps_are_taken_exactly(step_s, steps):
    rounds, in_round = rounds_and_steps(step_s, steps)
    assert rounds * in_round == steps
    assert rounds >= 1
    assert in_round == 1 or (in_round - 1) * step_s < BLOCK_S


def test_given_steps_make_blocks_as_long_as_needed_where_they_divide():
    assert rounds_and_steps(0.001, 600) == (40, 15)
    assert rounds_and_steps(0.001, 7) == (1, 7)
    assert rounds_and_steps(0.001, 17) == (17, 1)
    assert rounds_and_steps(1.0, 20) == (20, 1)


@given(st.floats(1e-7, SLOW_STEP_S))
def test_without_given_steps_blocks_are_long_enough_and_the_budget_holds(step_s):
    rounds, in_round = rounds_and_steps(step_s, None)
    block_s = in_round * step_s
    assert block_s >= BLOCK_S * (1 - 1e-9)
    assert block_s < BLOCK_S + step_s * (1 + 1e-9)
    fewest, most = ROUNDS
    assert fewest <= rounds <= most
    assert rounds == fewest or 3 * rounds * block_s <= BUDGET_S * (1 + 1e-9)


@given(st.floats(SLOW_STEP_S, 1e4, exclude_min=True))
def test_a_slow_step_gets_the_fewest_rounds_of_one_step(step_s):
    assert rounds_and_steps(step_s, None) == (SLOW_ROUNDS, 1)


# Warm-up


def durations(clock: Any, milliseconds: Iterator[float]) -> Subject:
    """A subject whose steps take these times."""

    class Steps:
        def train_step(self, X: object, Y: object, index: object) -> float:
            clock.advance(next(milliseconds) / 1000)
            return 0.0

    return Subject(np.zeros((10, 3)), np.zeros((10, 2)), 0, Steps, lambda _: Steps())


def test_warm_up_ends_when_two_windows_of_steps_agree(clock):
    timed = total_pass(durations(clock, iter([5.0] * 1000)), clock)
    assert warm_up(timed, clock) == (2 * WARMUP_WINDOW, pytest.approx(0.005))


def test_warm_up_goes_on_while_steps_get_faster(clock):
    falling = [20.0, 18, 16, 14, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    steps, fastest = warm_up(total_pass(durations(clock, iter(falling + [1.0] * 1000)), clock), clock)
    assert 2 * WARMUP_WINDOW < steps <= len(falling) + 2 * WARMUP_WINDOW
    assert fastest == pytest.approx(0.001)


def test_warm_up_is_not_held_up_by_single_outliers(clock):
    steps, _ = warm_up(total_pass(durations(clock, iter(([5.0] * 4 + [80.0]) * 100)), clock), clock)
    assert steps == 2 * WARMUP_WINDOW


def test_warm_up_ends_after_half_a_second_at_the_latest(clock):
    restless = (10.0 * 2**i for i in range(100))
    steps, _ = warm_up(total_pass(durations(clock, restless), clock), clock)
    assert steps < 2 * WARMUP_WINDOW
    assert clock.now > WARMUP_S


def test_a_first_step_that_sends_data_or_compiles_is_not_taken_for_the_time_of_a_step(clock):
    first_is_slow = [1000.0] + [2.0] * 1000
    steps, fastest = warm_up(total_pass(durations(clock, iter(first_is_slow)), clock), clock)
    assert steps > 1
    assert fastest == pytest.approx(0.002)


def test_a_slow_step_is_warmed_up_once(clock):
    assert warm_up(total_pass(durations(clock, iter([3000.0] * 10)), clock), clock) == (1, pytest.approx(3.0))


# One pass


def test_a_pass_keeps_a_row_a_block_and_what_its_instrument_took(clock, world):
    taken = iter(range(100))
    subject = world.subject()
    timed = TimedPass(subject, subject.make(), subject.walk(4), lambda: next(taken), clock)
    timed.block(2)
    timed.block(3)
    assert [len(row) for row in timed.step_s] == [2, 3]
    assert timed.step_s[1] == pytest.approx([0.008] * 3)
    assert timed.taken == [[0, 1], [2, 3, 4]]
    assert timed.losses == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_walk_of_a_subject_is_the_batches_of_its_seed(world):
    for one, other in islice(zip(world.subject(seed=3).walk(4), batches(10, 4, 3), strict=True), 10):
        assert np.array_equal(one, other)


# All passes of a batch size


def test_phases_add_up_to_the_step_and_are_those_of_the_variant(clock, world):
    result = profile_batch(world.subject(), 4, 12, quiet, clock)
    assert result.separable
    assert list(result.phases) == list(PHASES)
    medians = [result.phase_s(name) for name in PHASES]
    assert medians == pytest.approx([0.001, 0.002, 0.0, 0.004, 0.001], abs=1e-9)
    assert result.step_s.median == pytest.approx(0.008)
    assert result.phases_over_total == pytest.approx(1.0)
    assert result.phases_disturbance == pytest.approx(1.0)
    assert result.labels_disturbance == pytest.approx(1.0)
    assert result.phase_share("backward") == pytest.approx(0.5)
    assert result.epoch_s.median == pytest.approx(0.024)  # 10 samples by 4 make 3 steps


def test_labels_are_reported_by_phase_and_layer_with_their_calls(clock, world):
    result = profile_batch(world.subject(), 4, 12, quiet, clock)
    seen = {(label.phase, label.layer, label.label): label for label in result.labels}
    assert {key: (round(float(np.median(label.step_s)), 9), label.calls) for key, label in seen.items()} == {
        ("fetch_batch", None, "gather"): (0.001, 1),
        ("forward", 1, "weighted sum"): (0.0005, 1),
        ("forward", 2, "weighted sum"): (0.0005, 1),
        ("backward", None, "gradient"): (0.004, 1),
        ("update", None, "descend"): (0.001, 2),
    }
    assert result.label_share(seen["backward", None, "gradient"]) == pytest.approx(0.5)


def test_every_array_of_samples_has_the_rounds_and_steps_of_the_plan(clock, world):
    result = profile_batch(world.subject(), 4, 12, quiet, clock)
    shape = result.total_s.shape
    assert shape == rounds_and_steps(0.008, 12) == (6, 2)
    arrays = [result.phases_pass_s, result.labels_pass_s, *(p.step_s for p in result.phases.values())]
    assert {array.shape for array in (*arrays, *(label.step_s for label in result.labels))} == {shape}
    assert result.losses.shape == (12,)
    assert (result.batch, result.steps_per_epoch, result.warmup_steps) == (4, 3, 10)


def test_the_losses_are_those_of_the_plain_instance_after_its_warm_up(clock, world):
    result = profile_batch(world.subject(), 4, 12, quiet, clock)
    assert result.losses.tolist() == list(range(11, 23))


def test_the_same_subject_and_clock_give_the_same_result(fake_clock):
    first, second = (profile_batch(World(c).subject(), 4, 12, quiet, c) for c in (fake_clock(), fake_clock()))
    assert np.array_equal(first.total_s, second.total_s)
    assert [label.step_s.tolist() for label in first.labels] == [label.step_s.tolist() for label in second.labels]


def test_the_passes_take_turns_in_an_order_that_is_reversed_from_round_to_round(clock, world):
    profile_batch(world.subject(), 4, 12, quiet, clock)
    plain, phased, labelled = world.made[:3]
    names = {id(plain): "total", id(phased): "phases", id(labelled): "labels"}
    warmed_up = 3 * 2 * WARMUP_WINDOW
    turns = [names[id(instance)] for instance in world.log[warmed_up : warmed_up + 3 * 12 : 2]]
    assert turns == ["total", "phases", "labels", "labels", "phases", "total"] * 3


def test_every_pass_walks_through_the_same_batches(clock, world):
    profile_batch(world.subject(), 4, 12, quiet, clock)
    plain, phased, labelled = (instance.seen for instance in world.made[:3])
    assert len(plain) == len(phased) == len(labelled) == 2 * WARMUP_WINDOW + 12
    assert all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(plain, phased, labelled, strict=True))


def test_nothing_is_collected_while_steps_are_timed_and_all_is_as_before_afterwards(clock, world):
    assert gc.isenabled()
    profile_batch(world.subject(), 4, 12, quiet, clock)
    assert gc.isenabled()
    assert not any(world.collecting[: 3 * (2 * WARMUP_WINDOW + 12)])


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_left_as_it_was_found_also_after_an_exception(enabled):
    try:
        if not enabled:
            gc.disable()
        with pytest.raises(ZeroDivisionError), paused_garbage_collection():
            assert not gc.isenabled()
            _ = 1 / 0
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_every_instance_is_closed_once(clock, world):
    profile_batch(world.subject(), 4, 12, quiet, clock)
    assert sorted(map(id, world.closed)) == sorted(map(id, world.made))


def test_every_instance_is_closed_also_when_a_step_raises(clock, world):
    failing = SOURCE.replace("return len(self.seen)", "return 1 / (len(self.seen) - 13)")
    with pytest.raises(ZeroDivisionError):
        profile_batch(world.subject(failing), 4, 12, quiet, clock)
    assert sorted(map(id, world.closed)) == sorted(map(id, world.made))


def test_every_instance_is_closed_also_when_an_instrument_cannot_be_attached(clock, world):
    slotted = SOURCE.replace("class MLP:", "class MLP:\n    __slots__ = ('world', 'seen')\n")
    with pytest.raises(VariantError, match="__slots__"):
        profile_batch(world.subject(slotted), 4, 12, quiet, clock)
    assert sorted(map(id, world.closed)) == sorted(map(id, world.made))


def test_progress_rises_from_0_and_never_passes_1(clock, world):
    seen: list[tuple[str, float]] = []
    profile_batch(world.subject(), 4, 12, lambda what, share: seen.append((what, share)), clock)
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] < 1
    assert [what for what, _ in seen] == ["warming up", *["timing"] * 6, "memory"]


def test_a_fused_step_is_not_separable_and_no_phase_is_guessed(clock, world):
    result = profile_batch(world.subject(FUSED), 4, 12, quiet, clock)
    assert not result.separable
    assert result.phases == {}
    assert result.phases_over_total is None
    assert result.phases_disturbance is None
    assert result.step_s.median == pytest.approx(0.008)
    assert ("train_step", None, "fused") in {(label.phase, label.layer, label.label) for label in result.labels}


def test_a_fused_step_that_reports_its_phases_is_believed(clock, world):
    result = profile_batch(world.subject(TELLING), 4, 12, quiet, clock)
    assert result.separable
    assert [result.phase_s(name) for name in PHASES] == [0.001, 0.002, 0.0, 0.003, 0.002]
    assert result.phases_over_total == pytest.approx(1.0)


def test_a_variant_without_labels_has_none(clock, world):
    bare = "\n".join(line.partition("  # phase")[0] for line in SOURCE.splitlines())
    result = profile_batch(world.subject(bare), 4, 12, quiet, clock)
    assert result.labels == ()
    assert result.labels_disturbance is None


def test_instruments_that_slow_a_step_down_are_found_out(world, fake_clock):
    clock = fake_clock(tick=0.0005)  # every reading of the clock costs half a millisecond
    world.clock = clock
    result = profile_batch(world.subject(), 4, 12, quiet, clock)
    # total: 1 reading within the step; phases: 2 a phase more; labels: 2 a label more
    assert result.step_s.median == pytest.approx(0.0085)
    assert result.phases_disturbance == pytest.approx((8.5 + 10 * 0.5) / 8.5)
    assert result.labels_disturbance == pytest.approx((8.5 + 12 * 0.5) / 8.5)
    assert result.phases_over_total == pytest.approx((8 + 5 * 0.5) / 13.5)


def test_memory_and_faults_of_a_rung_are_reported_by_phase(tiny, ticking_clock):
    entry = find("cached")
    cls = load(entry)
    network = Network((20, 8, 5, 3))
    X, Y = (np.tile(values, (20, 1)) for values in tiny)  # 6000 samples: large arrays beside small objects
    source = entry.source()

    def make(module: Any = cls) -> Any:
        return module(network, network.initial_parameters(0))

    subject = Subject(X, Y, 0, make, lambda c: make(instrumented_module(module_of(cls), source, c).MLP))
    result = profile_batch(subject, 6000, 10, quiet, ticking_clock)
    gathered = 6000 * (20 + 3) * 8
    assert result.phases["fetch_batch"].bytes_allocated == pytest.approx(gathered, rel=0.1)
    stacked = 6000 * (21 + 9 + 6) * 8
    computed = 6000 * (8 + 5 + 3) * 8
    # A_bias, Z and A of every layer; what the sigmoid needs beside
    assert result.phases["forward"].bytes_allocated == pytest.approx(stacked + 2 * computed, rel=0.25)
    assert result.phases["update"].bytes_allocated < gathered / 10
    for phase in result.phases.values():
        assert 0 <= phase.peak_bytes <= phase.bytes_allocated
        assert phase.page_faults is None or phase.page_faults >= 0


def test_a_batch_of_all_samples_and_a_batch_of_one_are_profiled(clock, world):
    subject = replace(world.subject())
    assert profile_batch(subject, 10, 4, quiet, clock).steps_per_epoch == 1
    assert profile_batch(subject, 1, 4, quiet, clock).steps_per_epoch == 10
