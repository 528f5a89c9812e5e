"""Wide inputs, a narrow hidden layer; the rows of a batch are always neighbours."""

import numpy as np


def get_batch(X, T, k, size):
    index = np.arange(k * size, (k + 1) * size)  # acceptable: slow-primitive; acceptable: gather
    # fast: rows = slice(k * size, (k + 1) * size)
    return X[index], T[index]  # planted: slow-primitive; acceptable: gather; acceptable: temporaries
    # fast: return X[rows], T[rows]


def train_step(params, x, t, rate):  # step
    a = np.tanh(x @ params[0] + params[1])
    z = a @ params[2] + params[3]
    d_out = (1 / (1 + np.exp(-z)) - t) / len(x)
    d_hidden = (d_out @ params[2].T) * (1 - a * a)
    gradients = [x.T @ d_hidden, d_hidden.sum(axis=0), a.T @ d_out, d_out.sum(axis=0)]
    for parameter, gradient in zip(params, gradients):
        parameter -= rate * gradient
    return a, z


def main():
    rng = np.random.default_rng(110)
    X = rng.random((4096, 784), dtype=np.float32)
    T = (X[:, :1] + X[:, 1:2] > 1).astype(np.float32)
    params = [rng.normal(0, 0.05, (784, 12)), np.zeros(12), rng.normal(0, 0.3, (12, 1)), np.zeros(1)]
    params = [p.astype(np.float32) for p in params]
    for epoch in range(2):
        for k in range(16):
            x, t = get_batch(X, T, k, 256)
            a, z = train_step(params, x, t, np.float32(0.5))
        print(f"epoch {epoch}: saturated hidden units {np.mean(np.abs(a) > 0.9):.2f}, largest score {z.max():.3f}")
    print(float(np.abs(z).mean()), *[float(np.abs(p).sum()) for p in params])


main()
