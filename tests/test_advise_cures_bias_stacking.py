"""The edit against stacked ones: products take slices of the weights, and the parameters stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.detect.bias_stacking import detect
from mlpprof.advise.editing.cure import applied

HEAD = """import numpy as np
rng = np.random.default_rng(3)
X, Y = rng.normal(0, 1, (60, 30)), rng.normal(0, 1, (60, 10))
W = rng.normal(0, 0.1, (31, 10))
U = np.ascontiguousarray(X.T)
V = rng.normal(0, 0.1, (10, 31))

"""

PLAIN = (
    """def step():
    global W
    with_ones = np.c_[np.ones(len(X)), X]  # with a column of ones
    error = np.tanh(with_ones @ W) - Y
    W = W - 0.01 * (with_ones.T @ error)
    return W
""",
    """def step():
    global W
    inputs = X  # with a column of ones
    error = np.tanh(inputs @ W[1:] + W[0]) - Y
    W = W - 0.01 * np.vstack((error.sum(axis=0), inputs.T @ error))
    return W
""",
)

IN_PRODUCT = (
    """def step():
    error = np.dot(V, np.vstack([np.ones((1, 60)), U])) - Y.T
    grad = error.dot(np.hstack((np.ones((60, 1)), X)))
    V[:] -= 0.01 * grad
    return V
""",
    """def step():
    error = (np.dot(V[:, 1:], U) + V[:, :1]) - Y.T
    grad = np.hstack((error.sum(axis=1, keepdims=True), error.dot(X)))
    V[:] -= 0.01 * grad
    return V
""",
)

STACKED_WEIGHTS = (
    """w, b = W[1:], np.zeros(10)
def step():
    z = np.insert(X, X.shape[1], 1, axis=1) @ np.vstack([w, b])
    error = 2 * np.tanh(np.insert(X, 0, 1, axis=1) @ np.vstack([b, 2 * w])) + z - Y
    b[:] -= 0.01 * error.sum(axis=0)
    return b
""",
    """w, b = W[1:], np.zeros(10)
def step():
    z = X @ w + b
    error = 2 * np.tanh(X @ (2 * w) + b) + z - Y
    b[:] -= 0.01 * error.sum(axis=0)
    return b
""",
)

HELPER = (
    """def with_ones(a):
    return np.concatenate((a, np.ones((len(a), 1))), axis=1)

class Net:
    def forward(self):
        self.inputs = []
        a = X
        for weights in [W]:
            self.inputs.append(with_ones(a))
            a = np.tanh(self.inputs[-1].dot(weights))
        return a

    def predict(self, x):
        return np.tanh(with_ones(x).dot(W))

net = Net()

def step():
    global W
    error = net.forward() - Y
    W = W - 0.01 * np.dot(net.inputs[0].T, error)
    return W
""",
    """def with_ones(a):
    return np.concatenate((a, np.ones((len(a), 1))), axis=1)

class Net:
    def forward(self):
        self.inputs = []
        a = X
        for weights in [W]:
            self.inputs.append(a)
            a = np.tanh(self.inputs[-1].dot(weights[:-1]) + weights[-1])
        return a

    def predict(self, x):
        return np.tanh(with_ones(x).dot(W))

net = Net()

def step():
    global W
    error = net.forward() - Y
    W = W - 0.01 * np.vstack((np.dot(net.inputs[0].T, error), error.sum(axis=0)))
    return W
""",
)


@pytest.mark.parametrize(
    "texts",
    [PLAIN, IN_PRODUCT, STACKED_WEIGHTS, HELPER],
    ids=["name", "in the product", "weights are stacked too", "helper"],
)
def test_the_edit_leaves_the_ones_out_and_trains_the_same(texts):
    text, wanted = (HEAD + one for one in texts)
    with recorded(text) as graph:
        cures = [cure for one in detect(graph) for cure in one.cures]
        assert {cure.kind for cure in cures} == {"safe"}
        new = applied(graph.trace.sources, cures)[FILE]
    assert new == wanted
    results = []
    for source in (text, new):
        space = {}
        exec(source, space)
        results.append([space["step"]() for _ in range(3)][-1])
    np.testing.assert_allclose(*results, rtol=1e-10)


@pytest.mark.parametrize(
    "use",
    ["W[0, 0] += 1e-9 * (with_ones * with_ones).sum()", "if W[0, 0] > 1e9: print(with_ones)", "kept = [with_ones]"],
)
def test_there_is_no_edit_where_something_else_uses_the_ones(use):
    with recorded(HEAD + PLAIN[0].replace("    return W", f"    {use}\n    return W")) as graph:
        (found,) = detect(graph)
    assert found.cures == ()
    assert found.cure.startswith("By hand: ")
