"""What is evaluated again: the whole of a repeated expression is counted, and the same in every step is told."""

from __future__ import annotations

import pytest
from recorded_step import recorded

from mlpprof.advise.detect import recomputation

pytestmark = pytest.mark.timing


def found(text):
    """(line, title, share of the step) of each candidate that is worth its least share."""
    with recorded(text) as graph:
        told = [(one, sum(one.saved_s) / 2 / graph.step_s) for one in recomputation.detect(graph)]
    return [(one.site.line, one.title, share) for one, share in told if share >= one.least_share]


STANDARDISED_TWICE = """\
X = np.random.default_rng(3).normal(0, 1, (400, 300))
W = np.ones((300, 2))
def step():
    global W
    B = X + W[0, 0]
    A = (B - np.mean(B, axis=0)) / (np.std(B, axis=0) + 1e-8)
    Y = A @ W
    A = (B - np.mean(B, axis=0)) / (np.std(B, axis=0) + 1e-8)
    W = W - 1e-6 * (A.T @ Y)
"""


def test_the_parts_of_a_repeated_expression_are_saved_with_it():
    ((line, title, share),) = found(STANDARDISED_TWICE)
    assert line == 8
    assert "line 6 has already computed" in title
    assert share > 0.15  # the division alone is a thirtieth


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_function_whose_result_is_a_matrix_is_looked_at_like_any_other():
    text = """\
def squashed(z):
    return 1 / (1 + np.exp(-z))
X = np.matrix(np.random.default_rng(3).normal(0, 1, (400, 20)))
W = np.matrix(np.ones((20, 60)))
def step():
    global W
    z = X * W
    A = squashed(z)
    W = W - 1e-6 * (X.T * np.multiply(A, 1 - squashed(z)))
"""
    (told,) = found(text)
    assert told[0] == 9
    assert told[1].startswith("`squashed(z)` computes again")


def test_the_same_function_of_two_arrays_of_one_row_is_no_repetition():
    text = """\
X, W = np.random.default_rng(3).normal(0, 1, (50, 400)), np.full((1, 50), 0.01)
def step():
    global W
    A = 1 / (1 + np.exp(-(W @ X)))
    W = W - 1e-6 * (np.log(A) + np.log(1 - A)) @ X.T
"""
    assert found(text) == []
