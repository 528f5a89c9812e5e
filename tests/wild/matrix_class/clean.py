"""A two-layer network in plain arrays."""

import numpy as np

rng = np.random.default_rng(17)
labels = rng.integers(0, 5, 1000)
features = (rng.normal(0, 1, (5, 64))[labels] + rng.normal(0, 1, (1000, 64))).astype(np.float32)
targets = np.eye(5, dtype=np.float32)[labels]
w1 = rng.normal(0, 0.1, (64, 24)).astype(np.float32)
w2 = rng.normal(0, 0.1, (24, 5)).astype(np.float32)


def logistic(z):
    return 1.0 / (1.0 + np.exp(-z))


def train(x, t, alpha=0.05):  # step
    global w1, w2
    h = logistic(x @ w1)
    o = logistic(h @ w2)
    e = o - t
    d_o = e * o * (1 - o)
    d_h = (d_o @ w2.T) * h * (1 - h)
    w2 = w2 - alpha * (h.T @ d_o)
    w1 = w1 - alpha * (x.T @ d_h)
    return float(np.sum(e * e))


for epoch in range(3):
    total = 0.0
    for i in range(0, 1000, 20):
        total += train(features[i : i + 20], targets[i : i + 20])
    print("epoch", epoch, "squared error", round(total, 3))
print(total, float(np.abs(w1).sum()), float(np.abs(w2).sum()))
