"""What takes turns in a race, with a clock that only the runs move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mlpprof.catalog import find
from mlpprof.compare.steppers import EpochStepper, FunctionStepper, VariantStepper
from mlpprof.errors import VariantCrash
from mlpprof.profile.passes import Subject


class Steps:
    """A training step of 2 ms."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.indices: list[Any] = []
        self.closed = 0

    def train_step(self, X: Any, Y: Any, index: Any) -> float:
        self.clock.advance(0.002)
        self.indices.append(index)
        return 0.0

    def close(self) -> None:
        self.closed += 1


def variant(clock: Any, instance: Any) -> VariantStepper:
    subject = Subject(np.zeros((10, 3)), np.zeros((10, 2)), 0, lambda: instance, lambda _: instance)
    return VariantStepper(find("cached"), subject, 5)


def test_a_variant_s_turn_is_seconds_a_step_over_the_next_batches(clock):
    instance = Steps(clock)
    stepper = variant(clock, instance)
    assert stepper.turn(4, clock) == pytest.approx(0.002)
    assert stepper.turn(2, clock) == pytest.approx(0.002)
    epochs = np.array([np.concatenate(instance.indices[i : i + 2]) for i in (0, 2, 4)])
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert stepper.warm_up(clock) == pytest.approx(0.002)
    stepper.close()
    assert instance.closed == 1


class Window:
    """A stream that lets two batches be drawn together, and charges 1 ms for each."""

    def __init__(self) -> None:
        self.charged_s = 0.0

    def together(self, m: int) -> int:
        return 2

    def walk(self, m: int) -> Iterator[Any]:
        while True:
            self.charged_s += 0.001
            yield np.arange(m)


@pytest.mark.parametrize("spans_steps", [False, True])
def test_a_step_from_a_stream_contains_its_share_of_waiting_and_no_more_batches_are_drawn_than_may_be(
    clock, spans_steps
):
    instance = Steps(clock)
    trained: list[int] = []
    if spans_steps:

        def train(X: Any, Y: Any, indices: Any) -> None:
            trained.append(len(indices))
            clock.advance(0.002 * len(indices))

        instance.train = train  # type: ignore[attr-defined]
    stream: Any = Window()
    subject = Subject(np.zeros((10, 3)), np.zeros((10, 2)), 0, lambda: instance, lambda _: instance, stream)
    stepper = VariantStepper(find("cached"), subject, 5)
    assert stepper.turn(5, clock) == pytest.approx(0.003)
    assert stepper.turn(3, clock) == pytest.approx(0.003)
    untimed = [2, 1]  # each length once, before it is timed for the first time
    assert sorted(trained) == (sorted([2, 2, 1, 2, 1, *untimed]) if spans_steps else [])


def test_an_exception_in_a_turn_is_the_variant_s_crash(clock):
    instance = Steps(clock)
    instance.train_step = lambda X, Y, index: 1 / 0
    stepper = variant(clock, instance)
    with pytest.raises(VariantCrash, match="ZeroDivisionError"):
        stepper.turn(1, clock)


def test_a_function_gets_fresh_arguments_made_outside_the_clock(clock):
    made, seen = [], []

    def make_arguments() -> list[Any]:
        clock.advance(10.0)
        made.append(object())
        return [made[-1]]

    def function(argument: Any) -> None:
        clock.advance(0.003)
        seen.append(argument)

    stepper = FunctionStepper(function, make_arguments)
    assert stepper.turn(5, clock) == pytest.approx(0.003)
    assert seen == made
    assert len(made) == 5


@pytest.mark.parametrize(("seconds", "calls"), [(0.001, 20), (0.1, 6), (1.0, 3)])
def test_a_function_is_warmed_up_by_a_few_calls(clock, seconds, calls):
    done = []

    def function() -> None:
        clock.advance(seconds)
        done.append(1)

    assert FunctionStepper(function, list).warm_up(clock) == pytest.approx(seconds)
    assert len(done) in (calls, calls - 1)


@pytest.mark.parametrize(("steps", "seen"), [(2, list(range(10))), (1, None)])
def test_an_epoch_visits_every_sample_once_and_a_part_of_one_draws_samples(clock, steps, seen):
    instance = Steps(clock)
    subject = Subject(np.zeros((10, 3)), np.zeros((10, 2)), 0, lambda: instance, lambda _: instance)
    stepper = EpochStepper(find("cached"), subject, 5, steps)
    assert stepper.turn(3, clock) == pytest.approx(0.002 * steps)
    assert [len(index) for index in instance.indices] == [5] * (3 * steps)
    if seen is not None:
        assert sorted(np.concatenate(instance.indices[:2])) == seen


def test_a_full_batch_is_not_shuffled(clock):
    instance = Steps(clock)
    subject = Subject(np.zeros((10, 3)), np.zeros((10, 2)), 0, lambda: instance, lambda _: instance)
    EpochStepper(find("cached"), subject, 10, 1).turn(1, clock)
    assert list(instance.indices[0]) == list(range(10))
