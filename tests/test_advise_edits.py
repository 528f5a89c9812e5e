"""Cures that are shown as a diff can be pasted: Python, with the file's names, that gives the same values."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import recorded

from mlpprof.advise.detect import slow_primitive

pytestmark = pytest.mark.timing

HEAD = """\
import numpy as {np}
X = {np}.random.default_rng(3).normal(0, 1, (300, 200))
W = {np}.random.default_rng(4).normal(0, 0.1, (200, 100))
parts = [*X]
def step():
    global W
"""
TAIL = "    W = W - 1e-9 * {np}.abs(found).sum()\n"


@pytest.mark.parametrize("name", ["np", "numpy"])
@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("found = 2 / X ** 3", "found = 2 / (X * X * X)"),
        ("found = {np}.power(X, 3.0) + 1", "found = (X * X * X) + 1"),
        ("found = {np}.einsum('bi,ij->bj', X, W)", "found = {np}.einsum('bi,ij->bj', X, W, optimize=True)"),
        ("found = sum(X) + 1", "found = {np}.sum(X, axis=0) + 1"),
        ("found = {np}.abs(max(X[0]))", "found = {np}.abs({np}.max(X[0]))"),
    ],
)
def test_a_slow_expression_is_replaced_in_its_line(line, new, name):
    line, new = (text.format(np=name) for text in (line, new))
    with recorded(HEAD.format(np=name) + f"    {line}\n" + TAIL.format(np=name)) as graph:
        (one,) = (one for one in slow_primitive.detect(graph) if one.site.line == 7)
    assert one.cure == f"- {line}\n+ {new}"
    values = []
    for text in (line, new):
        space = {name: np}
        exec("\n".join(HEAD.format(np=name).splitlines()[:4]) + f"\n{text}", space)
        values.append(space["found"])
    np.testing.assert_allclose(*values, rtol=1e-9)


def test_what_would_be_computed_three_times_is_left_to_words():
    line = "found = np.cos(X) ** 3"
    with recorded(HEAD.format(np="np") + f"    {line}\n" + TAIL.format(np="np")) as graph:
        (one,) = (one for one in slow_primitive.detect(graph) if one.site.line == 7)
    assert one.cure.startswith("By hand: in net.py:7, give the base of the power a name, say x, and write")
