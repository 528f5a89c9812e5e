"""Cures of dead computation in each form of loop: the lines that they change, and that the program trains the same."""

from __future__ import annotations

import ast

import pytest
from cured import assert_trains_as, cured, cures_of
from recorded_step import recorded

from mlpprof.advise.detect import dead_computation
from mlpprof.advise.editing.loop_tests import Turns, is_other_turn

HEAD = """\
import numpy as np
rng = np.random.default_rng(0)
X, Y = rng.normal(0, 1, (60, 50)), rng.random((60, 10))
"""

LOOP = """\
W = [rng.normal(0, 0.1, (a, b)) for a, b in zip([50, 30, 20], [30, 20, 10])]
def parameters():
    return W
def step():
    acts = [X]
    for w in W:
        acts.append(np.tanh(acts[-1] @ w))
    delta = acts[-1] - Y
    for {header}:
        g = acts[{a}].T @ delta
        # what the layer before needs
        delta = (delta @ W[{l}].T) * (1 - acts[{a}] ** 2)  # by the chain rule
        W[{l}] = W[{l}] - 1e-3 * g
"""


@pytest.mark.parametrize(
    ("header", "layer", "input_of", "test"),
    [
        ("i in range(len(W) - 1, -1, -1)", "i", "i", "i > 0"),
        ("l in reversed(range(1, len(W) + 1))", "l - 1", "l - 1", "l > 1"),
        ("l in range(1, len(W) + 1)", "-l", "-l - 1", "l < len(W)"),
        ("k, w in enumerate(reversed(W))", "-k - 1", "-k - 2", "k < len(W) - 1"),
    ],
)
def test_in_a_loop_over_layers_the_statement_runs_under_the_test_that_fits_the_loop(
    header, layer, input_of, test, tmp_path
):
    text = HEAD + LOOP.format(header=header, l=layer, a=input_of)
    first, *_ = cures_of(text, dead_computation)
    after = cured(text, first)
    line = f"delta = (delta @ W[{layer}].T) * (1 - acts[{input_of}] ** 2)  # by the chain rule\n"
    assert after == text.replace(f"        {line}", f"        if {test}:\n            {line}")
    assert_trains_as(after, text)


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("l in range(n)", "l > 0", "l < n - 1"),
        ("l in range(2, net.n)", "l > 2", "l < net.n - 1"),
        ("l in range(a, n + 1)", "l > a", "l < n"),
        ("l in range(n, 0, -1)", "l < n", "l > 1"),
        ("l in reversed(range(n))", "l < n - 1", "l > 0"),
        ("i, w in enumerate(ws)", "i > 0", "i < len(ws) - 1"),
        ("layer in net.layers[::-1]", "layer is not net.layers[-1]", "layer is not net.layers[0]"),
        ("w, b in zip(reversed(ws), reversed(bs))", "w is not ws[-1]", "w is not ws[0]"),
        ("l in range(0, n, 2)", None, None),
        ("l in made()", None, None),
    ],
)
def test_a_test_is_false_in_the_first_or_the_last_turn(header, first, last):
    loop = ast.parse(f"for {header}: pass").body[0]
    assert [is_other_turn(loop, turn, ast.unparse) for turn in (Turns.FIRST, Turns.LAST)] == [first, last]


CLASSES = """\
class Dense:
    def __init__(self, n, k):
        self.W = rng.normal(0, 0.1, (n, k))
    def forward(self, x):
        self.x = x
        return x @ self.W
    def backward(self, d):
        back = d @ self.W.T
        self.W = self.W - 1e-3 * (self.x.T @ d)
        return back
class Tanh:
    def forward(self, x):
        self.a = np.tanh(x)
        return self.a
    def backward(self, d):
        return d * (1 - self.a ** 2)
layers = a, b, c = Dense(50, 40), Tanh(), Dense(40, 10)
def parameters():
    return a.W, c.W
def step():
    h = X
    for layer in layers:
        h = layer.forward(h)
    d = h - Y
"""


