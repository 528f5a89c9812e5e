"""A network that takes the rows of its batch from the set wherever it needs them."""

import numpy as np


class RowNet:
    def __init__(self, n_in, n_hidden, rng):
        self.W1 = (rng.standard_normal((n_in, n_hidden)) / n_in**0.5).astype(np.float32)
        self.W2 = (rng.standard_normal((n_hidden, 1)) / n_hidden**0.5).astype(np.float32)

    def train_on(self, X, y, rows, rate):  # step
        H = np.tanh(X[rows] @ self.W1)  # acceptable: temporaries
        # fast: batch = X[rows]
        # fast: H = np.tanh(batch @ self.W1)
        error = (H @ self.W2 - y[rows]) / np.float32(len(rows))
        dH = (error @ self.W2.T) * (1 - H * H)
        self.W2 -= rate * (H.T @ error)
        self.W1 -= rate * (X[rows].T @ dH)  # planted: gather; acceptable: temporaries
        # fast: self.W1 -= rate * (batch.T @ dH)


if __name__ == "__main__":
    rng = np.random.default_rng(21)
    X = rng.random((4000, 500), dtype=np.float32)
    y = X[:, :1] * 2 - X[:, 1:2]
    net = RowNet(500, 16, rng)
    for epoch in range(2):
        order = rng.permutation(4000)
        for start in range(0, 4000, 200):
            net.train_on(X, y, order[start : start + 200], np.float32(0.1))
    print(float(np.tanh(X @ net.W1).mean()), float(np.abs(net.W1).sum()), float(np.abs(net.W2).sum()))
