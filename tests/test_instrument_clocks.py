"""Clocks on labelled statements: which statement, which layer, whose time, and that nothing else changes."""

from __future__ import annotations

import textwrap
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cases

from mlpprof.catalog import ladder, load, module_of
from mlpprof.errors import UnsupportedNetwork
from mlpprof.instrument.clocks import LabelClock, StrayLabel, instrumented_module, labels_of, stray_labels

LADDER = {name: entry for name, entry in ladder().items() if entry.extra is None}


def blank_module() -> ModuleType:
    """A module as one that was loaded from a file."""
    module = ModuleType("mine")
    module.__file__ = __file__
    return module


def run(clock: Any, body: str, *arguments: Any, setup: str = "") -> tuple[Any, dict]:
    """Instrument `def step(work, ...): body`, run it, and return its value and what the labels took.

    work(seconds) advances the fake clock; so does nothing else.
    """
    source = textwrap.dedent(setup) + "\ndef step(work, *arguments):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    labels = LabelClock(clock)
    module = instrumented_module(blank_module(), source, labels)
    value = module.step(clock.advance, *arguments)
    return value, labels.take()


def seconds(taken: dict) -> dict[tuple[int | None, str], float]:
    """(layer, label) -> seconds, for a step outside every phase."""
    assert {phase for phase, _, _ in taken} <= {"train_step"}
    return {(layer, label): s for (_, layer, label), (s, _) in taken.items()}


def test_a_labelled_statement_is_timed_and_its_neighbours_are_not(clock):
    _, taken = run(
        clock,
        """
        work(1)
        work(2)  # phase: gather
        work(4)
    """,
    )
    assert taken == {("train_step", None, "gather"): (2.0, 1)}


def test_the_same_label_on_several_statements_is_summed_and_its_calls_counted(clock):
    _, taken = run(
        clock,
        """
        work(1)  # phase: gather
        work(2)  # phase: cost
        work(4)  # phase: gather
    """,
    )
    assert taken == {("train_step", None, "gather"): (5.0, 2), ("train_step", None, "cost"): (2.0, 1)}


def test_labels_come_in_the_order_of_their_first_execution(clock):
    _, taken = run(
        clock,
        """
        for l in (2, 1):
            work(1)  # phase: b
            work(1)  # phase: a
    """,
    )
    assert [(layer, label) for _, layer, label in taken] == [(2, "b"), (2, "a"), (1, "b"), (1, "a")]


def test_a_statement_over_several_lines_is_labelled_on_its_last(clock):
    value, taken = run(
        clock,
        """
        result = (
            work(1),
            work(2),
        )  # phase: multiply
        return result
    """,
    )
    assert value == (None, None)
    assert seconds(taken) == {(None, "multiply"): 3.0}


@pytest.mark.parametrize(
    "block",
    [
        "for _ in range(2):  # phase: block\n    work(3)",
        "for _ in reversed(\n    range(2)\n):  # phase: block\n    work(3)",
        "while clock.now < 6:  # phase: block\n    work(3)",
        "if True:  # phase: block\n    work(6)",
        "if False:\n    work(100)\nelif True:  # phase: block\n    work(6)",
        "with open(__file__) as file:  # phase: block\n    work(6)",
        "with open(__file__):  # phase: block\n    work(6)",
        "with open(__file__) as one, open(__file__) as two:  # phase: block\n    work(6)",
        "try:  # phase: block\n    work(6)\nfinally:\n    pass",
        "match 1:  # phase: block\n    case 1:\n        work(6)",
    ],
)
def test_a_label_on_the_header_of_a_block_holds_for_the_whole_block(clock, block):
    body = f"clock = arguments[0]\n{block}\nwork(100)"
    _, taken = run(clock, body, clock)
    assert seconds(taken) == {(None, "block"): 6.0}
    assert sum(calls for _, calls in taken.values()) == 1


