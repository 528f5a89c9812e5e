"""A digit classifier as one class with `fit`, trained by mini batches."""

import numpy as np


class NeuralNetwork:
    def __init__(self, sizes, learning_rate=0.8, seed=3):
        rng = np.random.default_rng(seed)
        self.learning_rate = learning_rate
        self.weights = [rng.normal(0.0, n_in**-0.5, (n_in, n_out)) for n_in, n_out in zip(sizes, sizes[1:])]
        # fast: self.weights = [
        # fast:     rng.normal(0.0, n_in**-0.5, (n_in, n_out)).astype(np.float32)
        # fast:     for n_in, n_out in zip(sizes, sizes[1:])
        # fast: ]
        self.biases = [np.zeros(n_out) for n_out in sizes[1:]]  # planted: float64 anywhere
        # fast: self.biases = [np.zeros(n_out, dtype=np.float32) for n_out in sizes[1:]]

    def sigmoid(self, z):
        return 1.0 / (1.0 + np.exp(-z))  # acceptable: recomputation

    def sigmoid_prime(self, z):
        s = self.sigmoid(z)  # planted: recomputation [sigmoid]
        return s * (1.0 - s)

    # fast: def sigmoid_prime(self, a):
    # fast:     return a * (1.0 - a)

    def forward(self, X):
        self.zs, self.activations = [], [X]
        # fast: self.activations = [X]
        for W, b in zip(self.weights, self.biases):
            z = np.dot(self.activations[-1], W) + b
            # fast:
            self.zs.append(z)
            # fast:
            self.activations.append(self.sigmoid(z))
            # fast: self.activations.append(self.sigmoid(np.dot(self.activations[-1], W) + b))
        return self.activations[-1]

    def backward(self, y):
        m = y.shape[0]
        gradients = []
        delta = (self.activations[-1] - y) * self.sigmoid_prime(self.zs[-1])  # planted: recomputation [sigmoid]
        # fast:
        for l in reversed(range(len(self.weights))):
            gradients.insert(0, (np.dot(self.activations[l].T, delta) / m, delta.mean(axis=0)))
            back = np.dot(delta, self.weights[l].T)  # planted: dead-computation
            if l > 0:
                delta = back * self.sigmoid_prime(self.zs[l - 1])  # planted: recomputation [sigmoid]
        # fast:
        return gradients
        # fast: error = self.activations[-1] - y
        # fast: delta = error * self.sigmoid_prime(self.activations[-1])
        # fast: for l in reversed(range(len(self.weights))):
        # fast:     gradients.insert(0, (np.dot(self.activations[l].T, delta) / m, delta.mean(axis=0)))
        # fast:     if l > 0:
        # fast:         delta = np.dot(delta, self.weights[l].T) * self.sigmoid_prime(self.activations[l])
        # fast: return gradients, error

    def train_batch(self, X, y):  # step
        output = self.forward(X)
        # fast:
        for l, (dW, db) in enumerate(self.backward(y)):
            self.weights[l] -= self.learning_rate * dW
            self.biases[l] -= self.learning_rate * db
        # fast:
        return 0.5 * np.mean(np.sum((output - y) ** 2, axis=1))  # acceptable: recomputation
        # fast: self.forward(X)
        # fast: gradients, error = self.backward(y)
        # fast: for l, (dW, db) in enumerate(gradients):
        # fast:     self.weights[l] -= self.learning_rate * dW
        # fast:     self.biases[l] -= self.learning_rate * db
        # fast: return 0.5 * np.mean(np.sum(error**2, axis=1))

    def fit(self, X, y, epochs=3, batch_size=100):
        order_rng = np.random.default_rng(7)
        history = []
        for epoch in range(epochs):
            order = order_rng.permutation(len(X))
            losses = []
            for start in range(0, len(X), batch_size):
                batch = order[start : start + batch_size]
                losses.append(self.train_batch(X[batch], y[batch]))
            history.append(float(np.mean(losses)))
            print(f"epoch {epoch + 1}: loss {history[-1]:.3f}")
        return history


def make_data(n=3000, n_features=256, n_classes=10):
    rng = np.random.default_rng(1)
    centres = rng.normal(0.0, 1.0, (n_classes, n_features))
    labels = rng.integers(0, n_classes, n)
    X = centres[labels] + rng.normal(0.0, 2.0, (n, n_features))
    return X, np.eye(n_classes)[labels]
    # fast: return X.astype(np.float32), np.eye(n_classes, dtype=np.float32)[labels]


if __name__ == "__main__":
    X, y = make_data()
    net = NeuralNetwork([X.shape[1], 64, y.shape[1]])
    history = net.fit(X, y)
    print(history[-1], *[float(np.abs(W).sum()) for W in net.weights])
