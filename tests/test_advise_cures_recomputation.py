"""Cures of recomputation in each form of code: the lines that they change, and that the program trains the same."""

from __future__ import annotations

import pytest
from cured import assert_trains_as, cured, cures_of
from recorded_step import recorded

from mlpprof.advise.detect import recomputation

pytestmark = pytest.mark.timing  # a finding must take a share of the step

HEAD = """\
import numpy as np
rng = np.random.default_rng(0)
X, Y = rng.normal(0, 1, (300, 50)), rng.random((300, 10))
def sigmoid(z):
    return 1 / (1 + np.exp(-z))
def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))
"""

ATTRIBUTE_LISTS = """\
class Net:
    def __init__(self, sizes):
        self.W = [rng.normal(0, 0.1, (a, b)) for a, b in zip(sizes, sizes[1:])]
    def forward(self, x):
        self.zs, self.acts = [], [x]
        for i in range(len(self.W)):
            z = np.dot(self.acts[-1], self.W[i])
            self.zs.append(z)
            self.acts.append(sigmoid(z))
    def backward(self, y):
        delta = self.acts[-1] - y
        grads = []
        for i in range(len(self.W) - 1, -1, -1):
            grads.insert(0, np.dot(self.acts[i].T, delta))
            delta = np.dot(delta, self.W[i].T) * (sigmoid_prime(self.zs[i - 1]) if i > 0 else 1)  # back
        return grads
net = Net([50, 30, 20, 10])
def parameters():
    return net.W
def step():
    net.forward(X)
    for W, g in zip(net.W, net.backward(Y)):
        W -= 1e-3 * g
"""

STACKED = ATTRIBUTE_LISTS.replace("np.dot(self.acts[i].T, delta)", "np.dot(np.hstack((self.acts[i], Y)).T, delta)")
STACKED = STACKED.replace("W -= 1e-3 * g", "W -= 1e-3 * g[:-10]")

LOCAL_LISTS = """\
W = [rng.normal(0, 0.1, (b, a)) for a, b in zip([50, 30, 20, 10], [30, 20, 10])]
def parameters():
    return W
def backprop(x, y):
    activation, activations, zs, nabla = x, [x], [], [None] * 3
    for w in W:
        z = np.dot(w, activation)
        zs.append(z)
        activation = sigmoid(z)
        activations.append(activation)
    delta = (activations[-1] - y) * sigmoid_prime(zs[-1])
    nabla[-1] = np.dot(delta, activations[-2].T)
    for l in range(2, 4):
        z = zs[-l]
        sp = sigmoid_prime(z)
        delta = np.dot(W[-l + 1].T, delta) * sp
        nabla[-l] = np.dot(delta, activations[-l - 1].T)
    return nabla
def step():
    for w, g in zip(W, backprop(X.T, Y.T)):
        w -= 1e-3 * g
"""

DICTS = """\
P = {f"W{l}": rng.normal(0, 0.1, (b, a)) for l, a, b in zip((1, 2), [50, 30], [30, 10])}
def parameters():
    return P.values()
def forward(X):
    A, cache = X, {"A0": X}
    for l in range(1, 3):
        Z = np.dot(P["W" + str(l)], A)
        A = sigmoid(Z)
        cache["Z" + str(l)] = Z
        cache["A" + str(l)] = A
    return A, cache
def backprop(AL, Y, cache):
    grads = {}
    dZ = AL - Y
    for l in reversed(range(1, 3)):
        grads["W" + str(l)] = np.dot(dZ, cache["A" + str(l - 1)].T)
        if l > 1:
            Z = cache["Z" + str(l - 1)]
            dZ = np.dot(P["W" + str(l)].T, dZ) * sigmoid(Z) * (1 - sigmoid(Z))
    return grads
def step():
    A, cache = forward(X.T)
    grads = backprop(A, Y.T, cache)
    for k in P:
        P[k] -= 1e-3 * grads[k]
"""

LAYERS = """\
class Dense:
    def __init__(self, n, k):
        self.W = rng.normal(0, 0.1, (n, k))
    def forward(self, x):
        self.x = x
        self.z = x @ self.W
        a = np.tanh(self.z)
        return a
    def slope(self):
        return 1 - np.tanh(self.z) ** 2
    def backward(self, d):
        d = d * self.slope()
        back = d @ self.W.T
        self.W = self.W - 1e-3 * (self.x.T @ d)
        return back
layers = [Dense(50, 40), Dense(40, 10)]
def parameters():
    return [layer.W for layer in layers]
def step():
    a = X
    for layer in layers:
        a = layer.forward(a)
    g = a - Y
    for layer in reversed(layers):
        g = layer.backward(g)
"""

