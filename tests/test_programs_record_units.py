"""The parts of `advise` by themselves: clocks, the plan of steps, the recorder, identities, places, files, merging."""

from __future__ import annotations

import ast
import builtins
import gc
import importlib.util
import sys
import threading
from collections import Counter
from importlib.machinery import SourceFileLoader
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

import mlpprof.model
from mlpprof.advise.candidate import Candidate
from mlpprof.advise.findings import merge
from mlpprof.catalog import ladder_folder
from mlpprof.errors import UsageError
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.load import load_through, own_files
from mlpprof.programs.record import hooks
from mlpprof.programs.record.arrays import Roots, content_of, value_of
from mlpprof.programs.record.clocks import Clocks
from mlpprof.programs.record.forms import CLOCKED, OBSERVED, PLAIN, Forms, Switch
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.replay import of_time, saved_share
from mlpprof.programs.record.rewrite import ClockedForm, ObservedForm
from mlpprof.programs.record.schedule import Enough, Steps
from mlpprof.programs.step_place import StepPlace, functions


@pytest.fixture(autouse=True)
def no_hooks_left():
    """The builtins as they were."""
    before = set(vars(builtins))
    yield
    for name in set(vars(builtins)) - before:
        delattr(builtins, name)


# Clocks


def test_what_is_inside_an_expression_is_counted(clock):
    clocks = Clocks(clock)
    pre, post = clocks.hooks[hooks.PRE], clocks.hooks[hooks.POST]
    for _ in range(2):
        pre(1), pre(2)  # the second ends in an exception: what is inside it is inside the first
        post(pre(3), None)
        clock.advance(1)
        post(1, None)
    assert clocks.take() == {1: (2.0, 2, 2), 3: (0.0, 2, 0)}


def clocked(text, clock, **names):
    """Seconds and executions by the source of each expression of a file that ran under clocks."""
    sites: list[Site] = []
    clocks = Clocks(clock)
    hooks.install(clocks.hooks)
    tree = ast.parse(text)
    tree.body = ClockedForm(sites, "net.py", ast.parse(text)).statements(tree.body)
    space = {"clock": clock, **names}
    exec(compile(ast.fix_missing_locations(tree), "net.py", "exec"), space)
    lines = text.splitlines()
    taken = {
        lines[sites[number].line - 1][sites[number].column : sites[number].end_column]: told
        for number, told in clocks.take().items()
    }
    return {text: tuple(own[:2]) for text, own in taken.items()}, clocks


def test_an_expression_is_told_its_own_time_without_what_is_inside(clock):
    def spend(seconds):
        clock.advance(seconds)
        return seconds

    taken, clocks = clocked("x = spend(spend(1) + spend(2))\n", clock, spend=spend)
    assert taken == {
        "spend(1)": (1.0, 1),
        "spend(2)": (2.0, 1),
        "spend(1) + spend(2)": (0.0, 1),
        "spend(spend(1) + spend(2))": (3.0, 1),
    }
    assert clocks.take() == {}


def test_the_functions_of_the_program_are_told_apart_from_their_calls(clock):
    text = "def f(n):\n    clock.advance(4)\n    return n * 2\nx = f(3)\nx += f(1)\n"
    taken, _ = clocked(text, clock)
    assert taken == {
        "clock.advance(4)": (8.0, 2),
        "n * 2": (0.0, 2),
        "f(3)": (0.0, 1),
        "f(1)": (0.0, 1),
        "x += f(1)": (0.0, 1),
    }


def test_an_expression_that_ends_in_an_exception_is_left_out_and_those_around_it_are_not(clock):
    def fail():
        clock.advance(5)
        raise ValueError

    text = "def f():\n    try:\n        return 1 + fail()\n    except ValueError:\n        clock.advance(2)\nf()\n"
    taken, _ = clocked(text, clock, fail=fail)
    assert taken == {"clock.advance(2)": (2.0, 1), "f()": (5.0, 1)}


