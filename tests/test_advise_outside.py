"""Findings around the steps: in programs whose steps take little of an epoch."""

from __future__ import annotations

import time

import pytest
from timed_program import Run

from mlpprof.advise.outside import findings_around, with_knowledge
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Times, Trace
from mlpprof.results.program_time import ProgramTime, StatementTime

pytestmark = pytest.mark.usefixtures("no_hooks_left")

HEAD = """
import random
import numpy as np
rng = np.random.default_rng(0)
W = [rng.standard_normal((30, 100)), rng.standard_normal((10, 30))]
X = rng.standard_normal((100, 400))
samples = [(x.reshape(100, 1), 0) for x in X.T]

many = samples * 10

def forward(a):
    for w in W:
        a = np.tanh(w @ a)
    return a

def step():
    W[0] *= 0.999

def one_by_one(data):
    return sum(int(np.argmax(forward(x)) == y) for x, y in data)

for epoch in range(3):
    for k in range(6):
        step()
"""


def graph_of(run):
    return Graph(
        Trace(run.forms.sites, [], [], [(0, 0)], {}, {}, Times([1e-6]), {"train.py": run.text}, "train.py", "", "")
    )


def looked_into(text):
    """The findings around the steps of a program, and where its time goes."""
    run = Run(HEAD + text, "step", time.perf_counter, step_s=1e-6)
    trace = Trace(
        run.forms.sites, [], [], [(0, 0)], {}, {}, Times([1e-6]), {"train.py": HEAD + text}, "train.py", "", ""
    )
    graph, watched = Graph(trace), list(run.around.found.values())
    found = [finding for finding, _ in findings_around(run.time, watched, graph)]
    return found, with_knowledge(run.time, watched, graph)


def test_an_evaluation_of_the_samples_one_by_one_is_found_with_its_share_of_an_epoch():
    [found], program = looked_into("    correct = one_by_one(samples)\n")
    assert (found.category, found.line, found.outside, found.per) == ("sample-loop", 20, True, "epoch")
    assert "400 samples" in found.title
    assert found.kind == "safe"
    assert 0.3 < found.payoff_share[0] <= found.payoff_share[1] <= 1
    assert found.payoff_s[1] <= program.unit_s
    assert found.evidence["executions"] == 400
    [expensive] = [one for one in program.statements if one.does]
    assert expensive.text == "correct = one_by_one(samples)"
    assert "train.py:20" in expensive.does
    assert "400 turns" in expensive.does
    assert "(30, 100)" in expensive.does


def test_an_evaluation_of_all_samples_at_once_is_no_finding():
    found, program = looked_into("    correct = np.mean(np.argmax(forward(X), axis=0) == 0)\n")
    assert found == []
    assert program.units == 3


def test_an_array_that_is_made_of_a_list_in_every_epoch_is_found():
    [found], _ = looked_into("    X = np.array([x for x, y in many])\n")
    assert (found.category, found.line, found.per) == ("slow-primitive", 25, "epoch")
    assert "4,000 arrays" in found.title


def test_a_shuffle_of_a_list_is_found():
    [found], _ = looked_into("    random.shuffle(many)\n")
    assert (found.category, found.line, found.per) == ("gather", 25, "epoch")
    assert "4,000 items" in found.title


def test_a_statement_that_ran_once_is_described_by_the_functions_that_it_calls(clock):
    text = "def load():\n    for k in range(9):\n        wait(1)\n\nload()\n" + HEAD
    run = Run(text, "step", clock)
    [expensive] = [one for one in with_knowledge(run.time, [], graph_of(run)).beginning if one.does]
    assert expensive.text == "load()"
    assert expensive.does == "It calls `load` (train.py:1), which has a loop in line 2."


def test_a_statement_of_every_epoch_is_not_said_to_run_once():
    shuffle = StatementTime("other.py", 3, "X = X[p]", 9.0, 1)
    program = ProgramTime(0.0, (), "epoch", None, 5, 1.0, (shuffle,), 1)
    [one] = with_knowledge(program, [], graph_of(Run(HEAD, "step", time.perf_counter))).statements
    assert one.does == "It runs once in every epoch."
