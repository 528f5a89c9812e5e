"""The whole training stands in `if __name__ == "__main__":`; a backward pass adds outer products, one a sample."""

import sys
import zlib

import numpy as np


def forward(parameters, X):
    activations = [X]
    for W, b in parameters:
        activations.append(np.tanh(activations[-1] @ W + b))
    return activations


if __name__ == "__main__":
    rng = np.random.default_rng(13)
    X = rng.standard_normal((480, 20))
    Y = np.tanh(X[:, 3:6])
    sizes = [20, 12, 5, 3]
    parameters = [(rng.standard_normal((m, n)) / np.sqrt(m), np.zeros(n)) for m, n in zip(sizes, sizes[1:])]
    for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):  # step
        rows = slice(48 * (step % 10), 48 * (step % 10) + 48)
        A = forward(parameters, X[rows])
        delta = (A[-1] - Y[rows]) * (1 - A[-1] ** 2) / 48
        for l in reversed(range(len(parameters))):
            W, b = parameters[l]
            dW, db = sum(np.outer(a, d) for a, d in zip(A[l], delta)), delta.sum(axis=0)  # planted: sample-loop
            # fast: dW, db = A[l].T @ delta, delta.sum(axis=0)
            if l > 0:
                delta = (delta @ W.T) * (1 - A[l] ** 2)
            W -= 0.1 * dW
            b -= 0.1 * db
    flat = [p for layer in parameters for p in layer]
    print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in flat))
