"""A training whose values become NaN or infinite is reported, with the place, by the search and by the recording."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import recorded

from mlpprof.advise import Subject, find
from mlpprof.programs.record.finite import failure_in, not_finite

STEP = """
rng = np.random.default_rng(0)
W, X, Y = rng.random((50, 80)), rng.random((80, 60)), rng.random((50, 60))
H = np.zeros(3)


def step():
    rare = np.where(H > 0, np.log(H), 0)
    D = (W @ X - Y) @ X.T
    W[...] -= 0.00001 * D
"""


def failure(text: str) -> str | None:
    """What is reported on the recorded step."""
    with np.errstate(all="ignore"), recorded(text) as graph:
        return failure_in(graph.last, graph.trace.sites, graph.trace.sources)


def test_an_infinity_that_is_replaced_again_is_no_failure():
    assert failure(STEP) is None


def test_the_first_product_that_is_not_finite_is_reported_with_its_place():
    found = failure(STEP.replace("rng.random((80, 60)),", "np.full((80, 60), np.inf),"))
    assert found is not None
    assert found.startswith("`W @ X` (net.py:")
    assert "is infinite in the recorded step: the training has failed there" in found


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (np.array([1.0, np.nan]), "NaN"),
        (np.array([1.0, -np.inf], np.float32), "infinite"),
        (np.array([np.inf, -np.inf]), "infinite"),
        (np.full(4, 3e38, np.float32), None),
        (np.array([1, 2]), None),
        (np.float32(np.nan), "NaN"),
        (float("inf"), "infinite"),
        (2.0, None),
        ("text", None),
    ],
)
def test_what_is_not_finite_is_recognized(value, word):
    assert not_finite(value) == word


@pytest.mark.slow
def test_the_search_reports_from_which_change_on_a_parameter_is_not_finite(tmp_path):
    (tmp_path / "train.py").write_text(
        "import numpy as np\n"
        "X, Y, W = np.ones((30, 4)), np.ones((30, 3)), np.zeros((4, 3))\n"
        "for i in range(100):\n"
        "    d = X @ W - Y\n"
        "    W -= (np.nan if i == 2 else 0.01) * X.T @ d\n"
    )
    first = [note for note in find(Subject(tmp_path / "train.py")).notes if "failed" in note]
    assert len(first) == 1
    assert first[0].startswith("`W` (train.py:5) is NaN from its change number 3 on: the training has failed there")
