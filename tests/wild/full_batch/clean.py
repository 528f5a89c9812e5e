"""Gradient descent on the whole training set at once, in arrays that every iteration uses again."""

import numpy as np


class TwoLayerNet:
    def __init__(self, n_in, n_hidden, n_out, rng, n_samples):
        self.W1 = (rng.standard_normal((n_in, n_hidden)) / n_in**0.5).astype(np.float32)
        self.b1 = np.zeros(n_hidden, dtype=np.float32)
        self.W2 = (rng.standard_normal((n_hidden, n_out)) / n_hidden**0.5).astype(np.float32)
        self.b2 = np.zeros(n_out, dtype=np.float32)
        self.A1 = np.empty((n_samples, n_hidden), dtype=np.float32)
        self.dZ1 = np.empty_like(self.A1)

    def iterate(self, X, Y, rate):  # step
        A1, dZ1 = self.A1, self.dZ1
        np.matmul(X, self.W1, out=A1)
        A1 += self.b1
        np.negative(A1, out=A1)
        np.exp(A1, out=A1)
        A1 += 1
        np.reciprocal(A1, out=A1)
        A2 = A1 @ self.W2
        A2 += self.b2
        A2 -= Y
        A2 /= len(X)
        dW2, db2 = A1.T @ A2, A2.sum(axis=0)
        np.matmul(A2, self.W2.T, out=dZ1)
        dZ1 *= A1
        np.subtract(1, A1, out=A1)
        dZ1 *= A1
        self.W2 -= rate * dW2
        self.b2 -= rate * db2
        self.W1 -= rate * (X.T @ dZ1)
        self.b1 -= rate * dZ1.sum(axis=0)
        return float(np.vdot(A2, A2))


def main():
    rng = np.random.default_rng(60)
    X = rng.standard_normal((6000, 40)).astype(np.float32)
    Y = np.sin(X[:, :2])
    net = TwoLayerNet(40, 128, 2, rng, len(X))
    for i in range(30):
        loss = net.iterate(X, Y, np.float32(0.5))
        if i % 10 == 9:
            print("iteration", i + 1)
    print(loss, float(np.abs(net.W1).sum()), float(np.abs(net.W2).sum()))


if __name__ == "__main__":
    main()
