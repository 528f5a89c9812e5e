"""Where the program makes float64, and what is told to make it float32: lines that can be run, and that do it."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import numpy as np
import pytest

from mlpprof.advise.detect.float64 import in_single, sources


class Files:
    """What the sources are looked for in, without a recorded step."""

    last = ()

    def __init__(self, text):
        self.text = text
        self.trees = {"net.py": ast.parse(text)}
        self.trace = SimpleNamespace(step_file="net.py")

    def is_ours(self, path):
        return False

    def line_text(self, file, line):
        return self.text.splitlines()[line - 1].strip()


def told(text):
    """(line, the new statement) of each source."""
    files = Files(text)
    return [(site.line, in_single(site, files)) for site in sources(files)]


@pytest.mark.parametrize(
    "statement",
    [
        "W = np.random.randn(4, 3) * np.sqrt(2 / 4)",
        "W = np.random.randn(4, 3).astype(np.float32) * np.sqrt(2 / 4)",
        "W = np.random.normal(\n    0, 1,\n    size=(4, 3),\n)",
        "W = np.zeros((4, 3))",
        "W = 2 * np.random.rand(4, 3) - 1",
        "W = [np.random.randn(y, x) for x, y in zip((2, 3), (3, 4))]",
        "W = {'W1': np.random.randn(3, 2), 'b1': np.zeros((3, 1))}",
        "W = np.random.randn(3, 2), np.zeros(2)",
        "W = np.array([[1.0, 2.0]], dtype=np.float64) * np.exp(1)",
        "W = np.loadtxt(['1 2', '3 4'])",
        "W = np.ones((4, 3)).astype(float) * np.float64(2)",
        "W = []\nW.append(np.random.uniform(-1, 1, (4, 3)))",
        "W = np.random.rand(4, 3) if len('x') else np.zeros(3)",
    ],
)
def test_the_suggested_statement_makes_float32_of_the_same_values(statement):
    text = f"{statement}\nprint(W)\n"
    ((line, new),) = told(text)
    arrays = []
    for source in (text, "\n".join([*text.splitlines()[: line - 1], new])):
        np.random.seed(1)
        space = {"np": np}
        exec(source, space)
        held = space["W"].values() if isinstance(space["W"], dict) else space["W"]
        arrays.append([*held] if not isinstance(held, np.ndarray) else [held])
    assert {array.dtype for array in arrays[1]} == {np.dtype(np.float32)}
    for before, after in zip(*arrays, strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-6)


def test_what_nothing_reads_or_runs_is_no_source():
    text = (
        "unread = np.random.randn(3, 2)\n"
        "def never_called():\n    W = np.random.randn(3, 2)\n    return W\n"
        "class NeverMade:\n    def __init__(self):\n        self.W = np.random.randn(3, 2)\n"
        "class Made:\n    def __init__(self):\n        self.W = np.random.randn(3, 2)\n"
        "slots = 3 * [np.array([])]\n"
        "net = Made()\nprint(net.W, slots)\n"
    )
    assert [line for line, _ in told(text)] == [10]


def test_what_the_program_defines_is_not_cast_but_what_it_is_given():
    text = "class Tensor:\n    pass\ndef make(n):\n    return Tensor(np.random.randn(n))\nprint(make(3))\n"
    assert told(text) == [(4, "return Tensor(np.random.randn(n).astype('float32'))")]


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("import numpy as np\nW = np.zeros(3)\nprint(W)\n", "W = np.zeros(3, dtype=np.float32)"),
        ("import numpy\nW = numpy.zeros(3)\nprint(W)\n", "W = numpy.zeros(3, dtype=numpy.float32)"),
        ("try:\n    import cupy as xp\nexcept ImportError:\n    import numpy as xp\nW = xp.random.rand(3)\nprint(W)\n",
         "W = xp.random.rand(3).astype(xp.float32)"),
        ("from numpy import random\nW = random.randn(3) * 0.1\nprint(W)\n",
         "W = (random.randn(3) * 0.1).astype('float32')"),
        ("import numpy as np\nW = {l: np.random.randn(l) for l in (1, 2)}\nprint(W)\n",
         "W = {l: np.random.randn(l).astype(np.float32) for l in (1, 2)}"),
        ("import numpy as np\nW = dict(zip('ab', np.random.randn(2, 3)))\nprint(W)\n", None),
        ("import numpy as np\nx, y = np.random.randn(3), np.array(labels)\nprint(x, y)\n", None),
    ],
)  # fmt: skip
def test_a_statement_in_float32_has_the_names_of_its_file_or_is_left_to_words(text, new):
    assert [one for _, one in told(text)] == [new]