def test_statements_that_store_are_timed_and_generators_are_not(clock):
    text = (
        "def turns():\n    while True:\n        clock.advance((yield 1))\n"
        "g = turns()\nnext(g)\na = [0, 0]\na[a[0]] = g.send(3)\n"
    )
    taken, _ = clocked(text, clock)
    assert taken["a[a[0]] = g.send(3)"] == (0.0, 1)
    assert taken["g.send(3)"] == (3.0, 1)
    assert not any("yield" in expression for expression in taken)


# The plan of steps


class Switched:
    """Keeps to which form the program was put."""

    def __init__(self):
        self.forms = []

    def to(self, mode):
        self.forms.append(mode)


def ran(clock, step_s, few=0, most=10**6, turns=False, early=None):
    """The form of each step until there is enough, and the steps."""
    switched = Switched()
    steps = Steps(switched, Clocks(clock), Recorder([]), clock, few, early)
    begin, mode, end = (steps.hooks[name] for name in (hooks.BEGIN, hooks.MODE, hooks.END))
    forms = []
    try:
        for _ in range(most):
            if turns:
                begin(True)
            begin(False)
            forms.append(mode())
            begin(False)  # it calls itself
            end(False)
            clock.advance(step_s * (1, 2, 10)[mode()])
            end(False)
            if turns:
                clock.advance(1)
                end(True)
    except Enough:
        pass
    return forms, steps, switched


def runs_of(forms):
    return [form for form, _ in groupby(forms)]


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("step_s", [1e-5, 1e-3, 0.2, 3.0])
def test_steps_begin_undisturbed_alternate_and_end_observed(clock, step_s, turns):
    forms, steps, switched = ran(clock, step_s, turns=turns)
    assert forms[0] == PLAIN
    assert forms[-2:] == [OBSERVED, OBSERVED]
    assert OBSERVED not in forms[:-2]
    assert runs_of(forms)[:3] == [PLAIN, CLOCKED, PLAIN]
    assert switched.forms == runs_of(forms)[1:]
    assert steps.is_done
    assert steps.count == len(forms)
    assert steps.times.plain_s == pytest.approx([step_s] * forms.count(PLAIN))
    assert steps.times.clocked_s == pytest.approx([2 * step_s] * forms.count(CLOCKED))
    assert len(steps.times.sites) == forms.count(CLOCKED)
    assert len(steps.times.faults) == forms.count(PLAIN)


def test_long_steps_are_recorded_after_a_few_and_short_ones_in_blocks(clock, fake_clock):
    endless, steps, _ = ran(clock, 7.0)
    assert endless == [PLAIN, CLOCKED, OBSERVED]
    assert steps.is_long
    long, steps, _ = ran(fake_clock(), 3.0)
    assert len(long) == 5
    assert not steps.is_long
    short, _, _ = ran(fake_clock(), 1e-4)
    blocks = [len(list(block)) for form, block in groupby(short) if form == CLOCKED]
    assert len(blocks) >= 5
    assert min(blocks) > 50


@pytest.mark.parametrize("few", [1, 2, 3, 4, 5, 8, 19, 40, 400])
def test_of_few_steps_the_last_are_observed_in_time(clock, few):
    forms, steps, _ = ran(clock, 1e-6, few=few, most=few)
    assert forms.count(OBSERVED) == min(few, 2)
    assert steps.is_done
    assert len(forms) <= few
    timed = forms[: -min(few, 2)]
    assert OBSERVED not in timed
    assert (PLAIN in timed) == (few > 3)  # the run before has timed some
    assert (CLOCKED in timed) == (few > 2)