@pytest.mark.parametrize(
    ("backward", "call"),
    [
        (
            "    for layer in reversed(layers):\n        d = layer.backward(d)\n",
            ("layer.backward(d)", "layer.backward(d, needs_input_delta=layer is not layers[0])"),
        ),
        (
            "    d = c.backward(d)\n    d = b.backward(d)\n    a.backward(d)\n",
            ("a.backward(d)", "a.backward(d, needs_input_delta=False)"),
        ),
    ],
    ids=["loop", "one by one"],
)
def test_a_method_gets_a_parameter_that_says_whether_its_result_is_needed(backward, call):
    text = HEAD + CLASSES + backward
    (cure,) = cures_of(text, dead_computation)
    after = cured(text, cure)
    expected = text.replace(*call).replace("back = d @ self.W.T", "back = d @ self.W.T if needs_input_delta else None")
    signature = "def backward(self, d", "def backward(self, d, needs_input_delta=True"
    assert after == expected.replace(*signature)
    assert_trains_as(after, text)


UNROLLED = """\
W1, W2 = rng.normal(0, 0.1, (50, 30)), rng.normal(0, 0.1, (30, 10))
def parameters():
    return W1, W2
def step():
    global W1, W2
    a1 = np.tanh(X @ W1)
    d2 = a1 @ W2 - Y
    dW2 = a1.T @ d2
    d1 = (d2 @ W2.T) * (1 - a1 * a1)
    dX, dW1 = d1 @ W1.T, X.T @ d1
    W1, W2 = W1 - 1e-3 * dW1, W2 - 1e-3 * dW2
"""


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [
        ("", "dX, dW1 = d1 @ W1.T, X.T @ d1", "dW1 = X.T @ d1"),
        ("dX, dW1 = X.T @ d1; dX", "    dX = np.dot(d1, W1.T)\n", ""),
        ("grads", "dX = d1 @ W1.T", "dX = None"),
    ],
    ids=["part of a tuple", "statement", "stored"],
)
def test_what_has_no_use_at_all_is_left_out(change, old, new):
    text = HEAD + UNROLLED
    if change.startswith("dX"):
        text = text.replace("dX, dW1 = d1 @ W1.T, X.T @ d1", "dW1 = X.T @ d1\n    dX = np.dot(d1, W1.T)")
    elif change:
        text = text.replace("dX, dW1 = d1 @ W1.T, X.T @ d1", "dX = d1 @ W1.T\n    dW1 = X.T @ d1\n    g = {'X': dX}")
    (cure,) = cures_of(text, dead_computation)
    after = cured(text, cure)
    assert after == text.replace(old, new)
    assert_trains_as(after, text)


def test_an_expression_that_does_something_else_as_well_is_not_left_out():
    noisy = UNROLLED.replace("dX, dW1 = d1 @ W1.T, X.T @ d1", "dW1 = X.T @ d1\n    dX = d1 @ noise(W1.T)")
    noise = "def noise(W):\n    return W + rng.normal(0, 1, W.shape)\n"
    assert cures_of(HEAD + noise + noisy, dead_computation) == ()


FILLED = """\
W = [rng.normal(0, 0.1, (50, 300)), rng.normal(0, 0.1, (300, 10))]
def parameters():
    return W
def step():
    grads = [np.zeros(w.shape) for w in W]
    kept = np.zeros((60, 300))
    kept[:] = np.tanh(X @ W[0])
    d = kept @ W[1] - Y
    grads[1] = kept.T @ d
    grads[0] = X.T @ ((d @ W[1].T) * (1 - kept * kept))
    for w, g in zip(W, grads):
        w -= 1e-4 * g
"""


