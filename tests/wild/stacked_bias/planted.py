"""Biases as one more row of each weight matrix: a column of ones is put beside the inputs of every layer."""

import numpy as np


class BiasedNet:
    def __init__(self, sizes, rng):
        self.weights = [
            np.vstack([np.zeros((1, n_out)), rng.normal(0, n_in**-0.5, (n_in, n_out))]).astype(np.float32)
            for n_in, n_out in zip(sizes[:-1], sizes[1:])
        ]

    def with_bias(self, a):
        return np.hstack([np.ones((a.shape[0], 1), dtype=a.dtype), a])  # planted: bias-stacking [stack]

    # fast:

    def forward(self, x):
        self.outputs = [x]
        for w in self.weights:
            z = self.with_bias(self.outputs[-1]) @ w  # planted: bias-stacking [stack]
            # fast:
            self.outputs.append(np.tanh(z))
            # fast: self.outputs.append(np.tanh(self.outputs[-1] @ w[1:] + w[0]))
        return self.outputs[-1]

    def backward(self, target):
        delta = (self.outputs[-1] - target) * (1 - self.outputs[-1] ** 2) / len(target)
        gradients = [None] * len(self.weights)
        for l in range(len(self.weights) - 1, -1, -1):
            biased = np.c_[
                np.ones((len(delta), 1), dtype=np.float32), self.outputs[l]
            ]  # planted: bias-stacking; acceptable: recomputation
            # fast:
            gradients[l] = biased.T @ delta
            # fast: gradients[l] = (delta.sum(axis=0), self.outputs[l].T @ delta)
            if l > 0:
                delta = (delta @ self.weights[l].T)[:, 1:] * (
                    1 - self.outputs[l] ** 2
                )  # acceptable: layout; acceptable: dead-computation
                # fast: delta = (delta @ self.weights[l][1:].T) * (1 - self.outputs[l] ** 2)
        return gradients


def train_epoch(net, x, t, batch_size, rate):
    for start in range(0, len(x), batch_size):
        train_batch(net, x[start : start + batch_size], t[start : start + batch_size], rate)


def train_batch(net, x, t, rate):  # step
    net.forward(x)
    for w, g in zip(net.weights, net.backward(t)):
        w -= rate * g
    # fast: for w, (bias_gradient, gradient) in zip(net.weights, net.backward(t)):
    # fast:     w[0] -= rate * bias_gradient
    # fast:     w[1:] -= rate * gradient


def main():
    rng = np.random.default_rng(23)
    x = rng.uniform(-1, 1, (5000, 400)).astype(np.float32)
    t = np.tanh(x[:, :6] - x[:, 6:12])
    net = BiasedNet([400, 24, 6], rng)
    for epoch in range(3):
        train_epoch(net, x, t, 200, np.float32(0.3))
    error = float(np.mean((net.forward(x) - t) ** 2))
    print("mean squared error", error)
    print(error, *[float(np.abs(w).sum()) for w in net.weights])


main()