@pytest.mark.parametrize(
    "block",
    [
        "match 1:\n    case 1:\n        work(1)\n        work(2)  # phase: inner",
        "try:\n    work(1)\nfinally:\n    work(2)  # phase: inner",
        "try:\n    work(1)\nexcept* ValueError:\n    pass\nelse:\n    work(2)  # phase: inner",
        "with open(__file__):\n    work(1)\n    work(2)  # phase: inner",
        "if True:\n    work(1)\n    work(2)  # phase: inner",
        "for _ in (1,):\n    work(1)\n    work(2)  # phase: inner",
        "while True:\n    work(1)\n    break\nelse:\n    pass\nwork(2)  # phase: inner",
    ],
)
def test_a_label_on_the_last_statement_of_a_block_is_that_statement_s_alone(clock, block):
    _, taken = run(clock, block)
    assert seconds(taken) == {(None, "inner"): 2.0}


def test_labels_nest_and_the_inner_time_is_taken_off_the_outer(clock):
    _, taken = run(
        clock,
        """
        for _ in range(2):  # phase: outer
            work(1)
            for _ in range(3):  # phase: middle
                work(10)
                work(100)  # phase: inner
            work(1)
    """,
    )
    assert seconds(taken) == {(None, "outer"): 4.0, (None, "middle"): 60.0, (None, "inner"): 600.0}
    assert [calls for _, calls in taken.values()] == [6, 2, 1]  # inner ones end first


def test_a_labelled_call_of_a_function_with_labels_nests_too(clock):
    _, taken = run(
        clock,
        "helper(work)  # phase: outer",
        setup="""
        def helper(work):
            work(1)
            work(10)  # phase: inner
    """,
    )
    assert seconds(taken) == {(None, "inner"): 10.0, (None, "outer"): 1.0}


def test_recursion_counts_every_second_once(clock):
    _, taken = run(
        clock,
        "helper(work, 3)",
        setup="""
        def helper(work, depth):
            work(1)  # phase: own
            if depth > 0:
                helper(work, depth - 1)  # phase: recursion
    """,
    )
    assert seconds(taken) == {(None, "own"): 4.0, (None, "recursion"): 0.0}


def test_a_labelled_return_returns_and_is_timed(clock):
    value, taken = run(
        clock,
        """
        for _ in range(5):
            return [7, work(2)]  # phase: cost
    """,
    )
    assert value == [7, None]
    assert seconds(taken) == {(None, "cost"): 2.0}


def test_a_return_inside_a_labelled_block_ends_the_label(clock):
    value, taken = run(
        clock,
        "a = helper(work)\nwork(5)  # phase: after\nreturn a",
        setup="""
        def helper(work):
            for i in range(5):  # phase: block
                work(1)
                if i == 2:
                    return i
    """,
    )
    assert value == 2
    assert seconds(taken) == {(None, "block"): 3.0, (None, "after"): 5.0}


def test_break_and_continue_inside_labelled_statements_end_the_label(clock):
    value, taken = run(
        clock,
        """
        done = []
        for l in range(1, 5):
            if l == 2:  # phase: skip
                work(1)
                continue
            if l == 4:  # phase: stop
                work(10)
                break
            work(100)  # phase: rest
            done.append(l)
        return done
    """,
    )
    assert value == [1, 3]
    totals: dict[str, float] = {}
    for (_, label), s in seconds(taken).items():
        totals[label] = totals.get(label, 0.0) + s
    assert totals == {"skip": 1.0, "stop": 10.0, "rest": 200.0}


def test_an_exception_passes_through_and_ends_the_label(clock):
    value, taken = run(
        clock,
        """
        try:
            for _ in range(3):  # phase: block
                work(1)
                [][work(2) or 0]  # phase: failing
        except IndexError:
            work(4)  # phase: handler
            return "handled"
    """,
    )
    assert value == "handled"
    assert seconds(taken) == {(None, "failing"): 2.0, (None, "block"): 1.0, (None, "handler"): 4.0}


