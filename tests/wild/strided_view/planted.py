"""Every second pixel of the images is enough for this network."""

import numpy as np

rng = np.random.default_rng(100)
images = rng.random((2000, 2 * 392), dtype=np.float32)
answers = np.stack([images[:, 0] > images[:, 2], images[:, 4] > images[:, 6]], axis=1).astype(np.float32)
X = images[:, ::2]  # planted: layout
# fast: X = np.ascontiguousarray(images[:, ::2])


def forward(X, W1, W2):
    hidden = np.tanh(X @ W1)  # acceptable: layout
    return hidden, 1 / (1 + np.exp(-(hidden @ W2)))


def step(x, t, W1, W2, rate):  # step
    hidden, out = forward(x, W1, W2)
    d2 = (out - t) / len(x)
    d1 = (d2 @ W2.T) * (1 - hidden**2)
    W2 -= rate * (hidden.T @ d2)
    W1 -= rate * (x.T @ d1)  # acceptable: layout


W1 = rng.standard_normal((392, 32), dtype=np.float32) * np.float32(0.05)
W2 = rng.standard_normal((32, 2), dtype=np.float32) * np.float32(0.2)
for epoch in range(2):
    for start in range(0, len(X), 200):
        step(X[start : start + 200], answers[start : start + 200], W1, W2, np.float32(0.5))
_, out = forward(X, W1, W2)
print(float(np.mean((out - answers) ** 2)), float(np.abs(W1).sum()), float(np.abs(W2).sum()))
