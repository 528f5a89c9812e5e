"""Stochastic gradient descent where each sample of a mini batch is propagated on its own."""

import random

import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))  # acceptable: recomputation


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))  # planted: recomputation [prime]


class Network:
    def __init__(self, sizes):
        rng = np.random.default_rng(4)
        self.num_layers = len(sizes)
        self.biases = [rng.standard_normal((y, 1)) for y in sizes[1:]]  # acceptable: float64 anywhere
        self.weights = [rng.standard_normal((y, x)) / x**0.5 for x, y in zip(sizes[:-1], sizes[1:])]

    def sgd(self, training_data, epochs, mini_batch_size, eta):
        n = len(training_data)
        for j in range(epochs):
            random.shuffle(training_data)
            mini_batches = [training_data[k : k + mini_batch_size] for k in range(0, n, mini_batch_size)]
            for mini_batch in mini_batches:
                self.update_mini_batch(mini_batch, eta)
            print(f"Epoch {j} complete")

    def update_mini_batch(self, mini_batch, eta):  # step
        nabla_b = [np.zeros(b.shape) for b in self.biases]
        nabla_w = [np.zeros(w.shape) for w in self.weights]
        for x, y in mini_batch:  # planted: sample-loop; acceptable: temporaries; acceptable: small-product
            delta_nabla_b, delta_nabla_w = self.backprop(x, y)
            nabla_b = [nb + dnb for nb, dnb in zip(nabla_b, delta_nabla_b)]
            nabla_w = [nw + dnw for nw, dnw in zip(nabla_w, delta_nabla_w)]
        self.weights = [w - eta / len(mini_batch) * nw for w, nw in zip(self.weights, nabla_w)]
        self.biases = [b - eta / len(mini_batch) * nb for b, nb in zip(self.biases, nabla_b)]

    def backprop(self, x, y):
        nabla_b = [np.zeros(b.shape) for b in self.biases]  # acceptable: dead-computation; acceptable: temporaries
        nabla_w = [np.zeros(w.shape) for w in self.weights]  # acceptable: dead-computation; acceptable: temporaries
        activation, activations, zs = x, [x], []
        for b, w in zip(self.biases, self.weights):
            z = np.dot(w, activation) + b  # acceptable: small-product
            zs.append(z)
            activation = sigmoid(z)
            activations.append(activation)
        delta = (activations[-1] - y) * sigmoid_prime(zs[-1])  # planted: recomputation [prime]
        nabla_b[-1] = delta
        nabla_w[-1] = np.dot(delta, activations[-2].T)  # acceptable: small-product
        for l in range(2, self.num_layers):
            delta = np.dot(self.weights[-l + 1].T, delta) * sigmoid_prime(zs[-l])  # planted: recomputation [prime]
            nabla_b[-l] = delta
            nabla_w[-l] = np.dot(delta, activations[-l - 1].T)  # acceptable: small-product; acceptable: sample-loop
        return nabla_b, nabla_w


if __name__ == "__main__":
    random.seed(1)
    rng = np.random.default_rng(8)
    digits = rng.integers(0, 10, 800)
    pixels = rng.random((10, 400))[digits] * 0.5 + rng.random((800, 400)) * 0.5
    data = [(p.reshape(400, 1), np.eye(10)[d].reshape(10, 1)) for p, d in zip(pixels, digits)]
    net = Network([400, 30, 10])
    net.sgd(data, epochs=1, mini_batch_size=20, eta=1.5)
    print(*[float(np.abs(w).sum()) for w in net.weights], *[float(np.abs(b).sum()) for b in net.biases])
