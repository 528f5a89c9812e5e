"""The bounds: against hand-computed and tabulated values, and their exact error for the least favourable noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mlpprof.compare.error_bounds import (
    CLEAR_REPLICATES,
    DECIDED_SD,
    IN_PROCESS,
    LOOKS,
    REPLICATED,
    Bound,
    Look,
    Procedure,
    bounds,
    clear_factor,
    procedure_for,
)
from mlpprof.compare.resolution import share_of
from mlpprof.errors import UsageError
from mlpprof.workshop.conditions import PROCEDURE as CHECK


def test_the_budgets_are_spent_in_proportion_to_the_replicates():
    levels = [(look.replicates, look.failing.level, look.passing.level) for look in bounds(REPLICATED)]
    assert levels == [
        (5, pytest.approx(0.00025), pytest.approx(0.0025)),
        (8, pytest.approx(0.00015), pytest.approx(0.0015)),
        (12, pytest.approx(0.0002), pytest.approx(0.002)),
        (20, pytest.approx(0.0004), pytest.approx(0.004)),
    ]


@pytest.mark.parametrize("procedure", [REPLICATED, IN_PROCESS], ids=["replicated", "in process"])
def test_what_all_looks_spend_and_the_process_effect_takes_is_the_budget(procedure):
    looks = bounds(procedure)
    for side, budget in (("failing", procedure.false_fail), ("passing", procedure.missed)):
        spent = sum(getattr(look, side).level for look in looks)
        margin = getattr(looks[0], side).process_margin
        taken = 0.0 if procedure.process_sd == 0 else scipy_stats.norm.sf(margin / procedure.process_sd)
        assert spent + taken == pytest.approx(budget)


@pytest.mark.parametrize("procedure", [REPLICATED, IN_PROCESS], ids=["replicated", "in process"])
def test_quantiles_are_scipys(procedure):
    for look in bounds(procedure):
        for bound in (look.failing, look.passing):
            assert bound.t == pytest.approx(scipy_stats.t.isf(bound.level, look.replicates - 1), rel=1e-9)
            assert bound.z == pytest.approx(scipy_stats.norm.isf(bound.level), rel=1e-9)


def test_the_last_bound_with_one_look_is_the_tabulated_t():
    # Student's t with 9 degrees of freedom: 4.297 at 0.001 and 2.821 at 0.01, one-sided, in every textbook.
    (look,) = bounds(Procedure(looks=(10,)))
    assert look.failing.t == pytest.approx(4.297, abs=5e-4)
    assert look.passing.t == pytest.approx(2.821, abs=5e-4)


def test_margins_at_the_first_look_are_those_computed_by_hand():
    first = bounds(REPLICATED)[0]
    # t(0.9975; 4) = 5.5976 and z(0.9975) = 2.8070, from tables
    assert first.passing.margin(0.015) == pytest.approx(5.5976 * 0.015 / math.sqrt(5), rel=1e-4)
    assert first.passing.margin(0.001) == pytest.approx(2.8070 * 0.0175 / math.sqrt(5), rel=1e-4)


def test_the_standard_deviation_is_never_taken_below_the_floor():
    bound = bounds(replace(REPLICATED, shape_sd=0.0))[0].failing
    assert bound.margin(0.0) == bound.margin(0.0039) == bound.margin(0.004) < bound.margin(0.0041)


def test_margins_grow_with_the_scatter_and_shrink_from_look_to_look():
    for sd in (0.0, 0.01, 0.1):
        for side in ("failing", "passing"):
            margins = [float(getattr(look, side).margin(sd)) for look in bounds(REPLICATED)]
            assert margins == sorted(margins, reverse=True)
    sds = np.linspace(0, 0.1, 50)
    assert np.all(np.diff(bounds(REPLICATED)[2].failing.margin(sds)) >= 0)


def test_one_process_has_wider_bounds_than_several():
    for wide, narrow in zip(bounds(IN_PROCESS), bounds(REPLICATED), strict=True):
        for sd in (0.0, 0.015, 0.1):
            assert wide.failing.margin(sd) > narrow.failing.margin(sd) + 3.2 * 0.015
            assert wide.passing.margin(sd) > narrow.passing.margin(sd) + 2.5 * 0.015


def test_bounds_are_computed_once():
    assert bounds(REPLICATED) is bounds(Procedure())


@pytest.mark.parametrize("looks", [(), (1, 5), (5, 5), (8, 5)])
def test_looks_that_do_not_ascend_are_refused(looks):
    with pytest.raises(ValueError, match="ascending"):
        Procedure(looks=looks)


def test_a_bias_that_leaves_no_room_is_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        Procedure(bias=1.05)


def test_the_next_look_is_the_first_that_needs_more():
    assert [REPLICATED.next_look(n) for n in (0, 4, 5, 6, 8, 12, 19, 20)] == [5, 5, 8, 8, 12, 20, 20, None]


@pytest.mark.parametrize("ended_after", [2, 3, 4, 5, 7, 12, 19, 20])
def test_a_run_that_ends_early_spends_what_is_left_of_the_budget_at_its_last_look(ended_after):
    looks = bounds(REPLICATED, ended_after)
    assert looks[-1].replicates == ended_after
    assert sum(look.failing.level for look in looks) == pytest.approx(0.001)
    assert sum(look.passing.level for look in looks) == pytest.approx(0.01)
    scheduled = [look for look in bounds(REPLICATED) if look.replicates < ended_after]
    assert list(looks[: len(scheduled)]) == scheduled


def crossing_probability(
    side: str, share: float, sd: float, procedure: Procedure, ended_after: int | None = None
) -> float:
    """Exact probability that a mean of two-valued replicates with mean 0 ever exceeds the margin.

    share: of the high value; sd: of the replicates. The number of high ones among n is followed from look to look.
    """
    high, low = sd * math.sqrt((1 - share) / share), -sd * math.sqrt(share / (1 - share))
    undecided, before, crossed = np.array([1.0]), 0, 0.0
    for look in bounds(procedure, ended_after):
        n = look.replicates
        undecided = np.convolve(undecided, scipy_stats.binom.pmf(np.arange(n - before + 1), n - before, share))
        k = np.arange(n + 1)
        mean = (k * high + (n - k) * low) / n
        sample_sd = (high - low) * np.sqrt(k * (n - k) / (n * (n - 1)))
        crosses = mean > getattr(look, side).margin(sample_sd)
        crossed += undecided[crosses].sum()
        undecided, before = np.where(crosses, 0.0, undecided), n
    return float(crossed)


def worst_crossing(side: str, procedure: Procedure, ended_after: int | None = None) -> float:
    shares = np.linspace(0.004, 0.996, 249)
    return max(
        crossing_probability(side, share, sd, procedure, ended_after)
        for share in shares
        for sd in (0.004, 0.008, 0.012, 0.015)
    )


def test_errors_stay_within_budget_for_every_two_valued_noise_up_to_the_guaranteed_deviation():
    assert worst_crossing("failing", REPLICATED) < 0.00075 < REPLICATED.false_fail
    assert worst_crossing("passing", REPLICATED) < 0.0055 < REPLICATED.missed
    assert worst_crossing("passing", CHECK) < CHECK.missed


@pytest.mark.parametrize("ended_after", [3, 4])
@pytest.mark.parametrize("procedure", [REPLICATED, CHECK, procedure_for(0.02)], ids=["usual", "workshop", "fine"])
def test_errors_stay_within_budget_where_a_run_ends_early(procedure, ended_after):
    assert worst_crossing("failing", procedure, ended_after) < procedure.false_fail
    assert worst_crossing("passing", procedure, ended_after) < procedure.missed


def test_the_plain_t_bound_would_not_keep_the_budget():
    plain = replace(REPLICATED, shape_sd=0.0)
    assert crossing_probability("passing", 0.5, 0.015, plain) > 0.03
    assert crossing_probability("passing", 0.9, 0.015, plain) > 0.25
    assert worst_crossing("failing", plain) > 0.05


def test_bounds_are_frozen():
    look = bounds(REPLICATED)[0]
    assert isinstance(look, Look)
    assert isinstance(look.failing, Bound)
    with pytest.raises(AttributeError):
        look.replicates = 6


def test_the_default_resolution_has_the_procedure_that_it_had():
    assert procedure_for(0.1) == REPLICATED == Procedure()
    assert procedure_for(0.2) == replace(REPLICATED, resolution=1.2)


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05])
def test_a_finer_procedure_has_the_fewest_looks_that_decide_the_claim_at_the_scatter_it_is_made_for(share):
    procedure = procedure_for(share)
    assert procedure_for(procedure.share) == procedure
    assert procedure.looks == LOOKS[: len(procedure.looks)]
    assert math.log(procedure.bias) == pytest.approx(0.15 * math.log1p(share))

    def decides(looks: tuple[int, ...]) -> bool:
        room = math.log1p(share) - math.log(procedure.bias)
        return bool(bounds(replace(procedure, looks=looks))[-1].failing.margin(DECIDED_SD) <= room)

    assert decides(procedure.looks)
    assert procedure.looks == REPLICATED.looks or not decides(procedure.looks[:-1])


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05])
def test_finer_procedures_keep_the_budgets_for_every_two_valued_noise_of_the_guaranteed_deviation(share):
    procedure = procedure_for(share)
    shares = np.linspace(0.05, 0.95, 19)
    for side, budget in (("failing", procedure.false_fail), ("passing", procedure.missed)):
        assert max(crossing_probability(side, one, 0.015, procedure) for one in shares) < budget


@pytest.mark.parametrize("n", CLEAR_REPLICATES)
def test_replicates_that_all_err_by_the_factor_of_a_clear_effect_are_rarer_than_a_hundredth_of_the_budget(n):
    far = math.log(clear_factor(n))
    for sd in (0.015, 0.05):
        assert (sd**2 / (sd**2 + far**2)) ** n <= 1.0001 * REPLICATED.false_fail / 100, "Cantelli, any distribution"
    for sd in (0.1, 0.2):
        assert scipy_stats.norm.sf(far / sd) ** n <= 1.0001 * REPLICATED.false_fail / 100, "normal replicates"


def test_the_more_replicates_the_smaller_is_the_factor_of_a_clear_effect():
    assert [round(clear_factor(n), 1) for n in CLEAR_REPLICATES] == [2.4, 1.5, 1.4]


@pytest.mark.parametrize("written", ["2%", "2 %", " 0.02 ", 0.02])
def test_a_resolution_is_written_as_a_share_or_in_percent(written):
    assert share_of(written) == 0.02


@pytest.mark.parametrize("written", ["fine", "", "%", "nan", True, "0.5%", "2", 0.0, -0.1, "inf"])
def test_a_resolution_that_is_no_share_or_out_of_range_is_refused(written):
    with pytest.raises(UsageError, match="resolution is"):
        share_of(written)


def test_a_resolution_without_its_percent_sign_is_refused_with_what_to_type():
    with pytest.raises(UsageError, match="which is 200 %; for 2 %, type 2%"):
        share_of("2")
