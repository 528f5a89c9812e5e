"""The gate with racers of known ratio and a clock that only they move."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mlpprof.compare import NullResult
from mlpprof.compare.verdict import UNGATED_REPLICATES, log_ratios, measure
from mlpprof.results import Race


class FakeRacer:
    """Every replicate takes 10 s of the fake clock; old over new is `ratio`, alternating by `scatter` in logarithms."""

    def __init__(self, clock: Any, ratio: float, scatter: float = 0.0) -> None:
        self.clock, self.ratio, self.scatter = clock, ratio, scatter
        self.turns_s: list[np.ndarray] = []

    def run(self, progress: Any) -> None:
        self.clock.advance(10.0)
        sign = 1 if len(self.turns_s) % 2 else -1
        turns_s = np.ones((4, 2, 2))
        turns_s[:, 0] = self.ratio * math.exp(sign * self.scatter)
        self.turns_s.append(turns_s)

    def race(self) -> Race:
        return Race(("old", "new"), ("float64", "float64"), 30, tuple(self.turns_s))


def quiet(what: str, share: float) -> None:
    pass


def never() -> NullResult:
    raise AssertionError("the null was measured although no FAIL was near")


def null(biased: bool) -> NullResult:
    return NullResult(biased, 1.2 if biased else 1.0, 1.15 if biased else 0.99, 1.25 if biased else 1.01, 5)


def test_a_clear_pass_stops_at_the_first_look_and_measures_no_null(clock):
    racer = FakeRacer(clock, 2.0)
    verdict = measure(racer, quiet, 1.15, never, clock=clock)
    assert (verdict.outcome, verdict.processes, len(racer.turns_s)) == ("pass", 5, 5)
    assert verdict.ratio == pytest.approx(2.0)


def test_a_clear_fail_stops_at_the_first_look_if_the_null_is_sound(clock):
    verdict = measure(FakeRacer(clock, 0.7), quiet, 1.0, lambda: null(False), clock=clock)
    assert (verdict.outcome, verdict.processes) == ("fail", 5)


def test_a_biased_null_turns_a_fail_into_inconclusive(clock):
    verdict = measure(FakeRacer(clock, 0.7), quiet, 1.0, lambda: null(True), clock=clock)
    assert verdict.outcome == "inconclusive"
    assert "1.200" in verdict.reason


def test_noise_ends_inconclusive_after_the_last_look(clock):
    racer = FakeRacer(clock, 0.95, scatter=0.3)
    verdict = measure(racer, quiet, 1.0, never, clock=clock)
    assert (verdict.outcome, len(racer.turns_s)) == ("inconclusive", 20)


def test_a_spent_budget_decides_what_is_clear_from_the_processes_that_there_are(clock):
    for ratio, outcome in ((2.0, "pass"), (0.5, "fail")):
        racer = FakeRacer(clock, ratio, scatter=0.004)
        verdict = measure(racer, quiet, 1.15, lambda: null(False), budget_s=35.0, clock=clock)
        assert (verdict.outcome, len(racer.turns_s)) == (outcome, 3)
        assert "budget" not in verdict.reason


def test_a_fail_at_a_spent_budget_asks_the_null_too(clock):
    verdict = measure(FakeRacer(clock, 0.5), quiet, 1.0, lambda: null(True), budget_s=35.0, clock=clock)
    assert verdict.outcome == "inconclusive"
    assert "1.200" in verdict.reason


def test_what_is_undecided_at_a_spent_budget_is_inconclusive_and_says_so(clock):
    racer = FakeRacer(clock, 1.05, scatter=0.02)
    verdict = measure(racer, quiet, 1.15, never, budget_s=35.0, clock=clock)
    assert (verdict.outcome, len(racer.turns_s)) == ("inconclusive", 3)
    assert "the budget of 35 s is spent" in verdict.reason


def test_a_budget_never_stops_before_the_third_replicate(clock):
    racer = FakeRacer(clock, 2.0)
    assert measure(racer, quiet, 1.15, never, budget_s=1.0, clock=clock).processes == 3


def test_without_a_claim_there_is_an_interval_and_no_outcome(clock):
    verdict = measure(FakeRacer(clock, 1.3, scatter=0.01), quiet, clock=clock)
    assert (verdict.outcome, verdict.at_least, verdict.processes) == (None, None, UNGATED_REPLICATES)
    assert verdict.low < 1.3 < verdict.high


def test_a_block_in_which_one_sat_out_is_no_block_of_the_pair(clock):
    racer = FakeRacer(clock, 2.0)
    racer.run(quiet)
    racer.turns_s[0][2:, 1] = np.nan
    racer.turns_s[0][2:, 0] = 99.0
    assert log_ratios(racer.race()) == pytest.approx([math.log(2.0)])
