"""Interleaved blocks with a clock that only the entrants move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlpprof.compare.race import SLOW_BLOCKS, TURN_S, race


class Steady:
    """An entrant of fixed speed that remembers its turns."""

    def __init__(self, name: str, seconds: float, log: list[tuple[str, int]], drift: Any = lambda: 0.0) -> None:
        self.name, self.seconds, self.log, self.drift = name, seconds, log, drift

    def warm_up(self, clock: Any) -> float:
        return self.seconds

    def turn(self, runs: int, clock: Any) -> float:
        self.log.append((self.name, runs))
        return self.seconds + self.drift()

    def close(self) -> None: ...


def quiet(what: str, share: float) -> None:
    pass


def test_a_block_is_an_order_and_its_reverse(clock):
    log: list[tuple[str, int]] = []
    race([Steady(name, 0.1, log) for name in "abc"], 6, 0, quiet, clock)
    blocks = ["".join(name for name, _ in log[i : i + 6]) for i in range(0, len(log), 6)]
    assert len(blocks) == 6
    assert all(block == block[::-1] and set(block[:3]) == set("abc") for block in blocks)
    assert len(set(blocks)) > 1  # the order is drawn anew


def test_every_turn_has_its_place_by_block_entrant_and_way(clock):
    log: list[tuple[str, int]] = []
    seconds = race([Steady("a", 0.1, log), Steady("b", 0.2, log)], 4, 0, quiet, clock)
    assert seconds.shape == (4, 2, 2)
    assert (seconds[:, 0] == 0.1).all()
    assert (seconds[:, 1] == 0.2).all()


def test_a_turn_repeats_the_step_until_it_lasts_long_enough(clock):
    log: list[tuple[str, int]] = []
    race([Steady("fast", TURN_S / 10, log), Steady("slow", 2 * TURN_S, log)], 1, 0, quiet, clock)
    assert set(log) == {("fast", 10), ("slow", 1)}


def test_a_drift_that_is_linear_in_the_turns_cancels_in_every_block(clock):
    log: list[tuple[str, int]] = []
    seconds = race([Steady(name, 0.1, log, lambda: 0.01 * len(log)) for name in "abc"], 5, 0, quiet, clock)
    means = seconds.mean(axis=2)
    assert np.allclose(means, means[:, :1], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("slow_s", "rarely"), [(0.6, ()), (0.1, (1,))])
def test_an_entrant_that_is_slow_or_not_judged_takes_part_in_the_first_blocks_only(clock, slow_s, rarely):
    log: list[tuple[str, int]] = []
    seconds = race([Steady("fast", 0.1, log), Steady("other", slow_s, log)], 5, 0, quiet, clock, rarely=rarely)
    assert not np.isnan(seconds[:, 0]).any()
    assert not np.isnan(seconds[:SLOW_BLOCKS, 1]).any()
    assert np.isnan(seconds[SLOW_BLOCKS:, 1]).all()


def test_the_same_seed_gives_the_same_order(clock):
    orders = []
    for seed in (1, 1, 2):
        log: list[tuple[str, int]] = []
        race([Steady(name, 0.1, log) for name in "abcd"], 5, seed, quiet, clock)
        orders.append(log)
    assert orders[0] == orders[1] != orders[2]


def test_progress_rises_and_stays_below_1(clock):
    shown: list[float] = []
    race([Steady("a", 0.1, [])], 4, 0, lambda what, share: shown.append(share), clock)
    assert shown == sorted(shown)
    assert 0 == shown[0] < shown[-1] < 1
