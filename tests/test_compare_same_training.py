"""Which parameters belong together, what rounding explains, and what a real difference is reported as."""

from __future__ import annotations

import numpy as np
import pytest
from test_programs_pause import Texts

from mlpprof.compare.same_training import same_training
from mlpprof.programs.parameters import record_parameters
from mlpprof.programs.step_place import StepPlace

HEAD = """
import numpy as np
rng = np.random.default_rng(3)
X, Y = rng.random((20, 6)), rng.random((20, 2))
"""

PLAIN = """
class Net:
    def __init__(self):
        self.W = [rng.standard_normal((5, 6)), rng.standard_normal((2, 5))]
        self.b = [np.zeros((5, 1)), np.zeros((2, 1))]
    def step(self):
        A = [X.T]
        for W, b in zip(self.W, self.b):
            Z = W @ A[-1]
            Z += b
            A.append(np.tanh(Z))
        delta = (A[-1] - Y.T) * (1 - A[-1] ** 2)
        for l in (1, 0):
            dW, db = delta @ A[l].T, delta.sum(axis=1, keepdims=True)
            delta = (self.W[l].T @ delta) * (1 - A[l] ** 2)
            self.W[l] -= 0.01 * dW
            self.b[l] -= 0.01 * db
net = Net()
for _ in range(30):
    net.step()
"""

FUNCTIONS = """
V1, V2 = rng.standard_normal((5, 6)).T.copy(), rng.standard_normal((2, 5)).T.copy()
c1, c2 = np.zeros(5), np.zeros(2)
def step(V1, c1, V2, c2):
    H = np.tanh(X @ V1 + c1)
    O = np.tanh(H @ V2 + c2)
    d2 = (O - Y) * (1 - O * O)
    d1 = d2 @ V2.T * (1 - H * H)
    V2 = V2 - 0.01 * H.T @ d2
    V1 = V1 - 0.01 * X.T @ d1
    c2 = c2 - 0.01 * d2.sum(axis=0)
    c1 = c1 - 0.01 * d1.sum(axis=0)
    return V1, c1, V2, c2
for _ in range(30):
    V1, c1, V2, c2 = step(V1, c1, V2, c2)
"""

MOMENTUM = """
class Net:
    def __init__(self):
        self.W = rng.standard_normal((2, 6))
        self.v = np.zeros((2, 6))
    def step(self):
        grad = (self.W @ X.T - Y.T) @ X / 20
        self.v = MU * self.v + grad
        self.W = self.W - 0.1 * self.v
net = Net()
for _ in range(30):
    net.step()
"""

pytestmark = pytest.mark.usefixtures("no_hooks_left")


def recorded(text, step="step", steps=20):
    parameters, count, _ = record_parameters(Texts(HEAD + text), StepPlace.parse(step), steps)
    return parameters, count


def trained(old, new, steps=20):
    """The answer for two programs, given as texts."""
    ours, _ = recorded(old, steps=steps)
    theirs, count = recorded(new, steps=steps)
    return same_training(("old.py", "new.py"), ours, theirs, count)


def test_parameters_are_what_lasts_from_step_to_step_and_not_what_is_updated_in_passing():
    parameters, count = recorded(PLAIN)
    assert count == 20
    assert sorted((one.name, one.shape) for one in parameters) == [
        ("W", (2, 5)),
        ("W", (5, 6)),
        ("b", (2, 1)),
        ("b", (5, 1)),
    ]
    assert all(one.values.shape[0] == 21 for one in parameters)


def test_another_style_with_other_names_and_transposed_arrays_trains_the_same():
    answer = trained(PLAIN, FUNCTIONS)
    assert answer.is_same, answer.reason
    assert "all 4 parameters are the same" in answer.reason


def test_a_learning_rate_that_is_off_by_a_thousandth_is_found_from_the_first_step():
    answer = trained(PLAIN, PLAIN.replace("0.01 * dW", "0.01001 * dW"))
    assert answer.is_same is False
    assert "differs by 0.0011 times what training has changed" in answer.reason
    assert "after step 1" in answer.reason


def test_missing_momentum_is_found_at_the_second_step_and_velocities_are_not_compared():
    with_momentum = MOMENTUM.replace("MU", "0.9")
    assert trained(with_momentum, with_momentum).is_same
    answer = trained(with_momentum, MOMENTUM.replace("MU", "0.0"))
    assert answer.is_same is False
    assert "the first difference is after step 2" in answer.reason


def test_a_velocity_of_the_other_sign_does_not_matter():
    other = MOMENTUM.replace("+ grad", "- grad").replace("- 0.1 * self.v", "+ 0.1 * self.v")
    assert trained(MOMENTUM.replace("MU", "0.9"), other.replace("MU", "0.9")).is_same


def test_float32_is_compared_within_what_it_can_keep():
    single = PLAIN.replace("rng.standard_normal((5, 6))", "rng.standard_normal((5, 6)).astype(np.float32)").replace(
        "rng.standard_normal((2, 5))", "rng.standard_normal((2, 5)).astype(np.float32)"
    )
    answer = trained(PLAIN, single)
    assert answer.is_same, answer.reason
    assert any("float32" in note for note in answer.notes)
    wrong = trained(PLAIN, single.replace("0.01 * dW", "0.0102 * dW"))
    assert wrong.is_same is False


