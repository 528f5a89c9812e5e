"""A function that np.vectorize calls for every element gets a form for whole arrays, with the same results."""

from __future__ import annotations

import pytest
from cured import assert_trains_as, cured, cures_of

from mlpprof.advise.detect import slow_primitive

HEAD = """import math
import numpy as np
rng = np.random.default_rng(3)
X, W = rng.normal(0, 1, (60, 30)), rng.normal(0, 0.3, (30, 12))
def parameters():
    return [W]
"""
STEP = """def step():
    Z = X @ W
    W[...] -= 0.01 * X.T @ f(Z)
"""


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (
            "@np.vectorize\ndef f(z):\n    return z if z > 0 else 0.0\n",
            "def f(z):\n    return np.maximum(z, 0)\n",
        ),
        (
            "def one(z):\n    if z < -1:\n        return 0.1 * z\n    return math.tanh(z) + max(z, 0)\n\n"
            "# of all elements\nf = np.vectorize(one)\n",
            "def one(z):\n    return np.where(z < -1, 0.1 * z, np.tanh(z) + np.maximum(z, 0))\n\n"
            "# of all elements\nf = one\n",
        ),
    ],
    ids=["decorated", "named"],
)
def test_a_condition_on_one_number_becomes_a_choice_among_elements(function, wanted):
    (cure,) = cures_of(HEAD + function + STEP, slow_primitive)
    after = cured(HEAD + function + STEP, cure)
    assert after == HEAD + wanted + STEP
    assert_trains_as(HEAD + function + STEP, after, rtol=1e-12)


def test_a_lambda_is_written_out_where_it_is_called():
    text = HEAD + STEP.replace("f(Z)", "np.vectorize(lambda v: v if v > 0 else v * 0)(Z)")
    (cure,) = cures_of(text, slow_primitive)
    assert cured(text, cure) == HEAD + STEP.replace("f(Z)", "np.maximum(Z, 0)")


def test_a_lambda_with_a_second_parameter_keeps_its_form():
    text = HEAD + STEP.replace("f(Z)", "np.vectorize(lambda v, slope=0.1: v if v > 0 else v * slope)(Z)")
    assert cures_of(text, slow_primitive) == ()


@pytest.mark.parametrize(
    "body", ["z if z in (1, 2) else shown(z)", "shown(z) if z > 0 else 0.0", "max(z, 0.1, -z)", "math.log(z * z, 2)"]
)
def test_a_function_that_calls_others_or_has_further_arguments_keeps_its_form(body):
    function = f"def shown(z):\n    return z * 2.0\n@np.vectorize\ndef f(z):\n    return {body}\n"
    assert cures_of(HEAD + function + STEP, slow_primitive) == ()


@pytest.mark.parametrize(
    "function",
    [
        "def one(z):\n    return z if z > 0 else 0.0\nf = np.vectorize(one, otypes=[float], doc='one')\n",
        "f = lambda Z: np.vectorize(lambda v: v if v > 0 else 0.0, otypes=[float])(Z)\n",
        "@np.vectorize\ndef f(z):\n    # the rectifier\n    return z if z > 0 else 0.0\n",
    ],
    ids=["a dtype", "a dtype for a lambda", "a comment"],
)
def test_a_dtype_of_the_results_and_a_comment_are_not_lost(function):
    assert cures_of(HEAD + function + STEP, slow_primitive) == ()


@pytest.mark.parametrize(("dtype", "kind"), [("float", "safe"), ("np.float32", "precision")])
def test_the_results_keep_the_dtype_that_is_named(dtype, kind):
    function = "def one(z):\n    return 1 if z > 0 else 0\nf = np.vectorize(one, otypes=[{}])\n"
    text = HEAD + function.format(dtype) + STEP
    (cure,) = cures_of(text, slow_primitive)
    after = cured(text, cure)
    assert cure.kind == kind
    assert f"z = np.asarray(z, dtype={dtype})\n" in after
    assert f"return np.asarray(np.where(z > 0, 1, 0), dtype={dtype})\nf = one\n" in after
    assert_trains_as(text, after, rtol=1e-12)
