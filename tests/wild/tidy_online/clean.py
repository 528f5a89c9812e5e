# Online learning: every sample updates the weights before the next one is seen.
import numpy as np

rng = np.random.default_rng(220)
X = rng.uniform(-1, 1, (400, 120)).astype(np.float32)
T = np.sign(X[:, :2] + X[:, 2:4]).astype(np.float32)
W1 = (rng.standard_normal((80, 120)) / 11).astype(np.float32)
b1 = np.zeros(80, dtype=np.float32)
W2 = (rng.standard_normal((2, 80)) / 9).astype(np.float32)
b2 = np.zeros(2, dtype=np.float32)
rate = np.float32(0.01)


def learn(x, t):  # step
    h = np.tanh(W1 @ x + b1)
    y = W2 @ h + b2
    d2 = y - t
    d1 = (d2 @ W2) * (1 - h * h)
    np.subtract(W2, np.outer(rate * d2, h), out=W2)
    np.subtract(b2, rate * d2, out=b2)
    np.subtract(W1, np.outer(rate * d1, x), out=W1)
    np.subtract(b1, rate * d1, out=b1)
    return d2 @ d2


for epoch in range(2):
    error = np.float32(0)
    for i in rng.permutation(len(X)):
        error += learn(X[i], T[i])
    print("epoch", epoch, "error", error / len(X))
print(float(error), float(np.abs(W1).sum()), float(np.abs(W2).sum()))
