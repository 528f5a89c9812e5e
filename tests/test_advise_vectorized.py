"""Python functions that NumPy calls for every element: their time is that of the call, and of nobody else."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.detect import slow_primitive
from mlpprof.advise.editing.cure import applied
from mlpprof.programs.record.clocks import hook_time

pytestmark = pytest.mark.timing

LIFTED = """\
X = np.random.default_rng(3).normal(0, 1, (1, 500))
def squashed(z):
    return 1 / (1 + np.exp(-z))
def slope(z):
    return squashed(z) * (1 - squashed(z))
lifted = np.vectorize(slope)
def step():
    global X
    A = lifted(X)
    B = squashed(X)
    X = X + 1e-6 * (A - B)
"""


def lifting_of(text):
    """(the least share of the step, the cure) of the np.vectorize of a text; the best of three, for others may run."""
    found = []
    for _ in range(3):
        with recorded(text) as graph:
            (told,) = (one for one in slow_primitive.detect(graph) if "calls a Python function" in one.title)
            found.append((told.saved_s[0] / graph.step_s, told.cure))
    return max(found)


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        ("np.apply_along_axis(np.sum, 0, X)", "np.sum(X, axis=0)"),
        ("np.apply_along_axis(np.tanh, 1, X)", "np.tanh(X)"),
        ("np.where(X > 0, X, 0)", "np.maximum(X, 0)"),
        ("np.max([X, 0 * X], axis=0)", "np.maximum(X, 0 * X)"),
        ("np.array(X.tolist())", "np.array(X, float)"),
        ("np.array(X.tolist(), dtype=X.dtype)", "np.array(X, dtype=X.dtype)"),
    ],
)
def test_python_loops_within_a_call_are_found_and_replaced(slow, fast):
    head = "import numpy as np\nX = np.random.default_rng(3).normal(0, 1, (80, 60))\ndef step():\n    return "
    with recorded(f"{head}{slow} + 1\n") as graph:
        [found] = slow_primitive.detect(graph)
        assert applied(graph.trace.sources, found.cures[:1])[FILE] == f"{head}{fast} + 1\n"


@pytest.mark.parametrize(
    "line",
    [
        "np.apply_along_axis(sorted, 0, X)",
        "np.where(X < 0, X, 0.1 * X)",
        "np.where(X > 1, X, 2)",
        "np.where(X < -30, 0.0, abs(X))",  # the mask is False everywhere
        "np.array([1.0, 2.0])",
        "np.array([X, X])",
    ],
)
def test_other_calls_of_these_functions_are_not(line):
    text = f"X = np.random.default_rng(3).normal(0, 1, (80, 60))\ndef step():\n    return {line}\n"
    with recorded(text) as graph:
        assert slow_primitive.detect(graph) == []


def test_what_runs_for_single_numbers_is_not_counted_for_arrays():
    shares = []
    for _ in range(3):
        with recorded(LIFTED) as graph:
            (array,) = (e for e in graph.last if e.is_own and graph.site(e).line == 10)
            (call,) = (e for e in graph.last if isinstance(e.function, np.vectorize))
            inside = [e for e in graph.events[call.start : call.index] if e.is_own]
            assert len(inside) > 900
            seconds = graph.seconds_with_callbacks(call), graph.seconds(inside), graph.seconds([array])
            shares.append([one / graph.step_s for one in seconds])
    of_call, of_inside, of_array = (sorted(column)[1] for column in zip(*shares, strict=True))  # others may run
    assert of_call > 0.4
    assert of_inside > 0.3
    assert of_array < 0.2


def test_a_function_that_takes_arrays_is_recognised_and_compared_with_itself():
    least, cure = lifting_of(LIFTED)
    assert least > 0.4
    assert "works on whole arrays without any change" in cure
    guarded = LIFTED.replace("    return 1 /", "    if z < -30:\n        return 0.0\n    return 1 /")
    least, cure = lifting_of(guarded.replace("squashed(X)", "X"))
    assert least > 0.4
    assert "works on whole arrays without any change" not in cure


def test_the_hooks_have_a_time_of_their_own():
    hooks = hook_time()
    assert 0 < hooks.inside_s < 1e-4
    assert 0 < hooks.outside_s < 1e-4
