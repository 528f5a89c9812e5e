"""The edit against float64: after it, the step holds no array of float64, and computes the same up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.cures.float64 import in_float32
from mlpprof.advise.editing.cure import applied

FUNCTIONS = """
import numpy as np
np.random.seed(1)
X = np.random.randint(0, 256, (64, 20)).astype(np.uint8)
X, labels = X / 255.0, np.random.randint(0, 10, 64)  # the data
W = np.random.randn(20, 10) * np.sqrt(2 / 20)
b = np.zeros(10)
angle = np.linspace(0, 3, 50)

def step():
    global W, b
    A = 1 / (1 + np.exp(-(X @ W + b)))
    delta = A - np.eye(10)[labels]
    W = W - 0.1 * (X.T @ delta)
    b = b - 0.1 * delta.sum(axis=0)
    return W
"""

CLASS = """
import numpy as np
rng = np.random.default_rng(1)

class Net:
    def __init__(self, sizes):
        self.W = [rng.normal(0, 0.1, size=(a, b)) for a, b in zip(sizes, sizes[1:])]
        self.b = []
        for n in sizes[1:]:
            self.b.append(
                np.zeros(
                    (1, n),
                )
            )
        self.v = [np.zeros(w.shape) for w in self.W]
        self.s = {i: np.zeros_like(w) for i, w in enumerate(self.W)}
        self.t = 0

    def train(self, x, y):
        acts = [x]
        for w, b in zip(self.W, self.b):
            acts.append(np.tanh(acts[-1] @ w + b))
        delta = acts[-1] - y
        self.t += 1
        rate = 0.01 * np.sqrt(1 - 0.999 ** self.t)
        for i in reversed(range(len(self.W))):
            self.v[i] = 0.9 * self.v[i] + acts[i].T @ delta
            self.s[i] = 0.99 * self.s[i] + 0.01 * self.v[i] ** 2
            delta = delta @ self.W[i].T * np.where(acts[i] > 0, 1.0, 0.5)
            self.W[i] = self.W[i] - rate * self.v[i] / (np.sqrt(self.s[i]) + 1e-3)
        return self.W[0]

def batches(x, y):
    return [(x[i : i + 16], y[i : i + 16]) for i in range(0, 32, 16)]

def load():
    x = np.array([[float(i * j % 7) for j in range(20)] for i in range(32)])
    return x / x.max(), (x[:, :5] > 3).astype(int)

data = batches(*load())
net = Net([20, 12, 5])

def step():
    for x, y in data:
        last = net.train(x, y)
    return last
"""

UNPACKED = """
import numpy as np
from collections import deque
from json import loads

DTYPE = np.float64
rows = loads("[[1.5, 2.5, 3.5, 4.5], [5.5, 6.5, 7.5, 8.5]]")
left, right = np.split(np.asarray(rows), 2)
params = {"W": np.full((4, 3), 0.1, dtype=DTYPE), "b": np.zeros(3, float)}
history = deque([np.ones((1, 3))])

def forward(params, x):
    return x @ params["W"] + params["b"] + history[0]

def step():
    delta = forward(params, left) - forward(params, right).astype(float)
    params["W"] = params["W"] - 0.1 * (left.T @ delta)
    return params["W"]
"""

SEVERAL_NAMES = """
from numpy import ones, random, zeros

random.seed(1)
X = random.rand(8, 4)
W = zeros((4, 3)) + 0.1

def step():
    global W
    W = W - 0.1 * (X.T @ (X @ W - ones((8, 3))))
    return W
"""

ADDED_ITEMS = """
import numpy as np
rng = np.random.default_rng(1)
X = rng.normal(0, 1, (8, 4))
p = {"W": rng.normal(0, 1, (4, 3))}
p |= {"V": rng.normal(0, 1, (3, 2))}
p.update({"b": np.zeros(2)})

def step():
    A = np.tanh(X @ p["W"])
    d = A @ p["V"] + p["b"]
    p["V"] = p["V"] - 0.1 * (A.T @ d)
    p["b"] = p["b"] - 0.1 * d.sum(axis=0)
    return p["V"]
