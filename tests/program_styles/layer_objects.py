"""Layers as objects in a list, each with forward and backward."""

import sys
import zlib

import numpy as np


class Linear:
    def __init__(self, n_in, n_out, rng):
        self.W, self.b = rng.standard_normal((n_in, n_out)) / np.sqrt(n_in), np.zeros(n_out)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, grad, rate):
        below = grad @ self.W.T  # acceptable: dead-computation
        self.W -= rate * (self.x.T @ grad)
        self.b -= rate * grad.sum(axis=0)
        return below


class Sigmoid:
    def evaluate(self, x):
        e = np.exp(-abs(x))
        return np.where(x >= 0, 1 / (1 + e), e / (1 + e))

    def forward(self, x):
        self.x = x
        return self.evaluate(x)
        # fast: self.a = self.evaluate(x)
        # fast: return self.a

    def backward(self, grad, rate):
        return grad * self.evaluate(self.x) * (1 - self.evaluate(self.x))  # planted: recomputation
        # fast: return grad * self.a * (1 - self.a)


class Network:
    def __init__(self, layers):
        self.layers = layers

    def train_on(self, x, y, rate):  # step
        out = x
        for layer in self.layers:
            out = layer.forward(out)
        grad = 2 * (out - y) / len(x)
        for layer in reversed(self.layers):
            grad = layer.backward(grad, rate)


if __name__ == "__main__":
    rng = np.random.default_rng(8)
    X = rng.standard_normal((1200, 16))
    Y = 1 / (1 + np.exp(-X[:, :3]))
    network = Network([Linear(16, 60, rng), Sigmoid(), Linear(60, 3, rng), Sigmoid()])
    for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):
        start = 200 * (step % 6)
        network.train_on(X[start : start + 200], Y[start : start + 200], 0.1)
    parameters = [p for layer in network.layers[::2] for p in (layer.W, layer.b)]
    print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
