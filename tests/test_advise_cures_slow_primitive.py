"""Cures of slow operations: each line gets the faster form, with the file's names, and trains the same."""

from __future__ import annotations

import ast

import pytest
from cured import assert_trains_as, cured
from recorded_step import recorded

from mlpprof.advise.cures.slow_primitive import product_of, times_the_mask
from mlpprof.advise.detect import slow_primitive

pytestmark = pytest.mark.timing

HEAD = """\
import numpy as {np}
X = {np}.random.default_rng(3).normal(0, 1, (300, 200))
W = {np}.random.default_rng(4).normal(0, 0.1, (200, 100))
y = {np}.arange(300) % 100
def clipped(x):
    return x * x + 1
def parameters():
    return [W]
def step():
    global W
    D = X @ W
"""
TAIL = "    W = W - 1e-9 * {np}.abs(found).sum()\n"
FIRST = HEAD.count("\n") + 1


def found(lines, name="np"):
    """The first candidate at these lines, and the program."""
    text = (HEAD + "".join(f"    {line}\n" for line in lines.split("\n")) + TAIL).format(np=name)
    with recorded(text) as graph:
        return next(one for one in slow_primitive.detect(graph) if one.site.line >= FIRST), text


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("found = 2 / X ** 3", "found = 2 / (X * X * X)"),
        ("found = {np}.power(X, 3.0) + 1", "found = (X * X * X) + 1"),
        ("found = {np}.power({np}.e, X)", "found = {np}.exp(X)"),
        ("found = {np}.einsum('bi,ij->bj', X, W)", "found = X @ W"),
        ("found = {np}.einsum('bi,bj->ji', X[:9], D[:9], optimize=True)", "found = D[:9].T @ X[:9]"),
        ("found = sum(X) + 1", "found = {np}.sum(X, axis=0) + 1"),
        ("found = {np}.abs(max(X[0]))", "found = {np}.abs({np}.max(X[0]))"),
        ("found = {np}.abs(X[{np}.arange(3, 200)])", "found = {np}.abs(X[3:200])"),
        ("found = {np}.abs(X[:, list(range(2, 90, 2))])", "found = {np}.abs(X[:, 2:90:2])"),
        ("found = {np}.abs(X[range(3, 200)])", "found = {np}.abs(X[3:200])"),
        ("low = D < 0\nD[{np}.where(low)] = 0.5\nfound = D + low", "low = D < 0\nD[low] = 0.5\nfound = D + low"),
        ("low = D < 0\nfound = D[low.nonzero()] + 1", "low = D < 0\nfound = D[low] + 1"),
        ("found = (abs(D) + D) / 2", "found = {np}.maximum(D, 0)"),
        ("D[X[:, :100] <= 0] = 0\nfound = D", "D *= X[:, :100] > 0\nfound = D"),
        ("found = D + {np}.tile(D[0], (300, 1))", "found = D + D[0]"),
        ("D[range(300), y] -= 1\nfound = D", "D[{np}.arange(300), y] -= 1\nfound = D"),
        ("found = 0 + D[range(300), y]", "found = 0 + D[{np}.arange(300), y]"),
        ("found = {np}.vectorize(clipped)(X)  # slow", "found = clipped(X)  # slow"),
        ("D[D < 0] = 0  # relu\nfound = D", "{np}.maximum(D, 0, out=D)  # relu\nfound = D"),
        ("D[D > 0] = 1\nD[D <= 0] = 0\nfound = D", "{np}.greater(D, 0, out=D)\nfound = D"),
        ("mask = D < 0\nD[mask] = 0\nfound = D", None),
        (
            "found = {np}.einsum('bi,ij->bj',  # all samples\n                  X, W)",
            "found = X @ W",
        ),
        ("found = {np}.sum(X * X)  # energy", "found = {np}.vdot(X, X)  # energy"),
        ("found = 1 + (W ** 2).sum()", "found = 1 + {np}.vdot(W, W)"),
        ("found = {np}.sum({np}.square(X))", "found = {np}.vdot(X, X)"),
        ("found = {np}.sum(X[:, :100] * D)", "found = {np}.vdot(X[:, :100], D)"),
        ("found = (X[:, :, None] * D[:, None, :]).mean(axis=0)", "found = (X.T @ D) / len(X)"),
        ("found = {np}.einsum('ij,ik->ijk', X, D).sum(0)", "found = X.T @ D"),
        ("found = {np}.sum(D[:, None, :] * X[..., None], axis=0)", "found = X.T @ D"),
        ("G = X.T[:, :, None] * D[None]\nfound = {np}.sum(G, axis=1)", "found = X.T @ D"),
    ],
)  # fmt: skip
def test_the_faster_form_stands_where_the_slow_one_stood(line, new):
    if new is None:
        assert found(line)[0].cures == ()
        return
    one, text = found(line, "np")
    (cure,) = one.cures
    after = cured(text, cure)
    old, new = (part.format(np="np").replace("\n", "\n    ") for part in (line, new))
    assert after == text.replace(old, new)
    assert_trains_as(after, text, rtol=1e-9)


