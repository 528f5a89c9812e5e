"""Arrays in place of np.matrix: the products stay products, and the training is the same."""

from __future__ import annotations

import pytest
from cured import assert_trains_as, cured, cures_of

from mlpprof.advise.detect import slow_primitive

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass")

TEXT = """\
import numpy as np
rng = np.random.default_rng(3)
X = np.matrix(rng.normal(0, 1, (30, 8)) * np.ones(8))
W = np.asmatrix(rng.normal(0, 1, (8, 4)))
def parameters():
    return [np.asarray(W)]
def step():
    global W
    Z = 0.5 * X *  W  # weighted sums
    W = W - 0.01 * X.T * np.multiply(np.tanh(Z), 0.5)
"""


def test_a_program_of_matrices_gets_arrays_and_writes_products_with_the_operator_for_them():
    (cure,) = cures_of(TEXT, slow_primitive)
    after = cured(TEXT, cure)
    assert "X = np.array(rng.normal(0, 1, (30, 8)) * np.ones(8), ndmin=2)" in after
    assert "W = np.atleast_2d(rng.normal(0, 1, (8, 4)))" in after
    assert "Z = 0.5 * X @  W  # weighted sums" in after
    assert "W = W - 0.01 * X.T @ np.multiply(np.tanh(Z), 0.5)" in after
    assert_trains_as(TEXT, after, rtol=1e-12)


def test_a_product_of_an_array_and_a_matrix_becomes_a_product_of_arrays():
    text = TEXT.replace("X = np.matrix", "X = np.array")
    (cure,) = cures_of(text, slow_primitive)
    after = cured(text, cure)
    assert "Z = 0.5 * X @  W" in after
    assert_trains_as(text, after, rtol=1e-12)


UNSEEN = ["X * W", "S ** 2", "S.argmax(axis=1) == y", "S.argmax(1) == y", "S[:, 0]", "S[y]", "S.ravel()"]


@pytest.mark.parametrize(
    "added",
    [
        *(f"def evaluated(X, y):\n    S = X @ W\n    return {one}\n" for one in UNSEEN),
        "print(W.A1)\n",
        "def flipped(x):\n    return np.mat(x, copy=False).I\n",
    ],
    ids=[*UNSEEN, "an-attribute-of-matrices", "a-matrix-made-otherwise"],
)
def test_what_other_code_does_with_matrices_is_not_changed_unseen(added):
    assert cures_of(TEXT.replace("def step", f"{added}def step"), slow_primitive) == ()
