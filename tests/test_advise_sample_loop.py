"""Loops over samples become one computation for the batch: the edited program trains the same."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.cures.sample_loop import attempt
from mlpprof.advise.detect import neuron_loop
from mlpprof.advise.editing.cure import applied
from mlpprof.advise.loops import python_loops
from mlpprof.advise.single_sample import single_sample_note

HEAD = """\
import numpy as np
rng = np.random.default_rng(0)
X = rng.random((60, 12))
T = np.eye(3)[rng.integers(0, 3, 60)]
W1, W2 = rng.standard_normal(({0})) * 0.4, rng.standard_normal(({1})) * 0.4
b1, b2 = np.zeros({2}), np.zeros({3})
at = 0


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


"""
COLUMNS = HEAD.format("5, 12", "3, 5", "(5, 1)", "(3, 1)")
VECTORS = HEAD.format("12, 5", "5, 3", "5", "3")
BACKPROP = """\
class Net:
    def __init__(self):
        self.weights, self.biases = [W1, W2], [b1, b2]

    def backprop(self, x, y):
        activations = [x]
        for w, b in zip(self.weights, self.biases):
            activations.append(sigmoid(np.dot(w, activations[-1]) + b))
        delta = (activations[-1] - y) * activations[-1] * (1 - activations[-1])
        nabla_b, nabla_w = [None, delta], [None, np.dot(delta, activations[1].T)]
        delta = np.dot(self.weights[1].T, delta) * activations[1] * (1 - activations[1])
        nabla_b[0], nabla_w[0] = delta, np.dot(delta, x.T)
        return nabla_b, nabla_w


net = Net()


"""
UPDATE = """
    for p, g in zip((W1, W2, b1, b2), (gW1, gW2, gb1, gb2)):
        p -= 0.5 / 10 * g.reshape(p.shape)
"""

FORMS = {
    "pairs of columns, summed in comprehensions": (
        COLUMNS
        + BACKPROP
        + """\
data = [(x.reshape(12, 1), t.reshape(3, 1)) for x, t in zip(X, T)]


def step():
    global at
    mini_batch, at = data[at : at + 10], (at + 10) % 60
    sums_b = [np.zeros(b.shape) for b in net.biases]
    sums_w = [np.zeros(w.shape) for w in net.weights]
    for x, y in mini_batch:  # one by one
        more_b, more_w = net.backprop(x, y)
        sums_b = [s + d for s, d in zip(sums_b, more_b)]
        sums_w = [s + d for s, d in zip(sums_w, more_w)]
    (gb1, gb2), (gW1, gW2) = sums_b, sums_w
"""
        + UPDATE,
        """\
    x, y = map(np.hstack, zip(*mini_batch))  # one by one
    more_b, more_w = net.backprop(x, y)
    sums_b = [s + np.sum(d, axis=1, keepdims=True) for s, d in zip(sums_b, more_b)]
    sums_w = [s + d for s, d in zip(sums_w, more_w)]
""",
    ),
    "rows made columns, with a loss": (
        COLUMNS
        + BACKPROP
        + """\
def step():
    global at
    batch_x, batch_y, at = X[at : at + 10], T[at : at + 10], (at + 10) % 60
    gW1, gW2, gb1, gb2, loss = 0, 0, 0, 0, 0.0
    for x, y in zip(batch_x, batch_y):
        x = x.reshape(-1, 1)
        y = y[:, np.newaxis]
        db, dw = net.backprop(x, y)
        gW1, gW2 = gW1 + dw[0], gW2 + dw[1]
        gb1, gb2 = gb1 + db[0], gb2 + db[1]
        loss += 0.5 * np.sum((db[1] - y) ** 2)
"""
        + UPDATE
        + "    losses.append(loss)\n\n\nlosses = []\n",
        """\
    x = np.asarray(batch_x)
    y = np.asarray(batch_y)
    x = x.T
    y = y.T
    db, dw = net.backprop(x, y)
    gW1, gW2 = gW1 + dw[0], gW2 + dw[1]
    gb1, gb2 = gb1 + np.sum(db[0], axis=1, keepdims=True), gb2 + np.sum(db[1], axis=1, keepdims=True)
    loss += 0.5 * np.sum((db[1] - y) ** 2)