@pytest.mark.parametrize(("most", "recorded"), [(4, 1), (5, 2), (12, 2), (10**6, 2)])
def test_two_early_steps_are_observed_in_case_that_the_program_ends(clock, most, recorded):
    early = Recorder([])
    forms, steps, _ = ran(clock, 1e-3, most=most, early=early)
    assert forms[:5] == [PLAIN, CLOCKED, PLAIN, OBSERVED, OBSERVED][:most]
    assert len(early.steps) == recorded
    assert steps.is_done == (most > 12)
    assert steps.is_enough == (most > 4)
    assert (steps.recorded is early) == (most in (5, 12))
    if most >= 12:
        assert forms[5:11] == [CLOCKED] * 3 + [PLAIN] * 3
    if steps.is_done:
        assert forms[-2:] == [OBSERVED, OBSERVED]
        assert len(steps.recorded.steps) == 2


def test_long_steps_are_not_observed_early_because_few_of_them_are_enough(clock):
    forms, steps, _ = ran(clock, 3.0, early=Recorder([]))
    assert forms.count(OBSERVED) == 2
    assert forms[-2:] == [OBSERVED, OBSERVED]
    assert steps.is_done


def test_an_exception_that_leaves_a_step_is_not_covered_by_the_end(clock):
    steps = Steps(Switched(), Clocks(clock), Recorder([]), clock, 1)
    begin, end = steps.hooks[hooks.BEGIN], steps.hooks[hooks.END]
    with pytest.raises(ZeroDivisionError):
        try:
            begin(False)
            raise ZeroDivisionError
        finally:
            end(False)
    assert steps.is_done
    begin(False)
    with pytest.raises(Enough):
        end(False)


def test_of_a_loop_that_makes_several_steps_a_turn_each_step_is_looked_at_by_itself(clock):
    steps = Steps(Switched(), Clocks(clock), Recorder([]), clock, 0)
    begin, end = steps.hooks[hooks.BEGIN], steps.hooks[hooks.END]
    with pytest.raises(Enough):
        for _ in range(100):
            begin(True)
            for _ in range(3):
                begin(False)
                clock.advance(1)
                end(False)
            clock.advance(5)
            end(True)
    assert set(steps.times.plain_s) == set(steps.times.clocked_s) == {1.0}
    assert len(steps._recorder.steps) == 2


def test_turns_without_a_step_are_no_steps(clock):
    steps = Steps(Switched(), Clocks(clock), Recorder([]), clock, 0)
    begin, end = steps.hooks[hooks.BEGIN], steps.hooks[hooks.END]
    with pytest.raises(Enough):
        for turn in range(100):
            begin(True)
            if turn % 3 == 0:
                begin(False)
                clock.advance(2)
                end(False)
            end(True)
    assert set(steps.times.plain_s) == set(steps.times.clocked_s) == {2.0}
    assert steps.count == len(steps.times.plain_s) + len(steps.times.clocked_s) + 2


def test_modules_of_another_environment_are_installed_libraries_too(tmp_path):
    library = tmp_path / "lib" / "site-packages" / "package" / "net.py"
    own = tmp_path / "net.py"
    for path in (library, own):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert own_files((), ())(str(own))
    assert not own_files((), ())(str(library))
    assert own_files(("*/package/*",), ())(str(library))


# The recorder


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


# Forms and their exchange


def test_functions_change_their_form_and_back_with_what_they_close_over(tmp_path, clock):
    path = str(tmp_path / "net.py")
    source = (
        "def outer():\n    count = 0\n    def inner(x):\n"
        "        nonlocal count\n        count += 1\n        return x * count\n"
        "    return inner\n\nclass Net:\n    def __init__(self):\n        self.__w = 2\n    @property\n"
        "    def w(self):\n        return self.__w + 0\n    def __matmul__(self, x):\n        return x * self.__w\n"
        "inner, net = outer(), Net()\n"
    )
    forms = Forms()
    clocks, recorder = Clocks(clock), Recorder(forms.sites)
    for instrument in (clocks, recorder):
        hooks.install(instrument.hooks)
    space: dict[str, object] = {"__name__": "net"}
    exec(forms.module_code(path, source), space)
    inner, net, switch = space["inner"], space["net"], Switch(forms)
    plain = inner.__code__
    answers = []
    for mode in (PLAIN, CLOCKED, OBSERVED, CLOCKED, PLAIN):
        switch.to(mode)
        clocks.take()
        answers.append((inner(2), net.w, net @ 3))
        assert bool(clocks.take()) == (mode == CLOCKED)
    assert answers == [(2 * k, 2, 6) for k in range(1, 6)]
    assert inner.__code__ is plain


