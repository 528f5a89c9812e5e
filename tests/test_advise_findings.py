"""Overlapping findings are merged into their cause."""

from __future__ import annotations

import pytest
from recorded_step import recorded
from threadpoolctl import threadpool_limits

from mlpprof.advise.candidate import Candidate
from mlpprof.advise.detect import gather, slow_primitive, small_product
from mlpprof.advise.findings import CONSEQUENCES, candidates_of, merge, promise
from mlpprof.advise.summed_products import outer_sums
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
    assert promise((0.1, 0.1), 1.0) == pytest.approx((0.035, 0.165))
    assert promise((0.1, 0.1), 1.0, doubt=1.5) == pytest.approx((0.0025, 0.1975))
    assert promise((0.005, 0.015), 1.0) == pytest.approx((0.0, 0.0345))
    assert promise((0.9, 0.9), 1.0) == pytest.approx((0.68, 0.95))
    assert promise((0.2, 0.8), 1.0) == pytest.approx((0.2, 0.8))


def test_a_detector_that_fails_costs_its_own_findings_alone_and_a_note_names_it():
    def fails(graph):
        raise ValueError("an array has no truth value")

    held = candidate("layout", saved_s=(1e9, 1e9))
    detectors = {**dict.fromkeys(CONSEQUENCES, lambda graph: []), "gather": fails, "layout": lambda graph: [held]}
    with recorded("import numpy as np\ndef step():\n    return np.ones(3) + 1\n") as graph:
        assert candidates_of(graph, detectors).large == [held]
        [note] = graph.trace.notes
    assert note.startswith("mlpprof has a defect in its search for gather, so findings of that category are missing.")
    assert "Please report this line: ValueError: an array has no truth value (test_advise_findings.py:" in note


OF_NUMBERS = """\
import numpy as np
X, halves = np.ones((2000, 3)), np.linspace(0, 1, 600)
def step():
    np.random.shuffle(X)
    return np.dot(X[0, :1], np.array(2.0)), np.sum(2.0**halves), np.sum(np.power(halves, X.ravel()[:600]))
"""


def test_numbers_in_place_of_arrays_stop_neither_the_search_for_shuffles_nor_that_for_sums_of_products():
    with recorded(OF_NUMBERS) as graph:
        [shuffle] = gather.detect(graph)
        found = slow_primitive.detect(graph)
    assert "shuffles the whole data set in every step" in shuffle.title
    assert not [one.title for one in found if "sum" in one.title]


NO_OUTER_PRODUCTS = """\
import numpy as np
W, rows, deltas = np.ones((1, 30, 40)), np.ones((50, 40, 1)), np.ones((50, 30))
def step():
    pairs = np.einsum("...i,...j->...ij", deltas, rows[:, :, 0])
    return (W @ rows).sum(axis=0), pairs.sum(axis=0)
"""


def test_products_of_three_axes_that_are_no_outer_products_do_not_stop_the_search_for_sums_of_them():
    with recorded(NO_OUTER_PRODUCTS) as graph:
        assert outer_sums(graph) == []


SMALL = """\
import numpy as np
A = np.ones((64, 64))
def step():
    return A @ A
"""


class Unhurried:
    """Alternately a long and a short time: products with all threads, and with one."""

    def __init__(self):
        self.calls = 0

    def __call__(self, perform):
        self.calls += 1
        return 1.0 if self.calls % 2 else 0.5


@pytest.mark.parametrize("others", [0, 2])
def test_slow_threads_are_a_finding_only_on_a_machine_that_is_free_of_others(others):
    with recorded(SMALL) as graph, threadpool_limits(2):
        found = small_product.detect(graph, lambda: (None, 1 + others), 2, Unhurried())
        notes = graph.trace.notes
    assert [one.category for one in found] == ([] if others else ["small-product"])
    assert ["`A @ A` took longer with all BLAS threads than with one" in note for note in notes] == [True] * bool(
        others
    )


def test_a_small_finding_whose_range_begins_at_nothing_is_left_out():
    with recorded("import numpy as np\ndef step():\n    return np.ones(3) + 1\n") as graph:
        small, none = (candidate("layout", saved_s=(low * graph.step_s, 0.006 * graph.step_s)) for low in (0.003, 0.0))
        found = [
            candidates_of(
                graph, {**dict.fromkeys(CONSEQUENCES, lambda graph: []), "layout": lambda graph, one=one: [one]}
            )
            for one in (small, none)
        ]
    assert [(one.large, one.small) for one in found] == [([], [small]), ([], [])]