def test_other_starting_values_are_reported_as_such():
    answer = trained(PLAIN, PLAIN.replace("class Net", "rng.random()\nclass Net"))
    assert answer.is_same is False
    assert answer.reason.startswith("they start from different parameters: W")


FLAT = """
W1, W2 = rng.standard_normal((5, 6)), rng.standard_normal((2, 5))
theta = np.concatenate([W1.T.ravel(), W2.ravel(), np.zeros(2), np.zeros(5)])
def step():
    global theta
    W1, W2, b2, b1 = theta[:30].reshape(6, 5), theta[30:40].reshape(2, 5), theta[40:42], theta[42:]
    H = np.tanh(X @ W1 + b1)
    O = np.tanh(H @ W2.T + b2)
    d2 = (O - Y) * (1 - O * O)
    d1 = d2 @ W2 * (1 - H * H)
    gradient = [(X.T @ d1).ravel(), (d2.T @ H).ravel(), d2.sum(axis=0), d1.sum(axis=0)]
    theta = theta - 0.01 * np.concatenate(gradient)
for _ in range(30):
    step()
"""

ROWS = """
W = [[row.copy() for row in rng.standard_normal((5, 6))], [row.tolist() for row in rng.standard_normal((2, 5))]]
b = [np.zeros(5), np.zeros(2)]
def step():
    A, B = np.array(W[0]), np.array(W[1])
    H = np.tanh(X @ A.T + b[0])
    O = np.tanh(H @ B.T + b[1])
    d2 = (O - Y) * (1 - O * O)
    d1 = d2 @ B * (1 - H * H)
    for i in range(5):
        W[0][i] -= 0.01 * X.T @ d1[:, i]
        b[0][i] -= 0.01 * d1[:, i].sum()
    for i in range(2):
        for j in range(5):
            W[1][i][j] -= 0.01 * float(H[:, j] @ d2[:, i])
        b[1][i] -= 0.01 * d2[:, i].sum()
for _ in range(30):
    step()
"""

STACKED = """
V = [np.hstack([rng.standard_normal(shape), np.zeros((shape[0], 1))]) for shape in ((5, 6), (2, 5))]
one = np.ones((20, 1))
def step():
    H = np.tanh(np.hstack([X, one]) @ V[0].T)
    O = np.tanh(np.hstack([H, one]) @ V[1].T)
    d2 = (O - Y) * (1 - O * O)
    d1 = d2 @ V[1][:, :-1] * (1 - H * H)
    V[1] -= 0.01 * d2.T @ np.hstack([H, one])
    V[0] -= 0.01 * d1.T @ np.hstack([X, one])
for _ in range(30):
    step()
"""


@pytest.mark.parametrize("other", [FLAT, ROWS, STACKED], ids=["one vector", "lists of rows", "biases in the matrix"])
def test_parameters_are_compared_if_one_program_holds_them_in_parts(other):
    names = ("old.py", "new.py")
    ours, theirs = (recorded(text, steps=4)[0] for text in (PLAIN, other))
    for old, new in ((ours, theirs), (theirs, ours)):
        answer = same_training(names, old, new, 4)
        assert answer.is_same, answer.reason
        assert answer.notes == ()
    weights = next(one for one in ours if one.shape == (2, 5))
    weights.values[-1].flat[-1] += 1e-6
    wrong = same_training(names, ours, theirs, 4)
    assert wrong.is_same is False
    assert "after 4 steps from the same seeds, " in wrong.reason


def test_programs_whose_parameters_cannot_be_matched_are_not_called_different():
    flat = """
theta = np.random.default_rng(7).standard_normal(47)
def step():
    global theta
    theta = theta - 0.01 * np.sin(theta)
for _ in range(30):
    step()
"""
    answer = trained(PLAIN, flat)
    assert answer.is_same is None
    assert "cannot compare the training of both: old.py changes W" in answer.reason
    assert "new.py changes theta (47,)" in answer.reason
    assert answer.reason.endswith("to leave this check out, add --no-check")


def test_lists_of_numbers_are_parameters_too():
    lists = """
w = [0.5, -0.25, 1.0]
def step():
    for i in range(3):
        w[i] -= 0.1 * (w[i] - X[0, i])
for _ in range(30):
    step()
"""
    [one] = recorded(lists)[0]
    assert (one.name, one.shape, list(one.values[0])) == ("w", (3,), [0.5, -0.25, 1.0])
    arrays = """
w = np.array([0.5, -0.25, 1.0])
def step():
    w[:] -= 0.1 * (w - X[0, :3])
for _ in range(30):
    step()
"""
    assert trained(lists, arrays).is_same


def test_parameters_that_become_infinite_are_compared_as_long_as_they_are_finite():
    wild = MOMENTUM.replace("MU", "0.9").replace("0.1 * self.v", "1e200 * self.v")
    with np.errstate(all="ignore"):
        answer = trained(wild, wild)
    assert any("not a number after step" in note for note in answer.notes)


def test_a_program_of_few_steps_is_compared_over_those():
    few = PLAIN.replace("range(30)", "range(3)")
    assert recorded(few)[1] == 3
    assert trained(few, few).steps == 3
    assert recorded(PLAIN.replace("range(30)", "range(1)"))[1] == 1
