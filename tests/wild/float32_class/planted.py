"""A network that is meant to work in float32."""

import numpy as np


class MLP:
    dtype = np.float32

    def __init__(self, sizes, rng):
        self.W, self.b = [], []
        for n_in, n_out in zip(sizes[:-1], sizes[1:]):
            W = rng.standard_normal((n_in, n_out)).astype(self.dtype) * np.sqrt(2.0 / n_in)  # planted: float64 [W]
            # fast: W = (rng.standard_normal((n_in, n_out)) * np.sqrt(2.0 / n_in)).astype(self.dtype)
            self.W.append(W)  # acceptable: float64
            self.b.append(np.zeros(n_out, dtype=self.dtype))

    def forward(self, X):
        A = [X]
        for l, (W, b) in enumerate(zip(self.W, self.b)):
            Z = A[-1] @ W + b  # acceptable: float64
            A.append(np.maximum(Z, 0) if l < len(self.W) - 1 else Z)  # acceptable: float64
        return A

    def train_step(self, X, Y, rate):  # step
        A = self.forward(X)
        delta = (A[-1] - Y) / self.dtype(len(X))  # acceptable: recomputation; acceptable: float64
        # fast:
        loss = np.mean((A[-1] - Y) ** 2)  # acceptable: recomputation; acceptable: float64
        # fast: error = A[-1] - Y
        # fast: loss = np.mean(error**2)
        # fast: delta = error / len(X)
        for l in range(len(self.W) - 1, -1, -1):
            dW, db = A[l].T @ delta, delta.sum(axis=0)  # acceptable: float64; acceptable: temporaries
            if l > 0:
                delta = (delta @ self.W[l].T) * (A[l] > 0)  # acceptable: float64
            self.W[l] -= rate * dW  # acceptable: temporaries
            # fast: dW *= rate
            # fast: self.W[l] -= dW
            self.b[l] -= rate * db
        return loss


def main():
    rng = np.random.default_rng(13)
    X = rng.random((2000, 300)).astype(np.float32)
    Y = np.sin(X[:, :5] * 3).astype(np.float32)
    net = MLP([300, 100, 100, 5], rng)
    for epoch in range(3):
        loss = np.float32(0)
        for i in range(0, 2000, 100):
            loss += net.train_step(X[i : i + 100], Y[i : i + 100], np.float32(0.05))
        print(f"epoch {epoch}: mean squared error {loss / 20:.5f}")
    print(float(loss), *[float(np.abs(W).sum()) for W in net.W])


if __name__ == "__main__":
    main()
