"""A first neural network in NumPy, as a beginner may write it. README.md shows what `mlpprof advise` finds in it."""

import sys

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def sigmoid_derivative(z):
    return sigmoid(z) * (1 - sigmoid(z))


class Network:
    def __init__(self, sizes, rng):
        self.W = [rng.normal(0, 1 / np.sqrt(n), (m, n + 1)) for n, m in zip(sizes, sizes[1:])]

    def forward(self, X):
        self.A, self.Z = [X], []
        for W in self.W:
            with_ones = np.vstack((np.ones(X.shape[1]), self.A[-1]))  # the first column of W holds the biases
            self.Z.append(W @ with_ones)
            self.A.append(sigmoid(self.Z[-1]))
        return self.A[-1]

    def step(self, X, Y, rate):
        delta = (self.forward(X) - Y) / X.shape[1]
        for l in reversed(range(len(self.W))):
            with_ones = np.vstack((np.ones(X.shape[1]), self.A[l]))
            gradient = delta @ with_ones.T
            if l > 0:
                delta = (self.W[l][:, 1:].T @ delta) * sigmoid_derivative(self.Z[l - 1])
            self.W[l] -= rate * gradient


# Three spirals in the plane, 1,000 points each: which spiral does a point belong to?
rng = np.random.default_rng(0)
radius = rng.uniform(0.05, 1, 3000)
spiral = np.arange(3000) % 3
angle = 2 * np.pi * (radius + spiral / 3)
X = radius * np.array([np.cos(angle), np.sin(angle)])
Y = np.eye(3)[spiral].T

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
network = Network([2, 100, 100, 3], rng)
for step in range(steps):
    network.step(X, Y, rate=2.0)
    if step % 100 == 0:
        print("step", step, "correct:", np.mean(network.A[-1].argmax(axis=0) == spiral))
