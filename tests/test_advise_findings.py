"""Overlapping findings are merged into their cause."""

from __future__ import annotations

import pytest

from mlpprof.advise.candidate import Candidate
from mlpprof.advise.findings import merge, promise
from mlpprof.instrument.rewriting import Site


def candidate(category, *covers, saved_s=(1.0, 1.0)):
    return Candidate(category, Site("net.py", 1, 0, None, 1, 1), "", "", "", saved_s, "", covers=frozenset(covers))


def categories(*candidates):
    return [one.category for one in merge(list(candidates))]


def test_consequences_are_reported_under_their_cause_alone():
    loop = candidate("sample-loop", *range(10))
    assert categories(loop, candidate("temporaries", 3, 4)) == ["sample-loop"]
    assert categories(candidate("layout", 3), loop) == ["sample-loop"]
    assert categories(candidate("recomputation", 1, 2), candidate("slow-primitive", 2)) == ["recomputation"]


def test_what_lies_elsewhere_or_is_no_consequence_stays():
    loop = candidate("sample-loop", *range(10))
    assert categories(loop, candidate("temporaries", 20, 21, 3)) == ["sample-loop", "temporaries"]
    assert categories(loop, candidate("float64", 3, 4)) == ["sample-loop", "float64"]
    assert categories(loop, candidate("recomputation", 3, 4)) == ["sample-loop", "recomputation"]
    assert categories(candidate("temporaries"), loop) == ["temporaries", "sample-loop"]


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_that_are_consequences_of_each_other_one_stays(turned):
    pair = [candidate("work-in-step", 1, 2, 3), candidate("second-forward", 1, 2, 3)]
    kept = merge(pair[::-1] if turned else pair)
    assert len(kept) == 1


def test_a_stated_saving_is_wider_than_what_was_measured_and_leaves_something_of_the_step():
    assert promise((0.1, 0.1), 1.0) == pytest.approx((0.05, 0.15))
    assert promise((0.1, 0.1), 1.0, doubt=1.5) == pytest.approx((0.025, 0.175))
    assert promise((0.005, 0.015), 1.0) == pytest.approx((0.0, 0.0285))
    assert promise((0.9, 0.9), 1.0) == pytest.approx((0.735, 0.95))
    assert promise((0.2, 0.8), 1.0) == pytest.approx((0.2, 0.8))