""",
    ),
    "vectors in a loop over indices, with a softmax": (
        HEAD.format("5, 12", "3, 5", "5", "3")
        + """\
def softmax(z):
    e = np.exp(z - np.max(z))
    return e / e.sum()


def step():
    global at
    gW1, gW2, gb1, gb2, loss = np.zeros_like(W1), np.zeros_like(W2), np.zeros_like(b1), np.zeros_like(b2), 0.0
    for i in range(at, at + 10):
        # forward
        x = X[i]
        h = sigmoid(W1 @ x + b1)
        o = softmax(W2.dot(h) + b2)
        loss -= np.sum(T[i] * np.log(o))
        d = o - T[i]
        gW2 += np.outer(d, h)
        gb2 += d
        d = np.dot(W2.T, d) * h * (1 - h)
        gW1 += d[:, None] * x
        gb1 += d
    at = (at + 10) % 60
"""
        + UPDATE,
        """\
    # forward
    x = X[at:at + 10]
    h = sigmoid(x @ W1.T + b1)
    o = softmax(np.dot(h, W2.T) + b2)
    loss -= np.sum(T[at:at + 10] * np.log(o))
    d = o - T[at:at + 10]
    gW2 += np.dot(d.T, h)
    gb2 += np.sum(d, axis=0)
    d = np.dot(d, W2) * h * (1 - h)
    gW1 += np.dot(d.T, x)
    gb1 += np.sum(d, axis=0)
""",
    ),
    "a dictionary of gradients, all added at one place": (
        VECTORS
        + """\
P = {"W1": W1, "b1": b1, "W2": W2, "b2": b2}


def gradients(x, t):
    h = np.tanh(x @ W1 + b1)
    d = h @ W2 + b2 - t
    e = np.dot(W2, d) * (1 - h * h)
    return {"W1": np.outer(x, e), "b1": e, "W2": np.outer(h, d), "b2": d}


def step():
    global at
    batch_x, batch_t, at = X[at : at + 10], T[at : at + 10], (at + 10) % 60
    total = {key: np.zeros_like(value) for key, value in P.items()}
    for i in range(len(batch_x)):
        g = gradients(batch_x[i], batch_t[i])
        for key in total:
            total[key] += g[key]
    for key in P:
        P[key] -= 0.05 * total[key]
""",
        """\
    g = gradients(batch_x, batch_t[:len(batch_x)])
    for key in total:
        total[key] += (g[key] if g[key].shape == total[key].shape else np.sum(g[key], axis=0))
""",
    ),
    "a shuffled index, and rows of a matrix": (
        HEAD.format("12, 5", "5, 3", "(1, 5)", "(1, 3)")
        + """\
def step():
    gW1 = gW2 = gb1 = gb2 = 0
    for i in rng.permutation(60)[:10]:
        x, t = X[i:i + 1], T[i].reshape(1, -1)
        h = np.tanh(x @ W1 + b1)
        d = h @ W2 + b2 - t
        gW2 = gW2 + h.T @ d
        gb2 = gb2 + d
        d = (d @ W2.T) * (1 - h ** 2)
        gW1 = gW1 + x.T @ d
        gb1 = gb1 + d.sum(axis=0, keepdims=True)
"""
        + UPDATE,
        """\
    i = np.asarray(rng.permutation(60)[:10])
    x, t = X[i], T[i]
    h = np.tanh(x @ W1 + b1)
    d = h @ W2 + b2 - t
    gW2 = gW2 + h.T @ d
    gb2 = gb2 + np.sum(d, axis=0, keepdims=True)
    d = (d @ W2.T) * (1 - h ** 2)
    gW1 = gW1 + x.T @ d
    gb1 = gb1 + d.sum(axis=0, keepdims=True)
