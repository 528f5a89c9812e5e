"""Gradients summed over four parts of a batch before one update: a loop over parts, each of them a matrix already."""

import numpy as np


class Accumulator:
    def __init__(self, parameters):
        self.parameters = parameters
        self.sums = [np.zeros_like(p) for p in parameters]

    def add(self, gradients):
        for total, g in zip(self.sums, gradients):
            total += g

    def apply(self, rate):
        for p, total in zip(self.parameters, self.sums):
            total *= rate
            p -= total
            total.fill(0)


def forward_backward(parameters, x, onehot):
    W1, b1, W2, b2 = parameters
    a1 = 1 / (1 + np.exp(-(x @ W1 + b1)))
    scores = a1 @ W2 + b2
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores)
    p /= p.sum(axis=1, keepdims=True)
    loss = -float(np.log((p * onehot).sum(axis=1)).sum())
    p -= onehot
    d1 = (p @ W2.T) * a1 * (1 - a1)
    return (x.T @ d1, d1.sum(axis=0), a1.T @ p, p.sum(axis=0)), loss


def update(accumulator, X, onehot, rows, n_parts, rate):  # step
    loss = 0.0
    for part in np.array_split(rows, n_parts):
        gradients, part_loss = forward_backward(accumulator.parameters, X[part], onehot[part])
        accumulator.add(gradients)
        loss += part_loss
    accumulator.apply(rate / len(rows))
    return loss / len(rows)


if __name__ == "__main__":
    rng = np.random.default_rng(260)
    labels = rng.integers(0, 6, 5120)
    X = (rng.standard_normal((6, 180))[labels] + 2 * rng.standard_normal((5120, 180))).astype(np.float32)
    onehot = np.eye(6, dtype=np.float32)[labels]
    parameters = [rng.standard_normal((180, 56)) / 14, np.zeros(56), rng.standard_normal((56, 6)) / 8, np.zeros(6)]
    accumulator = Accumulator([p.astype(np.float32) for p in parameters])
    for epoch in range(4):
        order = rng.permutation(5120)
        for k in range(0, 5120, 1280):
            loss = update(accumulator, X, onehot, order[k : k + 1280], 4, 0.5)
    print("loss", loss)
    print(loss, *[float(np.abs(p).sum()) for p in accumulator.parameters])
