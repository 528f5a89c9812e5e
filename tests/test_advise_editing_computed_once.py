"""What every step computes anew is computed once, where its operands have their values."""

from __future__ import annotations

import pytest
from cured import assert_trains_as, cured, cures_of

from mlpprof.advise.detect import recomputation

HEAD = """\
import numpy as np
random = np.random.default_rng(3)
def standardised(X):
    return (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-8)
"""

GLOBALS = """\
W = random.normal(0, 0.1, (300, 2))
X = random.normal(0, 1, (400, 300))
def parameters():
    return [W]
def step():
    global W
    A = {}
    W = W - 1e-6 * (A.T @ (A @ W))
"""

LOOP = """\
W = [random.normal(0, 0.1, (300, 2))]
X = random.normal(0, 1, (400, 300))
def parameters():
    return W
def step():
    train(X)
def train(data):
    # all epochs
    for epoch in range(3):
        for k in range(2):
            A = np.tanh(data)
            W[0] = W[0] - 1e-6 * (A.T @ (A @ W[0]))
"""

ATTRIBUTES = """\
class Net:
    def __init__(self, X):
        self.X = X
        self.W = random.normal(0, 0.1, (300, 2))
    def step(self):
        A = self.X * 0.5 - 1
        self.W = self.W - 1e-6 * (A.T @ (A @ self.W))
net = Net(random.normal(0, 1, (400, 300)))
def parameters():
    return [net.W]
def step():
    net.step()
"""


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        (
            GLOBALS.format("np.tanh(X) * 2"),
            {
                "(400, 300))\n": "(400, 300))\nkept = np.tanh(X) * 2\n",
                "    A = np.tanh(X) * 2": "    A = kept",
            },
        ),
        (
            GLOBALS.format("standardised(X)"),
            {
                "(400, 300))\n": "(400, 300))\nstandardised_X = standardised(X)\n",
                "    A = standardised(X)": "    A = standardised_X",
            },
        ),
        (
            LOOP,
            {
                "    # all epochs\n": "    # all epochs\n    A = np.tanh(data)\n",
                "            A = np.tanh(data)\n": "",
            },
        ),
        (
            ATTRIBUTES,
            {
                "        self.X = X\n": "        self.X = X\n        self.kept = self.X * 0.5 - 1\n",
                "        A = self.X * 0.5 - 1": "        A = self.kept",
            },
        ),
    ],
    ids=["global expression", "global call", "loop", "attribute"],
)
def test_it_is_computed_once(form, lines):
    text = HEAD + form
    cure, *_ = cures_of(text, recomputation)
    expected = text
    for old, new in lines.items():
        assert old in expected
        expected = expected[::-1].replace(old[::-1], new[::-1], 1)[::-1]  # the last one
    after = cured(text, cure)
    assert after == expected
    assert_trains_as(after, text)
