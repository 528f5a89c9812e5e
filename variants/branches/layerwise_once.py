"""Layer by layer, each once: update the last layer first and the first one last.

Idea: one call of train_step is one epoch. With L = 3 weight layers:

    1   forward through 1, 2, 3    gradient of layer 3     update 3
    2   forward through       3    gradient of layer 2     update 2
    3   forward through    2, 3    gradient of layer 1     update 1

Each layer is updated once, so there are as many updates as in backpropagation. But before the gradient of a layer is
taken, the layers above it have changed. This is called block coordinate descent, from the output to the input.

What changes against `layerwise`: backward and update handle one layer. The error is still propagated through all the
layers above it, with their new weights. The open questions of the source are answered as in the parent, except for
the schedule: this file follows the sentence "update all the weights once".

Source: "optimized propagation", workload `optprop`.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "layerwise"


class MLP:
    """Lists are indexed by the layer l = 0..L. Column 0 of W[l] (n_l, 1 + n_{l-1}) holds the biases b[l]."""

    DTYPE = np.float64

    def __init__(self, network, parameters):
        self.network = network
        self.L = L = network.depth
        self.activation = [ACTIVATIONS[network.hidden]] * L + [ACTIVATIONS[network.output]]
        self.mean_loss = loss_of(network)
        self.W = [None] + [np.hstack((b[:, None], W)) for W, b in parameters]
        self.velocity = [None] + [np.zeros_like(W) for W in self.W[1:]]
        self.dW = [None] + [np.empty_like(W) for W in self.W[1:]]
        self.A = [None] * (L + 1)

    def fetch_batch(self, X, Y, index):
        self.A[0] = X[index].T  # phase: gather
        self.Y = Y[index].T  # phase: gather

    def forward(self, lowest=1):
        for l in range(lowest, self.L + 1):
            Z = self.W[l][:, 1:] @ self.A[l - 1]  # phase: weighted sum
            Z += self.W[l][:, :1]  # phase: bias
            self.A[l] = self.activation[l].value(Z)  # phase: activation

    def loss(self):
        return self.mean_loss(self.A[self.L], self.Y)  # phase: cost

    def backward(self, layers=None):
        m = self.Y.shape[1]
        layers = layers or range(1, self.L + 1)
        for l in reversed(range(layers[0], self.L + 1)):
            if l == self.L:
                delta = (self.A[l] - self.Y) / m  # phase: error
                if self.network.delta_needs_derivative:
                    delta = delta * self.activation[l].derivative_from_A(self.A[l])  # phase: derivative
            else:
                D = self.activation[l].derivative_from_A(self.A[l])  # phase: derivative
                propagated = self.W[l + 1][:, 1:].T @ delta  # phase: propagate
                delta = propagated * D  # phase: multiply
            if l in layers:
                self.dW[l][:, 1:] = delta @ self.A[l - 1].T  # phase: gradient
                self.dW[l][:, 0] = delta.sum(axis=1)  # phase: gradient
                self.regularize(l)  # phase: regularize

    def regularize(self, l):
        if self.network.l2 > 0:
            self.dW[l][:, 1:] += self.network.l2 * self.W[l][:, 1:]
        if self.network.l1 > 0:
            self.dW[l][:, 1:] += self.network.l1 * np.sign(self.W[l][:, 1:])

    def update(self, layers=None):
        for l in layers or range(1, self.L + 1):
            self.velocity[l] = self.network.momentum * self.velocity[l] + self.dW[l]  # phase: momentum
            self.W[l] -= self.network.rate * self.velocity[l]  # phase: descend

    def partial_steps(self, X, Y, index):
        """Make one epoch; yield the layers of every partial update before it is made."""
        self.fetch_batch(X, Y, index)
        self.forward()
        self.epoch_loss = self.loss()
        for lowest in reversed(range(1, self.L + 1)):
            layers = range(lowest, lowest + 1)
            self.backward(layers)
            yield layers
            self.update(layers)
            if lowest > 1:
                self.forward(lowest)

    def train_step(self, X, Y, index):
        for _ in self.partial_steps(X, Y, index):
            pass
        return self.epoch_loss

    def parameters(self):
        return [(W[:, 1:].copy(), W[:, 0].copy()) for W in self.W[1:]]

    def gradients(self):
        return [(dW[:, 1:].copy(), dW[:, 0].copy()) for dW in self.dW[1:]]

    def predict(self, X):
        A = X.T
        for l in range(1, self.L + 1):
            A = self.activation[l].value(self.W[l][:, 1:] @ A + self.W[l][:, :1])
        return A.T
