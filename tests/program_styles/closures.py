"""Closures hold the parameters; no name of the module refers to them."""

import sys
import zlib

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))


def dense(n_in, n_out, rng):
    W, b = rng.standard_normal((n_in, n_out)) / np.sqrt(n_in), np.zeros(n_out)

    def forward(x):
        z = x @ W + b
        return sigmoid(z), backward_from(x, z)
        # fast: a = sigmoid(z)
        # fast: return a, backward_from(x, a)

    def backward_from(x, kept):
        def backward(delta, rate):
            nonlocal W, b
            delta = delta * sigmoid(kept) * (1 - sigmoid(kept))  # planted: recomputation
            # fast: delta = delta * kept * (1 - kept)
            below = delta @ W.T  # acceptable: dead-computation
            W = W - rate * (x.T @ delta)
            b = b - rate * delta.sum(axis=0)
            return below

        return backward

    return forward, lambda: (W, b)


def make_trainer(sizes, rng):
    layers = [dense(m, n, rng) for m, n in zip(sizes, sizes[1:])]

    def train(x, y, rate):  # step
        ways_back = []
        for forward, _ in layers:
            x, back = forward(x)
            ways_back.append(back)
        delta = (x - y) / len(y)
        for back in reversed(ways_back):
            delta = back(delta, rate)

    return train, lambda: [p for _, parameters in layers for p in parameters()]


rng = np.random.default_rng(12)
X = rng.standard_normal((1200, 20))
Y = (X[:, :3] > X[:, 3:6]).astype(float)
train, state = make_trainer([20, 50, 20, 3], rng)
for i in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):
    train(X[200 * (i % 6) :][:200], Y[200 * (i % 6) :][:200], 1.0)
print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in state()))
