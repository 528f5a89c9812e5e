"""A class with fit and predict, as in scikit-learn."""

import sys
import zlib

import numpy as np


class Classifier:
    def __init__(self, n_hidden=64, rate=0.2, max_steps=1_000_000):
        self.n_hidden, self.rate, self.max_steps = n_hidden, rate, max_steps

    def fit(self, X, y):
        rng = np.random.default_rng(6)
        targets = np.eye(y.max() + 1)[y]
        self.W1_, self.b1_ = rng.standard_normal((X.shape[1], self.n_hidden)) / 4, np.zeros(self.n_hidden)
        self.W2_, self.b2_ = rng.standard_normal((self.n_hidden, targets.shape[1])) / 8, np.zeros(targets.shape[1])
        for step in range(self.max_steps):  # step
            at = slice(400 * (step % 4), 400 * (step % 4) + 400)
            self._backward(X[at], targets[at])
            self.loss_ = -np.mean(np.log(self._forward(X[at])[targets[at] == 1]))  # planted: second-forward
            # fast: pass
        return self

    def _forward(self, X):
        self._hidden = np.tanh(X @ self.W1_ + self.b1_)
        e = np.exp(self._hidden @ self.W2_ + self.b2_)
        return e / e.sum(axis=1, keepdims=True)

    def _backward(self, X, targets):
        delta2 = (self._forward(X) - targets) / len(X)
        delta1 = (delta2 @ self.W2_.T) * (1 - self._hidden**2)
        self.W2_ -= self.rate * (self._hidden.T @ delta2)
        self.b2_ -= self.rate * delta2.sum(axis=0)
        self.W1_ -= self.rate * (X.T @ delta1)
        self.b1_ -= self.rate * delta1.sum(axis=0)

    def predict(self, X):
        return self._forward(X).argmax(axis=1)


rng = np.random.default_rng(7)
y = rng.integers(0, 4, 1600)
X = rng.standard_normal((4, 20))[y] + rng.standard_normal((1600, 20))
model = Classifier(max_steps=int(sys.argv[1])) if len(sys.argv) > 1 else Classifier()
model.fit(X, y)
parameters = [model.W1_, model.b1_, model.W2_, model.b2_]
print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