"""


def doubles(graph):
    """The operations of the step that read or make more than one number of float64."""
    return [
        graph.text(event)
        for event in graph.turn
        if not event.is_own
        for value in (*event.inputs, *([event.output] if event.output is not None else []))
        if value.is_array and value.dtype == "float64" and value.size > 1
    ]


def patched(text):
    with recorded(text) as graph:
        found = in_float32(graph)
        assert found is not None
        assert doubles(graph)
        return applied(graph.trace.sources, [found.cures[0]])[FILE]


def parameters(text):
    space = {}
    exec(text, space)
    for _ in range(3):
        weights = space["step"]()
    return weights


@pytest.mark.parametrize(
    "text",
    [FUNCTIONS, CLASS, UNPACKED, SEVERAL_NAMES, ADDED_ITEMS],
    ids=["functions", "class", "unpacked", "several names", "items added to a dictionary"],
)
def test_after_the_edit_the_step_holds_no_float64_and_trains_the_same(text):
    new = patched(text)
    with recorded(new) as graph:
        assert doubles(graph) == []
    before, after = parameters(text), parameters(new)
    assert after.dtype == np.float32
    np.testing.assert_allclose(after, before, rtol=2e-4, atol=1e-5)


def test_only_what_reaches_the_step_is_changed_and_comments_stay():
    new = patched(FUNCTIONS)
    changed = [line for line in new.splitlines() if line not in FUNCTIONS.splitlines()]
    assert changed == [
        "X, labels = (X / 255.0).astype(np.float32), np.random.randint(0, 10, 64)  # the data",
        "W = (np.random.randn(20, 10) * np.sqrt(2 / 20)).astype(np.float32)",
        "b = np.zeros(10, dtype=np.float32)",
        "    delta = A - np.eye(10, dtype=np.float32)[labels]",
    ]


def test_a_parameter_that_other_calls_give_as_a_plain_number_is_converted_in_a_way_that_takes_both():
    text = """
import numpy as np
rng = np.random.default_rng(1)
X, y, W = rng.normal(0, 1, (8, 4)), rng.integers(0, 2, (8, 1)), rng.normal(0, 1, (4, 1))

def error(output, target):
    return output - target

def step():
    global W
    W = W - 0.1 * (X.T @ error(X @ W, y))
    return W

print(error(X[:1] @ W, 1))
"""
    new = patched(text)
    assert "    return output - np.float32(target)\n" in new
    np.testing.assert_allclose(parameters(new), parameters(text), rtol=1e-4)


def test_numbers_that_numpy_computed_from_numbers_become_floats_of_python():
    assert "rate = float(0.01 * np.sqrt(1 - 0.999 ** self.t))" in patched(CLASS)


def test_what_a_library_returns_in_parts_is_converted_after_the_statement():
    new = patched(UNPACKED)
    assert "2)\nleft = left.astype(np.float32)\nright = right.astype(np.float32)\n" in new
    assert "DTYPE = np.float32\n" in new
    assert '"b": np.zeros(3, np.float32)' in new
    assert "forward(params, right).astype(np.float32)" in new


def test_what_the_next_statement_converts_is_converted_once():
    new = patched(UNPACKED.replace("params =", "right = right.astype(np.float64)\nparams =", 1))
    assert new.count("right = right.astype(np.float32)\n") == 1
    assert "left = left.astype(np.float32)\n" in new


def test_a_program_in_float32_gets_no_edit():
    new = patched(FUNCTIONS)
    with recorded(new) as graph:
        assert in_float32(graph) is None


WITHOUT_ARRAYS = """
import numpy as np
rng = np.random.default_rng(1)
X = rng.normal(0, 1, (64, 20))
held = {}

class Conv:
    def __init__(self):
        self.W = rng.normal(0, 1, (3, 3))
        self.b = np.zeros((3, 3))

