"""Evaluations with weights that the step has just made, and stacked biases that are worth telling together."""

from __future__ import annotations

import pytest
from recorded_step import recorded

from mlpprof.advise.candidate import LEAST_SHARE
from mlpprof.advise.detect import bias_stacking, dead_computation, recomputation, second_forward, work_in_step
from mlpprof.report.advice_words import cure_lines

HEAD = """\
random = np.random.default_rng(3)
X, V = random.normal(0, 1, (60, 50)), random.normal(0, 1, (200, 50))
W, losses = random.normal(0, 0.1, (50, 20)), []
W1 = random.normal(0, 0.1, (51, 20))
def loss_of(X, W):
    return float(np.square(X @ W).sum())
def step():
    global W, W1
    W = W - 1e-4 * (X.T @ (X @ W))
"""
FIRST = HEAD.count("\n") + 1


def found(detector, *lines):
    """What a detector says of a step with these lines."""
    with recorded(HEAD + "\n".join(f"    {line}" for line in lines)) as graph:
        return detector.detect(graph)


@pytest.mark.parametrize("line", ["losses.append(loss_of(V, W))", "losses.append(float(np.abs(V @ W).sum()))"])
def test_an_evaluation_with_weights_that_the_step_has_made_is_reported(line):
    (one,) = (one for one in found(work_in_step, line) if one.category == "work-in-step")
    assert one.site.line == FIRST


@pytest.mark.parametrize(
    "lines",
    [
        ("H = X @ W", "W = W - 1e-4 * (X.T @ H)"),  # another step
        ("losses.append(float(np.sqrt(np.sum(W * W))))",),
        ("losses.append(float(np.trace(W.T @ W)))",),  # of the weights alone
        ("error = loss_of(V, W)", "if error < 1e9:", "    losses.append(0)"),
        (
            "error = loss_of(V, W) + np.linalg.norm(W1)",
            "error += 0.1",
            "V[0] = 1",
            "small = error < 1e9",
            "while small:",
            "    break",
        ),
        ("W1 = W1 if float(np.abs(V @ W).sum()) > 0 else W",),
    ],
    ids=lambda lines: lines[0],
)
def test_what_the_update_needs_and_norms_of_the_weights_are_no_evaluation(lines):
    assert found(work_in_step, *lines) == []


def test_stacked_biases_are_reported_together():
    lines = (
        "Z = np.hstack([np.ones((60, 1)), X]) @ W1",
        "A = np.hstack([np.ones((60, 1)), np.tanh(Z[:, :5])])",
        "B = A @ W1[:6, :3]",
        "W1 = W1 - 1e-4 * (np.hstack([np.ones((60, 1)), X]).T @ Z)",
    )
    told = found(bias_stacking, *lines)
    assert [one.site.line for one in sorted(told, key=lambda one: one.site.line)] == [FIRST, FIRST + 1, FIRST + 3]
    assert sum(one.least_share for one in told) == pytest.approx(LEAST_SHARE, rel=0.2)
    assert all(one.least_share < LEAST_SHARE for one in told)
    assert all("to add a column of ones" in one.title for one in told)


@pytest.mark.parametrize(
    ("stacked", "product", "form"),
    [
        ("np.hstack([X, np.ones((60, 1))])", "W1.T @ held[0].T", "`W[:, :-1] @ A + W[:, -1:]`"),
        ("np.hstack([X, np.ones((60, 1))])", "held[0] @ W1", "`A @ W[:-1] + W[-1]`"),
        ("np.vstack([np.ones((1, 60)), X.T.copy()])", "W1.T @ held[0]", "`W[:, 1:] @ A + W[:, :1]`"),
    ],
)
def test_the_words_on_stacked_biases_fit_the_side_on_which_the_ones_are(stacked, product, form):
    [one] = found(bias_stacking, f"held = [{stacked}]", f"Z = {product}", "W1 = W1 - 1e-9 * W1")
    assert form in one.cure


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        (
            "class Layer:\n    def __init__(self, n, k):\n        self.W = np.full((n, k), 0.1)\n"
            "    def backward(self, A, delta):\n        back = delta @ self.W.T\n"
            "        self.W = self.W - A.T @ delta\n"
            "        return back\n"
            "layers = [Layer(50, 40), Layer(40, 30)]\n"
            "def step():\n    delta = np.full((60, 30), 1e-9)\n    for l in (1, 0):\n"
            "        delta = layers[l].backward(np.ones((60, (50, 40)[l])), delta)\n",
            "It is not used in turn 2 of 2 of the loop in net.py:11; it is used everywhere else.",
        ),
        (
            "W = [np.full((50, 40), 0.1), np.full((40, 30), 0.1)]\n"
            "def step():\n    delta = np.full((60, 30), 1e-9)\n    for l in (1, 0):\n"
            "        back = delta @ W[l].T\n        W[l] = W[l] - np.ones((60, (50, 40)[l])).T @ delta\n"
            "        delta = back\n",
            "It is not used in turn 2 of 2 of the loop in net.py:4; it is used everywhere else.",
        ),
    ],
    ids=["in a method", "in the loop"],
)
def test_a_dead_delta_is_reported_with_the_turn_in_which_it_is_dead_and_in_words(text, cure):
    with recorded(text) as graph:
        (one,) = dead_computation.detect(graph)
    assert cure in one.cure
    assert {line.kind for line in cure_lines(one.cure)} == {"words"}
    assert one.confidence == "likely"


