"""What is used and what is not: foreign code, kept buffers, calls that are idle as a whole."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from recorded_step import recorded

from mlpprof.advise.candidate import Candidate
from mlpprof.advise.detect import dead_computation, work_in_step
from mlpprof.advise.detect.temporaries import needless_copies
from mlpprof.advise.findings import merge
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.arrays import Roots
from mlpprof.programs.record.reads import MOST_REACHED, Uses, arrays_within

DATA = """\
import copy, functools, threading
rng = np.random.default_rng(3)
X = rng.normal(0, 1, (60, 40))
W = rng.normal(0, 0.1, (40, 20))
V = rng.normal(0, 0.1, (20, 5))
"""
FIRST = DATA.count("\n") + 1


def lines(text, detector=dead_computation):
    """The lines that are told, counted from the first one after the data."""
    with recorded(DATA + text) as graph:
        return sorted(one.site.line - FIRST + 1 for one in detector.detect(graph))


def test_what_a_generator_gives_to_a_call_is_used():
    text = """
def step():
    total = sum(np.outer(row, row[:3]) for row in X)
    V[:, 0] += total.sum()
"""
    assert lines(text) == []


# Foreign code


@pytest.mark.parametrize(
    "use",
    [
        "kept = copy.deepcopy({'W': dW})['W']",
        "kept = copy.deepcopy([[dW]])[0][0]",
        "kept = copy.deepcopy(Box(dW)).value",
        "kept = copy.copy(np.array([dW, None], dtype=object))[0]",
        "kept = functools.partial(np.multiply, dW)(1.0)",
    ],
)
def test_what_foreign_code_can_reach_has_been_used(use):
    text = f"""\
class Box:
    def __init__(self, value):
        self.value = value
def step():
    global W
    A = np.tanh(X @ W)
    D = (A @ V) @ V.T
    dW = X.T @ D
    {use}
    W = W - 1e-6 * kept
"""
    assert lines(text) == []
    assert lines(text, work_in_step) == []


def test_without_the_foreign_code_the_same_result_is_dead():
    text = """\
def step():
    global W
    A = np.tanh(X @ W)
    dW = X.T @ A
    W = W - 1e-6
"""
    assert lines(text) == [3]  # where the chain begins


def test_a_function_that_may_change_its_operands_makes_them_useful():
    text = """\
update = type("Jit", (), {"__call__": exec("def f(self, W, d): W -= 1e-6 * d", s := {}) or s["f"]})()
def step():
    A = np.tanh(X @ W)
    dW = X.T @ ((A @ V) @ V.T)
    update(W, dW)
"""
    assert lines(text) == []
    assert lines(text, work_in_step) == []


@pytest.mark.parametrize("number", ["np.sum(dW[:, j])", "0.5 * np.sum(dW[:, j])", "dW[0, j]"])
def test_what_is_stored_number_by_number_is_useful(number):
    text = f"""\
def step():
    global W
    d = np.zeros(20)
    dW = X.T @ (np.tanh(X @ W) @ V @ V.T)
    for j in range(8):
        d[j] = {number}
    W = W - 1e-6 * d
"""
    assert lines(text, work_in_step) == []


def test_a_step_that_works_in_several_threads_is_not_judged():
    text = """\
def other():
    return X.sum()
def step():
    global W
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    dX = W @ W.T
    W = W - 1e-6
"""
    assert lines(text) == []


def test_arrays_are_reached_in_containers_attributes_and_arrays_of_objects():
    a, b, c, d = (np.zeros(3) for _ in range(4))
    boxed = np.array([None, {"c": c}], dtype=object)
    loop = SimpleNamespace(a=a, deep=[({"b": b}, boxed)], code=lambda: d, kind=SimpleNamespace)
    loop.itself = loop
    found, _ = arrays_within([loop])
    assert {id(x) for x in found} == {id(a), id(b), id(c), id(boxed)}
    assert arrays_within([a, 3.0, "text"])[0] == []


def test_looking_into_things_is_bounded():
    uses = Uses(Roots(lambda: 0), most=5 * MOST_REACHED)
    many = [[np.zeros(1)] for _ in range(3 * MOST_REACHED)]
    assert len(arrays_within([many])[0]) <= MOST_REACHED
    assert not uses.is_blind
    for _ in range(10):
        uses.reach([many], (), 0, True)
    assert uses.is_blind


def test_another_thread_makes_it_blind():
    uses = Uses(Roots(lambda: 0))
    assert uses.is_own_thread()
    assert not uses.is_blind
    other = threading.Thread(target=uses.is_own_thread)
    other.start()
    other.join()
    assert uses.is_blind


# Truth values


@pytest.mark.parametrize(
    "use",
    [
        "if cost < 1e-9: return",
        "n = 1 if cost < 1e-9 else 2",
        "n = not cost",
        "n = cost < 1e-9 and 1",
        "assert cost > 0",
        "n = [1 for _ in (1,) if cost > 0]",
        "n = bool(cost)",
        "while cost < 1e-9: break",
    ],
)
def test_an_array_whose_truth_is_asked_for_is_used(use):
    text = f"""\
