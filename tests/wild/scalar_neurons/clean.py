"""Back-propagation in vectors; one sample, one update."""

import numpy as np


class MLP:
    def __init__(self, n_in, n_hidden, n_out, rate=0.3):
        rng = np.random.default_rng(6)
        self.rate = np.float32(rate)
        self.w1 = rng.normal(0.0, 0.4, (n_in, n_hidden)).astype(np.float32)
        self.w2 = rng.normal(0.0, 0.4, (n_hidden, n_out)).astype(np.float32)

    def feed_forward(self, x):
        self.hidden = 1.0 / (1.0 + np.exp(-(x @ self.w1)))
        self.output = 1.0 / (1.0 + np.exp(-(self.hidden @ self.w2)))

    def learn(self, x, target):  # step
        self.feed_forward(x)
        difference = self.output - target
        output_delta = difference * self.output * (1.0 - self.output)
        hidden_delta = (self.w2 @ output_delta) * self.hidden * (1.0 - self.hidden)
        self.w2 -= np.outer(self.hidden, self.rate * output_delta)
        self.w1 -= np.outer(x, self.rate * hidden_delta)
        return 0.5 * (difference @ difference)


def main():
    rng = np.random.default_rng(10)
    labels = rng.integers(0, 4, 160)
    X = (rng.normal(0.0, 1.0, (4, 40))[labels] + rng.normal(0.0, 0.5, (160, 40))).astype(np.float32)
    T = np.eye(4, dtype=np.float32)[labels]
    net = MLP(40, 12, 4)
    for epoch in range(2):
        error = 0.0
        for x, t in zip(X, T):
            error += net.learn(x, t)
        print("epoch", epoch, "error", round(float(error), 4))
    print(float(error), float(np.abs(net.w1).sum()), float(np.abs(net.w2).sum()))


if __name__ == "__main__":
    main()