def test_arrays_that_others_replace_unread_are_not_filled_and_buffers_are():
    (cure,) = cures_of(HEAD + FILLED, dead_computation)
    after = cured(HEAD + FILLED, cure)
    assert after == HEAD + FILLED.replace("np.zeros(w.shape)", "None")
    assert_trains_as(after, HEAD + FILLED)


BUFFERED = """\
class Dense:
    def __init__(self, n, k):
        self.W = rng.normal(0, 0.1, (n, k))
        self.back = np.empty((60, n))
    def backward(self, x, d):
        np.matmul(d, self.W.T, out=self.back)
        self.W -= 1e-3 * (x.T @ d)
        return self.back
layers = [Dense(50, 40), Dense(40, 10)]
def parameters():
    return [layer.W for layer in layers]
def step():
    acts = [X, np.tanh(X @ layers[0].W)]
    d = acts[1] @ layers[1].W - Y
    for i in range(1, -1, -1):
        d = layers[i].backward(acts[i], d)
"""


def test_a_product_into_a_buffer_runs_only_where_the_buffer_is_read():
    text = HEAD + BUFFERED
    (cure,) = cures_of(text, dead_computation)
    after = cured(text, cure)
    line = "np.matmul(d, self.W.T, out=self.back)\n"
    expected = text.replace(f"        {line}", f"        if needs_input_delta:\n            {line}")
    expected = expected.replace("x, d):", "x, d, needs_input_delta=True):")
    assert after == expected.replace("backward(acts[i], d)", "backward(acts[i], d, needs_input_delta=i > 0)")
    assert_trains_as(after, text)


SHALLOW = """\
W = {1: rng.normal(0, 0.1, (50, 10))}
dA, dW = {}, {}
def parameters():
    return list(W.values())
def step():
    A = {0: X}
    for i in range(1, len(W) + 1):
        A[i] = np.tanh(A[i - 1] @ W[i])
    dA[len(W)] = A[len(W)] - Y
    for i in reversed(range(1, len(W) + 1)):
        dZ = dA[i] * (1 - A[i] ** 2)
        dW[i] = A[i - 1].T @ dZ
        dA[i - 1] = dZ @ W[i].T
    for i in W:
        W[i] -= 1e-3 * dW[i]
"""


BACK = "        dW[i] = A[i - 1].T @ dZ\n        dA[i - 1] = dZ @ W[i].T\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BACK, BACK.replace("        dA", "        if i > 1:\n            dA")),
        (
            "        dW[i], dA[i - 1] = A[i - 1].T @ dZ, dZ @ W[i].T\n",
            "        dW[i], dA[i - 1] = A[i - 1].T @ dZ, (dZ @ W[i].T if i > 1 else None)\n",
        ),
    ],
    ids=["statement", "part of a tuple"],
)
def test_in_a_loop_over_layers_that_made_one_turn_the_statement_stays_under_a_test(old, new):
    text = HEAD + SHALLOW.replace(BACK, old)
    with recorded(text) as graph:
        [one] = [one for one in dead_computation.detect(graph) if one.cures]
    after = cured(text, one.cures[0])
    assert after == text.replace(old, new)
    assert_trains_as(after, text)
    deeper = "W = {1: rng.normal(0, 0.1, (50, 30)), 2: rng.normal(0, 0.1, (30, 10))}\n"
    assert_trains_as(*(one.replace(SHALLOW.split("\n")[0] + "\n", deeper) for one in (after, text)))
    assert "It is not used in the only turn of the loop in net.py:13; a network with more layers needs it" in one.cure


def test_a_returned_result_of_a_method_is_left_out_by_its_only_call_and_not_by_the_method():
    text = HEAD + CLASSES.replace("a, b, c = Dense(50, 40), Tanh(), Dense(40, 10)", "a, c = Dense(50, 10), None")
    text = text.replace("a.W, c.W", "(a.W,)").replace("in layers", "in layers[:1]") + "    a.backward(d)\n"
    (cure,) = cures_of(text, dead_computation)
    after = cured(text, cure)
    assert "a.backward(d, needs_input_delta=False)" in after
    assert_trains_as(after, text)


