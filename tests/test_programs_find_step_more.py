"""The training step is found where parameters are changed in less usual ways, or where the data are changed as well."""

from __future__ import annotations

import pytest
from step_styles import HEAD, Styles, in_forks, steps_found
from test_programs_pause import Texts

from mlpprof.programs.find_step.watch_run import ProgramObserver, seek

STYLES: Styles = {
    "an optimizer that keeps arrays of arrays": (
        """
class Adam:
    def __init__(self):
        self.m = 0
    def step(self, weights, gradients):
        self.m += 0.1 * (gradients - self.m)
        return weights - 0.1 * self.m

class Net:
    def __init__(self):
        self.weights = np.empty(2, dtype=object)
        self.weights[:] = [rng.standard_normal((6, 4)), rng.standard_normal((4, 2))]
    def forward(self, x):
        self.kept = []
        for W in self.weights:
            self.kept.append(x)
            x = x @ W
        return x
    def backward(self, d):
        found = np.empty(2, dtype=object)
        for l in (1, 0):
            found[l] = self.kept[l].T @ d
            d = d @ self.weights[l].T
        return found

def main():
    net, adam = Net(), Adam()
    for epoch in range(3):
        for k in range(0, 64, 16):  # THE STEP
            out = net.forward(X[k : k + 16])
            net.weights = adam.step(net.weights, net.backward((out - Y[k : k + 16]) / 16))

main()
""",
        "loop",
    ),
    "layers that are made anew": (
        """
class Layer:
    def __init__(self, W):
        self.W = W
    def forward(self, x):
        self.x = x
        return x @ self.W
    def backward(self, d):
        return d @ self.W.T, Layer(self.W - 0.1 * self.x.T @ d)

def main():
    layers = [Layer(rng.standard_normal((6, 4))), Layer(rng.standard_normal((4, 2)))]
    for epoch in range(3):
        for k in range(0, 64, 16):  # THE STEP
            x, made = X[k : k + 16], []
            for layer in layers:
                x = layer.forward(x)
            d = x - Y[k : k + 16]
            for layer in reversed(layers):
                d, one = layer.backward(d)
                made.insert(0, one)
            layers = made

main()
""",
        "loop",
    ),
    "texts that become numbers, and folds": (
        """
rows = [[str(v) for v in row] for row in X]

def to_number(rows, column):
    for row in rows:
        row[column] = float(row[column].strip())

def centre(rows):
    means = [sum(column) / len(rows) for column in zip(*rows)]
    for row in rows:
        for i in range(len(row)):
            row[i] = row[i] - means[i]

for column in range(6):
    to_number(rows, column)
centre(rows)

def output(neuron, row):
    total = neuron["bias"]
    for i in range(len(row)):
        total += neuron["weights"][i] * row[i]
    return total

def forward(hidden, neurons, row):
    for neuron in hidden:
        neuron["output"] = output(neuron, row)
    return [output(neuron, [one["output"] for one in hidden]) for neuron in neurons]

def backward(hidden, neurons, errors):
    for i in range(len(hidden)):
        error = 0.0
        for neuron, one in zip(neurons, errors):
            error += neuron["weights"][i] * one
        hidden[i]["delta"] = error

def update(neurons, row, errors):
    for neuron, error in zip(neurons, errors):
        for i in range(len(row)):
            neuron["weights"][i] -= 0.01 * error * row[i]
        neuron["bias"] -= 0.01 * error

for fold in range(3):
    hidden = [{"weights": [0.1 * k] * 6, "bias": 0.0} for k in range(3)]
    neurons = [{"weights": [0.1 * k] * 3, "bias": 0.0} for k in range(2)]
    for epoch in range(4):
        for row, answer in zip(rows, Y.tolist()):  # THE STEP
            errors = [p - y for p, y in zip(forward(hidden, neurons, row), answer)]
            backward(hidden, neurons, errors)
            update(neurons, [one["output"] for one in hidden], errors)
            update(hidden, row, [one["delta"] for one in hidden])
""",
        "loop",
    ),
    "one list of numbers": (
        """
def output(w, x):
    return sum(v * u for v, u in zip(w, x))

def learn(w, x, y):
    error = output(w, x) - y
    for i in range(len(w)):
        w[i] -= 0.01 * error * x[i]

w, rows = [0.1] * 6, X.tolist()
for epoch in range(5):
    for x, y in zip(rows, Y[:, 0].tolist()):
        learn(w, x, y)
""",
        "learn",
    ),
    "parameters of functions": (
        """
def gradient(W, xs, ys):
    total = np.zeros_like(W)
    for x, y in zip(xs, ys):
        total = total + np.outer(x, x @ W - y)
    return total / len(xs)

def train(W):
    for epoch in range(3):
        for k in range(0, 64, 16):  # THE STEP
            W = W - 0.1 * gradient(W, X[k : k + 16], Y[k : k + 16])
    return W

train(rng.standard_normal((6, 2)))
""",
        "loop",
    ),
    "new parameters under a name of their own": (
        """
class Net:
    def __init__(self):
        self.W = rng.standard_normal((6, 2))
    def learn(self, x, y):
        d = (x @ self.W - y) / len(x)
        new = self.W - 0.1 * x.T @ d
        self.W = new

net = Net()
for epoch in range(3):
    for k in range(0, 64, 16):
        net.learn(X[k : k + 16], Y[k : k + 16])
""",
        "Net.learn",
    ),
    "a short training and a long evaluation with buffers": (
        """
class Net:
    def __init__(self):
        self.W, self.b, self.z = rng.standard_normal((6, 2)), np.zeros(2), np.zeros((16, 2))
    def forward(self, x):
        if len(x) != len(self.z):
            self.z = np.zeros((len(x), 2))
        np.matmul(x, self.W, out=self.z)
        self.z += self.b
        return self.z
    def fit(self):
        for k in range(0, 64, 16):  # THE STEP
            d = (self.forward(X[k : k + 16]) - Y[k : k + 16]) / 16
            self.W -= 0.1 * X[k : k + 16].T @ d
            self.b -= 0.1 * d.sum(axis=0)
    def score(self):
        return sum(float(np.square(self.forward(x[None]) - y).sum()) for x, y in zip(X, Y))
    def scores(self):
        for k in range(300):
            self.score()

net = Net()
for epoch in range(3):
    net.fit()
for k in range(2):
    net.scores()
""",
        "loop",
    ),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return steps_found(STYLES, tmp_path_factory.mktemp("styles"))


@in_forks
@pytest.mark.parametrize("style", STYLES)
def test_the_step_is_found_with(found, style):
    answer, step = found[style]
    assert answer == step


LONG_STEPS = """
import numpy as np
X, W = np.ones((20, 6)), np.ones((6, 2))
def step(x):
    global W
    watch.advance(1.6)
    W = W - 0.01 * x.T @ (x @ W)
for epoch in range(10):
    X = X[::-1]
    for half in (0, 10):
        step(X[half : half + 10])
"""


@pytest.mark.usefixtures("no_hooks_left")
def test_an_epoch_that_the_end_of_the_search_has_cut_short_is_not_taken_for_the_step(clock):
    found = seek(Texts(LONG_STEPS, watch=clock), observer=ProgramObserver(clock))
    assert len(found.seconds) == 3  # the search ends after the first half of the second epoch
    assert found.step == "net.py:step"


SLOW = {
    "layers of one size": """
class Layer:
    def __init__(self):
        self.W = 0.1 * np.ones((6, 6))
    def forward(self, x):
        watch.advance(1.0)
        self.x = x
        return x @ self.W
    def backward(self, d):
        watch.advance(1.0)
        self.dW = self.x.T @ d
        return d @ self.W.T
class Net:
    def __init__(self):
        self.layers = [Layer() for _ in range(6)]
    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x
    def backward(self, d):
        for layer in reversed(self.layers):
            d = layer.backward(d)
    def update(self):
        for layer in self.layers:
            layer.W -= 0.1 * layer.dW
net = Net()
for i in range(9):  # THE STEP
    net.backward(net.forward(X) - X)
    net.update()
""",
    "layers whose values keep a name of the program": """
Ws = [0.1 * np.ones((6, 6)) for _ in range(6)]
for i in range(9):  # THE STEP
    a, kept = X, []
    for W in Ws:
        kept.append(a)
        a = np.tanh(a @ W)
        watch.advance(1.0)
    d = a - X
    for l in reversed(range(6)):
        dW = kept[l].T @ d
        d = d @ Ws[l].T
        Ws[l] -= 0.1 * dW
        watch.advance(1.0)
""",
    "gradients that are summed by element": """
W, G = np.ones((2, 6)), np.asarray([[0.0] * 6] * 2)
for i in range(9):  # THE STEP
    G[:, :] = 0
    for x, y in zip(X[:4], Y[:4]):
        d = np.dot(W, x) - y
        for j in range(2):
            for k in range(6):
                G[j, k] += d[j] * x[k]
                watch.advance(0.2)
    W = W - 0.1 * G
""",
    "data that are scaled by element": """
X = np.array(X)
m, s = X.mean(axis=0), 1 + X.std(axis=0)
for i in range(len(X)):
    for j in range(6):
        X[i][j] = (X[i][j] - m[j]) / s[j]
        watch.advance(0.05)
W = np.ones((6, 2))
for i in range(9):  # THE STEP
    watch.advance(0.5)
    W = W - 0.01 * np.dot(X.T, np.dot(X, W) - Y)
""",
    "data that are centred once": """
def centre(X, Y):
    X -= X.mean(axis=0)
    watch.advance(9.0)
    Y -= Y.mean(axis=0)
centre(X, Y)
W = np.ones((6, 2))
for i in range(9):  # THE STEP
    watch.advance(0.5)
    W = W - 0.01 * X.T @ (X @ W - Y)
""",
    "activations in an array, and a slow way back": """
W, kept = np.ones((6, 2)), np.zeros((2, 2))
def forward(x):
    kept[:, 0] = np.dot(x, W)
    kept[:, 1] = np.tanh(kept[:, 0]) + 0 * np.dot(x, W)
    watch.advance(0.001)
for i in range(9):  # THE STEP
    G = np.zeros_like(W)
    for x, y in zip(X[:4], Y[:4]):
        forward(x)
        G += x[:, None] * (kept[:, 1] - y)
        watch.advance(2.0)
    W -= 0.1 * G
""",
}


class Patient(Texts):
    """A program that may take as long as it likes."""

    wait_s = float("inf")


@pytest.mark.usefixtures("no_hooks_left")
@pytest.mark.parametrize("slow", SLOW)
def test_the_step_does_not_depend_on_how_little_is_seen_in_the_first_seconds_of(slow, clock):
    text = HEAD + SLOW[slow]
    line = next(number for number, one in enumerate(text.splitlines(), start=1) if "THE STEP" in one)
    assert seek(Patient(text, watch=clock), observer=ProgramObserver(clock)).step == f"net.py:{line}"


NEW_PARAMETERS = """
import numpy as np
X = np.ones((20, 6))
def gradient(kept):
    kept["d"] = (kept["a"] - 1) / 20
    return np.dot(X.T, kept["d"])
def forward(p):
    kept = {"W": p["W"], "x": X}
    kept["a"] = np.dot(kept["x"], kept["W"])
    return kept
def train(p):
    for i in range(120):
        kept = forward(p)
        p = {"W": kept["W"] - 0.1 * gradient(kept)}
    return p
forward(train({"W": np.ones((6, 2))}))
"""


@pytest.mark.usefixtures("no_hooks_left")
@pytest.mark.parametrize("looking_s", [0.1, float("inf")])
def test_the_loop_is_the_step_where_new_parameters_are_made_of_old_ones(looking_s, ticking_clock):
    found = seek(Patient(NEW_PARAMETERS), observer=ProgramObserver(ticking_clock, looking_s))
    assert found.step == "net.py:12"


BIASES_FROM_ZEROS = """
import numpy as np
X = np.ones((6, 20))
class Net:
    def __init__(self):
        self.held = {}
        for i in (1, 2, 3):
            self.held[f"W{i}"] = np.full((6, 6), 0.1 * i)
            self.held[f"b{i}"] = np.zeros((6, 1))
    def forward(self, x):
        self.kept = {0: x}
        for i in (1, 2, 3):
            x = self.held[f"W{i}"] @ x + self.held[f"b{i}"]
            self.kept[i] = x.copy()
    def backward(self, d):
        for i in (3, 2, 1):
            self.kept[-i] = d
            d = self.held[f"W{i}"].T @ d
    def update(self):
        for i in (1, 2, 3):
            self.held[f"W{i}"] -= 1e-4 * self.kept[-i] @ self.kept[i - 1].T
            self.held[f"b{i}"] -= 1e-4 * self.kept[-i].sum(axis=1, keepdims=True)
net = Net()
for turn in range(200):
    net.forward(X)
    net.backward(net.kept[3] - 1)
    net.update()
"""


@pytest.mark.usefixtures("no_hooks_left")
def test_parameters_that_only_products_read_are_no_sums_though_biases_start_from_zeros(ticking_clock):
    assert seek(Patient(BIASES_FROM_ZEROS), observer=ProgramObserver(ticking_clock)).step == "net.py:24"
