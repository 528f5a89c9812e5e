"""Each hidden neuron is computed for the whole batch, one neuron after another."""

import numpy as np


class Neurons:
    def __init__(self, n_inputs, n_neurons, rng):
        self.weights = (rng.standard_normal((n_neurons, n_inputs)) / n_inputs**0.5).astype(np.float32)
        self.biases = np.zeros(n_neurons, dtype=np.float32)

    def activate(self, X):
        outputs = np.empty((len(X), len(self.weights)), dtype=np.float32)
        # fast:
        for j in range(len(self.weights)):  # planted: neuron-loop; acceptable: layout; acceptable: small-product
            outputs[:, j] = np.tanh(np.dot(X, self.weights[j]) + self.biases[j])
        # fast:
        return outputs
        # fast: return np.tanh(X @ self.weights.T + self.biases)


class Network:
    def __init__(self, rng):
        self.hidden = Neurons(144, 40, rng)
        self.output = Neurons(40, 4, rng)

    def adjust(self, layer, inputs, delta, rate):
        for j in range(len(layer.weights)):  # planted: neuron-loop; acceptable: layout; acceptable: small-product
            layer.weights[j] -= rate * np.dot(delta[:, j], inputs)
            layer.biases[j] -= rate * delta[:, j].sum()
        # fast: layer.weights -= rate * (delta.T @ inputs)
        # fast: layer.biases -= rate * delta.sum(axis=0)

    def train(self, X, Y, rate):  # step
        H = self.hidden.activate(X)
        O = self.output.activate(H)
        delta_o = (O - Y) * (1 - O * O) / len(X)  # acceptable: recomputation
        # fast: error = O - Y
        # fast: delta_o = error * (1 - O * O) / len(X)
        delta_h = (delta_o @ self.output.weights) * (1 - H * H)
        self.adjust(self.output, H, delta_o, rate)
        self.adjust(self.hidden, X, delta_h, rate)
        return float(np.abs(O - Y).mean())  # acceptable: recomputation
        # fast: return float(np.abs(error).mean())


def main(epochs=2):
    rng = np.random.default_rng(90)
    X = rng.standard_normal((2000, 144)).astype(np.float32)
    Y = np.tanh(X[:, :4])
    net = Network(rng)
    for _ in range(epochs):
        for i in range(0, 2000, 100):
            error = net.train(X[i : i + 100], Y[i : i + 100], np.float32(0.3))
    print(error, float(np.abs(net.hidden.weights).sum()), float(np.abs(net.output.weights).sum()))


if __name__ == "__main__":
    main()