def test_a_selection_by_a_mask_is_a_product_with_it():
    node = ast.parse("np.where(a > 0, b, 0)", mode="eval").body
    assert times_the_mask(node, ast.unparse, "np") == "b * (a > 0)"


def test_the_name_of_numpy_is_that_of_the_file():
    one, text = found("found = sum(X) + 1", "numpy")
    assert "found = numpy.sum(X, axis=0) + 1" in cured(text, one.cures[0])


def test_what_would_be_computed_three_times_is_left_to_words():
    one, _ = found("found = np.cos(X) ** 3")
    assert one.cures == ()
    assert one.cure.startswith(f"By hand: in net.py:{FIRST}, give the base of the power a name, say x, and write")


@pytest.mark.parametrize(
    ("subscripts", "text"),
    [
        ("ij,jk->ik", "A @ B"),
        ("ij,jk->ki", "B.T @ A.T"),
        ("bi,bj", "A.T @ B"),
        ("ij,j->i", "A @ B"),
        ("j,jk->k", "B.T @ A"),
        ("ij,i->j", "A.T @ B"),
        ("ij,kl->ik", None),
        ("bi,bi->b", None),
        ("bij,jk->bik", None),
    ],
)
def test_an_einsum_of_two_matrices_is_a_product(subscripts, text):
    product = product_of(subscripts)
    assert (product.text("A", "B") if product is not None else None) == text


@pytest.mark.parametrize(
    ("line", "is_slow"),
    [
        ("np.random.choice([0, 1], size=D.shape, p=[0.2, 0.8])", True),
        ("np.random.binomial(1, 0.8, D.shape)", True),
        ("np.random.rand(*D.shape) < 0.8", True),
        ("np.random.rand(*D.shape) * 0.8", False),  # no mask
        ("np.random.choice(300, 300)", False),  # indices
        ("rng.random(D.shape, dtype=np.float32) < 0.8", False),
    ],
)
def test_random_masks_by_slow_functions_are_found_and_the_others_are_not(line, is_slow):
    with recorded(
        f"{HEAD}    found = {line}\n{TAIL}".format(np="np").replace("y =", "rng = np.random.default_rng(5)\ny =")
    ) as graph:
        found = [one for one in slow_primitive.detect(graph) if "random mask" in one.title]
    assert len(found) == is_slow
    assert all(one.cures == () for one in found)


def test_an_operation_on_a_buffer_that_is_overwritten_later_in_the_step_is_found():
    lines = "B = D.copy()\nfound = np.apply_along_axis(np.sum, 0, B)\nnp.multiply(B, 0.5, out=B)"
    one, text = found(lines)
    assert "np.sum(B, axis=0)" in cured(text, one.cures[0])
