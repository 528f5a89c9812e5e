"""All measuring of what cures save has one budget: large operations run once, and an end comes to it."""

from __future__ import annotations

import pytest

from mlpprof.programs.record import replay
from mlpprof.programs.record.replay import Budget, saved_share, seconds_of


@pytest.fixture
def budget(monkeypatch):
    """A budget of ten seconds, of this test alone."""
    held = Budget(left_s=10.0)
    monkeypatch.setattr(replay, "BUDGET", held)
    return held


class Lasting:
    """An action that takes some seconds, and counts how often it is done."""

    def __init__(self, clock, seconds):
        self._clock, self._seconds = clock, seconds
        self.times = 0

    def __call__(self):
        self.times += 1
        self._clock.advance(self._seconds)


def test_a_large_operation_is_performed_once_and_said_to_save_a_little_less(clock, budget):
    slow, fast = Lasting(clock, 0.5), Lasting(clock, 0.2)
    low, high = saved_share(slow, fast, clock)
    assert (slow.times, fast.times) == (1, 1)
    assert (low, high) == pytest.approx((0.55, 0.6))
    assert budget.left_s == pytest.approx(9.3)
    once = Lasting(clock, 0.5)
    assert seconds_of(once, clock) == pytest.approx(0.5)
    assert once.times == 1


def test_nothing_is_said_to_be_saved_when_the_budget_is_spent(clock, budget):
    slow, fast = Lasting(clock, 4.0), Lasting(clock, 2.0)
    assert [saved_share(slow, fast, clock)[1] for _ in range(4)] == pytest.approx([0.5, 0.5, 0, 0])
    assert budget.left_out == 2
    assert slow.times == 2


def test_the_less_is_left_the_fewer_pairs_are_made(clock, budget):
    slow = Lasting(clock, 0.01)
    saved_share(slow, Lasting(clock, 0.005), clock)
    before, slow.times, budget.left_s = slow.times, 0, 2.5
    saved_share(slow, Lasting(clock, 0.005), clock)
    assert 3 < slow.times < before


def test_a_part_of_the_budget_leaves_the_rest(clock, budget):
    with budget.part(0.7):
        assert budget.left_s == pytest.approx(7)
        saved_share(Lasting(clock, 5.0), Lasting(clock, 4.0), clock)
        assert saved_share(Lasting(clock, 5.0), Lasting(clock, 4.0), clock) == (0.0, 0.0)
    assert budget.left_s == pytest.approx(1)