class Net:
    def __init__(self, decay=0.0):
        self.zs, self.acts = list(), list()
        self.W, self.decay = rng.normal(0, 1, (20, 10)), decay
        self.activation = self.tanh

    def tanh(self, z):
        return np.tanh(z)

    def loss(self, a):
        return np.mean(a * a).item()

    def step(self, x):
        self.acts = [x]
        self.acts.append(self.activation(x @ self.W))
        m = held.get("m")
        if m is None:
            m = held["m"] = np.zeros_like(self.W)
        gradient = self.acts[0].T @ self.acts[1]
        if self.decay:
            gradient = gradient + self.decay * self.W
        m *= 0.9
        m += gradient
        self.W -= 1e-3 * m
        a = self.loss(self.acts[1])
        return self.W

net = Net()
a = [(np.argmax(net.W), 1)]
labels = np.frombuffer(bytes(64), np.uint8)

def step():
    return net.step(X)
"""


def test_what_gives_no_array_gets_no_cast_and_neither_does_a_branch_that_did_not_run():
    with recorded(WITHOUT_ARRAYS) as graph:
        found = in_float32(graph)
    text = applied(graph.trace.sources, [found.cures[0]])[FILE]
    changed = [line for line, old in zip(text.split("\n"), WITHOUT_ARRAYS.split("\n"), strict=True) if line != old]
    assert {line.split("=")[0].strip() for line in changed} == {"X", "self.W", "self.W, self.decay"}
    assert WITHOUT_ARRAYS.split("\n")[found.places[0].line - 1].startswith("X =")


OF_A_LIBRARY = """
import numpy as np
from random import choice
rng = np.random.default_rng(1)
W = rng.normal(0, 1, (20, 10))
X = choice([np.full((8, 20), 0.5)])

def step():
    global W
    W = W - 0.1 * (X.T @ (X @ W))
    return W
"""


def test_without_a_change_that_may_be_impossible_there_is_a_second_cure():
    with recorded(OF_A_LIBRARY) as graph:
        found = in_float32(graph)
        first, second = found.cures
    assert [site.line for site in found.unsure] == [6]
    texts = [applied(graph.trace.sources, [one])[FILE] for one in (first, second)]
    assert [text.count(".astype(np.float32)") for text in texts] == [2, 1]
    assert "X = choice([np.full((8, 20), 0.5)])\n" in texts[1]


PASSED_ON = """def load(name):
    made = {"flat": lambda n: (np.full((n, 20), 0.5), [1] * n)}[name]
    return made(8)
X, y = load('flat')"""


def test_what_a_function_passes_on_in_parts_is_converted_where_it_is_unpacked():
    text = OF_A_LIBRARY.replace("X = choice([np.full((8, 20), 0.5)])", PASSED_ON)
    with recorded(text) as graph:
        found = in_float32(graph)
    after = applied(graph.trace.sources, [found.cures[0]])[FILE]
    assert "X, y = load('flat')\nX = X.astype(np.float32)\n" in after
    assert "return made(8)\n" in after


TUPLE_IN_A_RECORD = """
from dataclasses import dataclass
import numpy as np
X = np.random.default_rng(1).normal(0, 1, (64, 20))

@dataclass
class State:
    W: np.ndarray
    momentum: tuple

state = State(np.full((20, 10), 0.5), (np.zeros((20, 10)), 0.9))

def step():
    v, mu = state.momentum
    return X @ (state.W + mu * v)
"""


def test_an_attribute_of_which_the_first_part_is_unpacked_is_no_array_itself():
    with recorded(TUPLE_IN_A_RECORD) as graph:
        found = in_float32(graph)
    after = applied(graph.trace.sources, [found.cures[0]])[FILE]
    assert "(state.W.astype(np.float32) + mu * v)" in after
    assert "v, mu = state.momentum\n" in after


CALLED_OBJECT = """
import numpy as np
rng = np.random.default_rng(1)
X, W = rng.normal(0, 1, (64, 20)), rng.normal(0, 1, (20, 10))

class Softmax:
    def __call__(self, Z):
        E = np.exp(Z)
        return E / E.sum(axis=1, keepdims=True)

activation = Softmax()

def step():
    global W
    acts = [X]
    acts.append(activation(acts[0] @ W))
    W = W - 0.01 * (acts[0].T @ acts[1])
    return W
