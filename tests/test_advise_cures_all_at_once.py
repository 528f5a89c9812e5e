"""Loops over rows, columns, neurons and numbers become operations on the whole arrays, with the same results."""

from __future__ import annotations

import pytest
from cured import assert_trains_as, cured, cures_of

from mlpprof.advise.detect import neuron_loop, sample_loop, slow_primitive

HEAD = """import math
import numpy as np
rng = np.random.default_rng(3)
X, W, b, D = rng.normal(0, 1, (60, 30)), rng.normal(0, 1, (30, 12)), rng.normal(0, 1, 12), rng.normal(0, 1, (60, 12))
c = np.zeros((12, 1))
class Net: pass
net = Net()
net.w, net.hidden, net.n_in, net.n_hidden = rng.normal(0, 0.4, (30, 12)), np.zeros(12), 30, 12
def parameters():
    return [W, b, net.hidden]
def step():
"""


@pytest.mark.parametrize(
    ("detector", "before", "after"),
    [
        pytest.param(
            neuron_loop,
            "    Z = np.stack([X @ W[:, j] for j in range(12)], axis=1)\n    W[...] -= 0.1 * X.T @ np.tanh(Z)\n",
            "    Z = X @ W\n    W[...] -= 0.1 * X.T @ np.tanh(Z)\n",
            id="columns-of-a-product",
        ),
        pytest.param(
            neuron_loop,
            "    Z = np.array([X @ w + k for w, k in zip(W.T, np.ravel(c))]).T\n    W[...] -= 0.1 * X.T @ np.tanh(Z)\n",
            "    Z = X @ W + np.ravel(c)\n    W[...] -= 0.1 * X.T @ np.tanh(Z)\n",
            id="neurons-of-a-sum",
        ),
        pytest.param(
            neuron_loop,
            "    Z = np.zeros((12, 60))\n    for j in range(12):\n        Z[j] = W.T[j] @ X.T + c[j]\n"
            "    W[...] -= 0.1 * X.T @ np.tanh(Z.T)\n",
            "    Z = W.T @ X.T + c\n    W[...] -= 0.1 * X.T @ np.tanh(Z.T)\n",
            id="a-loop-that-fills-rows",
        ),
        pytest.param(
            neuron_loop,
            "    for j in range(len(W)):  # update\n        W[j] -= 0.1 * (X.T @ D)[j]\n",
            "    W[:] -= 0.1 * (X.T @ D)  # update\n",
            id="rows-of-a-product-that-every-turn-computes",
        ),
        pytest.param(
            neuron_loop,
            "    for j, g in np.ndenumerate(X.T @ D):\n        W[j] -= 0.1 * g\n",
            None,
            id="entries-of-something-without-a-name",
        ),
        pytest.param(
            neuron_loop,
            "    G = X.T @ D\n    for j, g in np.ndenumerate(G):\n        W[j] -= 0.1 * g\n",
            "    G = X.T @ D\n    W[:] -= 0.1 * G\n",
            id="entries",
        ),
        pytest.param(
            neuron_loop,
            "    x = X[0]\n    for j in range(net.n_hidden):\n        total = 0.0\n        for i in range(net.n_in):\n"
            "            total += x[i] * net.w[i, j]\n        net.hidden[j] = 1.0 / (1.0 + math.exp(-total))\n",
            "    x = X[0]\n"
            "    net.hidden[:net.n_hidden] = 1.0 / (1.0 + np.exp(-(x @ net.w[:net.n_in, :net.n_hidden])))\n",
            id="single-numbers",
        ),
        pytest.param(
            neuron_loop,
            "    total = 0.0\n    for k in range(12):\n        total += b[k] * D[0][k]\n    b[:] = b * 0.9\n"
            "    return k\n",
            None,
            id="a-variable-that-later-code-reads",
        ),
        pytest.param(
            sample_loop,
            "    W[...] -= 0.1 * sum(np.outer(a, d) for a, d in zip(X, D))\n",
            "    W[...] -= 0.1 * (X.T @ D)\n",
            id="a-sum-of-outer-products",
        ),
        pytest.param(
            neuron_loop,
            "    d = [0.0] * 12\n    for k in range(12):\n        d[k] = (b[k] - 1.0) * b[k]\n"
            "    b[:] -= 0.1 * np.asarray(d)\n",
            "    d = (b[:12] - 1.0) * b[:12]\n    b[:] -= 0.1 * np.asarray(d)\n",
            id="a-list-of-numbers",
        ),
        pytest.param(
            slow_primitive,
            "    x = np.empty((0, 30))\n    for row in X:\n        x = np.append(x, row.reshape(1, 30), axis=0)\n"
            "    W[...] -= 0.1 * x.T @ np.tanh(x @ W)\n",
            "    x = np.array(X)\n    W[...] -= 0.1 * x.T @ np.tanh(x @ W)\n",
            id="rows-that-are-appended",
        ),
        pytest.param(
            sample_loop,
            "    Z = np.array(list(map(lambda row: row @ W, X)))\n    W[...] -= 0.1 * X.T @ np.tanh(Z)\n",
            "    Z = X @ W\n    W[...] -= 0.1 * X.T @ np.tanh(Z)\n",
            id="map",
        ),
    ],
)
def test_a_loop_becomes_operations_on_whole_arrays(detector, before, after):
    cures = cures_of(HEAD + before, detector)
    if after is None:
        assert not cures
        return
    assert cured(HEAD + before, cures[0]) == HEAD + after
    assert_trains_as(HEAD + before, HEAD + after, rtol=1e-9)
