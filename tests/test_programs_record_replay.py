"""What a faster form saves of an operation that is performed again."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from mlpprof.programs.record.replay import nothing_if_impossible, of_time, saved_share


def test_the_saved_share_is_that_of_interleaved_pairs(clock):
    done = []

    def slow():
        done.append("slow")
        clock.advance(4e-3)

    def fast():
        done.append("fast")
        clock.advance(1e-3)

    low, high = saved_share(slow, fast, clock)
    assert (low, high) == pytest.approx((0.75, 0.75))
    assert Counter(done)["fast"] >= 4
    assert [name for name, _ in groupby(done[3:])] == ["fast", "slow"] * ((len(done) - 3) // 2)
    assert gc.isenabled()


def test_a_cure_that_is_slower_saves_nothing(clock):
    share = saved_share(lambda: clock.advance(1e-3), lambda: clock.advance(3e-3), clock)
    assert share == pytest.approx((-2.0, -2.0))
    assert of_time(share, 0.5) == (0.0, 0.0)
    assert of_time((0.25, 0.5), 2.0) == (0.5, 1.0)


def test_an_operation_that_fails_when_it_is_repeated_saves_nothing_and_ends_nothing(clock):
    def fail():
        raise ValueError("shapes")

    assert saved_share(fail, lambda: None, clock) == (0.0, 0.0)
    assert gc.isenabled()


def test_what_is_done_before_the_slow_one_is_not_timed(clock):
    share = saved_share(lambda: clock.advance(2e-3), lambda: clock.advance(1e-3), clock, lambda: clock.advance(9))
    assert share == pytest.approx((0.5, 0.5))


def test_an_operation_that_cannot_be_performed_again_saves_nothing_and_stops_nothing():
    @nothing_if_impossible
    def saved(shape):
        return np.broadcast_shapes(shape, (3,))[0], 1.0

    assert [saved(shape) for shape in ((3,), (2,))] == [(3, 1.0), (0.0, 0.0)]
