"""What the recorder writes down of a step."""

from __future__ import annotations

import ast
import sys
import threading
from collections import Counter

import numpy as np
import pytest

from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record import hooks
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.rewrite import ObservedForm

pytestmark = pytest.mark.usefixtures("no_hooks_left")


class Observed:
    """A file that ran as one observed step."""

    def __init__(self, text, **names):
        self.lines = text.splitlines()
        self.sites: list[Site] = []
        self.recorder = Recorder(self.sites)
        hooks.install(self.recorder.hooks)
        tree = ast.parse(text)
        tree.body = ObservedForm(self.sites, "net.py", ast.parse(text)).statements(tree.body)
        self.space = {"np": np, **names}
        self.recorder.start(keeps=True)
        try:
            exec(compile(ast.fix_missing_locations(tree), "net.py", "exec"), self.space)
        finally:
            self.recorder.stop()

    @property
    def events(self):
        return self.recorder.events

    def text(self, event):
        site = self.sites[event.site]
        return self.lines[site.line - 1][site.column : site.end_column]

    def named(self, text):
        """The only event of an expression."""
        (event,) = (event for event in self.events if self.text(event) == text)
        return event

    def reads(self, event):
        return [self.text(self.events[index]) for index in self.recorder.uses.reads.get(event.output.root, ())]


def test_results_are_the_operands_of_what_reads_them():
    seen = Observed("a = np.ones((3, 2))\nb = a * 2\nc = b @ a.T\nd = np.exp(b)\n")
    made = seen.named("a * 2").output
    for reader in ("b @ a.T", "np.exp(b)"):
        assert (made.root, made.content) in [(v.root, v.content) for v in seen.named(reader).inputs]
    assert seen.reads(seen.named("a * 2")) == ["b @ a.T", "np.exp(b)"]
    assert [event.name for event in seen.events if event.kind] == ["ones", "multiply", "matmul", "exp"]
    assert seen.named("b @ a.T").effect.flop == 2 * 3 * 2 * 3


def test_a_view_lies_in_the_buffer_of_its_array_and_reads_nothing():
    seen = Observed("a = np.arange(12.0).reshape(3, 4)\nb = a[1:]\nc = b.T\nd = c + 1\n")
    buffer = seen.named("a[1:]").output.root
    assert seen.named("a[1:]").is_view
    assert seen.named("c + 1").inputs[0].root == buffer
    assert seen.named("c + 1").inputs[0].order == "F"
    assert seen.recorder.uses.reads[buffer] == [seen.named("c + 1").index]


def test_what_is_changed_in_place_has_another_content_and_the_same_buffer():
    changes = ("a += 2", "a[1:3] = 5", "a[a > 4] = 7", "np.add(a, 1, out=a)", "a.fill(3)", "np.copyto(a, b)")
    seen = Observed("\n".join(("a = np.zeros(4)", "b = a + 1", *changes, "c = a - 1")))
    before, after = seen.named("a + 1").inputs[0], seen.named("a - 1").inputs[0]
    assert before.root == after.root
    assert before.content != after.content
    assert after.content == seen.named("a + 1").output.content
    assert [seen.text(event) for event in seen.events if after.root in event.writes] == list(changes)
    assert seen.named("a[1:3] = 5").region.shape == (2,)
    assert seen.named("a[a > 4] = 7").region is None


def test_values_that_are_compared_unpacked_and_printed_have_been_read():
    text = "a = np.ones(1)\nb = np.ones(2)\nc = np.ones(1)\nd = 0 < a < 2\nx, y = b\ns = f'{c}'\n"
    seen = Observed(text)
    roots = [event.output.root for event in seen.events if event.name == "ones"]
    assert all(seen.recorder.uses.reads.get(root) for root in roots)


@pytest.mark.parametrize(
    ("loop", "turns", "recorded"),
    [
        ("for i in range(100):", 100, 4),
        ("for i in range(12):", 12, 12),
        ("for i in iter(lambda c=iter(range(51)): next(c), 50):", 50, 12),
        ("for i in np.arange(30):", 30, 4),
        ("i = 0\nwhile (i := i + 1) <= 40:", 40, 12),
    ],
)
def test_of_a_long_loop_the_first_turns_are_recorded_and_all_are_run(loop, turns, recorded):
    seen = Observed(f"a = np.zeros(3)\n{loop}\n    a = a + 1\nb = a * 2\n")
    (run,) = (run for run in seen.recorder.loops if run.turns == turns)
    assert run.recorded == recorded
    assert [e.loops[-1].turn for e in seen.events if seen.text(e) == "a + 1"] == list(range(recorded))
    assert (seen.space["b"] == 2 * turns).all()
    assert seen.named("a * 2").loops == ()


