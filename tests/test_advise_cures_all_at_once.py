"""Loops over rows, columns, neurons and numbers become operations on the whole arrays, with the same results."""

from __future__ import annotations

import pytest
from cured import assert_trains_as, cured, cures_of
from recorded_step import recorded

from mlpprof.advise.detect import neuron_loop, sample_loop, slow_primitive

HEAD = """import math
import numpy as np
rng = np.random.default_rng(3)
X, W, b, D = rng.normal(0, 1, (60, 30)), rng.normal(0, 1, (30, 12)), rng.normal(0, 1, 12), rng.normal(0, 1, (60, 12))
c = np.zeros((12, 1))
l = rng.uniform(0, 9, 60)
u8, f32 = rng.integers(0, 9, 60).astype(np.uint8), rng.normal(0, 1, 60).astype(np.float32)
y, hist = rng.integers(0, 12, 60), np.zeros(60)
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
            "    W[:] -= 0.1 * (X.T @ D)[:len(W)]  # update\n",
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
            "    net.hidden[:net.n_hidden] = 1.0 / (1.0 + np.exp(-(x[:net.n_in] @ net.w[:net.n_in, :net.n_hidden])))\n",
            id="single-numbers",
        ),
        pytest.param(
            neuron_loop,
            "    total = 0.0\n    for row in X:\n        for v in row:\n            total += v\n    b[0] -= total\n",
            None,
            id="numbers-of-rows-that-were-not-recorded",
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


USES_HIST = "    b[:] -= 0.1 * hist[:12]\n"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(
            "    total = 0.0\n    for i in range(60):\n        total += l[i]\n        hist[i] = total\n" + USES_HIST,
            id="a-sum-that-is-read-as-it-grows",
        ),
        pytest.param(
            "    avg = 0.0\n    for i in range(60):\n        avg = 0.9 * avg + 0.1 * l[i]\n        hist[i] = avg\n"
            + USES_HIST,
            id="a-moving-average",
        ),
        pytest.param(
            "    w = 0.0\n    for i in range(60):\n        w += 0.1 * (l[i] - w)\n    b[:] -= w\n",
            id="a-sum-of-what-it-is",
        ),
        pytest.param(
            "    for i in range(60):\n        hist[i] = 2.0 * l[i] - hist[0]\n" + USES_HIST,
            id="a-place-that-an-earlier-turn-has-stored",
        ),
        pytest.param(
            "    old = np.zeros(60)\n    for i in range(60):\n        t = hist[i]\n        hist[i] = l[i] * 2.0\n"
            "        old[i] = t\n    b[:] -= 0.1 * old[:12]\n",
            id="a-value-from-before-a-store",
        ),
        pytest.param(
            "    counts = np.zeros(12)\n    for k, v in zip(y, l):\n        counts[k] += v\n    b[:] -= 0.1 * counts\n",
            id="indices-that-occur-twice",
        ),
        pytest.param(
            "    for i in range(60):\n        hist[i] = max(l[i], 2.0, f32[i])\n" + USES_HIST,
            id="the-largest-of-three",
        ),
        pytest.param(
            "    G = X.T @ D\n    for w, g in zip(W, G):\n        w -= 0.1 * g\n",
            id="rows-that-are-changed-in-place",
        ),
        pytest.param(
            "    G = X.T @ D\n    for j in range(30):\n        w = W[j]\n        w -= 0.1 * G[j]\n",
            id="a-view-that-is-changed-in-place",
        ),
        pytest.param(
            "    total = 0.0\n    for i in range(60):\n        for j in range(i):\n            total += l[j] * l[i]\n"
            "    b[:] -= 0.001 * total\n",
            id="an-inner-loop-that-grows",
        ),
        pytest.param(
            "    for i in range(60):\n        last = l[i] * 2.0\n        hist[i] = last\n    if b[0] > 0:\n"
            "        last += 1.0\n" + USES_HIST,
            id="a-variable-that-later-code-adds-to",
        ),
        pytest.param(
            "    for i in range(60):\n        last = l[i] * 2.0\n        hist[i] = last\n    last = last + 1.0\n"
            + USES_HIST,
            id="a-variable-that-later-code-reads-to-set-it",
        ),
        pytest.param(
            "    out = [0.0] * 60\n    for i in range(60):\n        out[i] = l[i] * 2.0\n    if b[0] > 100:\n"
            "        out = out + [1.0]\n    b[:] -= 0.1 * np.asarray(out)[:12]\n",
            id="a-list-that-is-used-as-one",
        ),
    ],
)
def test_a_loop_that_whole_arrays_would_compute_in_another_way_stays(lines):
    with recorded(HEAD + lines) as graph:
        found = neuron_loop.detect(graph)
        assert found
        assert not [cure for one in found for cure in one.cures]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            "    Z = np.zeros((60, 30))\n    for i in range(60):\n        Z[i] = X[i]\n    Z -= Z.mean()\n"
            "    W[...] -= 0.1 * Z.T @ D\n",
            "    Z = np.zeros((60, 30))\n    Z[:] = X\n    Z -= Z.mean()\n    W[...] -= 0.1 * Z.T @ D\n",
            id="a-copy",
        ),
        pytest.param(
            "    Z = np.zeros(60, dtype=int)\n    for i in range(60):\n        Z[i] = l[i] * 0.5\n"
            "    b[:] -= 0.1 * Z[:12]\n",
            "    Z = np.zeros(60, dtype=int)\n    Z[:] = l[:60] * 0.5\n    b[:] -= 0.1 * Z[:12]\n",
            id="integers",
        ),
        pytest.param(
            "    Z = np.zeros(60)\n    for i in range(60):\n        Z[i] = f32[i] * f32[i]\n    b[:] -= 0.1 * Z[:12]\n",
            "    Z = np.zeros(60)\n    Z[:] = f32[:60] * f32[:60]\n    b[:] -= 0.1 * Z[:12]\n",
            id="float32-in-float64",
        ),
        pytest.param(
            "    for i in range(60):\n        hist[i] = (float(u8[i]) - 5.0) * math.exp(f32[i])\n" + USES_HIST,
            "    hist[:] = (np.array(u8[:60], dtype=float) - 5.0) * np.exp(np.array(f32[:60], dtype=float))\n"
            + USES_HIST,
            id="numbers-of-python",
        ),
        pytest.param(
            "    p, q = X[:, 0] > 0, X[:, 1] > 0\n    tp = 0.0\n    for i in range(60):\n"
            "        tp += p[i] * q[i]\n    b[:] -= 0.1 * tp\n",
            "    p, q = X[:, 0] > 0, X[:, 1] > 0\n    tp = 0.0\n    tp += np.sum(p[:60] * q[:60])\n"
            "    b[:] -= 0.1 * tp\n",
            id="booleans",
        ),
        pytest.param(
            "    n = 60\n    for i in range(n):\n        hist[i] = l[i] * 2.0\n" + USES_HIST,
            "    n = 60\n    hist[:n] = l[:n] * 2.0\n" + USES_HIST,
            id="a-number-of-turns-that-may-change",
        ),
        pytest.param(
            "    n, size = X.shape\n    z = np.zeros(n)\n    for i in range(n):\n        z[i] = X[i] @ W[:, 0]\n"
            "    b[:] -= 0.1 * z[:12]\n",
            "    n, size = X.shape\n    z = X @ W[:, 0]\n    b[:] -= 0.1 * z[:12]\n",
            id="a-number-that-is-the-length",
        ),
    ],
)
def test_arrays_keep_their_own_memory_and_their_dtypes(before, after):
    cures = cures_of(HEAD + before, neuron_loop) or cures_of(HEAD + before, sample_loop)
    assert cured(HEAD + before, cures[0]) == HEAD + after
    assert_trains_as(HEAD + before, HEAD + after, rtol=1e-12)
