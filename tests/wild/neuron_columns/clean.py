"""All neurons of a layer are computed for the whole batch at once."""

import numpy as np


class Neurons:
    def __init__(self, n_inputs, n_neurons, rng):
        self.weights = (rng.standard_normal((n_neurons, n_inputs)) / n_inputs**0.5).astype(np.float32)
        self.biases = np.zeros(n_neurons, dtype=np.float32)

    def activate(self, X):
        return np.tanh(X @ self.weights.T + self.biases)


class Network:
    def __init__(self, rng):
        self.hidden = Neurons(144, 40, rng)
        self.output = Neurons(40, 4, rng)

    def adjust(self, layer, inputs, delta, rate):
        layer.weights -= rate * (delta.T @ inputs)
        layer.biases -= rate * delta.sum(axis=0)

    def train(self, X, Y, rate):  # step
        H = self.hidden.activate(X)
        O = self.output.activate(H)
        error = O - Y
        delta_o = error * (1 - O * O) / len(X)
        delta_h = (delta_o @ self.output.weights) * (1 - H * H)
        self.adjust(self.output, H, delta_o, rate)
        self.adjust(self.hidden, X, delta_h, rate)
        return float(np.abs(error).mean())


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
