"""Forms of waste that calls of NumPy have, found in one recorded step; and their neighbours that are none."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.array_calls import additions_at, deletions, packed_vectors, searched_paths
from mlpprof.advise.detect import dead_computation, gather, layout, slow_primitive, work_in_step
from mlpprof.advise.detect.temporaries import needless_copies
from mlpprof.advise.editing.cure import applied

HEAD = """\
import numpy as np
random = np.random.default_rng(3)
X = random.normal(0, 1, (120, 200))
columns = np.ascontiguousarray(random.normal(0, 1, (200, 5000)))
W, U, V = random.normal(0, 0.1, (200, 80)), random.normal(0, 0.1, (80, 80)), random.normal(0, 0.1, (80, 80))
vector = random.normal(0, 1, 200)
table, words = np.zeros((500, 64)), random.integers(0, 500, (120, 8))
turned = np.empty((80, 120))
def step():
    global W
    H = X @ W
"""
WASTE = """\
    rest = np.delete(H @ U, 0, axis=1)
    packed = np.concatenate([H.ravel(), W.ravel()])
    order = np.append(W.flatten('F'), H.flatten('F'))
    np.add.at(table, words, H[:, None, :64])
    chain = np.einsum('ij,jk,kl->il', H[:4], U, V, optimize=True)
    weighted = np.sum(X * vector, axis=1)
    taken = columns[:, random.integers(0, 5000, 400)]
    np.copyto(turned, H.T)
    filled = np.ones((120, 80))
    np.multiply(H, 2.0, out=filled)
    accuracy = np.mean(np.argmax(np.tanh(H), axis=1))
    W = W * (1 + 1e-12 * (rest[0, 0] + packed[0] + order[0] + chain[0, 0] + weighted[0] + taken[0, 0] + filled[0, 0]))
"""
NEIGHBOURS = """\
    rest = np.delete(H @ U, 40, axis=1)
    packed = np.concatenate([vector, weights])
    chain = np.einsum('ij,jk,kl->il', H[:4], U, V, optimize=path)
    weighted = np.sum(X * vector)
    taken = rows[random.integers(0, 5000, 400)]
    np.copyto(kept, H)
    filled = np.zeros((120, 80))
    filled[:, 1:] = H[:, 1:]
    divided = np.divide(1.0, H, out=np.ones((120, 80)), where=H > 0)
    loss = np.mean(np.tanh(H))
    used = packed[0] + chain[0, 0] + weighted + taken[0, 0] + filled[0, 0] + divided[0, 0]
    W = W * (1 + 1e-12 * (rest[0, 0] + used + loss))
"""


def test_faster_forms_give_the_same_values():
    with recorded(HEAD + WASTE) as graph:
        events = {event.name: event for event in graph.turn}
        [cut], [added], [chain] = (
            [form.perform() for form in forms(events[name])]
            for forms, name in ((deletions, "delete"), (additions_at, "add.at"), (searched_paths, "einsum"))
        )
        np.testing.assert_array_equal(cut, events["delete"].result)
        np.testing.assert_allclose(chain, events["einsum"].result)
        before, rows, values = events["add.at"].operands
        expected = before.copy()
        np.add.at(expected, rows, values)
        np.testing.assert_allclose(added, expected)


def test_packed_matrices_unread_numbers_and_copies_that_must_be_made():
    text = HEAD + WASTE
    with recorded(text) as graph:
        titles = [one.title for one in packed_vectors(graph)]
        assert titles == [
            "`np.concatenate([H.ravel(), W.ravel()])` copies matrices into one vector in every step",
            "`np.append(W.flatten('F'), H.flatten('F'))` copies matrices into one vector in every step",
        ]
        assert needless_copies(graph, frozenset()) == []  # flatten('F') turns the matrix
        [unread] = work_in_step.detect(graph)
    assert unread.title == "`accuracy` is computed in every step, and nothing reads it"
    without = applied({FILE: text}, [unread.cures[0]])[FILE]
    assert without == text.replace("    accuracy = np.mean(np.argmax(np.tanh(H), axis=1))\n", "")


@pytest.mark.timing
def test_forms_that_cost_time_are_found_with_their_edits():
    text = HEAD + WASTE
    with recorded(text) as graph:
        found = {one.title: one for module in (slow_primitive, gather, layout) for one in module.detect(graph)}
        [filled] = [one for one in dead_computation.detect(graph) if "fills an array" in one.title]
    assert filled.title == "`np.ones((120, 80))` fills an array that is overwritten before anything reads it"
    assert "filled = np.empty((120, 80))" in applied({FILE: text}, [filled.cures[0]])[FILE]
    for words in (
        "copies the array to leave out one end of it",
        "adds the elements one by one",
        "searches for the best order of its products in every call",
        "`X * vector` makes all products of pairs in one array, only to sum them",
        "takes samples whose elements are far apart in memory",
        "`np.copyto(turned, H.T)` copies an array into the other memory order",
    ):
        [one] = [one for title, one in found.items() if words in title]
        if "leave out one end" in words:
            assert "rest = (H @ U)[:, 1:]" in applied({FILE: text}, [one.cures[0]])[FILE]


@pytest.mark.timing
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.asarray([sum(one) for one in table]).reshape(-1, 1)", "np.sum(table, axis=1).reshape(-1, 1)"),
        ("np.array([np.max(one) for one in H.T])", "np.max(H.T, axis=1)"),
        ("np.array([sum(one) for one in H.T], dtype=np.float32)", "np.sum(H.T, axis=1).astype(np.float32)"),
        ("np.array([np.max(one[:40]) for one in H.T])", None),
        ("np.vstack([np.max(one) for one in H.T])", None),  # it is a column
        ("np.array([np.max(one) for one in map(np.abs, H.T)])", None),
    ],
)
def test_a_reduction_of_rows_one_by_one_becomes_one_of_all_rows(old, new):
    text = HEAD + f"    bias = {old}\n    W = W - 1e-12 * bias.sum()\n"
    with recorded(text) as graph:
        found = [one for one in gather.detect(graph) if " rows one by one" in one.title]
        assert [one.title for one in slow_primitive.detect(graph) if found and "number by number" in one.title] == []
    assert [applied({FILE: text}, [one.cures[0]])[FILE] for one in found] == (
        [text.replace(old, new)] if new is not None else []
    )
    if new is not None:
        names = {"np": np, **dict.fromkeys(("H", "table"), np.random.default_rng(0).normal(0, 1, (120, 80)))}
        np.testing.assert_allclose(eval(old, names), eval(new, names), rtol=1e-6)


@pytest.mark.timing
def test_the_neighbours_of_these_forms_are_none():
    more = "rows, kept = np.ascontiguousarray(columns.T), np.empty((120, 80))\n"
    more += "weights = random.normal(0, 1, 5000)\n"
    more += "path = ['einsum_path', (0, 1), (0, 1)]\n"
    with recorded(HEAD.replace("def step", more + "def step") + NEIGHBOURS) as graph:
        modules = (slow_primitive, gather, layout, dead_computation, work_in_step)
        assert [one.title for module in modules for one in module.detect(graph)] == []


def test_what_code_reads_that_did_not_run_is_not_dead_even_if_a_list_holds_it():
    lines = ("kept = [w.copy() for w in (W, U)]", "W = W + 1e-9 * kept[0][0]", "if W[0, 0] > 9:", "    W = kept[1]")
    text = HEAD + "".join(f"    {line}\n" for line in lines)
    with recorded(text) as graph:
        assert [one.title for one in dead_computation.detect(graph) if "copy" in one.title] == []
