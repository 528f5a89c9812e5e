"""Layers: each keeps what its backward pass needs."""

import numpy as np


class Linear:
    def __init__(self, n_in, n_out, rng):
        self.W = (rng.standard_normal((n_in, n_out)) * (2 / n_in) ** 0.5).astype(np.float32)
        self.b = np.zeros(n_out, dtype=np.float32)

    # fast: def __init__(self, n_in, n_out, rng, needs_input_gradient=True):
    # fast:     self.needs_input_gradient = needs_input_gradient
    # fast:     self.W = (rng.standard_normal((n_in, n_out)) * (2 / n_in) ** 0.5).astype(np.float32)
    # fast:     self.b = np.zeros(n_out, dtype=np.float32)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, grad):
        self.dW = self.x.T @ grad  # acceptable: float64
        self.db = grad.sum(axis=0)  # acceptable: float64
        return grad @ self.W.T  # planted: dead-computation; acceptable: float64
        # fast: return grad @ self.W.T if self.needs_input_gradient else None


class ReLU:
    def forward(self, x):
        self.x = x
        return np.maximum(x, 0)

    def backward(self, grad):
        return grad * (self.x > 0)


class Sequential:
    def __init__(self, *layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad):
        for layer in reversed(self.layers):
            grad = layer.backward(grad)  # acceptable: dead-computation
