"""Stores through a mask: the other form is named where it is the same and faster on the slow_primitive of the step."""

from __future__ import annotations

import pytest
from recorded_step import recorded

from mlpprof.advise.detect import slow_primitive

pytestmark = pytest.mark.timing

HEAD = """\
import numpy as np
random = np.random.default_rng(3)
X = random.normal(0, 1, (200, 100))
Z = random.normal(0, 1, (200, 300))
W = random.normal(0, 0.1, (100, 300))
def step():
    global W
    A = X @ W
"""
TAIL = """
    W = W - 1e-6 * (X.T @ A)
"""


def cures(*lines):
    """The other form of each candidate."""
    with recorded(HEAD + "\n".join(f"    {line}" for line in lines) + TAIL) as graph:
        found = slow_primitive.detect(graph)
        assert all(one.saved_s[0] > 0 for one in found)
        return [one.cure for one in found]


@pytest.mark.parametrize(
    ("lines", "cure"),
    [
        (("A[A < 0] = 0",), "Replace the store in net.py:9 by NumPy's maximum"),
        (("A[0.5 < A] = 0.5",), "Replace the store in net.py:9 by NumPy's minimum"),
        (("mask = A < 0", "A[mask] = 0"), "By hand: replace the store in net.py:10 by NumPy's maximum"),
        (("A[Z <= 0] = 0",), "Multiply the array in place by the opposite mask"),
        (("mask = A < 0", "A += Z", "A[mask] = 0"), "Multiply the array in place by the opposite mask"),
        (("mask = A < 0", "A[mask] = 0", "A += mask"), "Multiply the array in place by the opposite mask"),
        (("A[A < 0] = 0", "A[A > 0] = 1"), "Replace the stores in net.py:9 and net.py:10 by NumPy's gr"),
        (
            ("A[A > 0] = 1", "A[A <= 0] = 0"),
            "Replace the stores in net.py:9 and net.py:10 by NumPy's gr",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "; ".join(x),
)
def test_the_form_of_the_whole_array_is_named(lines, cure):
    (found,) = cures(*lines)
    assert found.startswith(cure)


@pytest.mark.parametrize(
    "lines",
    [
        ("A[A > 0] = 1",),  # of what is not above 0 nothing is said
        ("A[A > 0] = 1", "A[A >= 0.5] = 0.2"),
        ("A[A < 0] = 0.5",),
        ("A[:, Z[0] < 0] = 0",),
        ("B = A[:1, :100].copy()", "B[B < 0] = 0", "A[:1, :100] = B"),
        ("A[Z < 0] += 1",),
    ],
    ids="; ".join,
)
def test_other_stores_are_left_alone(lines):
    assert cures(*lines) == []
