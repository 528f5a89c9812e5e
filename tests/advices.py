"""Advice and step profiles without a clock: findings of a made-up program, and one whose every text attacks."""

from __future__ import annotations

from dataclasses import replace

from pages import HOSTILE

from mlpprof.results.advice import Advice, Expensive, Finding
from mlpprof.results.place import Place
from mlpprof.results.program_time import ProgramTime, StatementTime

SOURCE = '''"""A network as people write it."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Net:
    def __init__(self, sizes):
        rng = np.random.default_rng(0)
        self.W1 = rng.normal(size=(sizes[1], sizes[0]))
        self.W2 = rng.normal(size=(sizes[2], sizes[1]))

    def step(self, X, Y, rate):
        self.Z1 = self.W1 @ X
        self.A1 = sigmoid(self.Z1)
        self.A2 = sigmoid(self.W2 @ self.A1)
        d2 = self.A2 - Y
        d1 = (self.W2.T @ d2) * sigmoid(self.Z1) * (1 - sigmoid(self.Z1))
        for i in range(X.shape[1]):
            self.W2 -= rate * np.outer(d2[:, i], self.A1[:, i])
            self.W1 -= rate * np.outer(d1[:, i], X[:, i])
'''

LOOP = Finding(
    category="sample-loop",
    file="net.py",
    line=22,
    end_line=24,
    column=9,
    title="the loop adds one outer product a sample",
    why="500 small products a step, each with its own temporary, where one product does the same work.",
    cure="One product a layer:\n"
    "-        for i in range(X.shape[1]):\n"
    "-            self.W2 -= rate * np.outer(d2[:, i], self.A1[:, i])\n"
    "-            self.W1 -= rate * np.outer(d1[:, i], X[:, i])\n"
    "+        self.W2 -= rate * (d2 @ self.A1.T)\n"
    "+        self.W1 -= rate * (d1 @ X.T)",
    payoff_s=(0.0142, 0.0161),
    payoff_share=(0.71, 0.805),
    confidence="certain",
    evidence={
        "shapes": [[30, 784], [10, 30]],
        "dtypes": ["float64"],
        "times": 1000,
        "bytes_allocated": 94_080_000,
        "measured": "the cure's products on the values of 5 steps, in turns with the loop",
    },
)
SIGMOID = Finding(
    category="recomputation",
    file="net.py",
    line=21,
    end_line=21,
    column=33,
    title="sigmoid(self.Z1) is evaluated again on the values of line 18",
    why="self.Z1 has not changed since line 18, whose result is still there as self.A1.",
    cure="-        d1 = (self.W2.T @ d2) * sigmoid(self.Z1) * (1 - sigmoid(self.Z1))\n"
    "+        d1 = (self.W2.T @ d2) * self.A1 * (1 - self.A1)",
    payoff_s=(0.00041, 0.00052),
    payoff_share=(0.0205, 0.026),
    confidence="certain",
    related=(Place("net.py", 18), Place("net.py", 7)),
    evidence={"shapes": [[30, 500]], "dtypes": ["float64"], "orders": "C·F", "times": 2, "measured": "replayed"},
)
DOUBLE = Finding(
    category="float64",
    file="net.py",
    line=13,
    end_line=13,
    column=9,
    title="weights are float64, and make every product so",
    why="The data are float32.",
    cure="self.W1 = rng.normal(size=(sizes[1], sizes[0])).astype(np.float32)",
    payoff_s=(0.0002, 0.0002),
    payoff_share=(0.01, 0.01),
    confidence="likely",
)


PROGRAM = ProgramTime(
    beginning_s=2.0,
    beginning=(StatementTime("train.py", 3, "X, y = load()", 2.0, 1.0, does="It calls `load` (train.py:1)."),),
    unit="epoch",
    loop=StatementTime("train.py", 7, "for epoch in range(9):", 0.0, 0.0),
    steps=100.0,
    steps_s=2.0,
    statements=(
        StatementTime("net.py", 40, "print(evaluate(test))", 7.5, 1.0, does="It runs the loop in net.py:30."),
        StatementTime("train.py", 8, "np.random.shuffle(pairs)", 0.5, 1.0),
    ),
    units=2,
)
EVALUATION = replace(
    LOOP,
    title="`for x, y in test` takes the 1,000 samples one by one",
    payoff_s=(6.0, 7.0),
    payoff_share=(0.6, 0.7),
    outside=True,
    per="epoch",
)


def make_advice(**changes: object) -> Advice:
    """Three findings of one file, in a step of 20 ms."""
    made = Advice(
        step="net.py:Net.step",
        step_s=0.02,
        steps=5,
        findings=(LOOP, SIGMOID, DOUBLE),
        notes=("The loop of line 22 was recorded for 8 of its 500 rounds.",),
        source={"net.py": SOURCE},
        environment={"python_version": "3.12.1", "numpy_version": "2.1.0", "cpu_model_name": "Test CPU"},
        small=(replace(DOUBLE, line=12, end_line=12, payoff_share=(0.004, 0.006), title="`W * W` is small"),),
        expensive=(Expensive("net.py", 9, 5, "A1 @ W2", 0.005, 0.25, "It is a product: nothing is known to cure."),),
    )
    return replace(made, **changes)


def hostile_advice() -> Advice:
    """Every text that comes from a user's file, or names one, attacks the page or the terminal."""
    bad = replace(
        SIGMOID,
        file=f"{HOSTILE}[bold].py",
        title=f"{HOSTILE} [red]title[/red]",
        why=f"{HOSTILE} [/nothing] why",
        cure=f"-{HOSTILE}\n+{HOSTILE} [blink]\n{HOSTILE}",
        related=(Place(f"{HOSTILE}.py", 3),),
        evidence={f"key {HOSTILE}": HOSTILE, "measured": HOSTILE, "shapes": [[HOSTILE, 3]]},
    )
    source = SOURCE.replace("d2 = self.A2 - Y", f"d2 = '{HOSTILE}'")
    worse = Expensive(f"{HOSTILE}[bold].py", 9, 5, f"{HOSTILE} [red]", 0.005, 0.25, f"{HOSTILE} [/nothing]")
    made = Advice(f"{HOSTILE}.py:Net.step", 0.02, 5, (bad,), (HOSTILE,), {f"{HOSTILE}[bold].py": source}, {})
    return replace(made, small=(bad,), expensive=(worse,))
