"""Softmax regression on top of one ReLU layer, trained with Adam."""

import numpy as np

# fast: import math
# fast: import numpy as np


class Adam:
    def __init__(self, parameters, rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.rate, self.beta1, self.beta2, self.epsilon = rate, beta1, beta2, epsilon
        self.m = [np.zeros_like(p) for p in parameters]
        self.v = [np.zeros_like(p) for p in parameters]
        # fast: self.v = [np.zeros_like(p) for p in parameters]
        # fast: self.scratch = [np.empty_like(p) for p in parameters]
        self.t = 0

    def update(self, parameters, gradients):
        self.t += 1
        # fast: """The gradients are overwritten."""
        # fast: self.t += 1
        rate = self.rate * np.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)  # planted: float64 [rate]
        # fast: rate = self.rate * math.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
        for i, (p, g) in enumerate(zip(parameters, gradients)):
            self.m[i] = self.beta1 * self.m[i] + (1 - self.beta1) * g  # acceptable: temporaries
            self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * g**2  # acceptable: temporaries
            p -= (
                rate * self.m[i] / (np.sqrt(self.v[i]) + self.epsilon)
            )  # acceptable: temporaries; planted: float64 [rate]
        # fast: for p, g, m, v, s in zip(parameters, gradients, self.m, self.v, self.scratch):
        # fast:     np.multiply(g, g, out=s)
        # fast:     s *= 1 - self.beta2
        # fast:     v *= self.beta2
        # fast:     v += s
        # fast:     g *= 1 - self.beta1
        # fast:     m *= self.beta1
        # fast:     m += g
        # fast:     np.sqrt(v, out=s)
        # fast:     s += self.epsilon
        # fast:     np.divide(m, s, out=s)
        # fast:     s *= rate
        # fast:     p -= s


class Classifier:
    def __init__(self, n_in, n_hidden, n_out, rng):
        self.W1 = rng.standard_normal((n_in, n_hidden), dtype=np.float32) * np.float32(0.05)
        self.b1 = np.zeros(n_hidden, dtype=np.float32)
        self.W2 = rng.standard_normal((n_hidden, n_out), dtype=np.float32) * np.float32(0.05)
        self.b2 = np.zeros(n_out, dtype=np.float32)
        # fast: self.b2 = np.zeros(n_out, dtype=np.float32)
        # fast: self.dW1 = np.empty_like(self.W1)

    @property
    def parameters(self):
        return [self.W1, self.b1, self.W2, self.b2]

    def step(self, X, labels, optimizer):  # step
        Z1 = X @ self.W1 + self.b1
        A1 = np.maximum(Z1, 0)
        scores = A1 @ self.W2 + self.b2
        scores -= scores.max(axis=1, keepdims=True)
        P = np.exp(scores)
        P /= P.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = -np.log(P[rows, labels] + 1e-12).mean()
        P[rows, labels] -= 1
        P /= len(labels)
        dW2, db2 = A1.T @ P, P.sum(axis=0)
        dZ1 = P @ self.W2.T
        dZ1[Z1 <= 0] = 0  # acceptable: slow-primitive
        # fast: dZ1 *= Z1 > 0
        optimizer.update(self.parameters, [X.T @ dZ1, dZ1.sum(axis=0), dW2, db2])
        # fast: np.matmul(X.T, dZ1, out=self.dW1)
        # fast: optimizer.update(self.parameters, [self.dW1, dZ1.sum(axis=0), dW2, db2])
        return loss


if __name__ == "__main__":
    rng = np.random.default_rng(31)
    labels = rng.integers(0, 10, 1600)
    X = rng.random((10, 784), dtype=np.float32)[labels] + rng.random((1600, 784), dtype=np.float32)
    net = Classifier(784, 256, 10, rng)
    optimizer = Adam(net.parameters)
    history = []
    for epoch in range(2):
        for start in range(0, len(X), 32):
            history.append(net.step(X[start : start + 32], labels[start : start + 32], optimizer))
    print("first and last loss:", history[0], history[-1])
    print(float(history[0]), *[float(np.abs(p).sum()) for p in net.parameters[::2]])
