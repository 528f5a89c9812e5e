"""Batches come from a generator; every epoch has another order."""

import sys
import zlib

import numpy as np


def batches(X, Y, size, rng):
    while True:
        order = rng.permutation(len(X))
        for start in range(0, len(X), size):
            yield X[order][start : start + size], Y[order][start : start + size]  # planted: gather
            # fast: rows = order[start : start + size]
            # fast: yield X[rows], Y[rows]


def train(parameters, source, steps, rate):
    W1, b1, W2, b2 = parameters
    for _, (x, y) in zip(range(steps), source):  # step
        h = np.tanh(x @ W1 + b1)
        d2 = (h @ W2 + b2 - y) / len(x)
        d1 = (d2 @ W2.T) * (1 - h**2)
        W1 -= rate * (x.T @ d1)
        b1 -= rate * d1.sum(axis=0)
        W2 -= rate * (h.T @ d2)
        b2 -= rate * d2.sum(axis=0)


rng = np.random.default_rng(10)
X = rng.standard_normal((6000, 40))
Y = np.tanh(X[:, :3])
parameters = [rng.standard_normal((40, 30)) / 6, np.zeros(30), rng.standard_normal((30, 3)) / 5, np.zeros(3)]
train(parameters, batches(X, Y, 100, rng), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, 0.1)
print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