OTHERS = """\
class Dropout:
    def backward(self, d):
        return d
class Loss:
    def backward(self, p, y):
        return p - y
"""


def test_a_method_gets_the_parameter_in_the_classes_that_did_not_run_too_or_there_is_no_edit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = HEAD + OTHERS + CLASSES + "    for layer in reversed(layers):\n        d = layer.backward(d)\n"
    (cure,) = cures_of(text, dead_computation)
    after = cured(text, cure)
    assert after.count("def backward(self, d, needs_input_delta=True)") == 3
    assert "def backward(self, p, y):" in after
    other = tmp_path / "train_images.py"  # another program that uses these layers with one of its own
    other.write_text(f"from net import layers\n{OTHERS}")
    assert cures_of(text, dead_computation) == ()
    other.write_text(OTHERS)
    assert len(cures_of(text, dead_computation)) == 1
    through = "    for back in [layer.backward for layer in reversed(layers)]:\n        d = back(d)\n"
    assert cures_of(HEAD + CLASSES + through, dead_computation) == ()


BETWEEN = """\
W, kept = rng.normal(0, 0.1, (50, 50)), {}
def parameters():
    return [W]
def step():
    kept["A"] = X @ W
def backward():
    return X.T @ kept["A"]
"""


@pytest.mark.parametrize(("key", "number"), [('["A"]', 0), ("[0]", 0)])
def test_items_that_a_function_reads_between_the_steps_are_not_called_unread(key, number):
    text = HEAD + BETWEEN.replace('["A"]', key)
    with recorded(text) as graph:
        assert len(dead_computation.detect(graph)) == number
    with recorded(text.replace(f"X.T @ kept{key}", "0")) as graph:
        assert len(dead_computation.detect(graph)) == 1


ACCUMULATED = """\
W = rng.normal(0, 0.1, (50, 10))
def parameters():
    return [W]
def distance(A, B):
    return np.sum((A - B) ** 2, axis=0)
def step():
    global W
    for epoch in (0, 1):
        total = 0
        for part in (X[:30], X[30:]):
            A = np.tanh(part @ W)
            total += distance(A, 1)
            W = W - 1e-3 * (part.T @ A)
        if epoch % 100 == 50:
            print(total / 2)
"""


def test_a_sum_that_lines_which_did_not_run_read_is_not_called_unread():
    assert cures_of(HEAD + ACCUMULATED, dead_computation) == ()


ONE_TURN = """\
W = {1: rng.normal(0, 0.1, (50, 30)), 2: rng.normal(0, 0.1, (30, 10))}
def parameters():
    return list(W.values())
def linear(d, a, W):
    back = d @ W.T
    return back, a.T @ d
def backward(d, a, W):
    back, change = linear(d, a, W)
    return back, change
def step():
    A, dW = {0: X}, {}
    for l in range(1, len(W) + 1):
        A[l] = A[l - 1] @ W[l]
    d, dW[len(W)] = backward(A[len(W)] - Y, A[len(W) - 1], W[len(W)])
    for l in reversed(range(1, len(W))):
        d, dW[l] = backward(d, A[l - 1], W[l])
    for l in dW:
        W[l] = W[l] - 1e-3 * dW[l]
"""


def test_a_loop_over_the_other_layers_that_made_one_turn_passes_a_test_and_not_false():
    text = HEAD + ONE_TURN
    (cure,) = cures_of(text, dead_computation)
    after = cured(text, cure)
    assert "        d, dW[l] = backward(d, A[l - 1], W[l], needs_input_delta=l > 1)\n" in after
    deeper = "(30, 20)), 3: rng.normal(0, 0.1, (20, 10))}"
    assert_trains_as(*(one.replace("(30, 10))}", deeper) for one in (after, text)))


