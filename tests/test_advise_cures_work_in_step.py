"""A loss that only some steps show is computed in those steps alone, and shown as before."""

from __future__ import annotations

import ast

import pytest
from cured import assert_trains_as, cured, cures_of
from recorded_step import recorded

from mlpprof.advise.cures.work_in_step import after_the_loop
from mlpprof.advise.detect import dead_computation, work_in_step
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.programs.record.graph import Graph

HEAD = """\
import numpy as np
X, Y = np.random.default_rng(3).normal(0, 1, (60, 50)), np.random.default_rng(4).random((60, 20))
W, shown, count = np.full((50, 20), 0.1), [], 0
def parameters():
    return [W, np.array(shown)]
def loss_of(A):
    return float(np.mean(np.square(A - Y)))
state, log = {"t": 0}, []
def tick():
    global count
    count += 1
def step():
    global W, count
    A = np.tanh(X @ W)
"""
TAIL = """\
    W = W - 1e-3 * (X.T @ ((A - Y) * (1 - A * A)))
    if {test}:
        shown.append(loss)
    count += 1
"""


@pytest.mark.parametrize("loss", ["loss_of(A)", "float(np.mean(np.square(A - Y)))  # mean"])
def test_a_loss_gets_the_test_of_the_statement_that_shows_it(loss):
    text = HEAD + f"    loss = {loss}\n" + TAIL.format(test="count % 100 == 2")
    (cure,) = cures_of(text, work_in_step)
    after = cured(text, cure)
    assert after == text.replace("    loss =", "    if count % 100 == 2:\n        loss =")
    assert_trains_as(after, text)


@pytest.mark.parametrize(
    ("loss", "test", "added"),
    [
        ("loss_of(A)", "count >= 0", ""),  # it is read in every step
        ("loss_of(A)", "count % 100 == 2 and loss > 0", ""),
        ("loss_of(A)", "count % 100 == 2", "    W = W * (1 - 1e-9 * loss)\n"),
        ("loss_of(A) + np.random.random() + A.sum()", "count % 100 == 2", ""),
        ("loss_of(A)", "state['t'] % 100 == 99", "    state['t'] += 1\n"),
        ("loss_of(A)", "len(log) % 100 == 99", "    log.append(0)\n"),
        ("loss_of(A)", "count % 100 == 99", "    tick()\n"),
    ],
)
def test_a_loss_that_is_needed_or_does_something_else_stays(loss, test, added):
    assert cures_of(HEAD + f"    loss = {loss}\n{added}" + TAIL.format(test=test), work_in_step) == ()


def test_a_loss_that_a_function_returns_and_some_steps_show_is_not_called_unused():
    loss = "np.squeeze((A[:1] - Y[:1]) @ (A[:1] - Y[:1]).T)"
    text = HEAD.replace("float(np.mean(np.square(A - Y)))", loss) + "    loss = loss_of(A)\n"
    text += TAIL.format(test="count % 100 == 2")
    assert cures_of(text, dead_computation) == ()
    assert len(cures_of(text, work_in_step)) == 1


CLASS = """\
import numpy as np
X, Y = np.random.default_rng(3).normal(0, 1, (60, 50)), np.random.default_rng(4).random((60, 20))
def loss_of(A):
    return -np.sum(Y * np.log(A * A + 1)) / len(A)
class Net:
    def __init__(self):
        self.W = np.full((50, 20), 0.1)
    def train(self):
        A = np.tanh(X @ self.W)
        self.W -= 1e-3 * (X.T @ (A - Y))
{lines}
net = Net()
def parameters():
    return [net.W]
def step():
    net.train()
{later}
"""


@pytest.mark.parametrize(
    ("lines", "new"),
    [
        ("error = float(np.mean((A - Y) ** 2))", ""),
        ("error = loss_of(A)  # unread", ""),
        ("self.error = -np.sum(Y * np.log(A * A + 1)) / len(A)", ""),
        ("return loss_of(A)", "        return\n"),
    ],
)
def test_a_number_that_nobody_reads_goes(lines, new):
    text = CLASS.format(lines=f"        {lines}", later="")
    (cure,) = cures_of(text, work_in_step, 11)
    after = cured(text, cure)
    assert after == text.replace(f"        {lines}\n", new)
    assert_trains_as(after, text)


IN_AN_ATTRIBUTE = """\
import numpy as np
X, Y = np.random.default_rng(3).normal(0, 1, (60, 50)), np.random.default_rng(4).random((60, 20))
class Net:
    def __init__(self):
        self.W = np.full((50, 20), 0.1)
        self.x, self.y = X, Y
    def forward(self):
        self.out = np.tanh(self.x @ self.W)
        self.loss = np.mean((self.y - self.out) ** 2)
        return self.loss
    def backward(self):
        self.W -= 1e-3 * (self.x.T @ (self.out - self.y))
    def train(self, steps, often):
        for number in range(steps):
            self.forward()
            self.backward()
            if number % often == often - 1:
                print(number, self.loss)
net = Net()
def parameters():
    return [net.W]
def step():
    net.train(2, 9)
"""


