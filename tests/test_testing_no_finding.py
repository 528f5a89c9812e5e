"""`assert_no_finding`: what passes, what fails, and that the message names place, title and payoff."""

from __future__ import annotations

import pytest
from advices import make_advice

import mlpprof.testing
from mlpprof.errors import UsageError
from mlpprof.testing import assert_no_finding
from mlpprof.testing import no_finding as advice


@pytest.fixture
def asked(monkeypatch):
    """Made-up findings whatever is asked; what was asked for."""
    calls = []

    def find(target, *, step=None, arguments=(), allow_writes=False, progress=None):
        calls.append((target, step, tuple(arguments)))
        return make_advice()

    monkeypatch.setattr(advice, "find", find)
    return calls


def test_a_category_that_was_not_found_passes(asked):
    assert_no_finding("train.py", "gather", "layout", step="Net.step", arguments=["--epochs", "3"])
    assert asked == [("train.py", "Net.step", ("--epochs", "3"))]


def test_a_finding_fails_with_place_title_payoff_and_source(asked):
    with pytest.raises(AssertionError) as failure:
        assert_no_finding("train.py", "recomputation", "gather")
    assert str(failure.value).splitlines() == [
        "net.py:Net.step: one finding in a step of 20.0 ms",
        "  net.py:21:33: recomputation: sigmoid(self.Z1) is evaluated again on the values of line 18 "
        "(410–520 µs per step, 2.1–2.6 % of it)",
        "      d1 = (self.W2.T @ d2) * sigmoid(self.Z1) * (1 - sigmoid(self.Z1))",
    ]


def test_all_categories_are_meant_where_none_is_named(asked):
    with pytest.raises(AssertionError, match="3 findings") as failure:
        assert_no_finding("train.py")
    assert all(word in str(failure.value) for word in ("sample-loop", "recomputation", "float64"))


def test_findings_that_give_less_than_the_least_share_pass(asked):
    with pytest.raises(AssertionError, match="2 findings"):
        assert_no_finding("train.py", least_share=0.023)
    with pytest.raises(AssertionError, match="one finding"):
        assert_no_finding("train.py", least_share=0.757)
    assert_no_finding("train.py", least_share=0.758)


def test_a_category_that_is_not_known_is_shown_before_anything_runs(asked):
    with pytest.raises(UsageError, match="no category 'recomputaton'; did you mean 'recomputation'"):
        assert_no_finding("train.py", "gather", "recomputaton")
    assert asked == []


def test_all_names_of_the_package_can_be_reached():
    for name in mlpprof.testing.__all__:
        assert callable(getattr(mlpprof.testing, name))
