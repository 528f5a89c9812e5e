"""Cures of a second forward pass: its result is that of the first, by a name, an attribute or a returned value."""

from __future__ import annotations

import pytest
from cured import assert_trains_as, cured, cures_of

from mlpprof.advise.detect import second_forward

HEAD = """\
import numpy as np
rng = np.random.default_rng(0)
X, Y = rng.normal(0, 1, (60, 50)), rng.random((60, 10))
V = [rng.normal(0, 0.1, (50, 30)), rng.normal(0, 0.1, (30, 10))]
losses = []
def parameters():
    return [*V, np.array(losses)]
def forward(x):
    a = np.tanh(x @ V[0])
    return a, a @ V[1]
def update(da, db):
    V[0] = V[0] - 1e-3 * da
    V[1] = V[1] - 1e-3 * db
"""

GRADIENTS = """\
{0}    d = out - Y
{0}    da, db = X.T @ ((d @ V[1].T) * (1 - a * a)), a.T @ d
"""

ONE_FUNCTION = (
    "def step():\n    a, out = forward(X)\n"
    + GRADIENTS.format("")
    + "    _, found = forward(X)\n    losses.append(float(np.square(found - Y).sum()))\n    update(da, db)\n"
)

METHODS = (
    "class Net:\n    def forward(self, x):\n        return forward(x)\n"
    "    def backward(self):\n        a, out = self.forward(X)\n"
    + GRADIENTS.format("    ")
    + "        return da, db\n    def loss(self):\n        _, found = self.forward(X)\n"
    "        return float(np.square(found - Y).sum())\nnet = Net()\n"
    "def step():\n    grads = net.backward()\n    losses.append(net.loss())\n    update(*grads)\n"
)

FUNCTIONS = (
    "def backward(X):\n    a, out = forward(X)\n"
    + GRADIENTS.format("")
    + "    return da, db\ndef step():\n    da, db = backward(X)\n    _, found = forward(X)\n"
    "    losses.append(float(np.square(found - Y).sum()))\n    update(da, db)\n"
)


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        (
            ONE_FUNCTION,
            {"a, out = forward(X)": "a, out = forward_X = forward(X)", "_, found = forward(X)": "_, found = forward_X"},
        ),
        (
            METHODS,
            {
                "a, out = self.forward(X)": "a, out = self.forward_X = self.forward(X)",
                "_, found = self.forward(X)": "_, found = self.forward_X",
            },
        ),
        (
            FUNCTIONS,
            {
                "a, out = forward(X)": "a, out = forward_X = forward(X)",
                "return da, db": "return da, db, forward_X",
                "da, db = backward(X)": "da, db, forward_X = backward(X)",
                "_, found = forward(X)": "_, found = forward_X",
            },
        ),
    ],
    ids=["one function", "methods", "functions"],
)
def test_the_first_pass_takes_the_place_of_the_second(form, lines):
    first, *_ = cures_of(HEAD + form, second_forward)
    expected = form
    for old, new in lines.items():
        expected = expected.replace(old, new)
    text = cured(HEAD + form, first)
    assert text == HEAD + expected
    assert_trains_as(text, HEAD + form)


def test_a_pass_with_the_new_weights_is_left_to_words():
    later = ONE_FUNCTION.replace("    update(da, db)\n", "").replace("    _, found", "    update(da, db)\n    _, found")
    assert cures_of(HEAD + later, second_forward) == ()
