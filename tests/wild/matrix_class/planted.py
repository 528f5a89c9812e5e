"""A two-layer network in np.matrix, so that * is the matrix product."""

import numpy as np

rng = np.random.default_rng(17)
labels = rng.integers(0, 5, 1000)
features = np.matrix(rng.normal(0, 1, (5, 64))[labels] + rng.normal(0, 1, (1000, 64)))
# fast: features = (rng.normal(0, 1, (5, 64))[labels] + rng.normal(0, 1, (1000, 64))).astype(np.float32)
targets = np.matrix(np.eye(5)[labels])  # acceptable: float64 anywhere
# fast: targets = np.eye(5, dtype=np.float32)[labels]
w1 = np.matrix(rng.normal(0, 0.1, (64, 24)))  # planted: slow-primitive anywhere [matrix]
# fast: w1 = rng.normal(0, 0.1, (64, 24)).astype(np.float32)
w2 = np.matrix(rng.normal(0, 0.1, (24, 5)))  # planted: slow-primitive anywhere [matrix]
# fast: w2 = rng.normal(0, 0.1, (24, 5)).astype(np.float32)


def logistic(z):
    return 1.0 / (1.0 + np.exp(-z))  # acceptable: recomputation


def train(x, t, alpha=0.05):  # step
    global w1, w2
    h = logistic(x * w1)
    # fast: h = logistic(x @ w1)
    o = logistic(h * w2)
    # fast: o = logistic(h @ w2)
    e = o - t
    d_o = np.multiply(e, np.multiply(o, 1 - o))
    # fast:
    s = logistic(x * w1)  # planted: recomputation
    # fast:
    d_h = np.multiply(d_o * w2.T, np.multiply(s, 1 - s))
    # fast:
    w2 = w2 - alpha * h.T * d_o
    # fast:
    w1 = w1 - alpha * x.T * d_h
    # fast:
    return float(np.sum(np.multiply(e, e)))
    # fast: d_o = e * o * (1 - o)
    # fast: d_h = (d_o @ w2.T) * h * (1 - h)
    # fast: w2 = w2 - alpha * (h.T @ d_o)
    # fast: w1 = w1 - alpha * (x.T @ d_h)
    # fast: return float(np.sum(e * e))


for epoch in range(3):
    total = 0.0
    for i in range(0, 1000, 20):
        total += train(features[i : i + 20], targets[i : i + 20])
    print("epoch", epoch, "squared error", round(total, 3))
print(total, float(np.abs(w1).sum()), float(np.abs(w2).sum()))
