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
    assert "X = np.atleast_2d(rng.normal(0, 1, (30, 8)) * np.ones(8))" in after
    assert "Z = 0.5 * X @  W  # weighted sums" in after
    assert "W = W - 0.01 * X.T @ np.multiply(np.tanh(Z), 0.5)" in after
    assert_trains_as(TEXT, after, rtol=1e-12)


@pytest.mark.parametrize(
    "added",
    ["def evaluated(X):\n    return X * W\n", "print(W.A1)\n", "def flipped(x):\n    return np.mat(x, copy=False).I\n"],
    ids=["a-product-that-did-not-run", "an-attribute-of-matrices", "a-matrix-made-otherwise"],
)
def test_what_other_code_does_with_matrices_is_not_changed_unseen(added):
    assert cures_of(TEXT.replace("def step", f"{added}def step"), slow_primitive) == ()
