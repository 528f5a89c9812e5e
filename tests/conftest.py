"""What several test modules share: hypothesis settings, the data, and variants with a planted defect."""

from __future__ import annotations

import builtins
import compileall
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from mlpprof.catalog import ladder, load
from mlpprof.data.source import DataSource
from mlpprof.data.source import load as load_data
from mlpprof.machine.linux import cpu_quota
from mlpprof.model import Variant

# The same examples on every machine: a red build means a defect, not a lucky draw. Deadlines would be absolute times.
settings.register_profile("mlpprof", derandomize=True, deadline=None, database=None, max_examples=25)
settings.load_profile("mlpprof")


ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
CACHE = pytest.StashKey[str]()
CACHE_VARIABLES = {"XDG_CACHE_HOME": "", "NUMBA_CACHE_DIR": "numba"}


def pytest_configure(config: pytest.Config) -> None:
    """What tests measure and compile stays out of the user's cache, and what the user keeps there out of the tests.

    The workers of xdist inherit the folder, so that each piece is measured and compiled once. Where Python keeps no
    compiled modules (PYTHONDONTWRITEBYTECODE), every process that a test starts would compile the package again.
    """
    if not hasattr(config, "workerinput"):
        if sys.dont_write_bytecode:
            compileall.compile_dir(ROOT / "mlpprof", quiet=1)
        config.stash[CACHE] = tempfile.mkdtemp(prefix="mlpprof-tests-")
        os.environ.update({name: str(Path(config.stash[CACHE], part)) for name, part in CACHE_VARIABLES.items()})


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[CACHE], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Workers of `pytest -n auto`: no more than a container's quota lets run, which xdist does not ask for."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cpus, int(cpu_quota() or cpus)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real time and of variants that numba has to compile first count as slow; those of real time come first.

    Every worker of xdist begins with consecutive tests (`--dist worksteal`), so that one worker gets all tests of real
    time, and no two of them disturb each other.
    """
    compiled = {name for name, entry in ladder().items() if entry.extra == "compiled"}
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if item.get_closest_marker("timing") or any(isinstance(p, str) and p in compiled for p in parameters):
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("timing") is None)


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> None:
    """Take what exists by now out of garbage collection.

    A collection precedes every timed block. It would go through all that pytest has collected and that the tests before
    have kept, such as the syntax trees of the whole package, and would take longer than the block.
    """
    gc.collect()
    gc.freeze()


PLAIN = '''"""My own MLP."""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of


class MLP:
    DTYPE = np.float64

    def __init__(self, network, parameters):
        self.network = network
        self.L = network.depth
        self.W = [None] + [W.copy() for W, _ in parameters]
        self.b = [None] + [b.copy() for _, b in parameters]
        self.v = [None] + [(np.zeros_like(W), np.zeros_like(b)) for W, b in parameters]
        self.f = [ACTIVATIONS[network.hidden]] * self.L + [ACTIVATIONS[network.output]]

    def fetch_batch(self, X, Y, index):
        self.A = [X[index]]
        self.Y = Y[index]  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            Z = self.A[l - 1] @ self.W[l].T + self.b[l]  # phase: weighted sum
            self.A.append(self.f[l].value(Z.T).T)

    def loss(self):
        return loss_of(self.network)(self.A[-1].T, self.Y.T)

    def backward(self):
        n = self.network
        self.grads = [None] * (self.L + 1)
        delta = (self.A[-1] - self.Y) / len(self.Y)
        if n.delta_needs_derivative:
            delta = delta * self.f[self.L].derivative_from_A(self.A[-1])
        for l in reversed(range(1, self.L + 1)):
            penalty = n.l1 * np.sign(self.W[l]) + n.l2 * self.W[l]
            self.grads[l] = (delta.T @ self.A[l - 1] + penalty, delta.sum(axis=0))
            if l > 1:
                delta = (delta @ self.W[l]) * self.f[l - 1].derivative_from_A(self.A[l - 1])

    def update(self):
        for l in range(1, self.L + 1):
            self.v[l] = tuple(self.network.momentum * v + g for v, g in zip(self.v[l], self.grads[l]))
            self.W[l] -= self.network.rate * self.v[l][0]
            self.b[l] -= self.network.rate * self.v[l][1]

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def parameters(self):
        return [(W.copy(), b.copy()) for W, b in zip(self.W[1:], self.b[1:])]

    def gradients(self):
        return [(dW.copy(), db.copy()) for dW, db in self.grads[1:]]

    def predict(self, X):
        A = X
        for l in range(1, self.L + 1):
            A = self.f[l].value((A @ self.W[l].T + self.b[l]).T).T
        return A
'''
"""A user's file that is right in everything; tests break it in one place each."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with MNIST's four files and the cats; skips where it is absent."""
    if not (SHARED_DATA / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip("../shared/data is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny() -> tuple[np.ndarray, np.ndarray]:
    """The embedded set of 300 patterns: X (300, 20) and one-hot Y (300, 3), float64."""
    return load_data(DataSource("tiny")).arrays(3, np.float64)


@pytest.fixture(scope="session")
def rungs() -> dict[str, type[Variant]]:
    """The classes of the ladder by name; frameworks are loaded by nobody but workers."""
    return {name: load(entry) for name, entry in ladder().items() if entry.extra is None}


@pytest.fixture
def plain() -> str:
    """The text of a user's variant that is right."""
    return PLAIN


@pytest.fixture
def altered() -> Callable[..., type[Variant]]:
    """A function that gives the class of a variant with pieces of its text replaced.

    altered("sliced", ("self.W[l] -= ", "self.W[l] += ")); the name "plain" stands for the user's file above.
    Every piece must stand exactly once in the code (the docstring is cut off), so that a defect cannot silently stay
    out when a variant changes.
    """

    def alter(name: str, *replacements: tuple[str, str]) -> Any:
        text = PLAIN if name == "plain" else ladder()[name].source()
        text = text.split('"""', 2)[2]
        for old, new in replacements:
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
            text = text.replace(old, new)
        module = ModuleType(f"altered_{name}")
        exec(compile(text, f"{name}.py", "exec"), vars(module))
        return module.MLP

    return alter


@pytest.fixture
def fresh_imports() -> Iterator[None]:
    """sys.path and sys.modules as they were, afterwards: loading a user's file changes both."""
    path, modules = sys.path.copy(), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("mlpprof_") or not getattr(sys.modules[name], "__file__", None):
            del sys.modules[name]


class FakeClock:
    """A clock that stands still until it is set to go on, or goes on by `tick` at every reading."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self.tick = tick
        self.readings = 0

    def __call__(self) -> float:
        self.readings += 1
        self.now += self.tick
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def fake_clock() -> type[FakeClock]:
    """For tests that need several clocks."""
    return FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A fake clock at 0 that only `advance` moves."""
    return FakeClock()


@pytest.fixture
def ticking_clock() -> FakeClock:
    """A fake clock that goes on by one millisecond at every reading."""
    return FakeClock(tick=0.001)


@pytest.fixture
def no_hooks_left():
    """The builtins as they were."""
    before = set(vars(builtins))
    yield
    for name in set(vars(builtins)) - before:
        delattr(builtins, name)