""",
    ),
    "columns in an array of three axes, from an offset on": (
        COLUMNS
        + """\
X3, T3 = X[:, :, None], T[:, :, None]


def step():
    global at
    gW1, gW2, gb1, gb2 = np.zeros_like(W1), np.zeros_like(W2), np.zeros_like(b1), np.zeros_like(b2)
    for j in range(10):
        x, t = X3[at + j], T3[at + j]
        h = np.tanh(W1 @ x + b1)
        d = W2 @ h + b2 - t
        gW2 += d @ h.T
        gb2 += d
        d = (W2.T @ d) * (1 - h ** 2)
        gW1 += d @ x.T
        gb1 += d
    at = (at + 10) % 60
"""
        + UPDATE,
        """\
    x, t = np.hstack(X3[at:at + 10]), np.hstack(T3[at:at + 10])
    h = np.tanh(W1 @ x + b1)
""",
    ),
    "methods that keep what they need, and columns of a matrix": (
        COLUMNS
        + """\
class Net:
    def forward(self, x):
        self.x = x
        self.h = sigmoid(W1 @ x + b1)
        self.o = sigmoid(W2 @ self.h + b2)

    def backward(self, t):
        d = (self.o - t) * self.o * (1 - self.o)
        self.g[1] += d @ self.h.T
        self.g[3] += d
        d = (W2.T @ d) * self.h * (1 - self.h)
        self.g[0] += d @ self.x.T
        self.g[2] += np.sum(d, axis=1, keepdims=True)


net = Net()


def step():
    global at
    net.g = [np.zeros_like(p) for p in (W1, W2, b1, b2)]
    x, t, at = X.T[:, at : at + 10], T.T[:, at : at + 10], (at + 10) % 60
    for j in range(10):
        net.forward(x[:, j:j + 1])
        net.backward(t[:, j].reshape(-1, 1))
    gW1, gW2, gb1, gb2 = net.g
"""
        + UPDATE,
        """\
    net.forward(x[:, :10])
    net.backward(t[:, :10])
