"""A range among the indices is an array made anew; one made in advance, or a short one, is none."""

from __future__ import annotations

import pytest
from recorded_step import recorded

from mlpprof.advise.detect import slow_primitive

pytestmark = pytest.mark.timing

HEAD = """\
random = np.random.default_rng(3)
X = random.normal(0, 1, (200, 30))
y = random.integers(0, 10, 200)
W = random.normal(0, 0.1, (30, 10))
rows = np.arange(200)
def step():
    global W
    delta = X @ W
"""
TAIL = """
    W = W - 1e-6 * (X.T @ delta)
"""


def titles(line):
    with recorded(HEAD + f"    {line}" + TAIL) as graph:
        return [(one.site.line, one.title.rpartition(": ")[2]) for one in slow_primitive.detect(graph)]


@pytest.mark.parametrize(
    "line", ["delta[range(200), y] -= 1", "delta[range(200), y] = 0", "loss = -np.log(delta[range(200), y] ** 2).sum()"]
)
def test_a_range_as_an_index_is_reported_once_a_line(line):
    ((number, title),) = titles(line)
    assert number == HEAD.count("\n") + 1
    assert title.endswith("uses a range as an index")


@pytest.mark.parametrize("line", ["delta[rows, y] -= 1", "delta[range(4), y[:4]] -= 1", "delta[range(200)[5], y] -= 1"])
def test_an_index_that_is_there_or_short_is_not(line):
    assert titles(line) == []


def test_the_store_is_performed_on_a_copy():
    with recorded(HEAD + "    delta[range(200), y] = 0" + TAIL) as graph:
        stores = [event for event in graph.last if event.writes and len(event.operands) == 3]
        before = [event.operands[0].copy() for event in stores]
        slow_primitive.detect(graph)
        assert stores
        assert all((event.operands[0] == kept).all() for event, kept in zip(stores, before, strict=True))
