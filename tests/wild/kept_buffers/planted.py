"""Layers that write into arrays of their own, and hand copies of their gradients to the optimizer."""

import copy

import numpy as np


class Dense:
    def __init__(self, n_in, n_out, batch, rng):
        self.params = {
            "W": rng.standard_normal((n_in, n_out), dtype=np.float32) * np.float32(n_in**-0.5),
            "b": np.zeros(n_out, dtype=np.float32),
        }
        self.grads = {}
        self.Z = np.empty((batch, n_out), dtype=np.float32)
        self.back = np.empty((batch, n_in), dtype=np.float32)
        self.slope = np.empty((batch, n_out), dtype=np.float32)
        self.W_grad = np.empty((n_in, n_out), dtype=np.float32)

    # fast: def __init__(self, n_in, n_out, batch, rng, is_first=False):
    # fast:     self.params = {
    # fast:         "W": rng.standard_normal((n_in, n_out), dtype=np.float32) * np.float32(n_in**-0.5),
    # fast:         "b": np.zeros(n_out, dtype=np.float32),
    # fast:     }
    # fast:     self.grads = {}
    # fast:     self.Z = np.empty((batch, n_out), dtype=np.float32)
    # fast:     self.back = np.empty((batch, n_in), dtype=np.float32)
    # fast:     self.slope = np.empty((batch, n_out), dtype=np.float32)
    # fast:     self.W_grad = np.empty((n_in, n_out), dtype=np.float32)
    # fast:     self.is_first = is_first

    def forward(self, X):
        self.X = X
        np.matmul(X, self.params["W"], out=self.Z)
        self.Z += self.params["b"]
        np.tanh(self.Z, out=self.Z)
        return self.Z

    def backward(self, delta):
        np.multiply(self.Z, self.Z, out=self.slope)
        np.subtract(1, self.slope, out=self.slope)
        self.slope *= delta
        self.grads["W"] = np.matmul(self.X.T, self.slope, out=self.W_grad)
        self.grads["b"] = self.slope.sum(axis=0)
        np.matmul(self.slope, self.params["W"].T, out=self.back)  # planted: dead-computation
        # fast: if self.is_first:
        # fast:     return None
        return self.back
        # fast: return np.matmul(self.slope, self.params["W"].T, out=self.back)


class Momentum:
    def __init__(self, rate):
        self.rate, self.speeds = np.float32(rate), None

    def update(self, layers, gradients):
        if self.speeds is None:
            self.speeds = [{name: np.zeros_like(g) for name, g in one.items()} for one in gradients]
        for layer, speed, one in zip(layers, self.speeds, gradients):
            for name, g in one.items():
                speed[name] *= np.float32(0.9)
                g *= self.rate
                speed[name] += g
                layer.params[name] -= speed[name]


def step(layers, optimizer, X, Y):  # step
    A = X
    for layer in layers:
        A = layer.forward(A)
    delta = np.subtract(A, Y) / np.float32(len(X))
    for layer in reversed(layers):
        delta = layer.backward(delta)
    optimizer.update(layers, [copy.deepcopy(layer.grads) for layer in layers])


if __name__ == "__main__":
    rng = np.random.default_rng(61)
    X = rng.standard_normal((1600, 300), dtype=np.float32)
    Y = np.tanh(X[:, :8] - X[:, 8:16])
    layers = [Dense(300, 80, 100, rng), Dense(80, 8, 100, rng)]
    # fast: layers = [Dense(300, 80, 100, rng, True), Dense(80, 8, 100, rng)]
    optimizer = Momentum(0.1)
    for epoch in range(4):
        for start in range(0, len(X), 100):
            step(layers, optimizer, X[start : start + 100], Y[start : start + 100])
    error = layers[1].forward(layers[0].forward(X[:100])) - Y[:100]
    print(float(np.mean(error**2)), *[float(np.abs(layer.params["W"]).sum()) for layer in layers])