def test_the_step_has_all_its_forms_side_by_side(clock):
    chosen = []
    forms = Forms(StepPlace.parse("net.py:Net.step"), with_turns=False)
    hooks.install(Clocks(clock).hooks)
    hooks.install(Recorder(forms.sites).hooks)
    told = {hooks.BEGIN: chosen.append, hooks.MODE: lambda: len(chosen) % 3, hooks.END: lambda is_turn: None}
    hooks.install(told)
    source = "class Net:\n    def step(self, x):\n        '''Docs.'''\n        y = x + 1\n        return y * 2\n"
    space: dict[str, object] = {"__name__": "net"}
    exec(forms.module_code("/some/net.py", source), space)
    assert forms.step_file == "/some/net.py"
    net = space["Net"]()
    assert [net.step(3) for _ in range(3)] == [8, 8, 8]
    assert chosen == [False] * 3
    assert net.step.__doc__ == "Docs."


# Identity


def test_the_same_values_have_the_same_content_in_every_memory_order():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 30))
    wide = np.zeros((50, 60))
    wide[:, ::2] = a
    same = (a.copy(), np.asfortranarray(a), wide[:, ::2], a.T.copy().T, a.view(np.matrix))
    assert {content_of(x) for x in same} == {content_of(a)}
    changed = a.copy()
    changed[49, 29] = np.nextafter(changed[49, 29], 9)
    different = (changed, a.T, a.astype(np.float32), a.reshape(30, 50), a[::-1])
    assert content_of(a) not in {content_of(x) for x in different}


@pytest.mark.parametrize("row", [0, 1, 777, 1999])
def test_the_content_of_a_large_array_tells_every_element(row):
    a = np.random.default_rng(0).standard_normal((2000, 400))
    assert a.nbytes > 4_000_000
    b = np.asfortranarray(a)
    assert content_of(b) == content_of(a)
    for magnitude in 10.0 ** np.arange(0, 20, 4):  # a rounded sum would depend on the order of the elements
        wide = np.hstack((np.ones((2000, 1)), a * magnitude))
        assert content_of(wide[:, 1:]) == content_of(a * magnitude)
    b[row, 3] += 1
    assert content_of(b) != content_of(a)


def test_arrays_of_every_dtype_have_a_content():
    for dtype in ("complex64", "longdouble", "float16", "bool", "U3", "M8[D]", "i2,f4", ">f8"):
        array = np.zeros((2, 3), dtype)
        assert content_of(array) == content_of(array.copy("F"))
    for array in (np.zeros((0, 3)), np.array(3.0), np.array([1, None], object)):
        assert content_of(array) == content_of(array)
    with np.errstate(all="raise"):
        assert content_of(np.full((2000, 400), np.inf) * np.where(np.arange(400) % 2, 1, -1))


def test_a_stacked_row_or_column_is_seen_through():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 4))
    ones = np.ones((1, 4))
    stacked = value_of(np.vstack((ones, a)), Roots(lambda: 0), with_trims=True)
    below = value_of(np.vstack((a, ones)), Roots(lambda: 0), with_trims=True)
    left = value_of(np.c_[np.ones(5), a], Roots(lambda: 0), with_trims=True)
    right = value_of(np.c_[a, np.ones(5)], Roots(lambda: 0), with_trims=True)
    assert [value.trims.index(content_of(a)) for value in (stacked, below, left, right)] == [0, 1, 2, 3]
    assert content_of(a) == value_of(np.asfortranarray(np.vstack((ones, a)).T), Roots(lambda: 0), True).trims[0]


