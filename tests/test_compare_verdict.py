"""The loop that decides, with races of known ratio and a clock that only they move."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mlpprof.compare.decide import NullResult, log_ratios
from mlpprof.compare.error_bounds import REPLICATED, procedure_for
from mlpprof.compare.verdict import UNCLAIMED_REPLICATES, measure, race_until_narrow
from mlpprof.results import Race


class FakeRace:
    """Every replicate takes 10 s of the fake clock; the first entrant varies by `scatter` in logarithms."""

    def __init__(self, clock: Any, *step_s: float, scatter: float = 0.0) -> None:
        self.clock, self.step_s, self.scatter = clock, step_s, scatter
        self.turns_s: list[np.ndarray] = []

    def run(self, progress: Any) -> None:
        self.clock.advance(10.0)
        sign = 1 if len(self.turns_s) % 2 else -1
        turns_s = np.ones((4, len(self.step_s), 2)) * np.array(self.step_s)[:, None]
        turns_s[:, 0] *= math.exp(sign * self.scatter)
        self.turns_s.append(turns_s)

    def race(self) -> Race:
        names = tuple("abcdef"[: len(self.step_s)])
        return Race(names, ("float64",) * len(names), 30, tuple(self.turns_s))


def quiet(what: str, share: float) -> None:
    pass


def never() -> NullResult:
    raise AssertionError("the null was measured although no FAIL was near")


def null(biased: bool) -> NullResult:
    return NullResult(biased, 1.2 if biased else 1.0, 1.15 if biased else 0.99, 1.25 if biased else 1.01, (0.1,) * 5)


def test_a_clear_pass_stops_at_the_first_look_and_measures_no_null(clock):
    live = FakeRace(clock, 2.0, 1.0)
    [verdict] = measure(live, quiet, 1.15, never, clock=clock)
    assert (verdict.outcome, verdict.processes, len(live.turns_s)) == ("pass", 5, 5)
    assert verdict.ratio == pytest.approx(2.0)


def test_a_clear_fail_stops_at_the_first_look_if_the_null_is_sound(clock):
    [verdict] = measure(FakeRace(clock, 0.7, 1.0), quiet, 1.0, lambda: null(False), clock=clock)
    assert (verdict.outcome, verdict.processes) == ("fail", 5)


def test_a_biased_null_turns_a_fail_into_inconclusive(clock):
    [verdict] = measure(FakeRace(clock, 0.7, 1.0), quiet, 1.0, lambda: null(True), clock=clock)
    assert verdict.outcome == "inconclusive"
    assert "1.200" in verdict.reason


def test_noise_ends_inconclusive_after_the_last_look(clock):
    live = FakeRace(clock, 0.95, 1.0, scatter=0.3)
    [verdict] = measure(live, quiet, 1.0, never, clock=clock)
    assert (verdict.outcome, len(live.turns_s)) == ("inconclusive", 20)


def test_a_spent_budget_decides_what_is_clear_from_the_processes_that_there_are(clock):
    for ratio, outcome in ((2.0, "pass"), (0.5, "fail")):
        live = FakeRace(clock, ratio, 1.0, scatter=0.004)
        [verdict] = measure(live, quiet, 1.15, lambda: null(False), budget_s=35.0, clock=clock)
        assert (verdict.outcome, len(live.turns_s)) == (outcome, 3)
        assert "budget" not in verdict.reason


def test_a_fail_at_a_spent_budget_asks_the_null_too(clock):
    [verdict] = measure(FakeRace(clock, 0.75, 1.0), quiet, 1.0, lambda: null(True), budget_s=35.0, clock=clock)
    assert verdict.outcome == "inconclusive"
    assert "1.200" in verdict.reason


def test_what_is_undecided_at_a_spent_budget_is_inconclusive_and_says_so(clock):
    live = FakeRace(clock, 1.05, 1.0, scatter=0.02)
    [verdict] = measure(live, quiet, 1.15, never, budget_s=35.0, clock=clock)
    assert (verdict.outcome, len(live.turns_s)) == ("inconclusive", 3)
    assert "the budget of 35 s is spent" in verdict.reason


def test_a_budget_never_stops_before_the_third_replicate(clock):
    live = FakeRace(clock, 2.0, 1.0)
    [verdict] = measure(live, quiet, 1.15, never, budget_s=1.0, clock=clock)
    assert verdict.processes == 3


def test_without_a_claim_there_is_an_interval_and_no_outcome(clock):
    [verdict] = measure(FakeRace(clock, 1.3, 1.0, scatter=0.01), quiet, clock=clock)
    assert (verdict.outcome, verdict.at_least, verdict.processes) == (None, None, UNCLAIMED_REPLICATES)
    assert verdict.low < 1.3 < verdict.high


def test_a_block_in_which_one_sat_out_is_no_block_of_the_pair(clock):
    live = FakeRace(clock, 2.0, 1.0)
    live.run(quiet)
    live.turns_s[0][2:, 1] = np.nan
    live.turns_s[0][2:, 0] = 99.0
    assert log_ratios(live.race()) == pytest.approx([math.log(2.0)])


def test_each_newer_entrant_gets_a_verdict_over_the_first(clock):
    live = FakeRace(clock, 0.3, 0.1, 0.2, 0.6, scatter=0.002)
    verdicts = measure(live, quiet, 1.4, lambda: null(False), clock=clock)
    assert [verdict.outcome for verdict in verdicts] == ["pass", "pass", "fail"]
    assert [verdict.ratio for verdict in verdicts] == pytest.approx([3.0, 1.5, 0.5], rel=0.01)
    assert len(live.turns_s) == REPLICATED.looks[0]


def test_a_clear_effect_ends_after_two_processes_and_measures_no_null(clock):
    for old_s, outcome in ((9.0, "pass"), (0.2, "fail")):
        live = FakeRace(clock, old_s, 1.0, scatter=0.05)
        [verdict] = measure(live, quiet, 1.15, never, clock=clock)
        assert (verdict.outcome, verdict.processes, len(live.turns_s)) == (outcome, 2, 2)


def test_a_finer_resolution_takes_more_processes_and_stands_in_the_verdict(clock):
    coarse, fine = FakeRace(clock, 1.0, 1.0, scatter=0.01), FakeRace(clock, 1.0, 1.0, scatter=0.01)
    [usual] = measure(coarse, quiet, 1.0, never, clock=clock)
    [verdict] = measure(fine, quiet, 1.0, never, procedure=procedure_for(0.02), clock=clock)
    assert (usual.outcome, usual.processes, usual.resolution) == ("pass", 5, 0.1)
    assert (verdict.outcome, verdict.processes, verdict.resolution) == ("pass", 12, 0.02)
    assert "at a resolution of 2 %" in verdict.reason


def test_the_progress_shows_how_many_processes_it_will_take_and_how_long(clock):
    said = []

    class Reporting(FakeRace):
        def run(self, progress):
            progress("racing", 0.5)
            super().run(progress)

    live = Reporting(clock, 1.0, 1.0, scatter=0.01)
    measure(
        live, lambda what, share: said.append((what, share)), 1.0, never, procedure=procedure_for(0.02), clock=clock
    )
    assert said[0][0] == "process 1 of 2: racing"
    assert said[4] == ("process 5 of 12, about 80 s left: racing", pytest.approx(4.5 / 12))
    assert said[11][0] == "process 12 of 20, about 90 s left: racing", "an odd number is not in balance"


def test_without_a_claim_a_fine_resolution_goes_on_until_the_interval_is_as_narrow(clock):
    for scatter, processes in ((0.005, 5), (0.02, 20)):
        live = FakeRace(clock, 1.3, 1.0, scatter=scatter)
        [verdict] = measure(live, quiet, procedure=procedure_for(0.02), clock=clock)
        assert (verdict.outcome, verdict.processes) == (None, processes)
        assert verdict.high / verdict.low < 1.02


def test_a_ladder_or_a_calibration_makes_the_processes_asked_for_and_more_for_a_fine_resolution(clock):
    for procedure, processes in ((REPLICATED, 4), (procedure_for(0.02), 20)):
        live = FakeRace(clock, 1.3, 1.0, scatter=0.02)
        race_until_narrow(live, quiet, lambda race: [log_ratios(race)], 4, procedure)
        assert len(live.turns_s) == processes