LAYERS = """\
class Dense:
    def __init__(self, n, k):
        self.W = np.full((n, k), 1e-3)
    def backward(self, A, d):
        self.W = self.W - A.T @ d
        return d @ self.W.T
a, b, c = Dense(30, 40), Dense(40, 40), Dense(40, 20)
A = np.ones((60, 30)), np.ones((60, 40)), np.ones((60, 40))
def step():
    d = np.full((60, 20), 1e-9)
    d = c.backward(A[2], d)
    d = b.backward(A[1], d)
    a.backward(A[0], d)
"""


def test_of_layers_that_are_called_one_by_one_only_the_call_is_reported_whose_delta_is_dead():
    with recorded(LAYERS) as graph:
        (one,) = dead_computation.detect(graph)
        (event,) = (graph.events[index] for index in one.covers)
    assert one.title == "nothing reads the result of `d @ self.W.T` in the call `a.backward(A[0], d)` of net.py:13"
    assert event.output.shape == (60, 30)
    assert "everywhere else" in one.cure


ONCE_MORE = """\
class Dense:
    def __init__(self, n, k):
        self.W = np.full((n, k), 1e-3)
    def forward(self, x):
        self.x = x
        return np.tanh(x @ self.W)
    def backward(self, d):
        d = d * (1 - np.tanh(self.x @ self.W) ** 2)
        back = d @ self.W.T
        self.W = self.W - 1e-6 * self.x.T @ d
        return back
layers = [Dense(50, 40), Dense(40, 30)]
X = np.random.default_rng(3).normal(0, 1, (60, 50))
def step():
    A = X
    for layer in layers:
        A = layer.forward(A)
    for layer in reversed(layers):
        A = layer.backward(A)
"""


def test_a_backward_pass_that_computes_an_activation_again_is_no_second_forward_pass():
    with recorded(ONCE_MORE) as graph:
        assert second_forward.detect(graph) == []
        titles = {one.site.line: one.title for one in recomputation.detect(graph)}
    assert titles[8] == "`np.tanh(self.x @ self.W)` computes again what line 6 has already computed"


SUMMED = """\
from functools import reduce
X, W = np.random.default_rng(3).normal(0, 1, (30, 50)), np.full((50, 20), 1e-3)
def gradient(x):
    return np.outer(x, np.tanh(x @ W))
def step():
    global W
    parts = list(map(gradient, X))
    W = W - 1e-9 * {}
"""


@pytest.mark.parametrize("total", ["sum(one for one in parts)", "reduce(np.add, (one for one in parts))"])
def test_gradients_that_a_generator_hands_on_are_no_evaluation(total):
    with recorded(SUMMED.format(total)) as graph:
        assert work_in_step.detect(graph) == dead_computation.detect(graph) == []


def test_a_delta_that_a_function_computes_for_all_layers_and_the_first_does_not_need_is_no_evaluation():
    first = ("global parts", "for one in range(90):", "    kept = np.ones(3) + one")  # some turns are not recorded
    last = ("parts = backward(X, parts['d'] @ W, W)", "W -= 1e-9 * parts['W']")
    lines = (*first, "parts = backward(X, X @ W - 1, W)", "parts['d'][parts['d'] <= 0] = 0", *last)
    text = HEAD.replace("def loss_of", BACKWARD + "def loss_of")
    with recorded(text + "\n".join(f"    {line}" for line in lines)) as graph:
        assert [one.title for one in work_in_step.detect(graph)] == []


BACKWARD = """\
def backward(x, d, W):
    dx = np.matmul(d, W.T)
    dW = np.matmul(x.T, d)
    return {"W": dW, "d": dx}
"""
