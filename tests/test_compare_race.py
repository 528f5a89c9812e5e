"""Interleaved blocks with a clock that only the contestants move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlpprof.catalog import find
from mlpprof.compare.race import SLOW_BLOCKS, TURN_S, CallableContestant, VariantContestant, race
from mlpprof.errors import VariantCrash
from mlpprof.profile.passes import Subject


class Runner:
    """A contestant of fixed speed that remembers its turns."""

    def __init__(self, name: str, seconds: float, log: list[tuple[str, int]], drift: Any = lambda: 0.0) -> None:
        self.name, self.seconds, self.log, self.drift = name, seconds, log, drift

    def warm_up(self, clock: Any) -> float:
        return self.seconds

    def turn(self, runs: int, clock: Any) -> float:
        self.log.append((self.name, runs))
        return self.seconds + self.drift()


def quiet(what: str, share: float) -> None:
    pass


def test_a_block_is_an_order_and_its_reverse(clock):
    log: list[tuple[str, int]] = []
    race([Runner(name, 0.1, log) for name in "abc"], 6, 0, quiet, clock)
    blocks = ["".join(name for name, _ in log[i : i + 6]) for i in range(0, len(log), 6)]
    assert len(blocks) == 6
    assert all(block == block[::-1] and set(block[:3]) == set("abc") for block in blocks)
    assert len(set(blocks)) > 1  # the order is drawn anew


def test_every_turn_has_its_place_by_block_contestant_and_way(clock):
    log: list[tuple[str, int]] = []
    seconds = race([Runner("a", 0.1, log), Runner("b", 0.2, log)], 4, 0, quiet, clock)
    assert seconds.shape == (4, 2, 2)
    assert (seconds[:, 0] == 0.1).all()
    assert (seconds[:, 1] == 0.2).all()


def test_a_turn_repeats_the_step_until_it_lasts_long_enough(clock):
    log: list[tuple[str, int]] = []
    race([Runner("fast", TURN_S / 10, log), Runner("slow", 2 * TURN_S, log)], 1, 0, quiet, clock)
    assert set(log) == {("fast", 10), ("slow", 1)}


def test_a_drift_that_is_linear_in_the_turns_cancels_in_every_block(clock):
    log: list[tuple[str, int]] = []
    seconds = race([Runner(name, 0.1, log, lambda: 0.01 * len(log)) for name in "abc"], 5, 0, quiet, clock)
    means = seconds.mean(axis=2)
    assert np.allclose(means, means[:, :1], rtol=1e-12, atol=0)


def test_a_slow_contestant_takes_part_in_the_first_blocks_only(clock):
    log: list[tuple[str, int]] = []
    seconds = race([Runner("fast", 0.1, log), Runner("slow", 0.6, log)], 5, 0, quiet, clock)
    assert not np.isnan(seconds[:, 0]).any()
    assert not np.isnan(seconds[:SLOW_BLOCKS, 1]).any()
    assert np.isnan(seconds[SLOW_BLOCKS:, 1]).all()


def test_the_same_seed_gives_the_same_order(clock):
    orders = []
    for seed in (1, 1, 2):
        log: list[tuple[str, int]] = []
        race([Runner(name, 0.1, log) for name in "abcd"], 5, seed, quiet, clock)
        orders.append(log)
    assert orders[0] == orders[1] != orders[2]


def test_progress_rises_and_stays_below_1(clock):
    told: list[float] = []
    race([Runner("a", 0.1, [])], 4, 0, lambda what, share: told.append(share), clock)
    assert told == sorted(told)
    assert 0 == told[0] < told[-1] < 1


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


def variant(clock: Any, instance: Any) -> VariantContestant:
    subject = Subject(np.zeros((10, 3)), np.zeros((10, 2)), 0, lambda: instance, lambda _: instance)
    return VariantContestant(find("cached"), subject, 5)


def test_a_variant_s_turn_is_seconds_a_step_over_the_next_batches(clock):
    instance = Steps(clock)
    contestant = variant(clock, instance)
    assert contestant.turn(4, clock) == pytest.approx(0.002)
    assert contestant.turn(2, clock) == pytest.approx(0.002)
    epochs = np.array([np.concatenate(instance.indices[i : i + 2]) for i in (0, 2, 4)])
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert contestant.warm_up(clock) == pytest.approx(0.002)
    contestant.close()
    assert instance.closed == 1


def test_an_exception_in_a_turn_is_the_variant_s_crash(clock):
    instance = Steps(clock)
    instance.train_step = lambda X, Y, index: 1 / 0
    contestant = variant(clock, instance)
    with pytest.raises(VariantCrash, match="ZeroDivisionError"):
        contestant.turn(1, clock)


def test_a_function_gets_fresh_arguments_made_outside_the_clock(clock):
    made, seen = [], []

    def make_arguments() -> list[Any]:
        clock.advance(10.0)
        made.append(object())
        return [made[-1]]

    def function(argument: Any) -> None:
        clock.advance(0.003)
        seen.append(argument)

    contestant = CallableContestant(function, make_arguments)
    assert contestant.turn(5, clock) == pytest.approx(0.003)
    assert seen == made
    assert len(made) == 5


@pytest.mark.parametrize(("seconds", "calls"), [(0.001, 20), (0.1, 6), (1.0, 3)])
def test_a_function_is_warmed_up_by_a_few_calls(clock, seconds, calls):
    done = []

    def function() -> None:
        clock.advance(seconds)
        done.append(1)

    assert CallableContestant(function, list).warm_up(clock) == pytest.approx(seconds)
    assert len(done) in (calls, calls - 1)
