"""Evaluations with weights that the step has just made, and stacked biases that are worth telling together."""

from __future__ import annotations

import pytest
from recorded_step import recorded

from mlpprof.advise.candidate import LEAST_SHARE
from mlpprof.advise.detect import bias_stacking as stacking
from mlpprof.advise.detect import dead_computation
from mlpprof.advise.detect import work_in_step as extra_work

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
def test_an_evaluation_with_weights_that_the_step_has_made_is_told(line):
    (one,) = (one for one in found(extra_work, line) if one.category == "work-in-step")
    assert one.site.line == FIRST


@pytest.mark.parametrize(
    "lines",
    [
        ("H = X @ W", "W = W - 1e-4 * (X.T @ H)"),  # another step
        ("losses.append(float(np.sqrt(np.sum(W * W))))",),
        ("losses.append(float(np.trace(W.T @ W)))",),  # of the weights alone
    ],
    ids=lambda lines: lines[0],
)
def test_what_the_update_needs_and_norms_of_the_weights_are_no_evaluation(lines):
    assert found(extra_work, *lines) == []


def test_stacked_biases_are_told_together():
    lines = (
        "Z = np.hstack([np.ones((60, 1)), X]) @ W1",
        "A = np.hstack([np.ones((60, 1)), np.tanh(Z[:, :5])])",
        "B = A @ W1[:6, :3]",
        "W1 = W1 - 1e-4 * (np.hstack([np.ones((60, 1)), X]).T @ Z)",
    )
    told = found(stacking, *lines)
    assert [one.site.line for one in sorted(told, key=lambda one: one.site.line)] == [FIRST, FIRST + 1, FIRST + 3]
    assert sum(one.least_share for one in told) == pytest.approx(LEAST_SHARE, rel=0.2)
    assert all(one.least_share < LEAST_SHARE for one in told)


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
            "+ if not self.is_first:",
        ),
        (
            "W = [np.full((50, 40), 0.1), np.full((40, 30), 0.1)]\n"
            "def step():\n    delta = np.full((60, 30), 1e-9)\n    for l in (1, 0):\n"
            "        back = delta @ W[l].T\n        W[l] = W[l] - np.ones((60, (50, 40)[l])).T @ delta\n"
            "        delta = back\n",
            "+ if l > 1:",
        ),
    ],
    ids=["in a method", "in the loop"],
)
def test_a_dead_delta_is_left_out_by_what_its_line_can_see(text, cure):
    with recorded(text) as graph:
        (one,) = dead_computation.detect(graph)
    assert cure in one.cure