OVERWRITTEN = """\
class Layer:
    def __init__(self, n, k):
        self.W = np.full((n, k), 0.1)
    def forward(self, x):
        self.x = x
        return x @ self.W
    def backward(self, d):
        self.change = np.outer(self.x, d)
        return d @ self.W.T
layers = [Layer(50, 30), Layer(30, 20), Layer(20, 10)]
def step():
    for x, y in zip(X, Y):
        for layer in layers:
            x = layer.forward(x)
        d = x - y
        for layer in reversed(layers):
            d = layer.backward(d)
    for layer in layers:
        layer.W = layer.W - 1e-3 * layer.change
"""


def test_what_a_turn_that_was_not_recorded_may_leave_for_later_gets_no_edit_and_the_words_say_so():
    with recorded(HEAD + OVERWRITTEN) as graph:
        found = dead_computation.detect(graph)
    assert found and not any(one.cures for one in found)
    assert all("keep it in the last turn" in one.cure for one in found)


SUMS = """import numpy as np
X, W = np.random.default_rng(3).normal(0, 1, (60, 50)), np.full((50, 20), 0.1)
def parameters():
    return [W]
def step():
    global W
    grads = [np.tanh(X.T @ (X @ W))]
    sums = [np.zeros(g.shape) for g in grads]
    {between}
    sums = [s + {other} for s, g in zip(sums, grads)]
    W = W - 1e-3 * sums[0]
"""


def test_the_other_array_takes_the_place_of_a_sum_with_zeros():
    text = SUMS.format(between="pass", other="2 * g")
    (cure,) = cures_of(text, dead_computation, 10)
    assert cured(text, cure) == text.replace("[s + 2 * g for", "[(2 * g) for")
    assert_trains_as(text, cured(text, cure))


@pytest.mark.parametrize(
    ("between", "other"),
    [
        ("sums[0][0] += 1", "2 * g"),
        ("if len(W) > 900: sums = [W]", "2 * g"),
        ("if len(W) > 900: sums[0] = W", "2 * g"),
        ("pass", "g"),  # the sum would be the same array as the gradient
    ],
)
def test_a_sum_with_zeros_stays_if_they_may_be_something_else_or_the_sum_would_be_no_new_array(between, other):
    assert cures_of(SUMS.format(between=between, other=other), dead_computation, 10) == ()


TAPE = """\
tape = []
class Node:
    def __init__(self, value):
        self.value, self.grad = value, 0.0
    def __matmul__(self, other):
        out = Node(self.value @ other.value)
        def back():
            self.grad = self.grad + out.grad @ other.value.T
            other.grad = other.grad + self.value.T @ out.grad
        tape.append(back)
        return out
W = [Node(rng.normal(0, 0.1, shape)) for shape in [(50, 30), (30, 10)]]
def parameters():
    return [w.value for w in W]
def step():
    out = {made} @ W[0] @ W[1]
    out.grad = out.value - Y
    while tape:
        tape.pop()()
    for w in W:
        w.value, w.grad = w.value - 1e-3 * w.grad, 0.0
"""


def test_an_object_that_the_step_makes_of_the_batch_gets_no_gradient_from_the_tape():
    text = HEAD + TAPE.format(made="Node(X)")
    [cure] = cures_of(text, dead_computation)
    after = cured(text, cure)
    assert "def __init__(self, value, needs_gradient=True):\n        self.needs_gradient = needs_gradient\n" in after
    line = "self.grad = self.grad + out.grad @ other.value.T\n"
    assert f"            if self.needs_gradient:\n                {line}" in after
    assert "out = Node(X, needs_gradient=False) @ W[0] @ W[1]\n" in after
    assert_trains_as(after, text)


def test_an_object_with_a_name_may_still_be_asked_for_its_gradient():
    assert not cures_of(HEAD + TAPE.replace("    out = {made}", "    x = Node(X)\n    out = x"), dead_computation)
