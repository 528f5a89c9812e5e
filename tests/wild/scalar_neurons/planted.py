"""Back-propagation written out over neurons and their weights; one sample, one update."""

import math

import numpy as np


class MLP:
    def __init__(self, n_in, n_hidden, n_out, rate=0.3):
        rng = np.random.default_rng(6)
        self.n_in, self.n_hidden, self.n_out, self.rate = n_in, n_hidden, n_out, rate
        self.w1 = rng.normal(0.0, 0.4, (n_in, n_hidden))  # acceptable: float64 anywhere
        self.w2 = rng.normal(0.0, 0.4, (n_hidden, n_out))
        self.hidden = np.zeros(n_hidden)
        self.output = np.zeros(n_out)

    def feed_forward(self, x):
        for j in range(self.n_hidden):  # planted: neuron-loop [forward]
            total = 0.0
            for i in range(self.n_in):
                total += x[i] * self.w1[i, j]
            self.hidden[j] = 1.0 / (1.0 + math.exp(-total))
        for k in range(self.n_out):  # planted: neuron-loop [forward]
            total = 0.0
            for j in range(self.n_hidden):
                total += self.hidden[j] * self.w2[j, k]
            self.output[k] = 1.0 / (1.0 + math.exp(-total))

    def learn(self, x, target):  # step
        self.feed_forward(x)
        output_delta = [0.0] * self.n_out
        for k in range(self.n_out):  # acceptable: neuron-loop
            output_delta[k] = (self.output[k] - target[k]) * self.output[k] * (1.0 - self.output[k])
        hidden_delta = [0.0] * self.n_hidden
        for j in range(self.n_hidden):  # acceptable: neuron-loop
            error = 0.0
            for k in range(self.n_out):
                error += output_delta[k] * self.w2[j, k]
            hidden_delta[j] = error * self.hidden[j] * (1.0 - self.hidden[j])
        for j in range(self.n_hidden):  # acceptable: neuron-loop
            for k in range(self.n_out):
                self.w2[j, k] -= self.rate * output_delta[k] * self.hidden[j]
        for i in range(self.n_in):  # planted: neuron-loop
            for j in range(self.n_hidden):
                self.w1[i, j] -= self.rate * hidden_delta[j] * x[i]
        return sum(0.5 * (self.output[k] - target[k]) ** 2 for k in range(self.n_out))  # acceptable: neuron-loop


def main():
    rng = np.random.default_rng(10)
    labels = rng.integers(0, 4, 160)
    X = rng.normal(0.0, 1.0, (4, 40))[labels] + rng.normal(0.0, 0.5, (160, 40))
    T = np.eye(4)[labels]
    net = MLP(40, 12, 4)
    for epoch in range(2):
        error = 0.0
        for x, t in zip(X, T):
            error += net.learn(x, t)
        print("epoch", epoch, "error", round(float(error), 4))
    print(float(error), float(np.abs(net.w1).sum()), float(np.abs(net.w2).sum()))


if __name__ == "__main__":
    main()