def test_buffers_are_told_apart_after_their_memory_is_used_again():
    now = [0]
    roots = Roots(lambda: now[0])
    kept = np.ones(4)
    numbers = [roots.number(kept)]
    for k in range(20):
        now[0] = k
        temporary = np.ones(1000)
        assert roots.number(temporary[3:]) == roots.number(temporary.reshape(10, 100)) == roots.number(temporary)
        numbers.append(roots.number(temporary))
        del temporary
        gc.collect()
        assert roots.died[numbers[-1]] == k
    assert len(set(numbers)) == 21
    assert roots.number(kept[::2]) == numbers[0]
    assert numbers[0] not in roots.died


def test_numbers_are_told_by_type_and_value():
    roots = Roots(lambda: 0)
    contents = [value_of(x, roots).content for x in (1.0, 1, True, np.float32(1), np.float64(1), 2.0)]
    assert len(set(contents)) == 6
    assert value_of(1.0, roots).content == value_of(0.5 * 2, roots).content
    assert not value_of(1.0, roots).is_array


# Places and files

SOURCE = """
def step(x):
    def inner():
        pass
    return x

class Net:
    def fit(self):
        for epoch in range(3):
            if epoch:
                while True:
                    break

    class Part:
        def step(self):
            pass

if True:
    def late():
        pass
"""


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("step", "step", 2),
        ("net.py:step", "step", 2),
        ("lib/net.py:step", "step", 2),
        ("Net.fit", "fit", 8),
        ("fit", "fit", 8),
        ("Net.Part.step", "step", 15),
        ("Part.step", "step", 15),
        ("step.inner", "inner", 3),
        ("late", "late", 19),
        ("9", None, 9),
        ("net.py:11", None, 11),
        ("Net.fit.9", None, 9),
    ],
)
def test_a_step_is_named_by_a_function_or_by_the_line_of_a_loop(text, name, line):
    place = StepPlace.parse(text)
    node = place.node(ast.parse(SOURCE))
    assert node is not None
    assert (getattr(node, "name", None), node.lineno) == (name, line)


@pytest.mark.parametrize("text", ["nothing", "et.fit", "Net", "8", "4"])
def test_a_step_that_is_not_there_has_no_place(text):
    assert StepPlace.parse(text).node(ast.parse(SOURCE)) is None