@pytest.mark.parametrize("loop", ["for l in", "for layer in", "for l, _ in", "for (_, l) in", "for [l, *rest] in"])
def test_the_loop_variable_names_the_layer(clock, loop):
    items = {"l": "(1, 2, 3)", "r": "(1, 2, 3)"}.get(loop.split()[1][-1], "((1, 1), (2, 2), (3, 3))")
    _, taken = run(clock, f"{loop} {items}:\n    work(1)  # phase: sum")
    assert seconds(taken) == {(1, "sum"): 1.0, (2, "sum"): 1.0, (3, "sum"): 1.0}


def test_the_innermost_loop_over_layers_counts_and_others_do_not(clock):
    _, taken = run(
        clock,
        """
        for l in (1, 2):
            for j in (7, 8):
                work(1)  # phase: inner
            for layer in (5,):
                work(1)  # phase: other
            work(1)  # phase: outer
    """,
    )
    assert seconds(taken) == {
        **{(1, "inner"): 2.0, (5, "other"): 2.0, (1, "outer"): 1.0},
        **{(2, "inner"): 2.0, (2, "outer"): 1.0},
    }


def test_a_label_on_the_loop_s_own_header_has_no_layer(clock):
    _, taken = run(clock, "for l in (1, 2):  # phase: all\n    work(1)")
    assert seconds(taken) == {(None, "all"): 2.0}


def test_two_loops_one_after_the_other_keep_their_layers_apart(clock):
    _, taken = run(
        clock,
        """
        for l in (1, 2):
            work(1)  # phase: forward
        work(1)  # phase: between
        for l in reversed((1, 2)):
            work(2)  # phase: back
    """,
    )
    assert seconds(taken) == {
        **{(1, "forward"): 1.0, (2, "forward"): 1.0, (None, "between"): 1.0, (2, "back"): 2.0, (1, "back"): 2.0}
    }


def test_a_function_inside_a_loop_starts_outside_of_it(clock):
    _, taken = run(
        clock,
        """
        for l in (1, 2):
            def inner():
                work(1)  # phase: inner
            inner()
    """,
    )
    assert seconds(taken) == {(None, "inner"): 2.0}


def test_layers_that_numpy_counts_are_numbers_too(clock):
    _, taken = run(clock, "for l in np.arange(1, 3):\n    work(1)  # phase: sum", setup="import numpy as np\n")
    assert seconds(taken) == {(1, "sum"): 1.0, (2, "sum"): 1.0}
    assert all(type(layer) is int for _, layer, _ in taken)


@pytest.mark.parametrize(
    "layers",
    [
        "[object(), object(), object()]",
        "['a', 'b', 'c']",
        "[{}, [], set()]",
        "list(np.ones((3, 2)))",
        "[0.5, None, ()]",
    ],
)
def test_layers_that_are_no_numbers_are_summed_under_no_layer(clock, layers):
    _, taken = run(clock, f"for layer in {layers}:\n    work(1)  # phase: sum", setup="import numpy as np\n")
    assert taken == {("train_step", None, "sum"): (3.0, 3)}


def test_a_label_in_a_string_is_text(clock):
    body = """
        text = "x  # phase: string"
        more = '''
        work(1)  # phase: docstring
        '''
        work(1)
        return text + more
    """
    value, taken = run(clock, body)
    assert "# phase: string" in value
    assert "# phase: docstring" in value
    assert taken == {}
    assert stray_labels(textwrap.dedent(body).replace("return", "value =")) == []


def test_two_statements_on_one_line_are_both_under_its_label(clock):
    _, taken = run(clock, "work(1); work(2)  # phase: both")
    assert taken == {("train_step", None, "both"): (3.0, 2)}


def test_a_block_on_one_line_is_clocked_once(clock):
    _, taken = run(clock, "for l in (1, 2): work(1)  # phase: both")
    assert taken == {("train_step", None, "both"): (2.0, 1)}


