"""Sums of outer products that are written as an array of three axes are found, and what only looks like one is not."""

from __future__ import annotations

import pytest
from recorded_step import recorded

from mlpprof.advise.detect import slow_primitive

pytestmark = pytest.mark.timing

HEAD = """\
random = np.random.default_rng(3)
X = random.normal(0, 1, (32, 200))
W = random.normal(0, 0.1, (200, 40))
big, dW = np.empty((32, 200, 40)), np.empty((200, 40))
def step():
    global W
    D = X @ W
"""
TAIL = """
    W = W - 1e-6 * dW
"""


def found(*lines):
    """(line, share of the step at least) of each candidate."""
    with recorded(HEAD + "\n".join(f"    {line}" for line in lines) + TAIL) as graph:
        return [(one.site.line, one.saved_s[0] / graph.step_s) for one in slow_primitive.detect(graph)]


@pytest.mark.parametrize(
    "lines",
    [
        ("np.multiply(X[:, :, None], D[:, None, :], out=big)", "np.sum(big, axis=0, out=dW)"),
        ("dW = (X[:, :, None] * D[:, None, :]).mean(axis=0)",),
        ("dW = np.einsum('ij,ik->ijk', X, D).sum(0)",),
        ("dW = np.einsum('ik,ij->jik', D, X).sum(1)",),
        ("dW = np.add.reduce(X[:, :, None] @ D[:, None, :])",),
        ("dW = np.average(D[:, None, :] * X[..., None], axis=0)",),
        ("D = np.sum(X[:, :, None] * W, axis=1)", "dW = X.T @ D"),
    ],
    ids=lambda lines: lines[0],
)
def test_the_sum_of_products_of_all_pairs_is_one_product(lines):
    ((line, least),) = found(*lines)
    assert line == HEAD.count("\n") + 1
    assert least > 0.3


@pytest.mark.parametrize(
    "lines",
    [
        ("E = X[:, :, None] * D[:, None, :]", "dW = E.sum(axis=0) / (1 + E.max())"),  # its largest is wanted, too
        ("E = X[:, :, None] * D[:, None, :]", "dW = X.T @ D + E.sum(axis=2).sum() + E.sum(axis=1).sum()"),
        ("dW = (X[:, :, None] * D[:, None, :])[:16].sum(axis=0)",),
        ("E = X[:, :, None] * D[:, None, :]", "dW = np.sum(np.abs(E), axis=0)"),
        ("dW = (X[:, :, None] * D[:, None, :]).sum(axis=0, where=X[:, :, None] > 0)",),
        ("dW = np.tanh(X[:, :, None] + D[:, None, :]).sum(axis=0)",),
        ("dW = np.matmul(X.T, D)",),
    ],
    ids=lambda lines: lines[-1],
)
def test_what_is_no_such_sum_is_not_reported(lines):
    assert found(*lines) == []


def test_a_bar_that_is_given_the_whole_model_before_a_step_looks_at_no_buffer():
    lines = ("np.multiply(X[:, :, None], D[:, None, :], out=big)", "np.sum(big, axis=0, out=dW)")
    with recorded(HEAD + "\n".join(f"    {line}" for line in lines) + TAIL) as graph:
        root = next(e for e in graph.last if e.name == "multiply").writes[0]
        graph.trace.looks[root] = [start for start, _ in graph.trace.steps]
        assert len(slow_primitive.detect(graph)) == 1
        graph.trace.looks[root] = [stop - 1 for _, stop in graph.trace.steps]
        assert slow_primitive.detect(graph) == []