@pytest.mark.parametrize("text", ["", "net.py:", "net:step", ":"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(UsageError, match="is no place; expected Class.method"):
        StepPlace.parse(text)


def test_a_file_is_matched_from_its_end():
    place = StepPlace.parse("lib/net.py:step")
    assert place.concerns("/home/me/lib/net.py")
    assert not place.concerns("/home/me/net.py")
    assert not place.concerns("/home/me/glib/net.py")
    assert StepPlace.parse("step").concerns("/any/file.py")
    assert place.text == "step"
    assert [name for name, _ in functions(ast.parse(SOURCE))] == [
        *("step", "step.inner", "Net.fit", "Net.Part.step", "late"),
    ]


def test_files_of_the_program_are_those_outside_of_installed_libraries(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("")
    is_own = own_files((), ())
    assert is_own(str(mine))
    assert is_own(str(next(ladder_folder().glob("naive.py"))))
    assert is_own(str(Path(mlpprof.model.__file__)))
    for library in (np.__file__, ast.__file__, pytest.__file__, hooks.__file__, str(tmp_path / "no.py"), "<string>"):
        assert not is_own(library)


def test_include_and_exclude_change_which_files_are_looked_at_and_exclude_is_the_stronger(tmp_path):
    mine, other = tmp_path / "mine.py", tmp_path / "test_other.py"
    for path in (mine, other):
        path.write_text("")
    assert not own_files((), ("test_*",))(str(other))
    assert own_files((), ("test_*",))(str(mine))
    assert not own_files((), (f"{tmp_path}/*",))(str(mine))
    assert own_files(("ast.py",), ())(ast.__file__)
    assert own_files(("*/numpy/*",), ())(np.__file__)
    assert not own_files(("mine.py",), ("mine.py",))(str(mine))


def test_modules_of_the_program_get_their_code_from_the_rewriting_also_by_path(tmp_path, monkeypatch):
    monkeypatch.setattr(SourceFileLoader, "get_code", SourceFileLoader.get_code)
    path = tmp_path / "changed.py"
    path.write_text("# -*- coding: latin-1 -*-\nname = 'é'\n", encoding="latin-1")
    seen = []

    def compiled(file, source):
        seen.append((file, source.splitlines()[-1]))
        return compile("name = 'other'", file, "exec")

    load_through(lambda file: file == str(path), compiled)
    spec = importlib.util.spec_from_file_location("changed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.name == "other"
    assert seen == [(str(path), "name = 'é'")]


# Merging, and what is saved


def candidate(category, *covers, saved_s=(1.0, 1.0)):
    return Candidate(category, Site("net.py", 1, 0, None, 1, 1), "", "", "", saved_s, "", covers=frozenset(covers))


def categories(*candidates):
    return [one.category for one in merge(list(candidates))]


def test_consequences_are_told_under_their_cause_alone():
    loop = candidate("sample-loop", *range(10))
    assert categories(loop, candidate("temporaries", 3, 4)) == ["sample-loop"]
    assert categories(candidate("layout", 3), loop) == ["sample-loop"]
    assert categories(candidate("recomputation", 1, 2), candidate("slow-primitive", 2)) == ["recomputation"]


def test_what_lies_elsewhere_or_is_no_consequence_stays():
    loop = candidate("sample-loop", *range(10))
    assert categories(loop, candidate("temporaries", 20, 21, 3)) == ["sample-loop", "temporaries"]
    assert categories(loop, candidate("float64", 3, 4)) == ["sample-loop", "float64"]
    assert categories(loop, candidate("recomputation", 3, 4)) == ["sample-loop", "recomputation"]
    assert categories(candidate("temporaries"), loop) == ["temporaries", "sample-loop"]


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_that_are_consequences_of_each_other_one_stays(turned):
    pair = [candidate("work-in-step", 1, 2, 3), candidate("second-forward", 1, 2, 3)]
    kept = merge(pair[::-1] if turned else pair)
    assert len(kept) == 1


def test_the_saved_share_is_that_of_interleaved_pairs(clock):
    done = []

    def slow():
        done.append("slow")
        clock.advance(4e-3)

    def fast():
        done.append("fast")
        clock.advance(1e-3)

    low, high = saved_share(slow, fast, clock)
    assert (low, high) == pytest.approx((0.75, 0.75))
    assert Counter(done)["fast"] >= 4
    assert [name for name, _ in groupby(done[3:])] == ["fast", "slow"] * ((len(done) - 3) // 2)
    assert gc.isenabled()


def test_a_cure_that_is_slower_saves_nothing(clock):
    share = saved_share(lambda: clock.advance(1e-3), lambda: clock.advance(3e-3), clock)
    assert share == pytest.approx((-2.0, -2.0))
    assert of_time(share, 0.5) == (0.0, 0.0)
    assert of_time((0.25, 0.5), 2.0) == (0.5, 1.0)


def test_an_operation_that_fails_when_it_is_repeated_saves_nothing_and_ends_nothing(clock):
    def fail():
        raise ValueError("shapes")

    assert saved_share(fail, lambda: None, clock) == (0.0, 0.0)
    assert gc.isenabled()


def test_what_is_done_before_the_slow_one_is_not_timed(clock):
    share = saved_share(lambda: clock.advance(2e-3), lambda: clock.advance(1e-3), clock, lambda: clock.advance(9))
    assert share == pytest.approx((0.5, 0.5))
