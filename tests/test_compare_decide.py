"""The verdicts: hand-computed bounds, the guarantees by a small seeded simulation, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from mlpprof.compare.decide import (
    NullResult,
    Outcome,
    block_log_ratio,
    decide,
    expected_replicates,
    interval,
    not_slower_than,
    null_bias,
    pseudo_replicates,
    replicate_log_ratio,
)
from mlpprof.compare.error_bounds import IN_PROCESS, REPLICATED, Procedure, bounds, procedure_for
from mlpprof.errors import UsageError

TRIALS = 4000


def outcome(log_ratios: np.ndarray, at_least: float, procedure: Procedure = REPLICATED) -> Outcome | None:
    """The verdict of the whole sequence of looks."""
    for look in procedure.looks:
        decision = decide(log_ratios[:look], at_least, procedure)
        if decision.outcome is not Outcome.CONTINUE:
            return decision.outcome
    raise AssertionError("the last look always decides")


def rate(wanted: Outcome, mean: float, sd: float, at_least: float = 1.15, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    draws = mean + sd * rng.standard_normal((TRIALS, REPLICATED.looks[-1]))
    return float(np.mean([outcome(draw, at_least) is wanted for draw in draws]))


def test_a_block_is_the_mean_log_ratio_so_that_linear_drift_cancels() -> None:
    drift = np.array([1.00, 1.01, 1.02, 1.03])  # A B B A
    assert block_log_ratio(2 * drift[[0, 3]], drift[[1, 2]]) == pytest.approx(math.log(2), abs=1e-4)


def test_a_replicate_is_the_median_of_its_blocks() -> None:
    assert replicate_log_ratio([0.1, 0.2, 9.0]) == 0.2


def test_pseudo_replicates_are_medians_of_neighbours_and_leave_out_a_rest() -> None:
    assert pseudo_replicates([1, 2, 3, 4, 5, 6, 7], size=3).tolist() == [2, 5]


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_replicates_that_are_no_numbers_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"finite|shape"):
        replicate_log_ratio(bad)


def test_times_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        block_log_ratio([1.0, 0.0], [1.0, 1.0])


def test_the_budgets_are_spent_in_proportion_to_the_replicates() -> None:
    looks = bounds(REPLICATED)
    assert [look.replicates for look in looks] == [5, 8, 12, 20]
    assert [look.failing.level for look in looks] == pytest.approx([0.00025, 0.00015, 0.0002, 0.0004])
    assert sum(look.passing.level for look in looks) == pytest.approx(REPLICATED.missed)


def test_the_bound_at_the_first_look_is_the_one_computed_by_hand() -> None:
    first = bounds(REPLICATED)[0].passing
    t, z = scipy_stats.t.isf(0.0025, 4), scipy_stats.norm.isf(0.0025)
    assert first.margin(0.01) == pytest.approx(max(t * 0.01, z * 0.0175) / math.sqrt(5))
    assert first.margin(0.05) == pytest.approx(t * 0.05 / math.sqrt(5))


def test_the_standard_deviation_is_never_taken_below_its_floor() -> None:
    low, high = interval([0.0] * 5)
    assert math.log(high) == pytest.approx(scipy_stats.t.isf(0.025, 4) * 0.004 / math.sqrt(5))
    assert math.log(low) == pytest.approx(-math.log(high))


def test_a_speedup_of_just_at_least_fails_at_most_once_in_a_thousand_even_in_a_biased_run() -> None:
    assert rate(Outcome.FAIL, math.log(1.15 / 1.03), 0.015) <= 0.003  # 0.001 with room for 4,000 draws
    assert rate(Outcome.FAIL, math.log(1.15 / 1.10 / 1.03), 0.015) > 0.5, "the bound must not be idle"


def test_a_speedup_ten_percent_short_passes_at_most_once_in_a_hundred_even_in_a_biased_run() -> None:
    assert rate(Outcome.PASS, math.log(1.15 / 1.10 * 1.03), 0.015) <= 0.014
    assert rate(Outcome.PASS, math.log(1.15), 0.015) > 0.95


def test_a_clear_speedup_is_decided_at_the_first_look() -> None:
    rng = np.random.default_rng(3)
    draws = math.log(1.5) + 0.015 * rng.standard_normal((TRIALS, 5))
    assert np.mean([decide(draw, 1.15).outcome is Outcome.PASS for draw in draws]) > 0.999


@given(st.lists(st.floats(-1, 1), min_size=5, max_size=5), st.floats(0.01, 1.0))
def test_a_faster_new_never_gets_a_worse_verdict(ratios: list[float], gain: float) -> None:
    order = [Outcome.FAIL, Outcome.CONTINUE, Outcome.PASS]
    before = decide(np.array(ratios), 1.1).outcome
    after = decide(np.array(ratios) + gain, 1.1).outcome
    assert before in order
    assert after in order
    assert order.index(after) >= order.index(before)


@given(st.floats(-0.5, 0.5), st.floats(0.5, 2.0))
def test_agreeing_replicates_fail_below_the_tolerance_and_pass_above_it(mean: float, at_least: float) -> None:
    decision = decide([mean] * 20, at_least)
    if math.exp(mean) > at_least:
        assert decision.outcome is Outcome.PASS
    if math.exp(mean) < at_least / 1.10:
        assert decision.outcome is not Outcome.PASS


def test_a_biased_null_turns_a_fail_into_no_verdict() -> None:
    biased = NullResult(True, 1.10, 1.08, 1.12, (0.1,) * 5)
    sound = NullResult(False, 1.00, 0.99, 1.01, (0.0,) * 5)
    slow = [math.log(0.9)] * 20
    assert decide(slow, 1.0, null=sound).outcome is Outcome.FAIL
    assert decide(slow, 1.0, null=biased).outcome is Outcome.INCONCLUSIVE


def test_a_null_is_biased_only_beyond_the_tolerance() -> None:
    assert not null_bias([0.0, 0.01, -0.01, 0.005, 0.0]).biased
    assert null_bias([0.10, 0.11, 0.09, 0.10, 0.10]).biased


def test_between_the_looks_and_after_the_last_one() -> None:
    wide = np.array([-0.2, 0.2, -0.2, 0.2, 0.0, 0.1])
    assert decide(wide, 1.0).outcome is Outcome.CONTINUE
    assert decide(wide, 1.0, final=True).outcome is Outcome.INCONCLUSIVE
    assert decide(wide).outcome is None
    with pytest.raises(ValueError, match="20"):
        decide(np.zeros(21), 1.0)


def test_a_run_that_ends_early_is_decided_where_its_interval_lies_far_beyond_the_claim() -> None:
    # the first has 43x, 40 to 46, in two processes; the others 3 and 4 processes that scatter by 1 and 11 %
    two = math.log(43) + 0.0115 * np.array([-0.5, 0.5])
    three = math.log(0.5) + 0.01 * np.array([-1.0, 0.0, 1.0])
    four = math.log(5.23) + 0.11 * np.array([-1.1, -0.4, 0.4, 1.1])
    assert interval(two) == pytest.approx((40.0, 46.3), abs=0.1)
    assert decide(two, 2.0, final=True).outcome is Outcome.PASS
    assert decide(three, 1.0, final=True).outcome is Outcome.FAIL
    assert decide(four, 2.0, final=True).outcome is Outcome.PASS
    assert decide(two, 2.0).outcome is Outcome.PASS, "43x is clear after the first two processes"
    assert decide(two - math.log(14), 2.0).outcome is Outcome.CONTINUE


def test_too_few_processes_for_a_certain_verdict_say_so_where_the_interval_lies_beyond_the_claim() -> None:
    clear = decide([math.log(0.5) - 0.01, math.log(0.5) + 0.01], 1.0, final=True)
    assert clear.outcome is Outcome.INCONCLUSIVE
    assert "the 95 % interval lies below 0.909x, but 2 replicates" in clear.reason


@pytest.mark.parametrize("factor", [3.6, 1 / 3.6])
def test_two_processes_whose_interval_contains_the_claim_decide_nothing(
    factor: float,
) -> None:
    decision = decide([math.log(1.5 * factor) - 0.2231, math.log(1.5 * factor) + 0.2231], 1.5)
    assert decision.low < 1.5 < decision.high
    assert decision.outcome is Outcome.CONTINUE


def test_a_verdict_says_what_was_required_and_measured() -> None:
    decision = decide([math.log(14.651) + 0.04 * x for x in (-1, -0.5, 0, 0.5, 1)], 1.5)
    assert decision.reason == "required 1.5x, measured 14.7x (95 %: 14.1-15.2)"


def test_a_narrow_interval_is_shown_with_ends_that_differ() -> None:
    decision = decide([math.log(1.1)] * 20, 1.5)
    assert decision.reason == "required 1.5x, measured 1.1x (95 %: 1.098-1.102)"


def test_in_one_process_the_interval_is_wider() -> None:
    x = [0.1, 0.11, 0.09, 0.1, 0.1]
    assert interval(x, procedure=IN_PROCESS)[1] > interval(x)[1]


def test_not_slower_is_a_speedup_of_one_over_the_tolerance() -> None:
    assert not_slower_than(0.25) == 0.8
    with pytest.raises(UsageError, match="-1"):
        not_slower_than(-1)


@pytest.mark.parametrize("at_least", [0.0, -1.0, math.nan, math.inf])
def test_a_claim_that_is_no_ratio_is_refused(at_least: float) -> None:
    with pytest.raises(UsageError, match="at_least"):
        decide([0.0] * 5, at_least)


@pytest.mark.parametrize("looks", [(), (1, 5), (5, 5), (8, 5)])
def test_looks_must_ascend(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="looks"):
        Procedure(looks=looks)


@given(st.sampled_from([0.01, 0.02, 0.05, 0.1]), st.floats(0.5, 2.0), st.floats(0.9, 1.1))
def test_at_every_resolution_agreeing_replicates_pass_above_the_claim_and_never_below_what_a_pass_certifies(
    share: float, at_least: float, factor: float
) -> None:
    procedure = procedure_for(share)
    found = decide([math.log(at_least * factor)] * procedure.looks[-1], at_least, procedure).outcome
    if factor > 1.0001:
        assert found is Outcome.PASS
    if factor < 0.9999 / procedure.resolution:
        assert found is Outcome.FAIL
    assert found in (Outcome.PASS, Outcome.FAIL), "without scatter every ratio is decided"


def test_two_processes_decide_what_lies_far_beyond_the_limit_and_nothing_else() -> None:
    for ratios, outcome in (
        ((14.0, 15.0), Outcome.PASS),
        ((14.0, 3.0), Outcome.CONTINUE),
        ((0.5, 0.49), Outcome.FAIL),
        ((0.5, 0.4), Outcome.CONTINUE),
        ((0.5, 0.7), Outcome.CONTINUE),
    ):
        assert decide(np.log(ratios), 1.5).outcome is outcome
    biased = NullResult(True, 1.10, 1.08, 1.12, (0.1,) * 5)
    assert decide(np.log([0.5, 0.49]), 1.5, null=biased).outcome is Outcome.FAIL, "no bias is as large"


def test_a_decision_is_expected_at_the_first_look_that_is_enough() -> None:
    fine = procedure_for(0.02)
    even = 0.004 * np.array([-1.0, 1.0] * 3)
    assert expected_replicates(even, 1.0) == 5
    assert expected_replicates(even, 1.0, fine) == 12
    assert expected_replicates(even + math.log(1.1), 1.0, fine) == 5
    assert expected_replicates(10 * even, 1.01, fine) is None
    assert expected_replicates(even[:2] + math.log(9), 1.0) == 2


def test_an_undecided_claim_says_what_would_decide_it() -> None:
    fine = procedure_for(0.02)
    noise = np.array([-1.0, 1.0] * 40)
    early = decide(0.004 * noise[:6], 1.0, fine, final=True)
    assert early.reason.endswith("; 12 like these would decide it")
    noisy = decide(0.06 * noise + math.log(0.99), 1.0, fine)
    assert "undecided at a resolution of 2 % after 80 replicates" in noisy.reason
    assert noisy.reason.endswith("would decide it")
    said = noisy.reason.split("scatter by at most ")[1]
    share = float(said.split(" %")[0]) / 100
    assert decide(0.98 * share * noise + math.log(0.99), 1.0, fine).outcome is not Outcome.INCONCLUSIVE
    assert said.endswith("or the resolution 10 % would decide it")
    hopeless = decide([-2.0, 2.0] * 10, 1.0)
    assert hopeless.reason.endswith("the machine is too noisy for this claim") or "quieter" in hopeless.reason