UNROLLED = """\
W1, W2 = rng.normal(0, 0.1, (50, 30)), rng.normal(0, 0.1, (30, 10))
def parameters():
    return W1, W2
def step():
    global W1, W2
    z1 = X @ W1
    a1 = sigmoid(z1)
    d2 = a1 @ W2 - Y
    dW2 = a1.T @ d2
    d1 = (d2 @ W2.T) * sigmoid_prime(z1)
    W1 = W1 - 1e-3 * (X.T @ d1)
    W2 = W2 - 1e-3 * dW2
"""

SOFTMAX = """\
W = rng.normal(0, 0.1, (50, 10))
def parameters():
    return [W]
def softmax(Z):
    # stable
    return np.exp(Z - Z.max(axis=1, keepdims=True)) / np.sum(np.exp(Z - Z.max(axis=1, keepdims=True)),
                                                             axis=1, keepdims=True)
def step():
    global W
    W = W - 1e-3 * (X.T @ (softmax(X @ W) - Y))
"""

EXP = "np.exp(Z - Z.max(axis=1, keepdims=True))"

LAMBDA = """\
W = rng.normal(0, 0.1, (50, 10))
def parameters():
    return [W]
slope = lambda z: np.tanh(z) * (1 - np.tanh(z))
def step():
    global W
    W = W - 1e-3 * (X.T @ slope(X @ W))
"""


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        (ATTRIBUTE_LISTS, {"sigmoid_prime(self.zs[i - 1])": "(self.acts[i] * (1 - self.acts[i]))"}),
        (STACKED, {"sigmoid_prime(self.zs[i - 1])": "(self.acts[i] * (1 - self.acts[i]))"}),
        (
            LOCAL_LISTS,
            {
                "sigmoid_prime(zs[-1])": "(activations[-1] * (1 - activations[-1]))",
                "sp = sigmoid_prime(z)": "sp = activations[-l] * (1 - activations[-l])",
            },
        ),
        (DICTS, {"sigmoid(Z) * (1 - sigmoid(Z))": 'cache["A" + str(l - 1)] * (1 - cache["A" + str(l - 1)])'}),
        (LAYERS, {"a = np.tanh(self.z)": "a = self.a = np.tanh(self.z)", "1 - np.tanh(self.z)": "1 - self.a"}),
        (UNROLLED, {"sigmoid_prime(z1)": "(a1 * (1 - a1))"}),
        (
            SOFTMAX,
            {
                f"return {EXP} / np.sum({EXP},": (
                    f"exp_value = {EXP}\n    return exp_value / np.sum(exp_value,"
                )
            },
        ),
        (LAMBDA, {"np.tanh(z) * (1 - np.tanh(z))": "(tanh_z := np.tanh(z)) * (1 - tanh_z)"}),
    ],
    ids=["attribute lists", "stacked", "local lists", "dicts", "layers", "unrolled", "softmax", "lambda"],
)  # fmt: skip
def test_the_first_value_takes_the_place_of_the_second(form, lines):
    first, *_ = cures_of(HEAD + form, recomputation)
    expected = form
    for old, new in lines.items():
        expected = expected.replace(old, new)
    text = cured(HEAD + form, first)
    assert text == HEAD + expected
    assert_trains_as(text, HEAD + form, rtol=1e-12)


def test_a_derivative_that_evaluates_twice_is_offered_with_one_evaluation_as_an_alternative():
    _, second = cures_of(HEAD + UNROLLED, recomputation)
    text = cured(HEAD + UNROLLED, second)
    assert "    sigmoid_z = sigmoid(z)\n    return sigmoid_z * (1 - sigmoid_z)\n" in text
    assert_trains_as(text, HEAD + UNROLLED)


LOSS_BEFORE = """\
W = rng.normal(0, 0.1, (50, 10))
kept = {}
def parameters():
    return [W]
def activated(x, function):
    kept["z"] = x @ W
    return function(kept["z"])
def loss(a):
    return -np.mean(Y * np.log(a) + (1 - Y) * np.log(1 - a))
def gradient(delta, derivative):
    return X.T @ (delta * derivative(kept["z"]))
def step():
    global W
    a = activated(X, sigmoid)
    print(loss(a))
    W = W - 1e-3 * gradient(a - Y, sigmoid_prime)
"""


def test_a_loss_that_computed_a_part_before_does_not_keep_the_derivative_from_evaluating_once():
    first, *_ = cures_of(HEAD + LOSS_BEFORE, recomputation, line=7)
    text = cured(HEAD + LOSS_BEFORE, first)
    assert "    sigmoid_z = sigmoid(z)\n    return sigmoid_z * (1 - sigmoid_z)\n" in text
    assert_trains_as(text, HEAD + LOSS_BEFORE)


