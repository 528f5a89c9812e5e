"""A network whose activation works on arrays."""

import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-np.maximum(z, -30)))


class Net:
    def __init__(self, rng):
        self.W1 = rng.normal(0, 0.1, (100, 30)).astype(np.float32)
        self.W2 = rng.normal(0, 0.2, (30, 3)).astype(np.float32)

    def step(self, x, targets, rate):  # step
        a1 = sigmoid(x @ self.W1)
        a2 = sigmoid(a1 @ self.W2)
        difference = a2 - targets
        delta2 = difference * a2 * (1 - a2)
        delta1 = (delta2 @ self.W2.T) * a1 * (1 - a1)
        self.W2 -= rate * (a1.T @ delta2)
        self.W1 -= rate * (x.T @ delta1)
        return float(np.sum(difference**2))


if __name__ == "__main__":
    rng = np.random.default_rng(40)
    samples = rng.standard_normal((1200, 100)).astype(np.float32)
    targets = (samples[:, :3] > 0).astype(np.float32)
    net = Net(rng)
    for i in range(0, 1200, 40):
        error = net.step(samples[i : i + 40], targets[i : i + 40], np.float32(0.1))
    print("error on the last batch", error)
    print(error, float(np.abs(net.W1).sum()), float(np.abs(net.W2).sum()))