"""


def test_an_activation_that_is_an_object_with_a_call_is_followed_like_a_function():
    with recorded(CALLED_OBJECT) as graph:
        found = in_float32(graph)
    assert {site.line for site in found.places} == {4}


OF_LISTS = """
import numpy as np
rng = np.random.default_rng(1)
X, Y = rng.normal(0, 1, (64, 20)), rng.normal(0, 1, (64, 3))
W = rng.normal(0, 0.1, (20, 3))
data = np.c_[Y, X]
batches = np.split(X, 4, axis=0)
x = batches[1]

def step():
    global W
    for batch in batches:
        W = W - 0.1 * (batch.T @ (batch @ W))
    W = W - 0.1 * (data[:, 3:].T @ (x[:1] @ W + data[:, :3]))
    return W
"""


def test_what_joins_arrays_and_lists_of_arrays_get_no_cast_but_the_joined_array_and_what_is_split_do():
    with recorded(OF_LISTS) as graph:
        found = in_float32(graph)
    text = applied(graph.trace.sources, [found.cures[0]])[FILE]
    changed = [line for line, old in zip(text.split("\n"), OF_LISTS.split("\n"), strict=True) if line != old]
    assert changed == [
        "X, Y = rng.normal(0, 1, (64, 20)).astype(np.float32), rng.normal(0, 1, (64, 3))",
        "W = rng.normal(0, 0.1, (20, 3)).astype(np.float32)",
        "data = np.c_[Y, X].astype(np.float32)",
    ]


IN_BRANCHES = """
import numpy as np
X = np.linspace(0, 1, 1280).reshape(64, 20)

def weights(kind, n, m):
    if kind == "he":
        return np.random.randn(n, m) * 0.3
    return np.random.randn(n, m)

if __name__ != "a module":
    W = weights("xavier", 20, 10)

def step():
    global W
    W = W - 0.01 * (X.T @ (X @ W))
    return W
"""


def test_the_place_that_is_named_is_not_in_a_branch_that_may_not_have_run_if_there_is_another():
    with recorded(IN_BRANCHES) as graph:
        assert [site.line for site in in_float32(graph).places] == [8, 3, 7]


ONE_OUTPUT = """
import numpy as np
X = np.linspace(0, 1, 1280).reshape(64, 20)
W = np.ones((20, 1))
b = np.zeros((1, 1))

def step():
    global W, b
    delta = X @ W + b
    W = W - 0.01 * (X.T @ delta)
    b = b - 0.01 * np.sum(delta, axis=0, keepdims=True)
    return W
"""


def test_a_bias_of_a_single_element_becomes_float32_too():
    with recorded(ONE_OUTPUT) as graph:
        text = applied(graph.trace.sources, [in_float32(graph).cures[0]])[FILE]
    assert "b = np.zeros((1, 1), dtype=np.float32)\n" in text


TENSORS = """
import numpy as np
rng = np.random.default_rng(1)

class Tensor:
    def __init__(self, data):
        self.data = np.asarray(data, dtype=np.float64)

X, W = rng.standard_normal((64, 20)), Tensor(rng.standard_normal((20, 10)))

def step():
    x = Tensor(X)
    out = Tensor(np.tanh(x.data @ W.data))
    W.data = W.data - 0.1 * (x.data.T @ out.data)
    return W.data
"""


def test_a_dtype_that_is_asked_for_counts_also_where_the_array_has_it_already():
    new = patched(TENSORS)
    assert "np.asarray(data, dtype=np.float32)" in new
    with recorded(new) as graph:
        assert not doubles(graph)


def test_what_the_program_casts_already_gets_no_second_cast():
    text = """import numpy as np
rng = np.random.default_rng(3)
X, W = np.full((30, 20), 0.5, dtype=np.float32), np.full((20, 20), 0.1)
def parameters():
    return [W]
def step():
    mask = ((rng.random((30, 20)) < 0.8) / 0.8).astype(np.float32)
    W[...] -= 1e-3 * (X.T @ (mask * (X @ W)))
"""
    once = patched(text)
    assert "np.full((20, 20), 0.1, dtype=np.float32)" in once
    assert once.count(".astype(np.float32)") == 1
