"""Repeated samples in a batch, layers that start alike, biases that are zero: equal by coincidence."""

import numpy as np

SIZES = [48, 48, 48, 4]


def initialize():
    # All hidden layers start from the same orthogonal matrix, as copies.
    rng = np.random.default_rng(210)
    q, _ = np.linalg.qr(rng.standard_normal((48, 48)))
    q = q.astype(np.float32)
    weights = [q.copy(), q.copy(), np.ascontiguousarray(q[:, :4])]
    biases = [np.zeros(n, dtype=np.float32) for n in SIZES[1:]]
    return weights, biases


def oversampled_batches(X, T, size, rng, n_batches):
    """Draws with replacement from a small pool, so that most batches hold a sample twice or more."""
    for _ in range(n_batches):
        rows = rng.integers(0, len(X), size)
        yield X[rows], T[rows]


def train_step(weights, biases, x, t, rate, penalty):  # step
    outputs = [x]
    for W, b in zip(weights, biases):
        outputs.append(np.tanh(outputs[-1] @ W + b))
    error = outputs[-1] - t
    loss = float(np.mean(error * error)) + penalty * sum(float(np.vdot(W, W)) for W in weights)
    delta = (1 - outputs[-1] ** 2) * error / len(x)
    gradients = []
    for l in reversed(range(len(weights))):
        gradients.append((outputs[l].T @ delta, delta.sum(axis=0)))
        if l:
            delta = (delta @ weights[l].T) * (1 - outputs[l] ** 2)
    for W, b, (dW, db) in zip(weights, biases, reversed(gradients)):
        W *= 1 - 2 * rate * penalty
        W -= rate * dW
        b -= rate * db
    return loss


if __name__ == "__main__":
    rng = np.random.default_rng(211)
    X = rng.standard_normal((60, 48)).astype(np.float32)
    X[30:] = X[:30]
    X[:, 40:] = 0
    T = np.sign(X[:, :4])
    weights, biases = initialize()
    losses = [
        train_step(weights, biases, x, t, 0.1, 1e-4) for x, t in oversampled_batches(X, T, 120, rng, n_batches=60)
    ]
    print("loss from", losses[0], "to", losses[-1])
    print(losses[-1], *[float(np.abs(W).sum()) for W in weights])
