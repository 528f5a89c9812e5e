"""Functions that read and change global arrays."""

import sys
import zlib

import numpy as np

rng = np.random.default_rng(5)
X = rng.standard_normal((640, 20))
T = np.tanh(X[:, :3])
W1 = rng.standard_normal((12, 20)) / 4
W2 = rng.standard_normal((3, 12)) / 3


def gradients(x, t):
    h = np.tanh(W1 @ x)
    error = W2 @ h - t
    return np.outer((W2.T @ error) * (1 - h * h), x), np.outer(error, h)


def update(rows):  # step
    global W1, W2
    dW1, dW2 = np.zeros_like(W1), np.zeros_like(W2)  # acceptable: dead-computation
    for row in rows:  # planted: sample-loop
        one1, one2 = gradients(X[row], T[row])
        dW1 += one1
        dW2 += one2
    # fast: x, t = X[rows.start : rows.stop], T[rows.start : rows.stop]
    # fast: h = np.tanh(x @ W1.T)
    # fast: error = h @ W2.T - t
    # fast: dW1, dW2 = ((error @ W2) * (1 - h * h)).T @ x, error.T @ h
    W1 = W1 - 0.05 / len(rows) * dW1
    W2 = W2 - 0.05 / len(rows) * dW2


for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):
    update(range(64 * (number % 10), 64 * (number % 10) + 64))
parameters = [W1, W2]
print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