@pytest.mark.parametrize(
    ("comment", "label"),
    [
        ("# phase: bias row", "bias row"),
        ("#phase:bias", "bias"),
        ("#  phase:   spaced out   ", "spaced out"),
        ("# phase: a, b: c (d)", "a, b: c (d)"),
    ],
)
def test_a_label_is_what_follows_the_colon(comment, label):
    assert labels_of(f"x = 1  {comment}\n") == {1: label}


@pytest.mark.parametrize(
    "comment", ["# phase", "# phase:", "# Phase: x", "# the phase: x", "# phases: x", "# x phase: y"]
)
def test_other_comments_are_no_labels(comment):
    assert labels_of(f"x = 1  {comment}\n") == {}


@pytest.mark.parametrize(
    "source",
    [
        "# phase: alone\nx = 1\n",
        "x = [\n    1,  # phase: alone\n    2,\n]\n",
        "if x:\n    pass\nelse:  # phase: alone\n    pass\n",
        "def f():  # phase: alone\n    pass\n",
        "class C:  # phase: alone\n    pass\n",
        "x = 1\n    # phase: alone\ny = 2\n",
        "try:\n    pass\nfinally:  # phase: alone\n    pass\n",
        "match x:\n    case 1:  # phase: alone\n        pass\n",
    ],
)
def test_a_label_on_no_statement_is_stray_and_times_nothing(source):
    line = next(i for i, text in enumerate(source.splitlines(), start=1) if "phase" in text)
    assert stray_labels(source) == [StrayLabel(line, "alone")]


def test_a_statement_that_ends_in_its_label_is_not_stray(plain):
    assert stray_labels(plain) == []
    assert labels_of(plain) != {}


def test_stray_labels_of_a_file_that_does_not_parse_raise():
    with pytest.raises(SyntaxError):
        stray_labels("x = (\n")


# Phases


class Two:
    """A helper that two phases call."""

    SOURCE = """
class MLP:
    def __init__(self, work):
        self.work = work
    def help(self, s):
        self.work(s)  # phase: help
    def fetch_batch(self, X, Y, index):
        pass
    def forward(self):
        self.help(1)
    def loss(self):
        self.work(7)
    def backward(self):
        self.help(10)
        for l in (2, 1):
            self.help(100)
    def update(self):
        self.work(5)  # phase: descend
    def train_step(self):
        self.forward()
        self.backward()
        self.work(1000)  # phase: own
        self.update()
"""


def test_a_helper_called_from_two_phases_is_told_apart_by_phase(clock):
    labels = LabelClock(clock)
    instance = instrumented_module(blank_module(), Two.SOURCE, labels).MLP(clock.advance)
    labels.watch(instance)
    instance.train_step()
    assert labels.take() == {
        ("forward", None, "help"): (1.0, 1),
        ("backward", None, "help"): (210.0, 3),
        ("train_step", None, "own"): (1000.0, 1),
        ("update", None, "descend"): (5.0, 1),
    }


def test_take_clears_so_that_the_next_step_starts_from_zero(clock):
    labels = LabelClock(clock)
    instance = instrumented_module(blank_module(), Two.SOURCE, labels).MLP(clock.advance)
    labels.watch(instance)
    for _ in range(2):
        instance.train_step()
        assert labels.take()["update", None, "descend"] == (5.0, 1)
    assert labels.take() == {}


def test_after_an_exception_in_a_phase_the_next_step_is_counted_right(clock):
    labels = LabelClock(clock)
    instance = instrumented_module(blank_module(), Two.SOURCE, labels).MLP(clock.advance)
    instance.backward = lambda: 1 / 0
    labels.watch(instance)
    with pytest.raises(ZeroDivisionError):
        instance.train_step()
    labels.take()
    instance.help(1)
    assert labels.take() == {("train_step", None, "help"): (1.0, 1)}


def test_a_class_with_slots_is_told_how_to_be_clocked(clock):
    from mlpprof.errors import VariantError

    class Slotted:
        __slots__ = ("W",)

        def fetch_batch(self):
            pass

        forward = loss = backward = update = fetch_batch

    with pytest.raises(VariantError, match="class Slotted forbids new attributes.*__dict__"):
        LabelClock(clock).watch(Slotted())


