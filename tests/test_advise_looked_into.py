"""Steps that are few, run in another thread, or are machine code; and what is read around the step."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest
from recorded_step import recorded

from mlpprof.advise import Subject, find
from mlpprof.advise.worker import require_whole_step
from mlpprof.errors import UsageError
from mlpprof.instrument.compiled import is_within, numba_functions
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replayed import add_replayed_times
from mlpprof.programs.record.trace import Times
from mlpprof.results.program_time import ProgramTime, StatementTime

RUN = """
import json, sys
from pathlib import Path
from mlpprof.advise.detect import dead_computation
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.load import UserProgram
from mlpprof.programs.request import request_for
from mlpprof.programs.record.run import record
from mlpprof.programs.find_step.watch_run import seek
from mlpprof.errors import UsageError
path, step = sys.argv[1:]
script = UserProgram(request_for(path))
try:
    if step == "?":
        print(json.dumps(seek(script).step))
    else:
        trace = record(script, StepPlace.parse(step), few=40, plain_s=[1.0]).trace
        graph = Graph(trace)
        names = [event.name for event in graph.last]
        print(json.dumps([names, trace.is_blind, [one.title for one in dead_computation.detect(graph)]]))
except UsageError as error:
    print(json.dumps(str(error)))
"""

HEAD = """
import threading
import numpy as np
X, W = np.ones((40, 30)), np.full((30, 20), 1e-3)

def step():
    global W
    e = X @ W - 1
    d = e[:, :1]
    cost = d.T @ d
    W = W - 1e-6 * (X.T @ e)
    return cost

def train():
    for _ in range(60):
        step()
"""


def said(tmp_path, text, step):
    """What looking for a step ('?'), or recording it, gives."""
    path = tmp_path / "net.py"
    path.write_text(text)
    run = subprocess.run([sys.executable, "-c", RUN, str(path), step], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "Enough" not in run.stderr
    return json.loads(run.stdout.splitlines()[-1])


IN_A_THREAD = f"{HEAD}\nthread = threading.Thread(target=train)\nthread.start()\nthread.join()\n"


@pytest.mark.slow
def test_a_step_in_another_thread_is_recorded_as_any_other(tmp_path):
    names, is_blind, dead = said(tmp_path, IN_A_THREAD, "step")
    assert names.count("matmul") == 3
    assert not is_blind
    assert dead == []  # what the step returns, its caller may read


def test_a_thread_that_makes_batches_ready_is_not_ended_while_the_step_needs_it(tmp_path):
    loader = """
import queue
batches = queue.Queue(2)
def feed():
    for _ in range(100_000):
        batches.put(X)
    batches.put(None)
threading.Thread(target=feed, daemon=True).start()
while batches.get() is not None:
    step()
"""
    assert said(tmp_path, HEAD + loader, "?") == "net.py:step"


IN_A_WHILE = """
import numpy as np
X, W, cost = np.ones((40, 30)), np.full((30, 20), 1e-3), np.ones((1, 1))
turn = 0
while (turn := turn + 1) < 60 and cost > 0:
    e = X @ W - 1
    d = e[:, :1]
    cost = d.T @ d
    W = W - 1e-6 * (X.T @ e)
"""


@pytest.mark.slow
def test_what_the_test_of_the_steps_loop_reads_is_used(tmp_path):
    assert said(tmp_path, IN_A_WHILE, "5")[2] == []
    assert said(tmp_path, IN_A_WHILE.replace(" and cost > 0", ""), "5")[2] == ["nothing reads the result of `d.T @ d`"]


COMPILED = HEAD.replace("import threading", "import numba").replace("def step", "@numba.njit\ndef step") + "train()\n"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["?", "step"])
def test_a_step_that_numba_compiles_is_said_not_to_be_looked_into(tmp_path, step):
    (tmp_path / "numba.py").write_text(
        "def njit(function):\n    assert 'mlpprof' not in str(function.__code__.co_names)\n    return function\n"
    )
    assert "is compiled by numba, so mlpprof cannot see its operations" in said(tmp_path, COMPILED, step)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import numba\n@numba.njit\ndef f(): pass", {"f"}),
        ("import numba as nb\n@nb.jit(nopython=True)\ndef f(): pass", {"f"}),
        ("from numba import njit as fast\nclass A:\n    @fast(parallel=True)\n    def f(self): pass", {"f"}),
        ("import numba\ndef f(): pass\ng = numba.njit(f)", {"f"}),
        ("from numba import njit\ndef f(): pass\ng = njit(fastmath=True)(f)", {"f"}),
        ("def njit(f): return f\n@njit\ndef f(): pass", set()),
    ],
)
def test_functions_that_numba_compiles_are_known_from_the_file(text, names):
    tree = ast.parse(text)
    assert numba_functions(tree) == names
    inner = next(node for node in ast.walk(tree) if isinstance(node, ast.Pass))
    assert is_within(inner, tree) == bool(names)


def test_without_clocks_the_operations_are_timed_again():
    text = "X, W = np.ones((200, 300)), np.ones((300, 200))\ndef step():\n    A = np.tanh(X @ W)\n    print(end='')\n"
    with recorded(text) as graph:
        trace = graph.trace
        trace.times = Times(plain_s=[graph.step_s])
        add_replayed_times(trace)
        again = Graph(trace)
        timed = {event.name: again.seconds([event]) for event in again.last}
    assert timed["matmul"] > 0
    assert timed["tanh"] > 0
    assert timed["print"] == 0
    assert sum(timed.values()) <= graph.step_s * (1 + 1e-9)


@pytest.mark.slow
def test_no_all_clear_is_given_of_a_single_step(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("import numpy as np\nW = np.ones((3, 2))\n\ndef step():\n    W[0, 0] -= W[1, 1]\n\nstep()\n")
    with pytest.raises(UsageError, match=r"only 1 step of net\.py:step ran, and mlpprof needs at least 3"):
        find(Subject(path, step="step", threads=1))


@pytest.mark.parametrize(
    ("line", "others_s", "reason"),
    [
        ("W[0, 0] += X[0, 0]", 0.0, "multiplies no matrices"),
        ("A = X @ W", 99.5, r"takes 0\.5% of the time of the training"),
    ],
)
def test_no_all_clear_is_given_of_a_part_of_the_step(line, others_s, reason):
    others = (StatementTime("net.py", 9, "d = slow(d)", others_s, 1.0),)
    with recorded(f"X, W = np.ones((4, 3)), np.ones((3, 2))\ndef step():\n    {line}\n") as graph:
        with pytest.raises(UsageError, match=f"this {reason}, so it is probably not the whole training step"):
            require_whole_step(graph, ProgramTime(0.0, (), "step", None, 1.0, 0.5, others, 3))
        if others_s:
            require_whole_step(graph, ProgramTime(0.0, (), "step", None, 1.0, 50.0, others, 3))
