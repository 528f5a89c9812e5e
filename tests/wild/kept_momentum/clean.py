"""Momentum in place; the copies that are left protect what is changed after them."""

import numpy as np


class Momentum:
    def __init__(self, params, rate, mu):
        self.rate, self.mu = np.float32(rate), np.float32(mu)
        self.V = [np.zeros_like(p) for p in params]
        self.mean = [np.zeros_like(p) for p in params]
        self.before = [np.zeros_like(p) for p in params]
        self.scratch = [np.empty_like(p) for p in params]

    def apply(self, params, grads):
        for i, g in enumerate(grads):
            step, v, mean = self.scratch[i], self.V[i], self.mean[i]
            np.subtract(g, self.before[i], out=step)
            step *= self.mu
            step += g
            self.before[i] = g
            mean *= self.mu
            step *= 1 - self.mu
            mean += step
            step *= self.rate / (1 - self.mu)
            v *= self.mu
            v -= step
            params[i] += v


def gradients(params, X, Y):
    W1, W2 = params
    hidden = X @ W1
    np.tanh(hidden, out=hidden)
    d2 = (hidden @ W2 - Y) / np.float32(len(X))
    d1 = (d2 @ W2.T) * (1 - hidden * hidden)
    return [X.T @ d1, hidden.T @ d2]


def main():
    rng = np.random.default_rng(17)
    X = rng.uniform(-1, 1, (800, 400)).astype(np.float32)
    Y = np.sin(3 * X[:, :10])
    params = [rng.normal(0, 0.05, shape).astype(np.float32) for shape in ((400, 500), (500, 10))]
    optimizer = Momentum(params, 0.01, 0.9)
    for epoch in range(4):
        for i in range(0, len(X), 16):  # step
            batch = X[i : i + 16].copy()
            batch += np.float32(0.01)
            last = [p.copy() for p in params]
            optimizer.apply(params, gradients(params, batch, Y[i : i + 16]))
            np.subtract(params[0], last[0], out=last[0])
            if last[0][0, 0] > 1:
                params[:] = last
        error = np.tanh(X @ params[0]) @ params[1] - Y
        print(f"epoch {epoch}: {float((error * error).mean()):.5f}")
    print(*[float(np.abs(p).sum()) for p in params], float(np.abs(optimizer.mean[0]).sum()))


if __name__ == "__main__":
    main()
