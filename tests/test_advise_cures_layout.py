"""The edits of layout: an array gets its memory order once, where it is made, and the results stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.cures.layout import in_one_order, once_contiguous
from mlpprof.advise.detect.layout import _strided_source, detect
from mlpprof.advise.editing.cure import applied
from mlpprof.instrument.numpy_costs import ARITHMETIC


def mixed(graph):
    """The cures of the operations of the step whose operands are in both orders."""
    events = [one for one in graph.last if one.kind == ARITHMETIC]
    return [cure for one in events if (cure := in_one_order(one, graph)) is not None]


def strided(graph):
    return [once_contiguous(_strided_source(graph), graph)]


@pytest.mark.parametrize(
    ("find", "text", "wanted"),
    [
        (
            mixed,
            "Y = np.eye(10)[labels].T  # one-hot\n\ndef step():\n    return np.tanh(W @ X) - Y\n",
            "Y = np.asfortranarray(np.eye(10)[labels]).T  # one-hot\n\ndef step():\n    return np.tanh(W @ X) - Y\n",
        ),
        (
            mixed,
            "class Net:\n    def __init__(self, targets):\n        self.Y = targets\n    def error(self):\n"
            "        return np.tanh(W @ X) - self.Y\n\nnet = Net(np.asfortranarray(rng.random((10, 80))) * 2)\n"
            "def step():\n    return net.error()\n",
            "class Net:\n    def __init__(self, targets):\n        self.Y = targets\n    def error(self):\n"
            "        return np.tanh(W @ X) - self.Y\n\n"
            "net = Net(np.ascontiguousarray(np.asfortranarray(rng.random((10, 80))) * 2))\n"
            "def step():\n    return net.error()\n",
        ),
        (
            strided,
            "small = X[:, ::2]\ndef step():\n    return W @ small\n",
            "small = np.ascontiguousarray(X[:, ::2])\ndef step():\n    return W @ small\n",
        ),
    ],
    ids=["global", "argument", "strided"],
)
def test_the_array_is_ordered_where_it_is_made(find, text, wanted):
    head = """import numpy as np
rng = np.random.default_rng(3)
X, W, labels = rng.normal(0, 1, (30, 80)), rng.normal(0, 1, (10, 30)), rng.integers(0, 10, 80)
"""
    with recorded(head + text) as graph:
        cures = find(graph)
        new = applied(graph.trace.sources, cures)[FILE]
    assert new == head + wanted
    results = []
    for source in (head + text, new):
        space = {}
        exec(source, space)
        results.append(space["step"]())
    np.testing.assert_array_equal(*results)


@pytest.mark.timing
@pytest.mark.parametrize(
    ("made", "used", "words"),
    [
        ("A, B = rng.random((40, 50)), rng.random((50, 40)).T", "A * B", ["`A * B` mixes memory orders"]),
        ("A, B = rng.random((20, 30)), rng.random((30, 20)).T", "A * B", []),
        ("A, B = rng.random((800, 400))[:, ::2], rng.integers(0, 800, 90)", "A[B]", ["not next to each other"]),
        (
            "A, B = rng.random((800, 400))[:, ::2], rng.integers(0, 800, 90)\nC = np.empty((90, 200))",
            "A.take(B, axis=0, out=C, mode='clip') @ A[:200]",
            ["not next to each other"],
        ),
        ("A, B = rng.random((800, 400))[:, :200], rng.integers(0, 800, 90)", "A[B]", []),
    ],
    ids=["just large enough", "small", "rows of every second column", "rows of a product", "rows of the first columns"],
)
def test_operands_in_two_orders_and_rows_with_gaps_are_found_where_they_cost_time(made, used, words):
    text = f"import numpy as np\nrng = np.random.default_rng(3)\n{made}\ndef step():\n    return {used}\n"
    with recorded(text) as graph:
        titles = [one.title for one in detect(graph)]
    assert len(titles) == len(words)
    assert all(part in title for part, title in zip(words, titles, strict=True))
