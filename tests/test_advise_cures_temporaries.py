"""The edits against temporaries: updates in place and copies left out train the same, with comments kept."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.cures.temporaries import in_place, lines_in_place, without_copies
from mlpprof.advise.detect.temporaries import needless_copies
from mlpprof.advise.editing.cure import applied
from mlpprof.advise.in_place import updates

HEAD = """import numpy
rng = numpy.random.default_rng(3)
W, b, V = rng.normal(0, 1, (30, 20)), numpy.zeros(20), numpy.zeros((30, 20))
params = {'W': W.copy()}
M = [0 * W, 0 * W]
X = rng.normal(0, 1, (40, 30))
rate = 0.01

def step():
    global W, V
    g = X.T @ numpy.tanh(X @ W)
"""
COPIES = ("astype", "copy", "array", "flatten", "ascontiguousarray", "asfortranarray")
TAIL = "    return W + params['W'] + V + g\n"


def in_place_of(graph):
    return in_place([one for one in updates(graph, 64) if lines_in_place(one)], graph)


def without_copies_of(graph):
    copies = [event for event in graph.last if event.name in COPIES]
    return without_copies(copies, graph)


@pytest.mark.parametrize(
    ("find", "lines", "wanted"),
    [
        (in_place_of, "    W = W - rate * g  # down\n", "    W -= rate * g  # down\n"),
        (
            in_place_of,
            "    # heavy ball\n    V = 0.9*V + g\n    params['W'] = params['W'] - rate*V; k = 1\n",
            "    # heavy ball\n    V *= 0.9\n    V += g\n    params['W'] -= rate*V; k = 1\n",
        ),
        (
            in_place_of,
            "    for _ in range(2): V = 0.9 * V + g\n",
            "    for _ in range(2): V *= 0.9; V += g\n",
        ),
        (
            in_place_of,
            "    # moments\n    global M\n    M = [0.9 * m + d for m, d in zip(M, [g, g * g])]\n    W[:] = W - M[0]\n",
            "    # moments\n    global M\n    for m, d in zip(M, [g, g * g]):\n"
            "        m *= 0.9\n        m += d\n    W -= M[0]\n",
        ),
        (in_place_of, "    W = numpy.maximum(W, -1)\n", "    numpy.maximum(W, -1, out=W)\n"),
        (without_copies_of, "    g = g.copy()  # own\n", "    g = g  # own\n"),
        (without_copies_of, "    g = 2 * numpy.array(g)\n", "    g = 2 * numpy.asarray(g)\n"),
        (without_copies_of, "    g = g.astype(float) + 1\n", "    g = g.astype(float, copy=False) + 1\n"),
        (
            without_copies_of,
            "    g = g + numpy.copy(g).flatten().reshape(30, 20)\n",
            "    g = g + g.ravel().reshape(30, 20)\n",
        ),
        (
            without_copies_of,
            "    g = g + numpy.asfortranarray(X.T) @ (X @ W)\n",
            "    g = g + X.T @ (X @ W)\n",
        ),
    ],
    ids=["update", "item and semicolon", "one line", "list", "function", "method", "array", "astype", "chain", "order"],
)
def test_the_edit_computes_the_same_and_changes_nothing_else(find, lines, wanted):
    text = HEAD + lines + TAIL
    with recorded(text) as graph:
        cure = find(graph)
        assert cure is not None
        assert cure.kind == "safe"
        new = applied(graph.trace.sources, [cure])[FILE]
    assert new == HEAD + wanted + TAIL
    results = []
    for source in (text, new):
        space = {}
        exec(source, space)
        results.append([space["step"]() for _ in range(3)][-1])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(("kept", "is_changed"), [("V", False), ("None", True)])
def test_an_argument_is_changed_in_place_if_its_caller_only_takes_the_result(kept, is_changed):
    head = HEAD.replace("\ndef step", "\ndef decayed(v, g):\n    v = 0.9 * v + g\n    return v\n\ndef step")
    lines = f"    kept = {kept}\n    V = decayed(V, g)\n    W = W - rate * V.sum() * (kept is None or kept.sum())\n"
    text = head + lines + TAIL
    with recorded(text) as graph:
        cure = in_place([one for one in updates(graph, 64) if one.cure[0].startswith("v ")], graph)
    assert (cure is not None) == is_changed


def test_an_update_that_needs_another_array_is_no_edit():
    with recorded(HEAD + "    W -= rate * g\n    Z = X @ g\n" + TAIL) as graph:
        assert [lines_in_place(one) for one in updates(graph, 64)] == [()]
        assert in_place_of(graph) is None


ORDERS = """import numpy as np
rng = np.random.default_rng(3)
X, W = rng.normal(0, 1, (80, 40)), rng.normal(0, 1, (40, 30))

def step():
    left = np.asfortranarray(X)
    right = np.asfortranarray(X)
    middle = np.array(X, order="F")
    turned = np.ascontiguousarray(X.T)
    back = X.flatten("F").reshape(X.shape, order="F")
    mixed = X.flatten("F").reshape(X.shape)
    return left @ W + len(left) + middle @ W + turned.T @ W + back @ W + mixed @ W, right * 2
"""


def test_a_copy_in_another_order_is_needless_if_only_products_read_it():
    with recorded(ORDERS) as graph:
        [found] = needless_copies(graph, frozenset())
        [cure] = found.cures
        new = applied(graph.trace.sources, [cure])[FILE]
    left_out = ORDERS.replace("left = np.asfortranarray(X)", "left = X").replace("np.ascontiguousarray(X.T)", "X.T")
    left_out = left_out.replace('X.flatten("F").reshape(X.shape, order="F")', "X")
    assert new == left_out.replace('array(X, order="F")', "asarray(X)")