def step():
    global W
    e = X @ W - 1
    d = e[:, :1]
    cost = d.T @ d
    W = W - 1e-6 * (X.T @ e)
    {use}
"""
    assert lines(text) == []
    assert lines(text.replace(use, "pass")) == [5]


# Kept buffers


KEPT = """\
dX = np.empty_like(X)
parts = [np.zeros((60, 40)), None]
other = dX
def step():
    global W
    D = np.tanh(X @ W)
    {write}
    W = W - 1e-6 * (X.T @ D)
{more}
"""


@pytest.mark.parametrize(
    "write",
    [
        "np.matmul(D, W.T, out=dX)",
        "dX[:] = D @ W.T",
        "np.matmul(D, W.T, out=parts[0])",
        "np.copyto(dX, D @ W.T)",
        "np.matmul(D, W.T, out=dX); n = dX.shape[0]",
    ],
)
def test_a_kept_buffer_that_is_only_written_is_dead(write):
    text = KEPT.format(write=write, more="").replace("other = dX\n", "\n")
    assert lines(text) == [7]


@pytest.mark.parametrize(
    ("write", "more"),
    [
        ("W += 1e-9 * dX[0].sum(); np.matmul(D, W.T, out=dX)", ""),  # read in the following step
        ("np.matmul(D, W.T, out=dX); np.matmul(D, W.T, out=dX[:30]) if 0 else None; W *= dX[0, 0] / dX[0, 0]", ""),
        ("np.matmul(D, W.T, out=dX)", "def report():\n    return np.abs(dX).mean()"),  # by what has not run
        ("np.matmul(D, W.T, out=dX)", "def given():\n    return dX"),
        ("np.matmul(D[:30], W.T, out=dX[:30])", "dX = X.view()"),  # another name of other data
        ("dX[:30] = D[:30] @ W.T; W -= 1e-9 * (dX.sum() > 1e9)", ""),
        ("parts[0][:] += D @ W.T", ""),  # reads what it had
        ("np.add(dX, D @ W.T, out=dX)", ""),
    ],
)
def test_a_kept_buffer_that_may_be_read_is_not_dead(write, more):
    assert lines(KEPT.format(write=write, more=more).replace("other = dX\n", "\n")) == []


def test_a_buffer_in_memory_of_somebody_else_is_not_dead():
    text = KEPT.format(write="np.matmul(D, W.T, out=dX)", more="")
    mapped = text.replace("dX = np.empty_like(X)", "memory = bytearray(X.nbytes)\ndX = np.empty_like(X)").replace(
        "np.empty_like(X)\n", "np.frombuffer(memory).reshape(X.shape)\n"
    )
    assert lines(mapped) == []


# Calls


def test_a_call_of_which_nothing_is_used_is_reported_where_it_stands_and_not_within_the_function():
    text = """\
def squashed(z):
    e = np.exp(-z)
    return 1 / (1 + e)
def step():
    global W
    A = squashed(X @ W)
    B = squashed(X @ W + 1)
    W = W - 1e-6 * (X.T @ A)
"""
    with recorded(DATA + text) as graph:
        found = {one.site.line - FIRST + 1: one for one in dead_computation.detect(graph)}
    assert 7 in found
    assert not found.keys() & {1, 2, 3}
    assert found[7].title == "nothing reads the result of `squashed(X @ W + 1)`"


def test_a_call_that_makes_an_object_is_not_idle_because_an_array_in_it_is():
    text = """\
class Box:
    def __init__(self, value):
        self.value = value
        self.grad = np.exp(value)
def step():
    global W
    A, B = Box(X @ W), Box(W)
    W = W - 1e-6 * (X.T @ np.log(A.grad))