# The module


def test_the_instrumented_module_has_the_names_of_the_original(clock):
    module = ModuleType("mine", "Its docstring.")
    module.__file__ = "/somewhere/mine.py"
    module.__package__ = "somewhere"
    copy = instrumented_module(module, "def f():\n    1 / 0  # phase: x\n\n\nclass C:\n    pass\n", LabelClock(clock))
    assert (copy.__name__, copy.__file__, copy.__package__) == ("mine", "/somewhere/mine.py", "somewhere")
    assert copy.__doc__ == "Its docstring."
    assert copy.C.__module__ == "mine"
    with pytest.raises(ZeroDivisionError) as caught:
        copy.f()
    innermost = caught.traceback[-1]
    assert str(innermost.path) == "/somewhere/mine.py"
    assert innermost.lineno + 1 == 2


def test_the_original_module_stays_as_it_was(clock, plain):
    module = blank_module()
    exec(plain, vars(module))
    names = set(vars(module))
    instrumented_module(module, plain, LabelClock(clock))
    assert set(vars(module)) == names


def test_annotations_mean_what_they_mean_in_the_file(clock):
    source = "class C:\n    x: 1 + 1 = 0\n"
    copy = instrumented_module(blank_module(), source, LabelClock(clock))
    assert copy.C.__annotations__ == {"x": 2}
    copy = instrumented_module(blank_module(), "from __future__ import annotations\n" + source, LabelClock(clock))
    assert copy.C.__annotations__ == {"x": "1 + 1"}


@pytest.mark.parametrize("name", LADDER)
@given(case=cases(), dtype=st.sampled_from([np.float32, np.float64]))
@settings(max_examples=8)
def test_the_instrumented_variant_gives_bit_for_bit_the_numbers_of_the_plain_one(name, case, dtype):
    cls = load(LADDER[name])
    labels = LabelClock(iter(range(10**9)).__next__)
    copy = instrumented_module(module_of(cls), LADDER[name].source(), labels)
    try:
        plain, labelled = (
            c(case.network, [(W.astype(dtype), b.astype(dtype)) for W, b in case.parameters]) for c in (cls, copy.MLP)
        )
    except UnsupportedNetwork:
        return
    labels.watch(labelled)
    X, Y = case.X.astype(dtype), case.Y.astype(dtype)
    for _ in range(3):
        assert plain.train_step(X, Y, case.index) == labelled.train_step(X, Y, case.index)
        for ours, theirs in ((plain.parameters(), labelled.parameters()), (plain.gradients(), labelled.gradients())):
            for (W, b), (V, c) in zip(ours, theirs, strict=True):
                assert np.array_equal(W, V)
                assert np.array_equal(b, c)
        taken = labels.take()
        assert taken
        assert set(taken) >= {(phase, layer, label) for phase, layer, label in taken if layer is None or layer >= 1}


@pytest.mark.parametrize("name", ["naive", "sliced"])
def test_every_layer_of_a_rung_shows_up_under_its_labels(name, rungs, clock):
    from mlpprof.model import Network

    network = Network((3, 4, 2, 2))
    labels = LabelClock(clock)
    copy = instrumented_module(module_of(rungs[name]), LADDER[name].source(), labels)
    instance = copy.MLP(network, network.initial_parameters(0))
    labels.watch(instance)
    instance.train_step(np.ones((5, 3)), np.ones((5, 2)), np.arange(5))
    taken = labels.take()
    for key in (
        ("forward", "weighted sum"),
        ("forward", "activation"),
        ("backward", "gradient"),
        ("update", "descend"),
    ):
        assert sorted(l for phase, l, label in taken if (phase, label) == key) == [1, 2, 3]
    assert ("loss", None, "cost") in taken
    assert ("fetch_batch", None, "gather") in taken
    assert ("backward", 3, "error") in taken
    assert ("backward", 1, "error") not in taken
