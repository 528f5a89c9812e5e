"""The training step is found in programs of every style; a program that has none, or fails, is told in one line."""

from __future__ import annotations

import json
import re

import pytest
from step_styles import HEAD, Styles, in_forks, steps_found
from under_instruments import outputs
from wild.truth import HERE, every, truth

from mlpprof.advise import Subject, find
from mlpprof.errors import UsageError, VariantCrash

STYLES: Styles = {
    "functions that return new parameters": (
        """
def forward(W, b, x):
    return np.tanh(x @ W + b)

def step(params, x, y):
    W, b = params
    a = forward(W, b, x)
    d = (a - y) * (1 - a * a) / len(x)
    W = W - 0.1 * x.T @ d
    b = b - 0.1 * d.sum(axis=0)
    return W, b

def main():
    params = rng.standard_normal((6, 2)), np.zeros(2)
    for epoch in range(3):
        for k in range(0, 64, 16):  # THE STEP
            params = step(params, X[k : k + 16], Y[k : k + 16])

main()
""",
        "loop",
    ),
    "parameters in a dictionary": (
        """
params = {"W1": rng.standard_normal((6, 4)), "W2": rng.standard_normal((4, 2))}

def gradients(x, y):
    h = np.tanh(x @ params["W1"])
    d = (h @ params["W2"] - y) / len(x)
    return {"W1": x.T @ (d @ params["W2"].T * (1 - h * h)), "W2": h.T @ d}

def learn(x, y):
    found = gradients(x, y)
    for name in params:
        params[name] -= 0.1 * found[name]

for k in range(20):
    learn(X, Y)
""",
        "learn",
    ),
    **{
        f"an update through {what}": (
            f"""
class Net:
    def __init__(self):
        self.W = [rng.standard_normal((6, 6)) * 0.1, rng.standard_normal((6, 2)) * 0.1]

    def backward(self, x, y):
        h = np.tanh(x @ self.W[0])
        inputs, found = [x, h], [None, None]
        delta = h @ self.W[1] - y
        for l in (1, 0):
            found[l] = inputs[l].T @ delta
            if l > 0:
                delta = (delta @ self.W[l].T) * (1 - h * h)
        return found

    def descend(self, gradients):
{update}

    def train(self):
        for k in range(20):  # THE STEP
            self.descend(self.backward(X, Y))

Net().train()
""",
            "loop",
        )
        for what, update in {
            "a local name": "        for l in (0, 1):\n            W = self.W[l]\n"
            "            W = W - 0.1 * gradients[l]\n"
            "            self.W[l] = W\n",
            "one name of several": "        for l in (0, 1):\n            W, g = self.W[l], gradients[l]\n"
            "            self.W[l] = W - 0.1 * g\n",
            "the items of zip": "        for l, (W, g) in enumerate(zip(self.W, gradients)):\n"
            "            self.W[l] = W - 0.1 * g\n",
            "a list of new values": "        new = []\n        for W, g in zip(self.W, gradients):\n"
            "            new.append(W - 0.1 * g)\n        self.W = new\n",
        }.items()
    },
    "keys that are made of numbers": (
        """
p = {}
for l in (1, 2):
    p["W" + str(l)] = rng.standard_normal((6, 6)) * 0.1
    p[f"b{l}"] = np.zeros(6)

def update(p, g):
    for l in range(1, 3):
        p["W" + str(l)] = p["W" + str(l)] - 0.1 * g["W" + str(l)]
        p[f"b{l}"] = p[f"b{l}"] - 0.1 * g[f"b{l}"]
    return p

def model(p):
    for i in range(12):  # THE STEP
        h = np.tanh(X @ p["W1"] + p["b1"])
        d2 = (h @ p["W2"] + p["b2"] - X) / 64
        d1 = d2 @ p["W2"].T * (1 - h * h)
        p = update(p, {"W2": h.T @ d2, "b2": d2.sum(axis=0), "W1": X.T @ d1, "b1": d1.sum(axis=0)})

model(p)
""",
        "loop",
    ),
    "global names": (
        """
W = rng.standard_normal((6, 2))
b = np.zeros(2)

def train(x, y):
    global W, b
    d = (x @ W + b - y) / len(x)
    W = W - 0.1 * x.T @ d
    b -= 0.1 * d.sum(axis=0)

for i in range(10):
    for k in range(0, 64, 32):
        train(X[k : k + 32], Y[k : k + 32])
""",
        "train",
    ),
    "layers and an optimizer": (
        """
class Parameter:
    def __init__(self, value):
        self.value, self.gradient = value, np.zeros_like(value)

class Linear:
    def __init__(self, n, m):
        self.W, self.b = Parameter(rng.standard_normal((n, m)) * 0.3), Parameter(np.zeros(m))
    def forward(self, x):
        self.x = x
        return x @ self.W.value + self.b.value
    def backward(self, d):
        self.W.gradient += self.x.T @ d
        self.b.gradient += d.sum(axis=0)
        return d @ self.W.value.T

class SGD:
    def __init__(self, parameters):
        self.parameters = parameters
    def step(self):
        for p in self.parameters:
            p.value -= 0.1 * p.gradient
    def zero_grad(self):
        for p in self.parameters:
            p.gradient[...] = 0

class Trainer:
    def __init__(self):
        self.layers = [Linear(6, 5), Linear(5, 2)]
        self.optimizer = SGD([p for layer in self.layers for p in (layer.W, layer.b)])
    def batch(self, x, y):
        for layer in self.layers:
            x = layer.forward(x)
        d = (x - y) / len(y)
        self.optimizer.zero_grad()
        for layer in reversed(self.layers):
            d = layer.backward(d)
        self.optimizer.step()

trainer = Trainer()
for epoch in range(5):
    for k in range(0, 64, 16):
        trainer.batch(X[k : k + 16], Y[k : k + 16])
""",
        "Trainer.batch",
    ),
    "lists of numbers": (
        """
weights = [0.1, -0.2, 0.3, 0.0, 0.1, 0.2]
bias = [0.0]

def learn(x, y):
    error = sum(w * v for w, v in zip(weights, x)) + bias[0] - y
    for i in range(len(weights)):
        weights[i] -= 0.01 * error * x[i]
    bias[0] -= 0.01 * error

rows = X.tolist()
for epoch in range(3):
    for x, y in zip(rows, Y[:, 0].tolist()):
        learn(x, y)
""",
        "learn",
    ),
    "single numbers as attributes": (
        """
class Neuron:
    def __init__(self):
        self.w1, self.w2, self.b = 0.5, -0.5, 0.0
    def train(self, data, answers):
        for epoch in range(6):
            for x, y in zip(data, answers):  # THE STEP
                error = self.w1 * x[0] + self.w2 * x[1] + self.b - y
                self.w1 -= 0.1 * error * x[0]
                self.w2 -= 0.1 * error * x[1]
                self.b -= 0.1 * error

Neuron().train(X.tolist(), Y[:, 0].tolist())
""",
        "loop",
    ),
    "sums of gradients, losses and counts are no parameters": (
        """
class Net:
    def __init__(self):
        self.W, self.b, self.seen = rng.standard_normal((6, 2)), np.zeros(2), 0
    def update(self, batch):
        dW, db = np.zeros(self.W.shape), np.zeros(self.b.shape)
        for x, y in batch:
            error = x @ self.W + self.b - y
            dW = dW + np.outer(x, error)
            db = db + error
            self.seen += 1
        self.W = self.W - 0.1 / len(batch) * dW
        self.b = self.b - 0.1 / len(batch) * db

net, total = Net(), 0.0
for epoch in range(4):
    pairs = list(zip(X, Y))
    for k in range(0, 64, 8):
        net.update(pairs[k : k + 8])
    total += float(np.square(X @ net.W + net.b - Y).sum())
""",
        "Net.update",
    ),
    "momentum, a decaying rate and an average": (
        """
W, v, average, rate = rng.standard_normal((6, 2)), np.zeros((6, 2)), np.zeros((6, 2)), 0.1
for i in range(20):  # THE STEP
    g = X.T @ (X @ W - Y) / 64
    v = 0.9 * v - rate * g
    W += v
    average *= 0.99
    average += 0.01 * W
    rate *= 0.999
""",
        "loop",
    ),
    "a loop with a counter": (
        """
W = rng.standard_normal((6, 2))
left = 12
while left > 0:  # THE STEP
    W -= 0.1 * X.T @ (X @ W - Y) / 64
    left -= 1
""",
        "loop",
    ),
    "written into memory that is there": (
        """
class Fast:
    def __init__(self):
        self.W, self.dW = rng.standard_normal((6, 2)), np.empty((6, 2))
    def turn(self, x, y):
        np.dot(x.T, x @ self.W - y, out=self.dW)
        self.dW *= 0.1 / len(x)
        np.subtract(self.W, self.dW, out=self.W)

fast = Fast()
for i in range(20):
    fast.turn(X, Y)
""",
        "Fast.turn",
    ),
    "an evaluation with products beside the training": (
        """
W = rng.standard_normal((6, 2))

def evaluate():
    return sum(float(np.square(X @ W - Y).mean()) for _ in range(5))

def fit(x, y):
    global W
    W = W - 0.1 * x.T @ (x @ W - y) / len(x)

for epoch in range(4):
    for k in range(0, 64, 16):
        fit(X[k : k + 16], Y[k : k + 16])
    evaluate()
""",
        "fit",
    ),
    "a single step": (
        """
W = rng.standard_normal((6, 2))

def step(W):
    W -= 0.1 * X.T @ (X @ W - Y) / 64

step(W)
""",
        "step",
    ),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return steps_found(STYLES, tmp_path_factory.mktemp("styles"))


@in_forks
@pytest.mark.parametrize("style", STYLES)
def test_the_step_is_found_in_a_program_with(found, style):
    answer, step = found[style]
    assert answer == step


def chunks(names, size):
    return [names[first : first + size] for first in range(0, len(names), size)]


@pytest.mark.slow
@in_forks
@pytest.mark.parametrize("some", chunks(every(4, "planted"), 12), ids=lambda some: some[0].parent.name)
def test_the_step_that_is_found_is_the_one_that_is_marked(some):
    answers = outputs(*({"script": str(script), "mode": "found"} for script in some))
    names = [str(script.relative_to(HERE)) for script in some]
    found = dict(zip(names, (answer.splitlines()[-1] for answer in answers), strict=True))
    assert found == dict(zip(names, (truth(script).step for script in some), strict=True))


TRAINING = (
    HEAD
    + """
W = rng.standard_normal((6, 2))

def step(x, y):
    global W
    W = W - 0.1 * x.T @ (x @ W - y) / len(x)
"""
)


def last_lines(tmp_path, text, *jobs):
    """The last line of what each run of a program under an instrument gives."""
    path = tmp_path / "net.py"
    path.write_text(text)
    return [answer.splitlines()[-1] for answer in outputs(*({"script": str(path), **job} for job in jobs))]


def step_found(tmp_path, text):
    (answer,) = last_lines(tmp_path, text, {"mode": "found"})
    return answer


def last_lines_of(tmp_path, texts, *jobs):
    """The same of several programs, in a list for each."""
    held = []
    for number, text in enumerate(texts):
        path = tmp_path / str(number) / "net.py"
        path.parent.mkdir()
        path.write_text(text)
        held += [{"script": str(path), **job} for job in jobs]
    return chunks([answer.splitlines()[-1] for answer in outputs(*held)], len(jobs))


@in_forks
def test_a_program_that_trains_nothing_gets_an_error_that_says_what_to_do(tmp_path):
    answer = step_found(
        tmp_path, HEAD + "print(sum(float(x @ x) for x in X))\ncount = 0\nfor x in X:\n    count += 1\n"
    )
    assert answer.startswith("ProgramEnded: no training step was found")
    assert "--step Class.method" in answer


@pytest.mark.slow
@in_forks
def test_a_program_that_ends_itself_has_shown_enough(tmp_path):
    ends = ("raise SystemExit", "import sys; sys.exit(3)", "import sys; sys.exit('bye')", "exit()")
    texts = [f"{TRAINING}\nfor i in range(9):\n    step(X, Y)\n{end}\n" for end in ends]
    assert last_lines_of(tmp_path, texts, {"mode": "found"}) == [["net.py:step"]] * len(ends)


@in_forks
def test_what_a_program_asks_of_its_surroundings_is_there(tmp_path):
    (tmp_path / "helper.py").write_text("RATE = 0.1\n")
    (tmp_path / "late.py").write_text("def tidy(x):\n    return x / len(x)\n")
    (tmp_path / "plugin.txt.py").write_text("def gradient(x, d):\n    return x.T @ d\n")
    text = (
        HEAD
        + f"""
import importlib.util, os, sys
from pathlib import Path
from helper import RATE

assert __name__ == "__main__"
assert sys.modules["__main__"].RATE == RATE
assert sys.argv == [{str(tmp_path / "net.py")!r}, "--epochs", "4", "-v"], sys.argv
assert Path(__file__).name == "net.py"
assert Path.cwd() != Path(__file__).parent
spec = importlib.util.spec_from_file_location("plugin", Path(__file__).parent / "plugin.txt.py")
plugin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plugin)
W = rng.standard_normal((6, 2))

def step(x, y):
    global W
    from late import tidy
    W = W - RATE * plugin.gradient(x, tidy(x @ W - y))

for i in range(int(sys.argv[2])):
    step(X, Y)
"""
    )
    jobs = ({"mode": "found"}, {"mode": "recorded", "step": "net.py:step", "few": 4})
    found, recorded = last_lines(tmp_path, text, *({**job, "arguments": ("--epochs", "4", "-v")} for job in jobs))
    assert found == "net.py:step"
    told = json.loads(recorded)
    assert (told["count"], told["observed"], told["file"]) == (4, 2, "net.py")


@in_forks
def test_a_step_in_an_imported_module_is_found_and_named_with_its_file(tmp_path):
    (tmp_path / "network.py").write_text(TRAINING)
    text = "import network\nfor i in range(9):\n    network.step(network.X, network.Y)\n"
    assert step_found(tmp_path, text) == "network.py:step"


@pytest.mark.slow
@in_forks
def test_few_steps_are_recorded_at_once_and_fewer_when_their_number_is_known(tmp_path):
    cases = ((1, 1, 0), (2, 2, 0), (3, 2, 1), (5, 2, 3), (12, 2, 9))
    path, jobs = tmp_path / "net.py", []
    path.write_text(f"import sys\n{TRAINING}\nfor i in range(int(sys.argv[1])):\n    step(X, Y)\n")
    for steps, _, _ in cases:
        job = {"script": str(path), "mode": "recorded", "step": "step", "arguments": (str(steps),)}
        jobs += [{**job, "few": few} for few in (0, steps)]
    answers = [json.loads(answer.splitlines()[-1]) for answer in outputs(*jobs)]
    for (steps, observed, timed), (unknown, known) in zip(cases, chunks(answers, 2), strict=True):
        assert unknown["count"] == steps
        assert unknown.get("observed", 0) == (2 if steps >= 5 else 0)
        assert (known["count"], known["observed"]) == (steps, observed)
        assert known["plain"] + known["clocked"] - 1 >= timed  # one comes from the run before
        assert any("single step" in note for note in known["notes"]) == (steps == 1)


@pytest.mark.slow
@in_forks
def test_a_program_that_swallows_the_end_ends_by_itself_and_has_shown_enough(tmp_path):
    clauses = ("except:", "except BaseException:", "except BaseException as error:")
    loop = "for i in range(400):\n    try:\n        step(X, Y)\n    CLAUSE\n        pass\n"
    texts = [TRAINING + loop.replace("CLAUSE", clause) for clause in clauses]
    jobs = ({"mode": "found"}, {"mode": "recorded", "step": "step", "few": 100})
    for found, recorded in last_lines_of(tmp_path, texts, *jobs):
        assert found == "net.py:step"
        assert json.loads(recorded)["observed"] == 2


@pytest.mark.slow
@in_forks
def test_a_program_that_swallows_the_end_and_would_go_on_for_ever_is_ended(tmp_path):
    text = (
        TRAINING
        + """
def forever():
    while True:
        try:
            step(X, Y)
        except:
            pass

try:
    forever()
finally:
    print("cleaned up")
"""
    )
    path = tmp_path / "net.py"
    path.write_text(text)
    jobs = ({"mode": "found"}, {"mode": "recorded", "step": "step", "few": 60})
    for answer in outputs(*({"script": str(path), **job} for job in jobs)):
        assert answer.startswith("cleaned up\n")
        assert answer.splitlines()[-1] == "net.py:step" or json.loads(answer.splitlines()[-1])["observed"] == 2


@in_forks
def test_exceptions_that_the_program_handles_do_not_end_it(tmp_path):
    text = (
        TRAINING
        + """
def risky(i):
    step(X, Y)
    if i % 3 == 0:
        raise ArithmeticError(i)

for i in range(30):
    try:
        risky(i)
    except ArithmeticError:
        step(X, Y)
"""
    )
    found, recorded = last_lines(tmp_path, text, {"mode": "found"}, {"mode": "recorded", "step": "risky", "few": 30})
    assert found == "net.py:step"
    assert json.loads(recorded)["observed"] == 2


FAILURES = {
    "an exception": (
        f"{TRAINING}\ndef fail(x):\n    return x['missing']\n\nstep(X, Y)\nfail({{}})\n",
        r"VariantCrash: net\.py:14: KeyError: 'missing'",
    ),
    "an exception within NumPy": (f"{TRAINING}\nstep(X, Y)\nX @ X\n", r"VariantCrash: net\.py:14: ValueError: matmul"),
    "a question to the user": ("name = input('name? ')\n", r"VariantCrash: net\.py:1: EOFError: "),
    "a syntax error": ("import numpy\n\ndef f(:\n    pass\n", r"UsageError: .*net\.py:3: SyntaxError: "),
    "a module that is not there": ("import no_such_module\n", r"VariantCrash: net\.py:1: ModuleNotFoundError: "),
}


@pytest.mark.slow
@in_forks
def test_a_program_that_fails_is_reported_with_its_line(tmp_path):
    jobs = ({"mode": "found"}, {"mode": "recorded", "step": "nowhere"})
    answers = last_lines_of(tmp_path, [text for text, _ in FAILURES.values()], *jobs)
    for (_, message), told in zip(FAILURES.values(), answers, strict=True):
        for line in told:
            assert re.match(message, line)


@in_forks
def test_a_step_that_is_not_there_or_never_runs_is_reported(tmp_path):
    messages = {
        "stepp": "no function 'stepp' in net.py; did you mean 'step'?",
        "Net.fit": "no function 'Net.fit' in net.py (functions: step)",
        "3": "no loop in line 3 in net.py",
        "other.py:step": "no function 'step' in net.py",
        "step": "the step 'step' in net.py never ran",
    }
    told = last_lines(tmp_path, TRAINING, *({"mode": "recorded", "step": step} for step in messages))
    for message, line in zip(messages.values(), told, strict=True):
        assert line.startswith(f"UsageError: {message}")


@pytest.mark.slow
def test_a_program_is_looked_at_from_finding_its_step_to_the_findings(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(f"{TRAINING}\nfor i in range(3):\n    step(X, Y)\n")
    advice = find(Subject(path, threads=1))
    assert advice.step == "net.py:step"
    assert advice.step_s > 0
    assert any("shares are estimates" in note for note in advice.notes)


@pytest.mark.slow
def test_failures_of_the_program_come_through_the_worker(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("raise ValueError('a <b>')\n")
    with pytest.raises(VariantCrash, match=r"net\.py:1: ValueError: a <b>"):
        find(path)
    with pytest.raises(UsageError, match=r"there is no file '.*missing\.py'"):
        find(tmp_path / "missing.py")
    with pytest.raises(UsageError, match=r"--step 'net:f' is not a place"):
        find(path, step="net:f")
