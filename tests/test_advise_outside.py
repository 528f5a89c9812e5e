"""Findings around the steps: in programs whose steps take little of an epoch."""

from __future__ import annotations

import time

import numpy as np
import pytest
from timed_program import Run

from mlpprof.advise.editing.cure import applied
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

def in_parts(a):
    z = W[0] @ a
    return z, np.tanh(W[1] @ np.tanh(z))

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
    found, program = with_cures(text)
    return [one for one, _ in found], program


def with_cures(text):
    """The findings around the steps of a program with their cures, and where its time goes."""
    run = Run(HEAD + text, "step", time.perf_counter, step_s=1e-6)
    trace = Trace(
        run.forms.sites, [], [], [(0, 0)], {}, {}, Times([1e-6]), {"train.py": HEAD + text}, "train.py", "", ""
    )
    graph, watched = Graph(trace), list(run.around.found.values())
    return findings_around(run.time, watched, graph), with_knowledge(run.time, watched, graph)


def test_an_evaluation_of_the_samples_one_by_one_is_found_with_its_share_of_an_epoch():
    [found], program = looked_into("    correct = one_by_one(samples)\n")
    assert (found.category, found.line, found.outside, found.per) == ("sample-loop", 24, True, "epoch")
    assert "400 samples" in found.title
    assert 0.3 < found.payoff_share[0] <= found.payoff_share[1] <= 1
    assert found.payoff_s[1] <= program.unit_s
    assert found.evidence["executions"] == 400
    [expensive] = [one for one in program.statements if one.does]
    assert expensive.text == "correct = one_by_one(samples)"
    assert "train.py:24" in expensive.does
    assert "400 turns" in expensive.does
    assert "(30, 100)" in expensive.does


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "    correct = sum(int(np.argmax(forward(x)) == y) for x, y in samples)",
            "    answers = np.argmax(forward(np.hstack([x for x, y in samples])), axis=0)\n"
            "    correct = sum(int(answer == y) for answer, (x, y) in zip(answers, samples))",
        ),
        (
            "    correct = sum(int(np.argmax(in_parts(x)[-1]) == y) for x, y in samples)",
            "    answers = np.argmax(in_parts(np.hstack([x for x, y in samples]))[-1], axis=0)\n"
            "    correct = sum(int(answer == y) for answer, (x, y) in zip(answers, samples))",
        ),
        (
            "    rows = [forward(x) for x in X.T]  # all\n    correct = len(rows)",
            "    outputs = forward(np.asarray(X.T).T)\n"
            "    rows = [output for output in outputs.T]  # all\n    correct = len(rows)",
        ),
        (
            "    correct = 0\n    for (k, x) in enumerate(X.T):\n        if np.argmax(forward(x)) == k:\n"
            "            correct += 1",
            "    correct = 0\n    answers = np.argmax(forward(np.asarray(X.T).T), axis=0)\n"
            "    for answer, (k, x) in zip(answers, enumerate(X.T)):\n        if answer == k:\n"
            "            correct += 1",
        ),
    ],
)
def test_the_network_is_called_once_for_all_samples_before_the_loop(before, after):
    [(finding, cures)], _ = with_cures(before + "\n")
    assert finding.kind == "safe"
    texts = [applied({"train.py": HEAD + before + "\n"}, [cure])["train.py"] for cure in cures]
    assert HEAD + after + "\n" in texts
    kept = []
    for text in (HEAD + before, HEAD + after):
        space = {}
        exec(text, space)
        kept.append(space["correct"])
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "    for i in range(len(rows)):\n        if np.argmax(rows[i]) == 3:\n            correct += 1\n",
            "    answers = np.argmax(rows[:len(rows)], axis=1)\n"
            "    for i in range(len(rows)):\n        if answers[i] == 3:\n            correct += 1\n",
        ),
        (
            "    for row, y in zip(rows, X.T):\n        correct += int(np.argmax(row) == 3)\n",
            "    answers = np.argmax(rows, axis=1)\n"
            "    for answer, (row, y) in zip(answers, zip(rows, X.T)):\n        correct += int(answer == 3)\n",
        ),
        (
            "    for row, (x, y) in zip(rows, samples):\n        correct += int(np.argmax(row) == 3)\n",
            "    answers = np.argmax(rows, axis=1)\n"
            "    for answer, (row, (x, y)) in zip(answers, zip(rows, samples)):\n        correct += int(answer == 3)\n",
        ),
        ("    for i in range(len(rows)):\n        rows[i] *= 2\n        correct += int(np.argmax(rows[i]))\n", None),
    ],
)
def test_the_largest_outputs_of_all_samples_are_taken_in_one_call_before_the_loop(before, after):
    head = "    correct, rows = 0, forward(X).T\n"
    cures = [cure for _, cures in with_cures(head + before)[0] for cure in cures]
    assert [applied({"train.py": HEAD + head + before}, [cure])["train.py"] for cure in cures] == (
        [HEAD + head + after] if after is not None else []
    )
    kept = []
    for text in (before, after or before):
        space = {}
        exec(HEAD + head + text, space)
        kept.append(space["correct"])
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "    Y = np.zeros((len(labels), 10))\n    for i in range(len(labels)):  # one-hot\n"
            "        Y[i, labels[i]] = 1\n",
            "    Y = np.zeros((len(labels), 10))\n    Y[np.arange(len(labels)), labels] = 1  # one-hot\n",
        ),
        (
            "    Y = np.zeros((10, 2000))\n    for k, label in enumerate(labels):\n        Y[label][k] = 1.0\n",
            "    Y = np.zeros((10, 2000))\n    Y[labels, np.arange(len(labels))] = 1.0\n",
        ),
        (
            "    Y = []\n    for label in labels:\n        y = np.zeros((10, 1), dtype=np.float32)\n"
            "        y[label] = 1.0\n        Y.append(y)\n",
            "    Y = []\n    Y.extend(np.eye(10, dtype=np.float32)[:, :, None][labels])\n",
        ),
    ],
)
def test_one_hot_vectors_that_a_loop_writes_one_by_one_are_written_at_once(before, after):
    before, after = (f"    labels = np.arange(2000) % 10\n{text}" for text in (before, after))
    [(finding, [cure])] = [one for one in with_cures(before)[0] if "one-hot" in one[0].title]
    assert (finding.category, finding.kind, finding.per) == ("slow-primitive", "safe", "epoch")
    assert applied({"train.py": HEAD + before}, [cure])["train.py"] == HEAD + after
    kept = []
    for text in (before, after):
        space = {}
        exec(HEAD + text, space)
        kept.append(np.array(space["Y"]))
    np.testing.assert_array_equal(*kept)
    assert kept[0].dtype == kept[1].dtype


def test_an_evaluation_whose_samples_come_only_once_is_left_to_the_user():
    text = "    n = 0\n    for x in iter(X.T):\n        n += np.argmax(forward(x))\n"
    [(finding, cures)], _ = with_cures(text)
    assert (finding.kind, cures) == ("manual", ())
    assert finding.cure.startswith("By hand:")


def test_an_evaluation_of_all_samples_at_once_is_no_finding():
    found, program = looked_into("    correct = np.mean(np.argmax(forward(X), axis=0) == 0)\n")
    assert found == []
    assert program.units == 3


def test_an_array_that_is_made_of_a_list_in_every_epoch_is_found():
    [found], _ = looked_into("    X = np.array([x for x, y in many])\n")
    assert (found.category, found.line, found.per) == ("slow-primitive", 29, "epoch")
    assert "4,000 arrays" in found.title


def test_a_shuffle_of_a_list_is_found():
    [found], _ = looked_into("    random.shuffle(many)\n")
    assert (found.category, found.line, found.per) == ("gather", 29, "epoch")
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
