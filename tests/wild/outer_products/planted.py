"""The forward pass takes the batch at once; the gradients are still summed sample by sample."""

import numpy as np


class Regression:
    def __init__(self, sizes, rng):
        self.W = [(rng.standard_normal((b, a)) / a**0.5).astype(np.float32) for a, b in zip(sizes[:-1], sizes[1:])]
        self.b = [np.zeros((b, 1), dtype=np.float32) for b in sizes[1:]]

    def forward(self, X):
        A = [X]
        for W, b in zip(self.W, self.b):
            A.append(np.tanh(W @ A[-1] + b))
        return A

    def train_batch(self, X, Y, rate):  # step
        A = self.forward(X)
        m = X.shape[1]
        delta = (A[-1] - Y) * (1 - A[-1] ** 2)  # acceptable: recomputation
        # fast:
        for l in range(len(self.W) - 1, -1, -1):
            dW = np.zeros_like(self.W[l])
            for i in range(m):  # planted: sample-loop; acceptable: small-product; acceptable: layout
                dW += np.outer(delta[:, i], A[l][:, i])  # acceptable: temporaries
            db = delta.sum(axis=1, keepdims=True)
            if l > 0:
                delta = (self.W[l].T @ delta) * (1 - A[l] ** 2)
            self.W[l] -= rate / m * dW
            self.b[l] -= rate / m * db
        # fast:
        return float(np.mean((A[-1] - Y) ** 2))  # acceptable: recomputation
        # fast: error = A[-1] - Y
        # fast: delta = error * (1 - A[-1] ** 2)
        # fast: for l in range(len(self.W) - 1, -1, -1):
        # fast:     dW = delta @ A[l].T
        # fast:     db = delta.sum(axis=1, keepdims=True)
        # fast:     if l > 0:
        # fast:         delta = (self.W[l].T @ delta) * (1 - A[l] ** 2)
        # fast:     self.W[l] -= rate / m * dW
        # fast:     self.b[l] -= rate / m * db
        # fast: return float(np.mean(error**2))


if __name__ == "__main__":
    rng = np.random.default_rng(70)
    X = np.ascontiguousarray(rng.uniform(-1, 1, (2000, 120)).astype(np.float32).T)
    Y = np.tanh(X[:3] * X[3:6])
    net = Regression([120, 40, 3], rng)
    for epoch in range(2):
        for i in range(0, 2000, 50):
            loss = net.train_batch(np.ascontiguousarray(X[:, i : i + 50]), Y[:, i : i + 50], 0.1)
    print(loss, *[float(np.abs(W).sum()) for W in net.W])
