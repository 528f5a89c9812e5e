"""Layers as objects with forward and backward, chained by a model."""

import numpy as np


class Layer:
    def forward(self, inputs):
        raise NotImplementedError

    def backward(self, grad):
        raise NotImplementedError

    def update(self, rate):
        pass


class Dense(Layer):
    def __init__(self, n_in, n_out, rng):
        self.W = (rng.standard_normal((n_in, n_out)) / n_in**0.5).astype(np.float32)
        self.b = np.zeros((1, n_out), dtype=np.float32)

    # fast: def __init__(self, n_in, n_out, rng, first=False):
    # fast:     self.first = first
    # fast:     self.W = (rng.standard_normal((n_in, n_out)) / n_in**0.5).astype(np.float32)
    # fast:     self.b = np.zeros((1, n_out), dtype=np.float32)

    def forward(self, inputs):
        self.inputs = inputs
        return inputs @ self.W + self.b

    def backward(self, grad):
        self.dW = self.inputs.T @ grad
        self.db = grad.sum(axis=0, keepdims=True)
        return grad @ self.W.T  # planted: dead-computation
        # fast: return None if self.first else grad @ self.W.T

    def update(self, rate):
        self.W -= rate * self.dW
        self.b -= rate * self.db


class Tanh(Layer):
    def forward(self, inputs):
        self.inputs = inputs
        # fast: self.output = np.tanh(inputs)
        return np.tanh(inputs)  # acceptable: recomputation
        # fast: return self.output

    def backward(self, grad):
        return grad * (1 - np.tanh(self.inputs) ** 2)  # planted: recomputation
        # fast: return grad * (1 - self.output**2)


class SoftmaxCrossEntropy:
    def forward(self, scores, targets):
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        self.p = e / e.sum(axis=1, keepdims=True)
        self.targets = targets
        return -np.log(self.p[np.arange(len(targets)), targets] + 1e-9).mean()

    def backward(self):
        grad = self.p.copy()
        grad[np.arange(len(self.targets)), self.targets] -= 1
        return grad / len(self.targets)


class Model:
    def __init__(self, layers, loss):
        self.layers, self.loss = layers, loss

    def train_step(self, X, targets, rate):  # step
        out = X
        for layer in self.layers:
            out = layer.forward(out)
        loss = self.loss.forward(out, targets)
        grad = self.loss.backward()
        for layer in reversed(self.layers):
            grad = layer.backward(grad)  # acceptable: dead-computation
        for layer in self.layers:
            layer.update(rate)
        return loss


def main():
    rng = np.random.default_rng(11)
    targets = rng.integers(0, 10, 2400)
    X = (rng.standard_normal((10, 196))[targets] + 1.5 * rng.standard_normal((2400, 196))).astype(np.float32)
    model = Model(
        [Dense(196, 100, rng), Tanh(), Dense(100, 50, rng), Tanh(), Dense(50, 10, rng)], SoftmaxCrossEntropy()
    )
    # fast: model = Model(
    # fast:     [Dense(196, 100, rng, first=True), Tanh(), Dense(100, 50, rng), Tanh(), Dense(50, 10, rng)],
    # fast:     SoftmaxCrossEntropy(),
    # fast: )
    for epoch in range(2):
        total = 0.0
        for start in range(0, 2400, 120):
            total += model.train_step(X[start : start + 120], targets[start : start + 120], 0.1)
        print("epoch", epoch, "loss", total / 20)
    print(float(total), *[float(np.abs(layer.W).sum()) for layer in model.layers[::2]])


if __name__ == "__main__":
    main()
