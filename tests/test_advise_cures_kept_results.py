"""Large results go into arrays that are made once, only where nothing but names of the function can hold them."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.cures.kept_results import kept_results
from mlpprof.advise.editing.cure import applied

HEAD = """import numpy as np
rng = np.random.default_rng(3)
W, b = rng.normal(0, 1, (30, 20)), np.zeros(20)
X = rng.normal(0, 1, (40, 30))
history = []

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def same(z):
    return z

"""


def kept_in(*lines):
    """The lines of `step` after the cure, which has to compute the same in three steps; None without a cure."""
    text = HEAD + "".join(f"{line}\n" for line in ("def step():", *(f"    {line}" for line in lines)))
    with recorded(text) as graph:
        cure = kept_results(graph.last, 64, graph)
        if cure is None:
            return None
        assert cure.kind == "safe"
        new = applied(graph.trace.sources, [cure])[FILE]
    results = []
    for source in (text, new):
        space = {}
        exec(source, space)
        results.append([np.array(space["step"]()) for _ in range(3)])
    np.testing.assert_array_equal(*results)
    return [line.strip() for line in new.partition("def step():\n")[2].splitlines()]


def patched(text):
    """The program with the cure."""
    with recorded(text) as graph:
        return applied(graph.trace.sources, [kept_results(graph.last, 64, graph)])[FILE]


def test_a_chain_of_operations_uses_one_array_where_the_old_values_are_not_read_again():
    assert kept_in(
        "product = X @ W",
        "Z = product + b",
        "A = 1 / (1 + np.exp(-Z))  # sigmoid",
        "slope = A * (1 - A)",
        "d = slope ** 2",
        "return float(d.sum()), Z.sum()",
    ) == [
        'product = kept("step.product", np.matmul, X, W)',
        'Z = kept("step.product", np.add, product, b)',
        'A = kept("step.A", np.divide, 1, kept("step.A", np.add, 1, kept("step.A", np.exp, '
        'kept("step.A", np.negative, Z))))  # sigmoid',
        'slope = kept("step.slope", np.multiply, A, kept("step.slope", np.subtract, 1, A))',
        'd = kept("step.slope", np.square, slope)',
        "return float(d.sum()), Z.sum()",
    ]


def test_what_a_loop_carries_to_its_next_turn_has_an_array_of_its_own():
    lines = kept_in("A = X @ W", "for n in range(3):", "    A = np.tanh((X @ W) * A + n)", "return A.sum()")
    assert lines[2].startswith('A = kept("step.A 3", np.tanh, kept("step.A 2", np.add, ')


def test_an_array_that_the_statement_changes_is_not_overwritten_before():
    assert kept_in("A = X @ W", "A *= np.exp(-A)", "return A.sum()")[1] == (
        'A *= kept("step.result", np.exp, kept("step.result", np.negative, A))'
    )


def test_the_parameter_of_a_function_that_only_computes_with_it_may_be_kept():
    assert kept_in("Z = X @ W", "return sigmoid(Z)") == ['Z = kept("step.Z", np.matmul, X, W)', "return sigmoid(Z)"]


@pytest.mark.parametrize(
    "lines",
    [
        ("return X @ W",),
        ("Z = X @ W", "history.append(Z)", "return Z.sum()"),
        ("Z = X @ W", "rows = Z[:3]", "return rows.sum()"),
        ("Z = X @ W", "other = Z", "return other.sum()"),
        ("Z = X @ W", "return (lambda: Z)().sum()"),
        ("Z = X @ W", "return same(Z)"),
        ("Z = X @ W", "return Z.reshape(-1).sum()"),
        ("global last", "last = X @ W", "return last.sum()"),
        ("Z = X @ W", "pair = [Z]", "return pair[0].sum()"),
        ("import threading", "Z = X @ W", "return Z.sum()"),
        ("try:", "    Z = X @ W", "finally:", "    pass", "return Z.sum()"),
        ("rows = []", "rows += [0]", "total = list(X @ W)", "return total[0].sum()"),
    ],
    ids=lambda lines: lines[1] if len(lines) > 1 else lines[0],
)
def test_what_other_code_may_hold_is_not_kept(lines):
    assert kept_in(*lines) is None


def test_other_shapes_and_dtypes_get_other_arrays():
    text = HEAD + "def step():\n    Z = X @ W + b\n    return Z.sum()\n"
    space = {}
    exec(patched(text), space)
    for dtype, rows in [("float64", 40), ("float32", 40), ("float32", 3), ("float64", 0), ("float32", 40)]:
        space["X"], space["W"], space["b"] = (np.ones(shape, dtype) for shape in ((rows, 30), (30, 20), 20))
        assert space["step"]() == rows * 20 * 31
        assert space["step"]().dtype == dtype


def test_a_product_that_the_operations_go_on_with_is_kept_too():
    text = HEAD + "def step():\n    Z = X @ W\n    A = X @ W\n    return np.tanh(Z + b).sum() + A.sum()\n"
    with recorded(text) as graph:
        later = [event for event in graph.last if graph.site(event).line == text.count("\n")]
        new = applied(graph.trace.sources, [kept_results(later, 64, graph)])[FILE]
    assert 'Z = kept("step.Z", np.matmul, X, W)\n    A = kept("step.A", np.matmul, X, W)\n' in new
    assert 'kept("step.Z", np.tanh, kept("step.Z", np.add, Z, b)).sum() + A.sum()\n' in new


@pytest.mark.parametrize(
    "extra",
    [
        "import multiprocessing.pool",
        "if len(X) > 900:\n    from joblib import Parallel",
        "class Tensor:\n    def __array_ufunc__(self, *operands):\n        history.append(operands)",
        "def helper():\n    if len(X) > 900:\n        step()\ndef sigmoid(z):\n    helper()\n    return z.sum()",
        "class Tensor:\n    def __rmul__(self, other):\n        history.append(other)\nt = Tensor()\n"
        "def sigmoid(z):\n    return z * t if len(X) > 900 else 0",
        "class Log:\n    def append(self, z):\n        self.total = z.sum()\ndef sigmoid(z):\n    history.append(z)",
        "class Net:\n    def dot(self, z):\n        self.z = z\ndef sigmoid(z):\n    Net().dot(z)",
        "def store(out):\n    history.append(out)\ndef sigmoid(z):\n    store(out=z)",
        "def sigmoid(z):\n    return np.clip(z, 0, 1, z)",
        "def sigmoid(z):\n    return np.square(z, z)",
    ],
    ids=[
        "a pool",
        "joblib",
        "ufuncs",
        "itself",
        "a tape",
        "a list",
        "a method dot",
        "an argument out",
        "out by place",
        "out of a square",
    ],
)
def test_what_code_that_did_not_run_may_hold_is_not_kept(extra):
    text = HEAD + extra + "\ndef step():\n    Z = X @ W\n    sigmoid(Z)\n    return Z.sum()\n"
    with recorded(text) as graph:
        assert kept_results(graph.last, 64, graph) is None


def test_a_power_of_a_name_is_not_kept_as_a_square():
    lines = kept_in("k = 2", "return float(((X @ W) ** k).sum())")
    assert lines is None or "square" not in "".join(lines)


def test_a_name_that_is_read_after_a_break_keeps_its_array():
    lines = kept_in(
        "for n in range(3):",
        "    Z = X @ W",
        "    S = np.exp(Z)",
        "    if n == 1: break",
        "    Z = X @ W + n",
        "return Z.sum() + S.sum()",
    )
    assert lines[2] == 'S = kept("step.S", np.exp, Z)'


def test_a_name_that_a_turn_may_not_reach_keeps_the_array_of_the_turn_before():
    lines = kept_in(
        "for n in range(3):",
        "    Z = X @ W + n",
        "    if n == 2: continue",
        "    S = np.exp(-Z)",
        "return S.sum()",
    )
    assert lines[3] == 'S = kept("step.S", np.exp, kept("step.S", np.negative, Z))'


def test_the_arrays_are_kept_above_a_function_that_is_called_before_a_later_import():
    text = HEAD + "def step():\n    Z = X @ W\n    return Z.sum()\nfirst = step()\nimport math\n"
    space = {}
    exec(patched(text), space)
    assert space["first"] == space["step"]()


def test_two_edits_of_one_function_use_no_name_twice():
    lines = ["A = np.tanh(X)", "B = A * 2", "_ = B.sum()", "A = np.exp(X)", "C = A * 3", "return float((B + C).sum())"]
    text = HEAD + "def step():\n" + "".join(f"    {line}\n" for line in lines)
    first = text.count("\n") - len(lines) + 1
    with recorded(text) as graph:
        lines_of_edits = [(first, first + 1), (first + 3, first + 4)]
        groups = [[one for one in graph.last if graph.site(one).line in lines] for lines in lines_of_edits]
        one, other = (kept_results(group, 64, graph) for group in groups)
        new = applied(graph.trace.sources, [one, other])[FILE]
    assert not one.conflicts_with(other)
    old_space, new_space = {}, {}
    exec(text, old_space)
    exec(new, new_space)
    for _ in range(3):
        assert new_space["step"]() == old_space["step"]()


def test_lists_and_subclasses_of_arrays_are_computed_as_before():
    text = HEAD + "def step():\n    Z = np.dot(X, W)\n    return Z.sum(axis=0)\n"
    space = {}
    exec(patched(text), space)
    for rows in (np.ones((2, 30)), np.ones((2, 30)).tolist(), np.ones((3, 30)).tolist(), np.ma.ones((2, 30))):
        space["X"] = rows
        expected = np.dot(rows, space["W"]).sum(axis=0)
        assert type(space["step"]()) is type(expected)
        np.testing.assert_array_equal(space["step"](), expected)
