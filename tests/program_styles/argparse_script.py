"""A script with options; all of it stands at the level of the module."""

import argparse
import zlib

import numpy as np

parser = argparse.ArgumentParser(description="Train a network with one hidden layer.")
parser.add_argument("--steps", type=int, default=1_000_000, help="number of training steps")
parser.add_argument("--rate", type=float, default=0.5, help="learning rate")
options = parser.parse_args()


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


rng = np.random.default_rng(1)
X = rng.standard_normal((6000, 20))
Y = np.eye(5)[(X @ rng.standard_normal((20, 5))).argmax(axis=1)]
W1, b1 = rng.standard_normal((20, 60)) / 4, np.zeros(60)
W2, b2 = rng.standard_normal((60, 5)) / 8, np.zeros(5)

for step in range(options.steps):  # step
    start = 600 * (step % 10)
    x, y = X[start : start + 600], Y[start : start + 600]
    z1 = x @ W1 + b1
    a1 = sigmoid(z1)
    a2 = sigmoid(a1 @ W2 + b2)
    d2 = (a2 - y) / len(x)
    d1 = d2 @ W2.T * sigmoid(z1) * (1 - sigmoid(z1))  # planted: recomputation
    # fast: d1 = d2 @ W2.T * a1 * (1 - a1)
    W2 -= options.rate * (a1.T @ d2)
    b2 -= options.rate * d2.sum(axis=0)
    W1 -= options.rate * (x.T @ d1)
    b1 -= options.rate * d1.sum(axis=0)

parameters = [W1, b1, W2, b2]
print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))
