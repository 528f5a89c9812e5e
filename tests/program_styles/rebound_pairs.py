"""A list of (W, b) that every step replaces by a new one."""

import sys
import zlib

import numpy as np


def sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def propagate(params, x):
    activations, sums = [x], []
    for W, b in params:
        sums.append(activations[-1] @ W + b)
        activations.append(sigmoid(sums[-1]))
    return activations, sums


def gradients(params, x, y):
    activations, sums = propagate(params, x)
    delta = (activations[-1] - y) / len(x)
    grads = [(activations[-2].T @ delta, delta.sum(axis=0))]
    for l in range(len(params) - 1, 0, -1):
        delta = (delta @ params[l][0].T) * sigmoid(sums[l - 1]) * (1 - sigmoid(sums[l - 1]))  # planted: recomputation
        # fast: delta = (delta @ params[l][0].T) * activations[l] * (1 - activations[l])
        grads.insert(0, (activations[l - 1].T @ delta, delta.sum(axis=0)))
    return grads


def main(steps):
    rng = np.random.default_rng(14)
    X = rng.random((1500, 20))
    Y = np.eye(5)[(X @ rng.standard_normal((20, 5))).argmax(axis=1)]
    sizes = [20, 50, 30, 5]
    params = [(rng.standard_normal((m, n)) / np.sqrt(m), np.zeros(n)) for m, n in zip(sizes, sizes[1:])]
    for step in range(steps):  # step
        start = 300 * (step % 5)
        grads = gradients(params, X[start : start + 300], Y[start : start + 300])
        params = [(W - 0.5 * dW, b - 0.5 * db) for (W, b), (dW, db) in zip(params, grads)]
    return [p for layer in params for p in layer]


if __name__ == "__main__":
    parameters = main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
