"""A network of ReLU layers with a softmax on top."""

import numpy as np

from .functions import relu, softmax


class Network:
    def __init__(self, sizes, rng):
        self.weights = [rng.standard_normal((m, n)) / np.sqrt(m) for m, n in zip(sizes, sizes[1:])]
        self.biases = [np.zeros(n) for n in sizes[1:]]

    def forward(self, x):
        self.activations = [x]
        for W, b in zip(self.weights[:-1], self.biases[:-1]):
            self.activations.append(relu(self.activations[-1] @ W + b))
        self.activations.append(softmax(self.activations[-1] @ self.weights[-1] + self.biases[-1]))

    def backward(self, y):
        delta = (self.activations[-1] - y) / len(y)
        self.gradients = []
        for l in reversed(range(len(self.weights))):
            self.gradients.insert(0, (self.activations[l].T @ delta, delta.sum(axis=0)))
            delta = (delta @ self.weights[l].T) * (self.activations[l] > 0)  # planted: dead-computation
            # fast: if l > 0:
            # fast:     delta = (delta @ self.weights[l].T) * (self.activations[l] > 0)