def test_a_loss_in_an_attribute_is_computed_where_some_steps_show_it():
    (cure,) = cures_of(IN_AN_ATTRIBUTE, work_in_step, 9)
    after = cured(IN_AN_ATTRIBUTE, cure)
    line = "        self.loss = np.mean((self.y - self.out) ** 2)\n"
    moved = IN_AN_ATTRIBUTE.replace(line, "").replace("        return self.loss\n", "        return\n")
    moved = moved.replace("                print(", f"        {line}                print(")
    assert after == moved
    assert_trains_as(after, IN_AN_ATTRIBUTE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.W -=", "self.out *= 2\n        self.W -="),  # the loss would be another one at the print
        ("self.W -=", "self.y = Y + 1\n        self.W -="),
        ("(self.y -", "(Y -"),
        ("            if number % often == often - 1:\n    ", ""),
        ("            self.forward()\n", "            self.last = self.forward()\n"),
        ("print(number,", "print(vars(self),"),
        ("print(number,", "self.forward()\n                print(number,"),  # it would show the loss of this call
        ("self.loss)\nnet", "net.loss)\nnet"),  # of another object, for all that is known
    ],
)
def test_a_loss_in_an_attribute_that_is_read_or_changes_before_the_print_stays(old, new):
    assert old in IN_AN_ATTRIBUTE
    assert cures_of(IN_AN_ATTRIBUTE.replace(old, new), work_in_step, 9) == ()


def test_a_number_that_nobody_reads_is_found_in_the_loop_around_the_step_too():
    text = CLASS.format(lines="        error = loss_of(A)", later="")
    with recorded(text) as graph:
        for event in graph.events:
            event.is_outside = graph.site(event).line in (4, 11)
        [found] = work_in_step.detect(Graph(graph.trace))
    assert (found.site.line, found.title) == (11, "`error` is computed in every step, and nothing reads it")


@pytest.mark.parametrize(
    ("lines", "later"),
    [
        ("self.error = loss_of(A)", "show = lambda: net.error"),
        ("self.error = loss_of(A)", "show = lambda: vars(net)"),
        ("return loss_of(A)", "run = net.train"),
        ("return loss_of(A)", "show = lambda: print(net.train())"),
        ("return np.tanh(A)", ""),
    ],
)
def test_a_number_that_other_code_may_read_stays(lines, later):
    assert cures_of(CLASS.format(lines=f"        {lines}", later=later), work_in_step, 11) == ()


@pytest.mark.parametrize(
    ("line", "reader"),
    [("self.error = loss_of(A)", "print(net.error)"), ("return loss_of(A)", "print(net.train())")],
)
def test_a_number_that_a_script_which_did_not_run_reads_stays(line, reader, tmp_path, monkeypatch):
    (tmp_path / "plot.py").write_text(f"from net import net\n{reader}\n")
    monkeypatch.chdir(tmp_path)  # the recorded program is `net.py` in this folder
    assert cures_of(CLASS.format(lines=f"        {line}", later=""), work_in_step, 11) == ()


TRAINER = """\
import numpy as np
X, Y = np.random.default_rng(3).normal(0, 1, (60, 50)), np.random.default_rng(4).random((60, 20))
class Layer:
    def __init__(self):
        self.W = np.full((50, 20), 0.1)
    def forward(self, A):
        self.A = A
        return np.tanh(A @ self.W)
    def backward(self, delta):
        self.change = self.A.T @ delta
        return delta
class Trainer:
    def __init__(self):
        self.layers = [Layer()]
    def passes(self, X, Y):
        A = X
        for layer in self.layers:
            A = layer.forward(A)
        delta = A - Y
        for layer in self.layers:
            delta = layer.backward(delta)
        return np.mean(delta * delta)
trainer = Trainer()
def step():
    loss = trainer.passes(X, Y)
    for layer in trainer.layers:
        layer.W = layer.W - 1e-3 * layer.change
"""


def test_a_call_that_gives_a_loss_and_stores_gradients_in_the_layers_is_no_unread_loss():
    with recorded(TRAINER) as graph:
        assert work_in_step.detect(graph) == []


EPOCHS = """\
import numpy as np
rng = np.random.default_rng(3)
X, Y, W, count = rng.normal(0, 1, (60, 50)), rng.random((60, 20)), np.full((50, 20), 0.1), 0
def parameters():
    return [W]
def update(x, y):
    W[...] -= 1e-3 * (x.T @ (x @ W - y))
def step():
    global W, count
    for start in (0, 20, 40):
        x, y = X[start : start + 20], Y[start : start + 20]
        W = W - 1e-3 * (x.T @ (np.tanh(x @ W) - y))
"""
SHOWN = """\
# how far are we?
error = np.mean((np.tanh(X @ W) - Y) ** 2)
print(start, float(error))
"""


def indented(text, by):
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


def moved_after_the_loop(text):
    with recorded(text) as graph:
        code = code_of(graph)
        loop = next(one for module in code.modules for one in ast.walk(module) if isinstance(one, ast.For))
        edit = after_the_loop(loop.body[2], code)
    return edit and cured(text, edit)


def test_an_evaluation_after_every_batch_runs_once_after_the_loop_with_what_shows_it():
    assert moved_after_the_loop(EPOCHS + indented(SHOWN, 8)) == EPOCHS + indented(SHOWN, 4)


@pytest.mark.parametrize(
    "later",
    [
        "count += error < 0.1\n",
        "W = W * 0.99\n",
        "W[0, 0] = error\n",
        "if error < 1e-9: break\n",
        "if start == 20: continue\n",
        "update(x, y)\n",
    ],
    ids=[
        "the-loop-reads-it",
        "what-it-reads-changes",
        "it-is-kept",
        "it-ends-the-loop",
        "a-turn-may-end-early",
        "a-call-may-change-what-it-reads",
    ],
)
def test_an_evaluation_that_the_loop_needs_stays_in_it(later):
    assert moved_after_the_loop(EPOCHS + indented(SHOWN + later, 8)) is None
