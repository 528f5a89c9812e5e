"""Trains on made-up digits."""

import sys
import zlib

import numpy as np

from digits.layers import Dense


def train_step(layers, x, y, rate):  # step
    outputs = x
    for layer in layers:
        outputs = layer.forward(outputs)
    delta = (outputs - y) / len(x)
    for layer in reversed(layers):
        delta = layer.backward(delta, rate, layer is layers[0])
    return delta


def main(steps=1_000_000):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 10, 1500)
    X, Y = rng.random((10, 64))[labels] + rng.normal(0, 0.3, (1500, 64)), np.eye(10)[labels]
    layers = [Dense(64, 30, rng), Dense(30, 10, rng)]
    for step in range(steps):
        rows = slice(150 * (step % 10), 150 * (step % 10 + 1))
        train_step(layers, X[rows], Y[rows], 0.5)
    parameters = [p for layer in layers for p in (layer.W, layer.b)]
    print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in parameters))


main(*map(int, sys.argv[1:]))
