"""Clocks on the five phases."""

from __future__ import annotations

import pytest

from mlpprof.errors import VariantError
from mlpprof.instrument.clocks import PhaseClock
from mlpprof.model import PHASES


class Steps:
    """A step whose phases take 1, 2, 4, 8 and 16 seconds of a fake clock."""

    def __init__(self, clock):
        self.clock = clock

    def fetch_batch(self, X, Y, index):
        self.clock.advance(1)
        return (X, Y, index)

    def forward(self):
        self.clock.advance(2)

    def loss(self):
        self.clock.advance(4)
        return 0.25

    def backward(self):
        self.clock.advance(8)

    def update(self):
        self.clock.advance(16)

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss


def test_every_phase_gets_its_own_seconds_and_the_step_its_loss(clock):
    instance = Steps(clock)
    phases = PhaseClock(instance, clock)
    assert instance.train_step(1, 2, 3) == 0.25
    assert phases.take() == dict(zip(PHASES, (1.0, 2.0, 4.0, 8.0, 16.0), strict=True))


def test_arguments_and_values_pass_through_the_clock(clock):
    instance = Steps(clock)
    PhaseClock(instance, clock)
    assert instance.fetch_batch(1, 2, 3) == (1, 2, 3)
    assert instance.loss() == 0.25


def test_take_reads_and_clears(clock):
    instance = Steps(clock)
    phases = PhaseClock(instance, clock)
    instance.train_step(1, 2, 3)
    phases.take()
    assert phases.take() == dict.fromkeys(PHASES, 0.0)
    instance.train_step(1, 2, 3)
    assert phases.take()["update"] == 16.0


def test_a_phase_that_is_called_twice_in_a_step_is_summed(clock):
    instance = Steps(clock)
    phases = PhaseClock(instance, clock)
    instance.train_step(1, 2, 3)
    instance.forward()
    assert phases.take()["forward"] == 4.0


def test_time_between_the_phases_belongs_to_none(clock):
    instance = Steps(clock)
    phases = PhaseClock(instance, clock)
    instance.forward()
    clock.advance(100)
    instance.update()
    assert sum(phases.take().values()) == 18.0


def test_the_clock_is_complete_once_every_phase_was_called(clock):
    instance = Steps(clock)
    phases = PhaseClock(instance, clock)
    for method in (lambda: instance.fetch_batch(1, 2, 3), instance.forward, instance.loss, instance.backward):
        method()
        assert not phases.complete
    instance.update()
    assert phases.complete
    phases.take()
    assert phases.complete


def test_only_the_watched_instance_is_clocked(clock):
    watched, other = Steps(clock), Steps(clock)
    phases = PhaseClock(watched, clock)
    other.train_step(1, 2, 3)
    assert phases.take() == dict.fromkeys(PHASES, 0.0)
    assert "forward" not in vars(other)


def test_two_clock_readings_a_phase_are_all_that_is_added(ticking_clock):
    instance = Steps(ticking_clock)
    PhaseClock(instance, ticking_clock)
    instance.train_step(1, 2, 3)
    assert ticking_clock.readings == 2 * len(PHASES)


@pytest.mark.parametrize("slots", [("clock",), ()])
def test_a_class_with_slots_is_told_what_to_change(clock, slots):
    body = {"__slots__": slots, **{name: lambda self: None for name in PHASES}}
    instance = type("Slotted", (), body)()
    with pytest.raises(VariantError) as caught:
        PhaseClock(instance, clock)
    assert "class Slotted forbids new attributes (__slots__)" in str(caught.value)
    assert "add '__dict__'" in str(caught.value)


def test_a_class_whose_slots_hold_a_dict_is_clocked(clock):
    body = {"__slots__": ("__dict__",), **{name: lambda self: None for name in PHASES}}
    instance = type("Slotted", (), body)()
    PhaseClock(instance, clock)
    assert instance.forward() is None