""",
    ),
}


def parameters_after(text, steps=7):
    space = {}
    exec(compile(text, FILE, "exec"), space)
    for _ in range(steps):
        space["step"]()
    return [value for value in space.values() if isinstance(value, np.ndarray)] + [space.get("losses", [])]


def edited(text):
    """The text after the edit, and the words that say why there is none."""
    with recorded(text) as graph:
        loops = [loop for loop in python_loops(graph) if loop.category == "sample-loop"]
        assert len(loops) == 1
        tried = attempt(loops[0].site, loops[0].turns, loops[0].longest.length, graph)
        return applied(graph.trace.sources, [tried.cure])[FILE] if tried.cure is not None else None, tried.why_not


@pytest.mark.parametrize(("text", "expected"), FORMS.values(), ids=FORMS)
def test_the_statements_of_the_loop_run_once_for_all_samples_and_train_the_same(text, expected):
    after, why_not = edited(text)
    assert after is not None, why_not
    assert expected in after
    for old, new in zip(parameters_after(text), parameters_after(after), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-10, atol=1e-12)


def test_a_function_that_other_code_calls_still_takes_a_single_sample():
    text = COLUMNS + textwrap.dedent(
        """\
        def gradient(x, t):
            x = x.reshape(-1, 1)
            d = np.tanh(W1 @ x) - t[0]
            return d @ x.T, d


        def step():
            total = np.zeros_like(W1)
            for x in X[:10]:
                total += gradient(x, T[0])[0]
            W1[:] -= 0.1 * total


        def check(x):
            return gradient(x, T[0])[1]
        """
    )
    after, why_not = edited(text)
    assert after is not None, why_not
    assert "x = np.atleast_2d(x).T" in after
    spaces = [{}, {}]
    for space, one in zip(spaces, (text, after), strict=True):
        exec(one, space)
    np.testing.assert_allclose(*(space["check"](space["X"][0]) for space in spaces))


def test_python_s_own_max_and_sum_of_a_vector_become_those_of_numpy():
    text = VECTORS + textwrap.dedent(
        """\
        losses = []


        def softmax(row):
            e = np.exp(row - max(row))
            return e / sum(e)


        def step():
            total, loss = np.zeros_like(W1), 0.0
            for x in X[:10]:
                p = softmax(x @ W1)
                total += np.outer(x, p)
                loss += sum(p ** 2)
            W1[:] -= 0.1 * total
            losses.append(loss)
        """
    )
    after, why_not = edited(text)
    assert after is not None, why_not
    assert "row - np.max(row, axis=-1, keepdims=True)" in after
    assert "e / np.sum(e, axis=-1, keepdims=True)" in after
    for old, new in zip(parameters_after(text), parameters_after(after), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-10)


@pytest.mark.parametrize(
    ("bounds", "taken"),
    [
        ("10 * k, 10 * k + 10", "row = slice(rows.start, rows.stop)\n"),
        ("k - 1, k + 9", "row = np.asarray(rows)\n"),  # it may begin at -1
        ("0, 20, 2", "row = np.asarray(rows)\n"),
    ],
)
def test_the_rows_of_a_range_that_every_caller_gives_are_a_slice(bounds, taken):
    text = VECTORS + textwrap.dedent(
        f"""\
        def update(rows):
            total = np.zeros_like(W1)
            for row in rows:
                total += np.outer(X[row], np.tanh(X[row] @ W1))
            W1[:] -= 0.1 * total


        def step():
            k = 1
            update(range({bounds}))
        """
    )
    after, why_not = edited(text)
    assert after is not None, why_not
    assert taken in after
    np.testing.assert_allclose(parameters_after(text)[0], parameters_after(after)[0], rtol=1e-10)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("count += 1", "`count += 1` in line 19, which does not depend on the sample"),
        ("total += 1e-4 * W1", "`total += 1e-4 * W1` in line 19, which does not depend on the sample"),
        ("order = np.argsort(d, axis=0)", "`np.argsort(d, axis=0)` in net.py:19"),
        ("if d[0, 0] > 2: break", "`break` in line 19"),
    ],
)
def test_a_loop_that_does_something_else_too_gets_no_edit_and_the_words_name_it(line, why):
    text = COLUMNS + textwrap.dedent(
        f"""\
        def step():
            total, count = np.zeros_like(W1), 0
            for x in X[:10]:
                x = x.reshape(-1, 1)
                d = np.tanh(W1 @ x) - 1
                {line}
                total += d @ x.T
            W1[:] -= 0.1 * total
        """
    )
    assert edited(text) == (None, why)


GRADIENTS = """\
def gradients(x, t):
    h = np.tanh(x @ W1)
    d = h @ W2 - t
    return np.outer(x, (W2 @ d) * (1 - h * h)), np.outer(h, d)


def step():
"""
BRANCHES = """\
    a, b = 0, 0
    for x, t in zip(X[:8], T[:8]):
        g = gradients(x, t)
        if t[0] > 0:
            a = a + g[0]
        else:
            a, b = a + g[0], b + g[1]
"""
RECURSION = """\
    def add(i, a, b):
        if i == 8:
            return a, b
        g = gradients(X[i], T[i])
        return add(i + 1, a + g[0], b + g[1])

    a, b = add(0, 0, 0)
"""
OBJECTS = """\
    total = np.zeros(2, dtype=object)
    for i in range(8):
        box = np.empty(2, dtype=object)
        box[:] = gradients(X[i], T[i])
        total = total + box
    a, b = total
