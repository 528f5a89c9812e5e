"""Gradient descent on the whole training set at once: large arrays in every iteration."""

import numpy as np


class TwoLayerNet:
    def __init__(self, n_in, n_hidden, n_out, rng):
        self.W1 = (rng.standard_normal((n_in, n_hidden)) / n_in**0.5).astype(np.float32)
        self.b1 = np.zeros(n_hidden, dtype=np.float32)
        self.W2 = (rng.standard_normal((n_hidden, n_out)) / n_hidden**0.5).astype(np.float32)
        self.b2 = np.zeros(n_out, dtype=np.float32)

    def iterate(self, X, Y, rate):  # step
        product = X @ self.W1  # planted: temporaries [forward]
        Z1 = product + self.b1  # planted: temporaries [forward]
        E1 = np.exp(-Z1)  # planted: temporaries [forward]
        A1 = 1 / (1 + E1)  # planted: temporaries [forward]
        A2 = A1 @ self.W2 + self.b2
        dA2 = (A2 - Y) / len(X)
        back = dA2 @ self.W2.T  # planted: temporaries [backward]
        slope = A1 * (1 - A1)  # planted: temporaries [backward]
        dZ1 = back * slope  # planted: temporaries [backward]
        self.W2 -= rate * (A1.T @ dA2)
        self.b2 -= rate * dA2.sum(axis=0)
        self.W1 -= rate * (X.T @ dZ1)
        self.b1 -= rate * dZ1.sum(axis=0)
        return float(np.vdot(dA2, dA2))


def main():
    rng = np.random.default_rng(60)
    X = rng.standard_normal((6000, 40)).astype(np.float32)
    Y = np.sin(X[:, :2])
    net = TwoLayerNet(40, 128, 2, rng)
    for i in range(30):
        loss = net.iterate(X, Y, np.float32(0.5))
        if i % 10 == 9:
            print("iteration", i + 1)
    print(loss, float(np.abs(net.W1).sum()), float(np.abs(net.W2).sum()))


if __name__ == "__main__":
    main()
