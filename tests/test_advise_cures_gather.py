"""The edits of gather: rows are taken once and only those of the batch, with the same results."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.detect.gather import detect
from mlpprof.advise.editing.cure import applied

HEAD = """import numpy as np
rng = np.random.default_rng(3)
X, W = rng.normal(0, 1, (600, 30)), rng.normal(0, 1, (30, 10))
labels, order, batch = rng.integers(0, 10, 600), rng.permutation(600), slice(0, 40)
rows = order[batch]

"""


def found(text):
    with recorded(text) as graph:
        cures = [cure for one in detect(graph) for cure in one.cures]
        return [cure.kind for cure in cures], applied(graph.trace.sources, cures).get(FILE, text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "def step():\n    mixed, targets = X[order], labels[order]\n    a = mixed[0:40] @ W\n"
            "    return a, targets[batch]\n",
            "def step():\n    a = X[order[0:40]] @ W\n    return a, labels[order[batch]]\n",
        ),
        (
            "def step():\n    return (X * 2.0)[rows] @ W\n",
            "def step():\n    return (X[rows] * 2.0) @ W\n",
        ),
        (
            "def step():\n    scaled = X / 3\n\n    # forward\n    return np.tanh(scaled[rows] @ W)\n",
            "def step():\n\n    # forward\n    return np.tanh((X[rows] / 3) @ W)\n",
        ),
        (
            "many = np.arange(90)\ndef step():\n    x = X[many]\n    return x @ W, X[many].sum(axis=0)\n",
            "many = np.arange(90)\ndef step():\n    x = X[many]\n    return x @ W, x.sum(axis=0)\n",
        ),
        (
            "many = np.arange(90)\ndef step():\n    a = X[many] @ W  # forward\n    return a, X[many].T @ a\n",
            "many = np.arange(90)\ndef step():\n    rows2 = X[many]\n    a = rows2 @ W  # forward\n"
            "    return a, rows2.T @ a\n",
        ),
        (
            "def step():\n    y = np.eye(10)[labels[rows]]\n    return X[rows] @ W - y\n",
            "IDENTITY = np.eye(10)\ndef step():\n    y = IDENTITY[labels[rows]]\n    return X[rows] @ W - y\n",
        ),
        (
            "n = 10\ndef step():\n    y = np.eye(n)[labels[rows]]\n    return X[rows] @ W - y\n",
            "n = 10\nIDENTITY = np.eye(n)\ndef step():\n    y = IDENTITY[labels[rows]]\n    return X[rows] @ W - y\n",
        ),
        (
            "def step():\n    x = np.array([X[i] for i in range(5, 45)])\n    return x @ W\n",
            "def step():\n    x = X[5:45]\n    return x @ W\n",
        ),
        (
            "def step():\n    y = np.array([labels[i] for i in rows], dtype=np.int8)\n"
            "    return np.stack([X[i] for i in rows]) @ W, y\n",
            "def step():\n    y = np.array(labels[rows], dtype=np.int8)\n    return X[rows] @ W, y\n",
        ),
        (
            "def step():\n    return X[np.array(list(rows))] @ W\n",
            "def step():\n    return X[np.array(rows)] @ W\n",
        ),
        (
            "def step():\n    x = np.array([X[i] for i in range(40)])\n    x += 1\n    return x @ W\n",
            "def step():\n    x = X[:40].copy()\n    x += 1\n    return x @ W\n",
        ),
        (
            "def step():\n    y = np.zeros((600, 10))\n    # ones\n    for n, k in enumerate(labels):\n"
            "        y[n][int(k)] = 1\n    return y\n",
            "def step():\n    y = np.zeros((600, 10))\n    # ones\n"
            "    y[np.arange(len(labels)), np.asarray(labels, dtype=int)] = 1\n    return y\n",
        ),
        (
            "column = labels.reshape(-1, 1)\ndef step():\n    y = np.zeros((10, 500))\n    for n in range(500):\n"
            "        y[column[n], n] = 1.0\n    return y\n",
            "column = labels.reshape(-1, 1)\ndef step():\n    y = np.zeros((10, 500))\n"
            "    y[np.ravel(column[:500]), np.arange(500)] = 1.0\n    return y\n",
        ),
        (
            "def encoded(k):\n    row = np.zeros(10, dtype=np.int8)\n    row[k] = 1\n    return row\n"
            "def step():\n    return np.array([encoded(k) for k in labels[rows]])\n",
            "def encoded(k):\n    row = np.zeros(10, dtype=np.int8)\n    row[k] = 1\n    return row\n"
            "def step():\n    return np.eye(10, dtype=np.int8)[labels[rows]]\n",
        ),
    ],
    ids=[
        "permuted",
        "work in brackets",
        "named work",
        "named rows",
        "rows without a name",
        "one-hot",
        "of a number",
        "list of rows in order",
        "lists of rows and labels",
        "a list of an array of indices",
        "rows that change",
        "ones in a loop",
        "ones by numbers of a column",
        "rows by a function",
    ],
)
def test_the_edit_gives_the_same_results(text, wanted):
    kinds, new = found(HEAD + text)
    assert set(kinds) == {"safe"}
    assert new == HEAD + wanted
    results = []
    for source in (HEAD + text, new):
        space = {}
        exec(source, space)
        held = space["step"]()
        results.append(held if isinstance(held, tuple) else (held,))
    for before, after in zip(*results, strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "def step():\n    mixed = X[order]\n    return mixed[0:40] @ W, len(mixed)\n",
        "def step():\n    global X\n    X = X[order]\n    return X[0:40] @ W\n",
        "def step():\n    mixed = X[order]\n    X[0] = 1\n    return mixed[0:40] @ W\n",
        "mask = X[:, 0] > -1\ndef step():\n    return X[mask][0:40] @ W\n",
    ],
    ids=["used otherwise", "shuffled on and on", "changed between", "a mask"],
)
def test_rows_that_are_needed_as_they_are_stay(text):
    kinds, new = found(HEAD + text)
    assert kinds == []
    assert new == HEAD + text


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("    x = []\n    for i in rows:\n        x.append(X[i])\n    x = np.array(x)\n    return x @ W\n", "40 rows"),
        ("    x = np.array([x for x, _ in pairs[:50]])\n    return x @ W\n", "50 rows"),
        (
            "    y = []\n    for k in labels:\n        row = np.zeros(10)\n        row[k] = 1\n        y.append(row)\n"
            "    return np.array(y)\n",
            "600 one-hot rows",
        ),
        ("    return np.array([np.tanh(X[i]) for i in rows])\n", None),
        ("    return np.stack([W[0], W[1], W[2]])\n", None),
        ("    return np.array(list(numbers))\n", None),
    ],
    ids=["appended", "of pairs", "one-hot, appended", "computed", "three", "a list of numbers"],
)
def test_rows_that_python_takes_one_by_one_are_found_without_an_edit(text, title):
    with recorded(f"{HEAD}pairs, numbers = list(zip(X, labels)), list(labels)\ndef step():\n{text}") as graph:
        found = detect(graph)
        assert [one.title for one in found if title is None or title not in one.title] == []
        assert len(found) == (title is not None)
        assert all(one.cures == () for one in found)


def test_one_element_of_each_sample_is_not_called_samples_far_apart():
    text = "P, y = np.ones((2000, 500)), rng.integers(0, 500, 2000)\ndef step():\n    return P[range(2000), y].sum()\n"
    assert found_titles(HEAD + text) == []
    columns = "P, y = np.ones((2000, 3000)), rng.integers(0, 3000, 500)\ndef step():\n    return P[:, y].sum()\n"
    assert ["far apart" in title for title in found_titles(HEAD + columns)] == [True]


def found_titles(text):
    with recorded(text) as graph:
        return [one.title for one in detect(graph)]


@pytest.mark.parametrize(
    ("before", "after", "is_seen"),
    [
        ("X[order][start : start + 40]", "X[order[start : start + 40]]", True),
        ("np.asfortranarray(X)[rows]", "np.asfortranarray(X[rows])", False),
    ],
)
def test_a_generator_takes_the_rows_of_its_batch_before_it_copies_them(before, after, is_seen):
    text = (
        f"def batches(order):\n    for start in (0, 40, 80):\n        yield {before}, labels[rows]  # a batch\n"
        "feed = [part for _ in range(99) for part in batches(order)]\n"
        "def step():\n    x, y = feed.pop()\n    return x @ W, np.bincount(y)\n"
    )
    with recorded(HEAD + text) as graph:
        graph.trace.times.fed_s.extend([1e-3] * 3)
        (one,) = (one for one in detect(graph) if "for every batch" in one.title)
    (cure,) = one.cures
    assert applied({FILE: HEAD + text}, [cure])[FILE] == HEAD + text.replace(before, after)
    assert (one.saved_s == (0.0, 1e-3)) != is_seen


@pytest.mark.parametrize("index", ["'rows'", "X[:, 0] > 0"], ids=["a key", "a mask"])
def test_a_generator_keeps_its_text_if_the_index_may_be_no_numbers_of_rows(index):
    text = (
        f"def batches(held, name={index}):\n    for start in (0, 40):\n        yield held[name][start : start + 40]\n"
        f"def others(name):\n    return batches({{name: X}}, {index})\n"
        "feed = [X[:40]] * 99\ndef step():\n    return feed.pop() @ W\n"
    )
    with recorded(HEAD + text) as graph:
        graph.trace.times.fed_s.extend([1e-3] * 3)
        (one,) = (one for one in detect(graph) if "for every batch" in one.title)
    assert one.cures == ()


@pytest.mark.parametrize(
    ("whole", "part"),
    [("np.array(X)", "np.array(X[0:40])"), ("X.copy()", "X[0:40].copy()"), ("np.eye(10)[labels[order]]", "")],
)
def test_a_copy_of_the_whole_set_becomes_one_of_the_rows(whole, part):
    part = part or "IDENTITY[labels[order[0:40]]]"
    whole = whole.replace("np.eye(10)", "IDENTITY")
    text = f"IDENTITY = np.eye(10)\ndef step():\n    return {whole}[0:40].T @ X[0:40]\n"
    assert found(HEAD + text)[1] == HEAD + text.replace(f"{whole}[0:40]", part)
