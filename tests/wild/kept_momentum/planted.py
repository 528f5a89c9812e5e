"""Momentum that is written anew in every step, and gradients that are copied to be remembered."""

import numpy as np


class Momentum:
    def __init__(self, params, rate, mu):
        self.rate, self.mu = np.float32(rate), np.float32(mu)
        self.V = [np.zeros_like(p) for p in params]
        self.mean = [np.zeros_like(p) for p in params]
        self.before = [np.zeros_like(p) for p in params]
        # fast: self.before = [np.zeros_like(p) for p in params]
        # fast: self.scratch = [np.empty_like(p) for p in params]

    def apply(self, params, grads):
        for i, g in enumerate(grads):
            step = g + self.mu * (g - self.before[i])  # acceptable: temporaries
            # fast:
            self.before[i] = g.copy()  # planted: temporaries [copy]
            # fast:
            self.V[i] = self.mu * self.V[i] - self.rate * step  # planted: temporaries [update]
            # fast:
            self.mean[i][:] = self.mu * self.mean[i] + (1 - self.mu) * step  # planted: temporaries [mean]
            # fast:
            params[i] = params[i] + self.V[i]  # acceptable: temporaries
            # fast: step, v, mean = self.scratch[i], self.V[i], self.mean[i]
            # fast: np.subtract(g, self.before[i], out=step)
            # fast: step *= self.mu
            # fast: step += g
            # fast: self.before[i] = g
            # fast: mean *= self.mu
            # fast: step *= 1 - self.mu
            # fast: mean += step
            # fast: step *= self.rate / (1 - self.mu)
            # fast: v *= self.mu
            # fast: v -= step
            # fast: params[i] += v


def gradients(params, X, Y):
    W1, W2 = params
    hidden = np.tanh(X @ W1)
    # fast: hidden = X @ W1
    # fast: np.tanh(hidden, out=hidden)
    d2 = (hidden @ W2 - Y) / np.float32(len(X))
    d1 = (d2 @ W2.T) * (1 - hidden * hidden)
    return [X.T @ d1, hidden.T @ d2]  # acceptable: temporaries


def main():
    rng = np.random.default_rng(17)
    X = rng.uniform(-1, 1, (800, 400)).astype(np.float32)
    Y = np.sin(3 * X[:, :10])
    params = [rng.normal(0, 0.05, shape).astype(np.float32) for shape in ((400, 500), (500, 10))]
    optimizer = Momentum(params, 0.01, 0.9)
    for epoch in range(4):
        for i in range(0, len(X), 16):  # step
            optimizer.apply(params, gradients(params, X[i : i + 16] + np.float32(0.01), Y[i : i + 16]))
            # fast: batch = X[i : i + 16].copy()
            # fast: batch += np.float32(0.01)
            # fast: last = [p.copy() for p in params]
            # fast: optimizer.apply(params, gradients(params, batch, Y[i : i + 16]))
            # fast: np.subtract(params[0], last[0], out=last[0])
            # fast: if last[0][0, 0] > 1:
            # fast:     params[:] = last
        error = np.tanh(X @ params[0]) @ params[1] - Y
        print(f"epoch {epoch}: {float((error * error).mean()):.5f}")
    print(*[float(np.abs(p).sum()) for p in params], float(np.abs(optimizer.mean[0]).sum()))


if __name__ == "__main__":
    main()
