"""Wrong attempts, as learners make them: each gets the message that helps, and the statement where one is to blame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mlpprof.errors import VariantCrash, VariantError
from mlpprof.workloads import resolve
from mlpprof.workshop import check_worker as worker
from mlpprof.workshop.exercises import EXERCISES, RUNGS, solution_text

Examine = Callable[..., dict[str, Any]]
NETWORK = asdict(resolve("tiny").network)


@pytest.fixture
def examine(tmp_path: Path, fresh_imports: None) -> Examine:
    """Examine the solution of an exercise with pieces of it replaced, as the worker does."""

    def run(number: int, *replacements: tuple[str, str], facts_of: int | None = None) -> dict[str, Any]:
        source = solution_text(number)
        for old, new in replacements:
            assert source.count(old) >= 1, f"{old!r} is not in the solution of exercise {number}"
            source = source.replace(old, new)
        file = tmp_path / "my_mlp.py"
        file.write_text(source, encoding="utf-8")
        facts = list(EXERCISES[number if facts_of is None else facts_of].facts)
        return worker.examine(lambda what, share: None, str(file), NETWORK, facts)

    return run


@pytest.mark.parametrize("number", range(len(EXERCISES)))
def test_a_solution_is_right_and_built_as_its_exercise_asks(examine, number):
    answer = examine(number)
    assert answer["wrong"] is None
    assert answer["broken"] is None
    assert answer["uncounted"] == []


WRONG = {
    "forgot the bias gradient, as 0": (
        5,
        ("self.dW[l][:, 0] = delta.sum(axis=1)", "self.dW[l][:, 0] = 0"),
        "gradient of the biases is missing",
    ),
    "forgot the bias gradient, never written": (
        5,
        ("self.dW[l][:, 0] = delta.sum(axis=1)  # phase: gradient", "pass"),
        "gradient of the biases",
    ),
    "mean of the bias gradient": (5, ("delta.sum(axis=1)", "delta.mean(axis=1)"), "mean over the samples"),
    "transposed W in backward": (
        5,
        ("self.W[l + 1][:, 1:].T @ delta", "self.W[l + 1][:, 1:] @ delta"),
        "W is transposed",
    ),
    "transposed W in forward": (5, ("Z = self.W[l][:, 1:] @", "Z = self.W[l][:, 1:].T @"), "Is a W transposed"),
    "transposed gradient": (
        5,
        (
            "return [(dW[:, 1:].copy(), dW[:, 0].copy()) for dW in self.dW[1:]]",
            "return [(dW[:, 1:].T.copy(), dW[:, 0].copy()) for dW in self.dW[1:]]",
        ),
        "dW[1] is transposed",
    ),
    "not divided by m": (2, ("(self.A[l] - self.Y) / m", "(self.A[l] - self.Y)"), "m times too large"),
    "divided by m twice": (2, ("(self.A[l] - self.Y) / m", "(self.A[l] - self.Y) / m / m"), "m times too small"),
    "wrong sign": (2, ("(self.A[l] - self.Y) / m", "(self.Y - self.A[l]) / m"), "wrong sign"),
    "forgot the penalty": (2, ("self.regularize(l)  # phase", "pass  # phase"), "penalty is missing"),
    "penalty on the biases": (
        2,
        ("self.dW[l][:, 1:] += self.network.l2 * self.W[l][:, 1:]", "self.dW[l] += self.network.l2 * self.W[l]"),
        "penalty is on the biases too",
    ),
    "momentum with the wrong sign": (
        2,
        ("self.network.momentum * self.velocity[l] + self.dW", "-self.network.momentum * self.velocity[l] + self.dW"),
        "momentum has the wrong sign",
    ),
    "forgot the momentum": (
        2,
        ("self.network.momentum * self.velocity[l] + self.dW[l]", "self.dW[l]"),
        "momentum is missing",
    ),
    "climbs": (2, ("self.W[l] -= self.network.rate", "self.W[l] += self.network.rate"), "climbs"),
    "forgot the rate": (2, ("self.network.rate * self.velocity[l]", "self.velocity[l]"), "leaves out the rate"),
    "updated in backward": (
        3,
        (
            "            self.regularize(l)  # phase: regularize\n",
            "            self.regularize(l)\n            self.W[l] -= self.network.rate * self.dW[l]\n",
        ),
        "backward changes the weights",
    ),
    "derivative from A of Z": (4, ("derivative_from_A(A)", "derivative_from_A(np.log(A))"), "gradients are wrong"),
    "derivative from Z of A": (4, ("derivative_from_A(A)", "derivative_from_Z(A)"), "derivative_from_Z was given A"),
    "derivative from A given Z": (3, ("derivative_from_Z(Z)", "derivative_from_A(Z)"), "derivative_from_A was given Z"),
    "no derivative": (5, ("delta = propagated * D", "delta = propagated"), "derivative of the activation is missing"),
    "derivative at the output too": (
        4,
        (
            "if self.network.delta_needs_derivative:",
            "if True:",
        ),
        "a derivative too much",
    ),
    "cast to float32": (1, ("self.Y = Y[index].T", "self.Y = Y[index].T.astype(np.float32) * 0.9999999"), "float32"),
    "gradient cast to float32": (
        1,
        ("delta @ self.A_bias[l - 1].T", "(delta @ self.A_bias[l - 1].T).astype(np.float32)"),
        "only to single precision",
    ),
    "gradients returns nothing": (
        1,
        ("return [(dW[:, 1:].copy(), dW[:, 0].copy())", "[(dW[:, 1:].copy(), dW[:, 0].copy())"),
        "gradients() returns NoneType",
    ),
    "the loss is a sum": (
        1,
        ("return self.mean_loss(self.A[self.L], self.Y)", "return self.mean_loss(self.A[self.L], self.Y) * 4"),
        "loss() is",
    ),
    "predict without its transposition": (1, ("return A.T\n", "return A\n"), "return A.T"),
    "first batch kept": (
        1,
        ("self.A[0] = self.Z[0] = X[index].T", "self.A[0] = self.Z[0] = X[:len(index)].T"),
        "loss()",
    ),
}


@pytest.mark.parametrize("attempt", WRONG)
def test_a_wrong_attempt_gets_the_message_that_helps(examine, attempt):
    number, replacement, message = WRONG[attempt]
    try:
        told = examine(number, replacement)["wrong"]
    except VariantError as error:
        told = str(error)
    assert told is not None
    assert message in told


def test_gradients_that_add_up_over_steps_are_told(examine):
    answer = examine(
        0,
        ("        self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]\n", ""),
        ("        self.dW = [None] * (L + 1)\n", "        self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]\n"),
    )
    assert "added to those of the step before" in answer["wrong"]


def test_an_activation_overwritten_in_place_before_its_gradient_is_taken_is_told(examine):
    answer = examine(
        5,
        (
            "            self.dW[l][:, 1:] = delta @ self.A[l - 1].T  # phase: gradient\n"
            "            self.dW[l][:, 0] = delta.sum(axis=1)  # phase: gradient\n"
            "            self.regularize(l)  # phase: regularize\n",
            "            self.delta[l] = delta\n"
            "        for l in range(1, self.L + 1):\n"
            "            self.dW[l][:, 1:] = self.delta[l] @ self.A[l - 1].T\n"
            "            self.dW[l][:, 0] = self.delta[l].sum(axis=1)\n"
            "            self.regularize(l)\n",
        ),
        (
            "D = self.activation[l].derivative_from_A(self.A[l])  # phase: derivative\n                prop",
            "D = self.A[l]\n                D *= 1 - D\n                prop",
        ),
        ("        self.A = [None] * (L + 1)\n", "        self.A = [None] * (L + 1)\n        self.delta = {}\n"),
    )
    assert "A[l] was overwritten" in answer["wrong"]
    assert "in place" in answer["wrong"]


def test_an_activation_spoilt_by_another_operation_is_named_with_its_layer(examine):
    answer = examine(
        5,
        (
            "self.dW[l][:, 1:] = delta @ self.A[l - 1].T",
            "self.A[l - 1] -= self.A[l - 1].mean() if l > 1 else 0\n"
            "            self.dW[l][:, 1:] = delta @ self.A[l - 1].T",
        ),
    )
    assert "A[1], A[2] was overwritten in backward" in answer["wrong"]


def test_data_that_are_overwritten_are_told(examine):
    answer = examine(
        1, ("self.A[0] = self.Z[0] = X[index].T", "X *= 1.5\n        self.A[0] = self.Z[0] = X[index].T / 1.5")
    )
    assert "data were overwritten" in answer["wrong"]


def test_a_missing_method_is_told_with_the_shortest_fix(examine):
    with pytest.raises(VariantError, match=r"no method predict\(self, X\); shortest: "):
        examine(1, ("def predict(", "def guess("))


def test_a_syntax_error_is_told_with_its_line(examine):
    with pytest.raises(VariantCrash, match=r"my_mlp\.py:\d+: SyntaxError"):
        examine(1, ("def loss(self):", "def loss(self)"))


def test_an_exception_is_told_with_its_line_and_method(examine):
    told = examine(1, ("m = self.Y.shape[1]", "m = self.y.shape[1]"))["wrong"]
    assert "my_mlp.py:" in told
    assert "in backward" in told
    assert "has no attribute 'y'" in told


STRUCTURE = {
    "a loop over samples that is left": (0, 1, (), "loop over samples", "  # phase: "),
    "DTYPE forgotten": (1, 2, (), "DTYPE is float64", "DTYPE = np.float64"),
    "a float64 constant": (
        2,
        2,
        (("Z = add_bias_row(self.Z[l])", "Z = np.float64(1.0) * add_bias_row(self.Z[l])"),),
        "double precision from here on",
        "np.float64(1.0) * add_bias_row",
    ),
    "np.ones without a dtype": (
        3,
        3,
        (("np.ones((A.shape[0] + 1, A.shape[1]), A.dtype)", "np.ones((A.shape[0] + 1, A.shape[1]))"),),
        "double precision from here on",
        "stacked = np.ones((A.shape[0] + 1, A.shape[1]))",
    ),
    "the input's delta": (2, 3, (), "as large as the input", "derivative_from_Z(Z)"),
    "the sigmoid again": (3, 4, (), "the activation is evaluated again", "derivative_from_Z"),
    "rows of ones": (4, 5, (), "only copied", "stacked[1:] = A"),
    "the other memory order": (
        5,
        5,
        (("@ self.A[l - 1]  # phase: weighted sum", "@ np.asfortranarray(self.A[l - 1])  # phase: weighted sum"),),
        "only copied",
        "np.asfortranarray",
    ),
    "a factor that BLAS cannot read": (
        5,
        5,
        (
            ("Z = self.W[l][:, 1:] @", "Z = self.wide[l][:, ::2] @"),
            ("        self.A = [None] * (L + 1)\n", "        self.A = [None] * (L + 1)\n        self.wide = {}\n"),
            ("    def forward(self):\n", "    def forward(self):\n        self.widen()\n"),
            (
                "    def loss(self):\n",
                "    def widen(self):\n        for l in range(1, self.L + 1):\n"
                "            self.wide[l] = np.repeat(self.W[l][:, 1:], 2, axis=1)\n\n    def loss(self):\n",
            ),
        ),
        "BLAS cannot read a factor as it lies",
        "self.wide[l][:, ::2]",
    ),
    "new arrays": (5, 6, (), "new arrays", "X[index].T"),
}


@pytest.mark.parametrize("attempt", STRUCTURE)
def test_code_that_is_right_and_not_built_as_asked_is_told_with_its_statement(examine, tmp_path, attempt):
    number, exercise, replacements, message, statement = STRUCTURE[attempt]
    answer = examine(number, *replacements, facts_of=exercise)
    assert answer["wrong"] is None
    broken = answer["broken"]
    assert broken["fact"] == EXERCISES[exercise].fact or exercise == 3
    assert message in broken["what"]
    lines = (tmp_path / "my_mlp.py").read_text(encoding="utf-8").splitlines()
    assert statement in lines[broken["line"] - 1]


def test_every_exercise_begins_where_its_fact_does_not_hold_yet(examine):
    for exercise in EXERCISES[1:-1]:
        broken = examine(exercise.number - 1, facts_of=exercise.number)["broken"]
        assert broken is not None
        assert broken["fact"] == exercise.fact


def test_statements_in_which_memory_orders_meet_are_found(examine):
    answer = examine(1, facts_of=1)
    line, what = answer["mixed"][0]
    assert "F>C" in what
    assert "stacked[1:] = A" in solution_text(1).splitlines()[line - 1]


def test_a_hand_written_sigmoid_counts_as_right(examine):
    answer = examine(
        5,
        ("self.activation[l].derivative_from_A(self.A[l])", "self.A[l] * (1 - self.A[l])"),
        ("self.activation[l].value(Z)", "1 / (1 + np.exp(-Z))"),
    )
    assert (answer["wrong"], answer["broken"]) == (None, None)


def test_every_rung_of_the_workshop_stands_in_the_ladder():
    assert len(RUNGS) == len(EXERCISES)
