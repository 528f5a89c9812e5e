"""What is evaluated in every step on values that no step changes, and what only looks like it."""

from __future__ import annotations

import pytest
from recorded_step import recorded

from mlpprof.advise.detect import recomputation

pytestmark = pytest.mark.timing

STANDARDISED = """\
random = np.random.default_rng(3)
X = random.normal(0, 1, (400, 300))
W = random.normal(0, 0.1, (300, 2))
def standardised(X):
    return (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-8)
def step():
    global W
    A = standardised(X)
    W = W - 1e-6 * (A.T @ (A @ W))
"""


def found(text):
    """(line, operations, share of the step) of each candidate that is worth its least share."""
    with recorded(text) as graph:
        told = [(one, sum(one.saved_s) / 2 / graph.step_s) for one in recomputation.detect(graph)]
    return [(one.site.line, len(one.covers), share) for one, share in told if share >= one.least_share]


def test_data_that_are_standardised_in_every_step_are_reported_once_with_all_that_is_done_to_them():
    ((line, operations, share),) = found(STANDARDISED)
    assert line == 5
    assert operations == 4  # the mean, the difference, the deviation, the quotient; an addition to 300 numbers is none
    assert share > 0.2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    A = standardised(X)\n", "    A = standardised(X[random.permutation(400)])\n"),  # a batch
        ("    A = standardised(X)\n", "    A = standardised(X)\n    X[:] = A\n"),  # what a step has changed
        ("    A = standardised(X)\n", "    A = standardised(X * W[0, 0])\n"),  # a parameter
        ("X = random.normal(0, 1, (400, 300))", "X = np.ones((400, 300))"),  # equal without an origin
        ("    A = standardised(X)\n", "    A = standardised(np.array(X) + random.random())\n"),
        ("    A = standardised(X)\n", "    A = X * (random.random(X.shape) < 0.5)\n"),
    ],
    ids=lambda text: text.strip(),
)
def test_what_depends_on_a_batch_a_parameter_or_chance_is_not_reported(old, new):
    assert old in STANDARDISED
    assert found(STANDARDISED.replace(old, new)) == []


def test_weights_that_do_not_move_are_parameters_all_the_same():
    text = STANDARDISED.replace("A = standardised(X)", "A = X").replace("1e-6 *", "0.0 *")
    assert found(text) == []
