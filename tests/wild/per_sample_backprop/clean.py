"""Stochastic gradient descent with all samples of a mini batch in one matrix."""

import random

import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


class Network:
    def __init__(self, sizes):
        rng = np.random.default_rng(4)
        self.num_layers = len(sizes)
        self.biases = [rng.standard_normal((y, 1)).astype(np.float32) for y in sizes[1:]]
        self.weights = [
            (rng.standard_normal((y, x)) / x**0.5).astype(np.float32) for x, y in zip(sizes[:-1], sizes[1:])
        ]

    def sgd(self, training_data, epochs, mini_batch_size, eta):
        n = len(training_data)
        for j in range(epochs):
            random.shuffle(training_data)
            x = np.array([pair[0] for pair in training_data])
            y = np.array([pair[1] for pair in training_data])
            for k in range(0, n, mini_batch_size):
                self.update_mini_batch(x[k : k + mini_batch_size].T, y[k : k + mini_batch_size].T, eta)
            print(f"Epoch {j} complete")

    def update_mini_batch(self, x, y, eta):  # step
        nabla_b, nabla_w = self.backprop(x, y)
        for w, b, nw, nb in zip(self.weights, self.biases, nabla_w, nabla_b):
            w -= eta / x.shape[1] * nw
            b -= eta / x.shape[1] * nb

    def backprop(self, x, y):
        nabla_b, nabla_w = [None] * (self.num_layers - 1), [None] * (self.num_layers - 1)
        activations = [x]
        for b, w in zip(self.biases, self.weights):
            activations.append(sigmoid(np.dot(w, activations[-1]) + b))
        delta = (activations[-1] - y) * activations[-1] * (1 - activations[-1])
        nabla_b[-1] = delta.sum(axis=1, keepdims=True)
        nabla_w[-1] = np.dot(delta, activations[-2].T)
        for l in range(2, self.num_layers):
            a = activations[-l]
            delta = np.dot(self.weights[-l + 1].T, delta) * a * (1 - a)
            nabla_b[-l] = delta.sum(axis=1, keepdims=True)
            nabla_w[-l] = np.dot(delta, activations[-l - 1].T)
        return nabla_b, nabla_w


if __name__ == "__main__":
    random.seed(1)
    rng = np.random.default_rng(8)
    digits = rng.integers(0, 10, 800)
    pixels = (rng.random((10, 400))[digits] * 0.5 + rng.random((800, 400)) * 0.5).astype(np.float32)
    targets = np.eye(10, dtype=np.float32)[digits]
    data = list(zip(pixels, targets))
    net = Network([400, 30, 10])
    net.sgd(data, epochs=1, mini_batch_size=20, eta=1.5)
    print(*[float(np.abs(w).sum()) for w in net.weights], *[float(np.abs(b).sum()) for b in net.biases])
