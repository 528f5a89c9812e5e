"""The layers of the network; a product is written by its indices."""

import numpy as np


class Dense:
    def __init__(self, n_in, n_out, rng):
        self.W, self.b = rng.standard_normal((n_in, n_out)) / np.sqrt(n_in), np.zeros(n_out)

    def forward(self, inputs):
        self.inputs = inputs
        z = np.einsum("ij,jk->ik", inputs, self.W) + self.b  # planted: slow-primitive
        # fast: z = inputs @ self.W + self.b
        self.outputs = np.tanh(z)
        return self.outputs

    def backward(self, delta, rate, is_first):
        delta = delta * (1 - self.outputs**2)
        below = None if is_first else delta @ self.W.T
        self.W -= rate * np.einsum("ij,ik->jk", self.inputs, delta)  # planted: slow-primitive
        # fast: self.W -= rate * (self.inputs.T @ delta)
        self.b -= rate * delta.sum(axis=0)
        return below