"""


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (
            "    a, b = (np.sum(g, axis=0) for g in zip(*map(gradients, X[:8], T[:8])))\n",
            "map(gradients, X[:8], T[:8])",
        ),
        (
            "    parts = list(starmap(gradients, zip(X[:8], T[:8])))\n"
            "    a, b = (sum(g[i] for g in parts) for i in (0, 1))\n",
            "starmap(gradients, zip(X[:8], T[:8]))",
        ),
        ("    parts = [gradients(x, t) for x, t in zip(X[:8], T[:8])]\n    a, b = parts[0]\n", "[gradients(x"),
        (RECURSION, "add(0, 0, 0)"),
        (OBJECTS, "for i in range(8):"),
        (BRANCHES, "for x, t in zip"),
    ],
    ids=["map", "starmap", "comprehension", "recursion", "arrays of objects", "turns that branch"],
)
def test_samples_one_by_one_are_found_in_every_form_of_loop(lines, place):
    text = f"from itertools import starmap\n{VECTORS}{GRADIENTS}{lines}    W1[:], W2[:] = W1 - 0.1 * a, W2 - 0.1 * b\n"
    with recorded(text) as graph:
        (loop,) = [loop for loop in python_loops(graph) if loop.category == "sample-loop"]
        line = text.splitlines()[loop.site.line - 1]
        assert line[loop.site.column :].startswith(place)
        assert loop.longest.turns == 8


def test_a_map_within_a_function_within_a_loop_over_layers_is_one_loop_over_the_samples():
    text = (
        "rng = np.random.default_rng(3)\nX = rng.normal(0, 1, (90, 30))\n"
        "Ws = [rng.normal(0, 1, (30, 30)) for _ in range(2)]\n"
        "def forward(A, W):\n    return np.tanh(np.array(list(map(lambda row: row @ W, A))))\n"
        "def step():\n    A = X\n    for W in Ws:\n        A = forward(A, W)\n"
        "    for W in Ws:\n        W[:] = W - 1e-6 * (X.T @ A)\n"
    )
    with recorded(text) as graph:
        loops = [loop for loop in python_loops(graph) if loop.category == "sample-loop"]
        assert [(loop.site.line, loop.longest.turns) for loop in loops] == [(5, 90), (5, 90)]


def test_a_loop_over_numbers_is_found_whose_array_is_computed_in_its_first_line():
    text = (
        "rng = np.random.default_rng(3)\nX, W = rng.normal(0, 1, (9, 30)), rng.normal(0, 1, (30, 20))\n"
        "def step():\n    h = np.tanh(X @ W)\n    for place, g in np.ndenumerate(X.T @ h):\n"
        "        W[place] -= 1e-6 * g\n"
    )
    with recorded(text) as graph:
        assert [(loop.category, loop.longest.turns) for loop in python_loops(graph)] == [("neuron-loop", 600)]


def test_a_loop_that_stores_the_ones_of_one_hot_rows_is_left_to_gather():
    text = (
        "labels = np.random.default_rng(3).integers(0, 10, 90)\n"
        "def step():\n    Y = np.zeros((90, 10))\n"
        "    for n, k in enumerate(labels):\n        Y[n, k] = 1\n    return Y\n"
    )
    with recorded(text) as graph:
        assert python_loops(graph) == []


def test_a_map_over_the_rows_of_what_is_no_weight_is_a_loop_over_neurons():
    text = (
        "rng = np.random.default_rng(3)\nX, W = rng.normal(0, 1, (30, 90)), rng.normal(0, 1, (20, 30))\n"
        "def step():\n    D = np.tanh(W @ X)\n"
        "    W[:] = W - 1e-6 * np.array(list(map(lambda row: row @ X.T, D)))\n"
    )
    with recorded(text) as graph:
        assert [(loop.category, loop.longest.turns) for loop in python_loops(graph)] == [("neuron-loop", 20)]


@pytest.mark.parametrize(("rows", "category"), [("h", "sample-loop"), ("h.T", "neuron-loop")])
def test_a_loop_of_as_many_turns_as_products_with_weights_take_samples_is_over_the_samples(rows, category):
    text = (
        "rng = np.random.default_rng(3)\nX, W = rng.normal(0, 1, (90, 30)), rng.normal(0, 1, (30, 20))\n"
        f"def step():\n    h, sums = np.tanh(X @ W), 0.0\n    for one in {rows}:\n        sums = sums + one\n"
        "    W[:] = W - 1e-6 * (X.T @ h) * np.mean(sums)\n"
    )
    with recorded(text) as graph:
        assert [loop.category for loop in python_loops(graph)] == [category]


def test_a_loop_over_the_columns_of_a_batch_within_a_loop_over_layers_is_said_to_take_samples():
    text = (
        "rng = np.random.default_rng(3)\nX, W = rng.normal(0, 1, (30, 90)), rng.normal(0, 1, (20, 30))\n"
        "def step():\n    z = W @ X\n    for layer in range(2):\n        d = np.zeros_like(z)\n"
        "        for i in range(z.shape[1]):\n            d[:, i][z[:, i] > 0] = 1\n"
        "    W[:] = W - 1e-6 * (d @ X.T)\n"
    )
    with recorded(text) as graph:
        [found] = neuron_loop.detect(graph)
    assert found.title == "`for i in range(z.shape[1])` takes 90 samples one by one"


@pytest.mark.parametrize(
    ("samples", "update", "words"),
    [
        ("x, t = X[0], T[0]", "W1[:] = W1 - 0.1 * a; W2[:] = W2 - 0.1 * b", "after every sample"),
        ("x, t = X[0], T[0]", "sums.append((a, b))", "adds up the gradients of several samples"),
        ("x, t = X[:9], T[:9]", "W1[:], W2[:] = W1 - 0.1 * a, W2 - 0.1 * b", None),
        ("x, t = X[:9], T[:9, :1]; one = x @ W1[:, :1]", "W1[:, :1] -= 0.1 * np.dot(x.T, one)", None),
    ],
    ids=["an update for each sample", "sums of gradients", "a batch", "a batch and one neuron"],
)
def test_a_note_says_that_the_step_is_a_single_sample(samples, update, words):
    text = VECTORS + textwrap.dedent(
        f"""\
        sums = []


        def step():
            {samples}
            h = np.tanh(np.dot(x, W1))
            d = np.dot(h, W2) - t
            e = np.dot(d, W2.T) * (1 - h * h)
            a, b = np.atleast_2d(x).T @ np.atleast_2d(e), np.atleast_2d(h).T @ np.atleast_2d(d)
            {update}
        """
    )
    with recorded(text) as graph:
        notes = list(single_sample_note(graph))
    assert len(notes) == (words is not None)
    assert all(words in note for note in notes)


def test_windows_of_an_image_are_no_neurons_and_their_loops_are_one_finding():
    text = textwrap.dedent(
        """\
        import numpy as np
        x, K, W = np.ones((9, 9)), np.ones((4, 3, 3)), np.ones((2, 196)) * 0.01


        def step():
            global W
            out = np.zeros((4, 7, 7))
            for i in range(7):
                for j in range(7):
                    out[:, i, j] = np.sum(x[i : i + 3, j : j + 3] * K, axis=(1, 2))
            d = W @ out.ravel()
            W = W - 0.01 * np.outer(d, out)
        """
    )
    with recorded(text) as graph:
        (found,) = neuron_loop.detect(graph)
    assert found.site.line == 8
    assert "takes the windows of an image" in found.title
    assert "`x[i : i + 3, j : j + 3]` of shape (3, 3)" in found.why


@pytest.mark.parametrize(
    "outer", ['np.einsum("...i,...j->...ij", D[l], A[l])', "(D[l][:, :, None] @ A[l][:, None, :])"]
)
def test_a_loop_over_layers_with_the_outer_products_of_a_batch_is_no_loop_over_samples(outer):
    text = (
        "rng = np.random.default_rng(3)\nsizes = [12, 10, 8, 6, 4]\n"
        "W = [rng.normal(0, 1, (b, a)) for a, b in zip(sizes, sizes[1:])]\n"
        "A, D = [rng.random((9, n)) for n in sizes], [rng.random((9, n)) for n in sizes[1:]]\n"
        f"def step():\n    for l in range(len(W)):\n        W[l] = W[l] - 1e-3 * {outer}.sum(0)\n"
    )
    with recorded(text) as graph:
        assert python_loops(graph) == []
