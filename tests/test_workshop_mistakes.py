"""Wrong attempts, as learners make them. Each gets a message that helps, with the statement that is to blame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlpprof.errors import VariantCrash, VariantError
from mlpprof.workloads import resolve
from mlpprof.workshop import check_worker as worker
from mlpprof.workshop import solutions
from mlpprof.workshop.check_worker import narrowing_line
from mlpprof.workshop.exercises import built_in
from mlpprof.workshop.fair_play import changed_clock

COURSE = built_in()
EXERCISES = COURSE.exercises
solution_text = partial(solutions.solution_text, COURSE)

Examine = Callable[..., dict[str, Any]]
NETWORK = asdict(resolve("tiny").network)


@pytest.fixture
def examine(tmp_path: Path, fresh_imports: None) -> Examine:
    """Examine the solution of an exercise with some of its code replaced, in this process."""

    def run(number: int, *replacements: tuple[str, str], facts_of: int | None = None) -> dict[str, Any]:
        source = solution_text(number)
        for old, new in replacements:
            assert source.count(old) >= 1, f"{old!r} is not in the solution of exercise {number}"
            source = source.replace(old, new)
        file = tmp_path / "my_mlp.py"
        file.write_text(source, encoding="utf-8")
        exercise = EXERCISES[number if facts_of is None else facts_of]
        is_solved = exercise.goal == "solve"
        return worker.examine(lambda what, share: None, str(file), NETWORK, 200, exercise.at_most, is_solved)

    return run


@pytest.mark.parametrize("number", range(len(EXERCISES)))
def test_a_solution_is_correct_and_built_as_its_exercise_requires(examine, number):
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
    "one bias for a whole layer": (5, ("Z += self.W[l][:, :1]", "Z += self.W[l][0, 0]"), "adds the same bias to all"),
    "no gradient of the first layer": (
        3,
        ("for l in reversed(range(1, self.L + 1)):", "for l in reversed(range(2, self.L + 1)):"),
        "Has backward computed the gradient of every layer",
    ),
    "mean of the bias gradient": (5, ("delta.sum(axis=1)", "delta.mean(axis=1)"), "mean over the samples"),
    "transposed W in backward": (
        5,
        ("self.W[l + 1][:, 1:].T @ delta", "self.W[l + 1][:, 1:] @ delta"),
        "W has to be transposed in backward",
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
    "divided by the batch size of the course": (
        2,
        ("(self.A[l] - self.Y) / m", "(self.A[l] - self.Y) / 200"),
        "right for a batch of 200 samples, but not for one of 4",
    ),
    "an array of the batch size of the course": (
        5,
        ("delta.sum(axis=1)", "delta @ np.ones(200)"),
        "right for a batch of 200 samples, but not for one of 4",
    ),
    "divided by a fixed number": (2, ("(self.A[l] - self.Y) / m", "(self.A[l] - self.Y) / 64"), "are divided by 64"),
    "loss divided by a fixed number": (
        1,
        ("return self.mean_loss(self.A[self.L], self.Y)", "return self.mean_loss(self.A[self.L], self.Y) * 4 / 64"),
        "divides the sum over the samples by 64",
    ),
    "does nothing on the network of the race": (
        5,
        (
            "    def backward(self):\n",
            "    def backward(self):\n        if self.L > 4 or self.Y.shape[1] > 100:\n"
            "            self.dW = [W if W is None else 0 * W for W in self.W]\n            return\n",
        ),
        "right on small networks, but wrong on the network that the race uses",
    ),
    "objects that share an array": (
        5,
        (
            "        self.velocity = [None] + [np.zeros_like(W) for W in self.W[1:]]\n",
            "        new = [None] + [np.zeros_like(W) for W in self.W[1:]]\n"
            "        type(self).kept = kept = getattr(type(self), 'kept', {})\n"
            "        self.velocity = kept.setdefault(network.layers, new)\n",
        ),
        "the objects share an array",
    ),
    "gradients kept for a batch": (
        5,
        (
            "    def backward(self):\n",
            "    def backward(self):\n        self.seen = getattr(self, 'seen', set())\n"
            "        if self.A[0].tobytes() in self.seen:\n            return\n"
            "        self.seen.add(self.A[0].tobytes())\n",
        ),
        "not a third one with the samples of the first",
    ),
    "time replaced as a module": (
        5,
        ("import numpy as np\n", "import numpy as np\nimport sys\nsys.modules['time'] = sys\n"),
        "replaces Python's clock time",
    ),
    "another framework": (5, ("import numpy as np\n", "import numpy as np\nimport torch\n"), "imports torch, but"),
    "the solution itself": (
        5,
        ("import numpy as np\n", "import numpy as np\nfrom mlpprof import catalog\n"),
        "imports mlpprof.catalog, which may contain the solution",
    ),
    "another clock": (
        5,
        ("import numpy as np\n", "import numpy as np\nimport time\ntime.perf_counter = lambda: 0.0\n"),
        "replaces Python's clock time.perf_counter",
    ),
    "wrong sign": (2, ("(self.A[l] - self.Y) / m", "(self.Y - self.A[l]) / m"), "wrong sign"),
    "forgot the penalty": (2, ("self.regularize(l)  # phase", "pass  # phase"), "penalty is missing"),
    "penalty on the biases": (
        2,
        ("self.dW[l][:, 1:] += self.network.l2 * self.W[l][:, 1:]", "self.dW[l] += self.network.l2 * self.W[l]"),
        "penalty is added to the biases too",
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
    "climbs": (2, ("self.W[l] -= self.network.rate", "self.W[l] += self.network.rate"), "goes uphill"),
    "forgot the rate": (2, ("self.network.rate * self.velocity[l]", "self.velocity[l]"), "does not use the rate"),
    "updated in backward": (
        3,
        (
            "            self.regularize(l)  # phase: regularize\n",
            "            self.regularize(l)\n            self.W[l] -= self.network.rate * self.dW[l]\n",
        ),
        "backward changes the weights",
    ),
    "derivative from A of Z": (4, ("derivative_from_A(A)", "derivative_from_A(np.log(A))"), "gradients are wrong"),
    "derivative from Z of A": (4, ("derivative_from_A(A)", "derivative_from_Z(A)"), "derivative_from_Z got A"),
    "derivative from A given Z": (3, ("derivative_from_Z(Z)", "derivative_from_A(Z)"), "derivative_from_A got Z"),
    "no derivative": (5, ("delta = propagated * D", "delta = propagated"), "derivative of the activation is missing"),
    "derivative at the output too": (
        4,
        (
            "if self.network.delta_needs_derivative:",
            "if True:",
        ),
        "a derivative that does not belong there",
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
        "loss() returns the sum",
    ),
    "predict without its transposition": (1, ("return A.T\n", "return A\n"), "return A.T"),
    "predict without biases": (5, (" @ A + self.W[l][:, :1])", " @ A)"), "predict has to compute the same as forward"),
    "train_step without update": (
        5,
        ("        self.update()\n        return loss\n", "        return loss\n"),
        "train_step has to call fetch_batch, forward, loss, backward and update",
    ),
    "train_step returns nothing": (5, ("        return loss\n", ""), "train_step has to return the loss"),
    "biases not updated": (
        5,
        (
            "self.W[l] -= self.network.rate * self.velocity[l]",
            "self.W[l][:, 1:] -= self.network.rate * self.velocity[l][:, 1:]",
        ),
        "update() does not change the biases",
    ),
    "samples of the first step again": (
        5,
        (
            "        self.A[0] = X[index].T",
            "        if self.A[0] is not None:\n            return\n        self.A[0] = X[index].T",
        ),
        "the second step uses the samples of the first",
    ),
    "first batch kept": (
        1,
        ("self.A[0] = self.Z[0] = X[index].T", "self.A[0] = self.Z[0] = X[:len(index)].T"),
        "other rows",
    ),
}


@pytest.mark.parametrize("attempt", WRONG)
def test_a_wrong_attempt_gets_the_message_that_helps(examine, attempt):
    number, replacement, message = WRONG[attempt]
    try:
        found = examine(number, replacement)["wrong"]
    except VariantError as error:
        found = str(error)
    assert found is not None
    assert message in found


def test_gradients_that_add_up_over_steps_are_found(examine):
    answer = examine(
        0,
        ("        self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]\n", ""),
        ("        self.dW = [None] * (L + 1)\n", "        self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]\n"),
    )
    assert "added to those of the step before" in answer["wrong"]


def test_an_activation_overwritten_in_place_before_its_gradient_is_taken_is_found(examine):
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


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import time\nold = time.perf_counter\ntime.perf_counter = f\n", 3),
        ("import time\nold = time.perf_counter\nsetattr(time, 'perf_' + 'counter', f)\n", 3),
    ],
)
def test_a_changed_clock_is_reported_with_the_line_that_changes_it_and_not_one_that_reads_it(source, line):
    clocks = {"perf_counter": lambda: 0.0}
    assert (changed_clock(clocks, source, "my_mlp.py") or "").startswith(f"my_mlp.py:{line} replaces")


def test_the_line_that_names_a_lower_precision_is_found_apart_from_dtype():
    assert narrowing_line("DTYPE = np.float32\nx = y\nA = A.astype(np.float16)\n") == 3
    assert narrowing_line("DTYPE = np.float32\nA = sgemm(1.0, A, B)\n") == 2
    assert narrowing_line("DTYPE = np.float32\n") is None


def test_data_that_are_overwritten_are_found(examine):
    answer = examine(
        1, ("self.A[0] = self.Z[0] = X[index].T", "X *= 1.5\n        self.A[0] = self.Z[0] = X[index].T / 1.5")
    )
    assert "data were overwritten" in answer["wrong"]


def test_a_missing_method_is_reported_with_the_shortest_fix(examine):
    with pytest.raises(VariantError, match=r"no method predict\(self, X\); shortest: "):
        examine(1, ("def predict(", "def guess("))


def test_a_syntax_error_is_reported_with_its_line(examine):
    with pytest.raises(VariantCrash, match=r"my_mlp\.py:\d+: SyntaxError"):
        examine(1, ("def loss(self):", "def loss(self)"))


def test_an_exception_is_reported_with_its_line_and_method(examine):
    found = examine(1, ("m = self.Y.shape[1]", "m = self.y.shape[1]"))["wrong"]
    assert "my_mlp.py:" in found
    assert "in backward" in found
    assert "has no attribute 'y'" in found


def test_a_call_of_exit_is_reported_with_its_line_and_method(examine):
    found = examine(1, ("m = self.Y.shape[1]", "raise SystemExit"))["wrong"]
    assert "my_mlp.py:" in found
    assert "in backward: the code called exit(); remove the call" in found


def test_code_that_reads_from_the_keyboard_in_train_step_is_reported_with_its_line(examine):
    found = examine(1, ("        loss = self.loss()", "        raise EOFError\n        loss = self.loss()"))["wrong"]
    assert "in train_step: the code reads from the keyboard" in found


def test_a_file_with_a_byte_order_mark_is_read(examine):
    assert examine(1, ('"""Exercise 1', '\ufeff"""Exercise 1'))["wrong"] is None


STRUCTURE = {
    "a loop over samples that is left": (0, 1, (), "`forward` runs this line again", "for x in self.X:"),
    "DTYPE forgotten": (1, 2, (), "DTYPE is float64", "DTYPE = np.float64"),
    "a float64 constant": (
        2,
        2,
        (("Z = add_bias_row(self.Z[l])", "Z = np.float64(1.0) * add_bias_row(self.Z[l])"),),
        "float64 too",
        "np.float64(1.0) * add_bias_row",
    ),
    "np.ones without a dtype": (
        2,
        2,
        (("np.ones((A.shape[0] + 1, A.shape[1]), A.dtype)", "np.ones((A.shape[0] + 1, A.shape[1]))"),),
        "float64 too",
        "stacked = np.ones((A.shape[0] + 1, A.shape[1]))",
    ),
    "the input's delta": (2, 3, (), "as large as the input", "derivative_from_Z(Z)"),
    "the sigmoid again": (3, 4, (), "evaluates the activation again", "derivative_from_Z"),
    "rows of ones": (4, 5, (), "only copies and computes nothing. Slice W[l]", "stacked[1:] = A"),
    "the other memory order": (
        5,
        5,
        (("@ self.A[l - 1]  # phase: weighted sum", "@ np.asfortranarray(self.A[l - 1])  # phase: weighted sum"),),
        "only copies and computes nothing. Use the array itself",
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
        "BLAS cannot read a factor",
        "self.wide[l][:, ::2]",
    ),
    "new arrays": (5, 6, (), "new arrays", "X[index].T"),
}


@pytest.mark.parametrize("attempt", STRUCTURE)
def test_code_that_is_correct_but_not_built_as_required_is_reported_with_its_statement(examine, tmp_path, attempt):
    number, exercise, replacements, message, statement = STRUCTURE[attempt]
    answer = examine(number, *replacements, facts_of=exercise)
    assert answer["wrong"] is None
    broken = answer["broken"]
    assert broken["fact"] == EXERCISES[exercise].facts[-1]
    assert message in f"{broken['what']}. {broken['advice']}"
    lines = (tmp_path / "my_mlp.py").read_text(encoding="utf-8").splitlines()
    assert statement in lines[broken["line"] - 1]


def test_a_loop_is_reported_with_the_function_that_it_is_in(examine):
    broken = examine(
        1,
        (
            "        return self.mean_loss(self.A[self.L]",
            "        self.each()\n        return self.mean_loss(self.A[self.L]",
        ),
        (
            "    def loss(self)",
            "    def each(self):\n        for y in self.Y.T:\n            y * 2\n\n    def loss(self)",
        ),
    )["broken"]
    assert "`loss` calls `each`, which runs this line again for each sample of the batch" in broken["what"]


def test_only_the_step_is_judged_and_predict_may_have_a_loop_over_samples(examine):
    loop = "    def predict(self, X):\n        return np.array([self.each(x[None])[0] for x in X])\n\n"
    assert examine(1, ("    def predict(self, X):\n", f"{loop}    def each(self, X):\n"))["broken"] is None


def test_a_print_in_the_step_is_reported_with_its_line_and_one_elsewhere_is_not(examine, tmp_path):
    printing = ("    def backward(self):\n", "    def backward(self):\n        print('backward')\n")
    line = examine(1, printing)["prints"]
    assert "print(" in (tmp_path / "my_mlp.py").read_text(encoding="utf-8").splitlines()[line - 1]
    assert (
        examine(1, ("        self.network = network\n", "        self.network = network\n        print(1)\n"))["prints"]
        is None
    )


def test_statements_that_mix_memory_orders_are_found(examine):
    answer = examine(1, facts_of=1)
    line, what = answer["mixed"][0]
    assert "F>C" in what
    assert "stacked[1:] = A" in solution_text(1).splitlines()[line - 1]


def test_a_hand_written_sigmoid_counts_as_correct(examine):
    answer = examine(
        5,
        ("self.activation[l].derivative_from_A(self.A[l])", "self.A[l] * (1 - self.A[l])"),
        ("self.activation[l].value(Z)", "1 / (1 + np.exp(-Z))"),
    )
    assert (answer["wrong"], answer["broken"]) == (None, None)
