"""Gradient descent by the midpoint rule: the second forward pass is made with other weights, and is needed."""

import numpy as np


class Midpoint:
    def __init__(self, n_in, n_hidden, n_out, seed):
        rng = np.random.default_rng(seed)
        self.theta = [
            (rng.standard_normal((n_hidden, n_in)) / n_in**0.5).astype(np.float32),
            np.zeros((n_hidden, 1), dtype=np.float32),
            (rng.standard_normal((n_out, n_hidden)) / n_hidden**0.5).astype(np.float32),
            np.zeros((n_out, 1), dtype=np.float32),
        ]

    @staticmethod
    def slope(theta, X, Y):
        """The gradient and the errors; X (n_in, m) and Y (n_out, m) hold one sample a column."""
        W1, b1, W2, b2 = theta
        H = np.tanh(W1 @ X + b1)
        E = W2 @ H + b2 - Y
        D = E * (1 / X.shape[1])
        G = (W2.T @ D) * (1 - H * H)
        return [G @ X.T, G.sum(axis=1, keepdims=True), D @ H.T, D.sum(axis=1, keepdims=True)], E

    def advance(self, X, Y, rate):  # step
        first, errors = self.slope(self.theta, X, Y)
        middle = [p - (0.5 * rate) * g for p, g in zip(self.theta, first)]
        second, _ = self.slope(middle, X, Y)
        for p, g in zip(self.theta, second):
            p -= rate * g
        return float(np.mean(errors * errors))

    def accumulate(self, parts, rate):
        """One update from several parts of a batch that is too large to be taken at once."""
        total = None
        for X, Y in parts:
            part, _ = self.slope(self.theta, X, Y)
            if total is None:
                total = part
            else:
                for t, g in zip(total, part):
                    t += g
        for p, t in zip(self.theta, total):
            p -= rate / len(parts) * t


rng = np.random.default_rng(250)
samples = rng.uniform(-1, 1, (1800, 110)).astype(np.float32)
answers = np.sin(2 * samples[:, :3])
model = Midpoint(110, 60, 3, seed=251)
for _ in range(3):
    for k in range(0, 1800, 120):
        error = model.advance(samples[k : k + 120].T, answers[k : k + 120].T, 0.2)
print("error", error)
print(error, *[float(np.abs(p).sum()) for p in model.theta])