def test_a_comprehension_is_a_loop_and_loops_lie_within_each_other():
    seen = Observed(
        "m = np.eye(3)\nrows = [row * 2 for row in np.ones((40, 3))]\n"
        "for i in range(2):\n    for j in range(30):\n        m = m @ m\n"
    )
    comprehension = seen.recorder.loops[0]
    assert (comprehension.turns, comprehension.recorded, comprehension.length) == (40, 4, 40)
    assert len(seen.space["rows"]) == 40
    products = [event for event in seen.events if event.name == "matmul"]
    assert [tuple(turn.turn for turn in event.loops) for event in products] == [
        (i, j) for i in range(2) for j in range(4)
    ]
    assert Counter(event.loops[-1].execution for event in products) == {0: 4, 1: 4}


def test_a_loop_that_is_left_in_its_silent_turns_leaves_no_silence_behind():
    seen = Observed(
        "def f():\n    for i in range(50):\n        if i == 20:\n            return np.ones(2) * i\n"
        "def g():\n    for i in range(50):\n        for j in range(50):\n            np.ones(2) / 1\n"
        "            if i == 9:\n                raise KeyError\n"
        "a = f()\n"
        "for i in range(30):\n    if i == 20:\n        break\n"
        "try:\n    g()\nexcept KeyError:\n    pass\n"
        "b = a - 1\n"
    )
    assert seen.named("a - 1").loops == ()
    assert seen.named("f()").end <= seen.named("g()").index


def test_a_call_of_the_programs_own_holds_what_happens_inside():
    seen = Observed("def f(x, k):\n    return x * k\ny = f(np.ones(3), 2) + 1\n")
    call, inner = seen.named("f(np.ones(3), 2)"), seen.named("x * k")
    assert call.is_own
    assert call.index < inner.index < call.end <= seen.named("f(np.ones(3), 2) + 1").index
    assert inner.calls == (call.index,)
    assert call.output.content == inner.output.content


def test_numbers_one_by_one_are_counted_and_not_written_down():
    seen = Observed("w = [0.5, 0.25]\ns = 0.0\nfor i in range(2):\n    s += w[i] * 2.0\n")
    assert seen.events == []
    (run,) = seen.recorder.loops
    assert run.scalars == 6
    assert run.signatures[0] == run.signatures[1] != 0


def test_numbers_in_float32_are_numbers_too():
    seen = Observed("w = np.ones(2, np.float32)\nfor i in range(2):\n    w[i] -= np.float32(2) * w[i]\n")
    assert all(event.loops == () for event in seen.events)
    (run,) = seen.recorder.loops
    assert run.scalars == 12  # in each turn: a call, two elements, a product, a difference and a store


def test_other_threads_and_what_comes_after_too_many_operations_run_unseen(monkeypatch):
    text = (
        "def f(out):\n    out.append(np.ones(2) * 3)\n"
        "out = []\nt = threading.Thread(target=f, args=(out,))\nt.start()\nt.join()\n"
    )
    seen = Observed(text, threading=threading)
    assert (seen.space["out"][0] == 3).all()
    assert not [event for event in seen.events if event.name == "multiply"]
    monkeypatch.setattr("mlpprof.programs.record.recorder.MOST_EVENTS", 5)
    seen = Observed(
        "def f(x):\n    for i in range(10):\n        x = x + 1\n        x = x * 1\n    return x\ny = f(np.zeros(1))\n"
    )
    assert seen.recorder.is_cut
    assert len(seen.events) == 5
    assert seen.space["y"] == 10


def test_operands_are_kept_as_they_were_though_numpy_could_have_reused_them():
    seen = Observed("a = np.full((400, 400), 3.0)\nb = (a + a) * (a - 1)\n")
    product = seen.named("(a + a) * (a - 1)")
    assert (product.operands[0] == 6).all()
    assert (product.operands[1] == 2).all()


def test_the_depth_of_recursion_that_a_program_has_is_left_to_it():
    before = sys.getrecursionlimit()
    seen = Observed("def f(n):\n    return 0 if n == 0 else f(n - 1) + 1\ndepth = f(700)\n")
    assert seen.space["depth"] == 700
    assert sys.getrecursionlimit() == before