LAST_LAYER = """\
class Net:
    def __init__(self):
        self.W = [rng.normal(0, 0.1, (50, 30)), rng.normal(0, 0.1, (30, 10))]
    def forward(self, x):
        self.zs, self.outs = [], [x]
        for w in self.W:
            self.zs.append(self.outs[-1] @ w)
            self.outs.append(sigmoid(self.zs[-1]))
    def backward(self, x, y):
        self.forward(x)
        return self.outs[-2].T @ ((self.outs[-1] - y) * sigmoid_prime(self.zs[-1]))
net = Net()
def parameters():
    return net.W
def step():
    net.W[1] -= 1e-3 * net.backward(X, Y)
"""


def test_the_last_layer_of_any_network_stays_the_last_one():
    first, *_ = cures_of(HEAD + LAST_LAYER, recomputation)
    text = cured(HEAD + LAST_LAYER, first)
    new = LAST_LAYER.replace("sigmoid_prime(self.zs[-1])", "(self.outs[-1] * (1 - self.outs[-1]))")
    assert text == HEAD + new
    assert_trains_as(text, HEAD + LAST_LAYER)


def test_a_value_that_is_changed_in_place_later_is_not_kept():
    changed = UNROLLED.replace("    dW2 =", "    a1 *= 0.5\n    dW2 =")
    assert cures_of(HEAD + changed, recomputation, line=7) == ()


TAPE = """\
class Node:
    def __init__(self, data):
        self.data, self.back = data, None
    def tanh(self):
        made = Node(np.tanh(self.data))
        def back():
            return made.grad * (1 - np.tanh(self.data) ** 2)
        made.back = back
        return made
W = rng.normal(0, 0.1, (50, 10))
def parameters():
    return [W]
def step():
    global W
    out = Node(X @ W).tanh()
    out.grad = out.data - Y
    W = W - 1e-3 * (X.T @ out.back())
"""


def test_a_closure_uses_what_its_variables_hold():
    first, *_ = cures_of(HEAD + TAPE, recomputation)
    text = cured(HEAD + TAPE, first)
    assert text == HEAD + TAPE.replace("(1 - np.tanh(self.data) ** 2)", "(1 - made.data ** 2)")
    assert_trains_as(text, HEAD + TAPE)


def test_two_evaluations_in_one_line_share_one_attribute():
    twice = LAYERS.replace("1 - np.tanh(self.z) ** 2", "1 - np.tanh(self.z) * np.tanh(self.z)")
    twice = twice.replace("        a = np.tanh(self.z)\n        return a", "        return np.tanh(self.z)")
    first, *_ = cures_of(HEAD + twice, recomputation)
    text = cured(HEAD + twice, first)
    assert "        self.tanh_z = np.tanh(self.z)\n        return self.tanh_z\n" in text
    assert "return 1 - self.tanh_z * self.tanh_z" in text
    assert_trains_as(text, HEAD + twice, rtol=1e-12)


def test_an_item_that_stands_outside_the_loop_does_not_take_the_place_of_one_within():
    one_turn = LOCAL_LISTS.replace("[50, 30, 20, 10], [30, 20, 10]", "[50, 30, 10], [30, 10]").replace("* 3", "* 2")
    one_turn = one_turn.replace("range(2, 4)", "range(2, 3)")
    for cure in cures_of(HEAD + one_turn, recomputation):
        assert "sp = activations[-2]" not in cured(HEAD + one_turn, cure)


TWO_LAYERS = """\
class Net:
    def __init__(self):
        self.W = [rng.normal(0, 0.1, (50, 30)), rng.normal(0, 0.1, (30, 10))]
        self.z, self.a = [None] * 3, [None] * 3
        self.activation, self.prime = self.sigmoid, self.sigmoid_prime
    def sigmoid(self, z):
        return 1 / (1 + np.exp(-z))
    def sigmoid_prime(self, z):
        return np.multiply(self.sigmoid(z), 1 - self.sigmoid(z))
    def step(self):
        self.z[1] = X @ self.W[0]
        self.a[1] = self.activation(self.z[1])
        self.a[2] = self.a[1] @ self.W[1]
        delta = self.a[2] - Y
        inner = (delta @ self.W[1].T) * self.prime(self.z[1])
        self.W[0] -= 1e-3 * (X.T @ inner)
        self.W[1] -= 1e-3 * (self.a[1].T @ delta)
net = Net()
def parameters():
    return net.W
def step():
    net.step()
"""


def test_a_derivative_that_works_for_any_layer_does_not_get_the_value_of_one():
    text = HEAD + TWO_LAYERS
    with recorded(text) as graph:
        [found] = recomputation.detect(graph)
    assert found.title == "`self.sigmoid(z)` computes again what the same line has already computed"
    assert found.evidence["times_per_step"] == 1  # the edit leaves one of the two
    assert found.cures
    for cure in found.cures:
        after = cured(text, cure)
        [derivative] = [line for line in after.split("\n") if "np.multiply" in line]
        assert "self.a" not in derivative
        assert "kept" not in derivative
        # a second hidden layer has another value
        exec(after, space := {})
        assert abs(space["net"].prime(0.0) - 0.25) < 1e-12
