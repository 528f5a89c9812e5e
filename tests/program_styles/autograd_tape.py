"""A tape of operations, and gradients that go back along it."""

import sys
import zlib

import numpy as np

tape = []


class Value:
    def __init__(self, data, needs_grad=True):
        self.data, self.grad, self.needs_grad = data, 0.0, needs_grad

    def __matmul__(self, other):
        out = Value(self.data @ other.data)

        def back():
            self.grad = self.grad + out.grad @ other.data.T  # planted: dead-computation
            # fast: if self.needs_grad:
            # fast:     self.grad = self.grad + out.grad @ other.data.T
            other.grad = other.grad + self.data.T @ out.grad

        tape.append(back)
        return out

    def __add__(self, bias):
        out = Value(self.data + bias.data)

        def back():
            self.grad = self.grad + out.grad
            bias.grad = bias.grad + out.grad.sum(axis=0)

        tape.append(back)
        return out

    def tanh(self):
        out = Value(np.tanh(self.data))

        def back():
            self.grad = self.grad + out.grad * (1 - out.data**2)

        tape.append(back)
        return out


def step(parameters, x, y, rate):  # step
    W1, b1, W2, b2 = parameters
    out = ((Value(x, needs_grad=False) @ W1 + b1).tanh() @ W2 + b2).tanh()
    out.grad = (out.data - y) / len(x)
    while tape:
        tape.pop()()
    for p in parameters:
        p.data = p.data - rate * p.grad
        p.grad = 0.0


rng = np.random.default_rng(9)
X = rng.standard_normal((1000, 300))
Y = np.tanh(X @ rng.standard_normal((300, 3)) / 17)
parameters = [Value(rng.standard_normal(shape) / 9) for shape in ((300, 16), (16,), (16, 3), (3,))]
for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):
    start = 250 * (number % 4)
    step(parameters, X[start : start + 250], Y[start : start + 250], 0.1)
arrays = [p.data for p in parameters]
print(*(f"{abs(p).sum():.12g}:{zlib.crc32(p.tobytes()):08x}" for p in arrays))
