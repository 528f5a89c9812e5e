"""Cures of products that do not reach BLAS: their operands get another dtype where the program makes them."""

from __future__ import annotations

import pytest
from cured import assert_trains_as, cured, cures_of

from mlpprof.advise.detect import slow_primitive

pytestmark = pytest.mark.timing

PROGRAM = """\
import numpy as np
rng = np.random.default_rng(0)
def load(n):
    return rng.integers(0, 200, (n, 100)).astype(np.uint8), rng.integers(0, 10, n)
class Net:
    def __init__(self, dtype):
        self.W = (rng.random((100, 60)) - 0.5).astype(dtype)
net = Net({dtype})
{data}
def parameters():
    return [net.W]
def step():
    x = X[:100]
    {line}
    net.W -= 1e-9 * found[:, :1].mean()
"""


@pytest.mark.parametrize(
    ("dtype", "data", "line", "changed", "rtol"),
    [
        (
            "np.float64",
            "X = rng.integers(0, 9, (900, 100))  # pixels",
            "found = x.T @ x",
            {"X = rng.integers(0, 9, (900, 100)).astype(np.float64)  # pixels"},
            0.0,
        ),
        (
            "np.float64",
            "X = np.eye(900, 100, dtype=int)",
            "found = np.dot(x.astype(np.int32).T, x)",
            {"X = np.eye(900, 100, dtype=np.float64)", "    found = np.dot(x.astype(np.float64).T, x)"},
            0.0,
        ),
        (
            "np.float64",
            "X, y = load(900)",
            "found = x.astype(int).T @ np.asarray(x[:, :9], object)",
            {
                "    found = x.astype(np.float64).T @ np.asarray(x[:, :9], np.float64)",
            },
            0.0,
        ),
        (
            "np.float16",
            "X = rng.random((900, 100)).astype('float16')",
            "found = x @ net.W",
            {"net = Net(np.float32)", "X = rng.random((900, 100)).astype(np.float32)"},
            1e-2,
        ),
    ],
)
def test_operands_are_made_in_a_dtype_that_blas_multiplies(dtype, data, line, changed, rtol):
    text = PROGRAM.format(dtype=dtype, data=data, line=line)
    [cure] = cures_of(text, slow_primitive)
    new = cured(text, cure)
    assert set(new.splitlines()) - set(text.splitlines()) == changed
    assert cure.kind == ("precision" if rtol else "safe")
    assert_trains_as(text, new, rtol)


@pytest.mark.parametrize("line", ["found = x.T @ x", "found = (x > 90).T @ (x > 90)"])
def test_there_is_no_edit_where_the_product_would_have_other_values(line):
    text = PROGRAM.format(dtype="float", data="X, y = load(900)", line=line)  # sums of uint8 overflow, bool has none
    assert cures_of(text, slow_primitive) == ()
