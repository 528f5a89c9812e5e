"""The state of the training is a frozen dataclass; every step makes a new one."""

import sys
import zlib
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class State:
    W1: np.ndarray
    W2: np.ndarray
    momentum: tuple
    steps: int = 0


@np.vectorize
def relu(z):
    return z if z > 0 else 0.0


def advance(state, x, y, rate=0.05):
    z = x @ state.W1
    a = relu(z)  # planted: slow-primitive
    # fast: a = np.maximum(z, 0.0)
    delta = (a @ state.W2 - y) / len(x)
    v1, v2 = state.momentum
    v1 = 0.9 * v1 + x.T @ ((delta @ state.W2.T) * (z > 0))
    v2 = 0.9 * v2 + a.T @ delta
    return replace(state, W1=state.W1 - rate * v1, W2=state.W2 - rate * v2, momentum=(v1, v2), steps=state.steps + 1)


if __name__ == "__main__":
    rng = np.random.default_rng(11)
    X = rng.standard_normal((500, 20))
    Y = X[:, :2] * X[:, 2:4]
    state = State(rng.standard_normal((20, 24)) / 5, rng.standard_normal((24, 2)) / 5, (0.0, 0.0))
    n_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    while state.steps < n_steps:  # step
        start = 100 * (state.steps % 5)
        state = advance(state, X[start : start + 100], Y[start : start + 100])
    parameters = [state.W1, state.W2]
    print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