"""
    assert 7 not in lines(text)


RECORDS = """\
from dataclasses import dataclass, replace
from typing import NamedTuple
@dataclass
class State:
    W: np.ndarray
class Pair(NamedTuple):
    W: np.ndarray
    steps: int = 0
state = {state}
def advance(state):
    A = np.tanh(X @ state.W)
    return {returned}
def step():
    global state
    state = advance(state)
    {again}
"""


@pytest.mark.parametrize(
    ("state", "returned"),
    [
        ("State(W)", "State(state.W - X.T @ A)"),
        ("State(W)", "replace(state, W=state.W - X.T @ A)"),
        ("Pair(W)", "Pair(state.W - X.T @ A, state.steps + 1)"),
        ("Pair(W)", "state._replace(W=state.W - X.T @ A)"),
    ],
)
def test_a_call_whose_record_nothing_reads_is_reported_where_it_stands(state, returned):
    text = RECORDS.format(state=state, returned=returned, again="other = advance(state)")
    assert lines(text) == [16]


@pytest.mark.parametrize("again", ["other = advance(state)\n    shown = other.steps", "other = seen(advance(state))"])
def test_a_call_whose_record_is_read_or_kept_is_not_idle(again):
    text = RECORDS.format(state="Pair(W)", returned="Pair(state.W - X.T @ A, state.steps + 1)", again=again)
    assert 18 not in lines(f"held = []\nseen = held.append\n{text}")


def candidate(category, line, saved_s, related=()):
    return Candidate(category, site(line), "", "", "", (saved_s, saved_s), "", related=related)


def site(line):
    return Site("net.py", line, 0, None, line, 9)


@pytest.mark.parametrize(("dead_s", "told"), [(1.2, "recomputation"), (3.0, "dead-computation")])
def test_of_two_evaluations_of_the_same_only_one_can_be_left_out(dead_s, told):
    both = [candidate("recomputation", 9, 1.0, (site(5),)), candidate("dead-computation", 5, dead_s)]
    assert [one.category for one in merge(both)] == [told]
    apart = [candidate("recomputation", 9, 1.0, (site(4),)), candidate("dead-computation", 5, dead_s)]
    assert len(merge(apart)) == 2


# Code that has not run


@pytest.mark.parametrize(
    ("reader", "told"),
    [
        ("    if turn % 100 == 99:\n        print((P == 1).mean())\n", []),
        ("    if turn % 100 == 99:\n        print(turn + 1)\n", [4]),
    ],
)
def test_a_result_that_a_line_which_has_not_run_reads_is_not_said_to_be_dead(reader, told):
    text = f"""\
turn = 0
def step():
    global W, turn
    P = np.argmax(X @ W, axis=1)
    turn += 1
{reader}    W = W - 1e-6 * (X.T @ np.tanh(X @ W))
"""
    assert lines(text) == told


def test_labels_that_are_only_an_index_have_been_used():
    text = """\
labels = rng.integers(0, 5, 60)
rows = np.arange(60)
def step():
    global W
    yb = labels[rows]
    Y = np.zeros((60, 20))
    Y[rows, yb] = 1.0
    W = W - 1e-6 * (X.T @ (X @ W - Y))
"""
    assert lines(text) == []


@pytest.mark.parametrize("store", ["xb[:, 0] = 1.0", "xb[...] = 0.5", "xb[0, 0] = 1.0"])
def test_a_copy_that_a_number_is_stored_into_protects_what_it_was_taken_from(store):
    text = f"""\
def step():
    global W
    xb = X.copy()
    {store}
    W = W - 1e-6 * (xb.T @ np.tanh(xb @ W))
"""
    with recorded(DATA + text) as graph:
        assert needless_copies(graph, frozenset()) == []


GATHERED = """\
def gradient(x):
    A = np.tanh(x @ W)
    D = (A @ V) @ V.T
    unused = D * D
    return np.outer(x, D)
def step():
    global W
    kept = []
    for k in range(TURNS):
        kept.append(gradient(X[k]))
    total = 0
    for g in kept:
        total = total + g
    W = W - 1e-6 * total
"""


@pytest.mark.parametrize("turns", [8, 40])
def test_what_turns_that_ran_unseen_may_have_read_is_not_dead(turns):
    for detector in (dead_computation, work_in_step):
        told = lines(GATHERED.replace("TURNS", str(turns)), detector)
        assert told == ([4] if detector is dead_computation else [])
