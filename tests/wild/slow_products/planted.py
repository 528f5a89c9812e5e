"""One hidden layer with a cubic in its activation; every product spelled out by its indices."""

import numpy as np

C = np.float32(0.1)


def activation(z):
    return np.tanh(z + C * np.power(z, 3))  # planted: slow-primitive
    # fast: return np.tanh(z + C * z * z * z)


def gradients(x, y, W1, b1, W2, b2):
    z = np.einsum("ij,jk->ik", x, W1, optimize=False) + b1  # planted: slow-primitive
    # fast: z = x @ W1 + b1
    a = activation(z)
    out = np.einsum("ij,jk->ik", a, W2) + b2  # acceptable: slow-primitive
    # fast: out = a @ W2 + b2
    error = (out - y) / np.float32(len(x))
    delta = np.einsum("ij,kj->ik", error, W2) * (1 - a * a) * (1 + 3 * C * z * z)  # acceptable: slow-primitive
    # fast: delta = (error @ W2.T) * (1 - a * a) * (1 + (3 * C) * z * z)
    dW1 = np.einsum("ij,ik->jk", x, delta)  # planted: slow-primitive
    # fast: dW1 = x.T @ delta
    dW2 = np.einsum("ij,ik->jk", a, error)  # acceptable: slow-primitive
    # fast: dW2 = a.T @ error
    return dW1, sum(delta), dW2, sum(list(error)), float(np.sum(error**2))  # planted: slow-primitive
    # fast: return dW1, delta.sum(axis=0), dW2, error.sum(axis=0), float(np.vdot(error, error))


def fit(X, Y, n_hidden=24, rate=np.float32(0.2), batch_size=200, epochs=3):
    rng = np.random.default_rng(50)
    W1 = (rng.standard_normal((X.shape[1], n_hidden)) * 0.05).astype(np.float32)
    b1 = np.zeros(n_hidden, dtype=np.float32)
    W2 = (rng.standard_normal((n_hidden, Y.shape[1])) * 0.2).astype(np.float32)
    b2 = np.zeros(Y.shape[1], dtype=np.float32)
    for _ in range(epochs):
        for start in range(0, len(X), batch_size):  # step
            rows = np.arange(start, start + batch_size)  # acceptable: slow-primitive [slice]; acceptable: gather
            # fast:
            x, y = X[rows], Y[rows]  # acceptable: slow-primitive [slice]; acceptable: gather
            # fast: x, y = X[start : start + batch_size], Y[start : start + batch_size]
            dW1, db1, dW2, db2, loss = gradients(x, y, W1, b1, W2, b2)
            W1 -= rate * dW1
            b1 -= rate * db1
            W2 -= rate * dW2
            b2 -= rate * db2
    return W1, W2, loss


rng = np.random.default_rng(51)
X = rng.standard_normal((4000, 300)).astype(np.float32)
Y = np.tanh(X[:, :4] + X[:, 4:8])
W1, W2, loss = fit(X, Y)
print("loss", loss)
print(loss, float(np.abs(W1).sum()), float(np.abs(W2).sum()))
