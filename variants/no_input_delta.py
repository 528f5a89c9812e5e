"""No delta for the input layer: stop the backward loop one layer earlier.

Idea: delta[l] is needed for two things, the gradient of W[l] and delta[l - 1]. Layer 0 has no weights and no layer
below it, so nobody uses delta[0].

What changes against `float32`: the loop in backward ends at layer 1, and the test `if l > 0` is no longer needed.
Z[0] is no longer kept.

Why it is faster: delta[0] is the most expensive of all, because the input layer is the widest one (784 of the 894
neurons in 784-70-30-10). The parent evaluates the derivative of the activation for every pixel of every sample.

Source: "step I" of the series that workload `stepiii` reproduces. It is called "reduction of back propagation" there.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "float32"


def add_bias_row(A):
    """Return a new array (n + 1, m): the bias neuron, a row of ones, on top of A (n, m)."""
    stacked = np.ones((A.shape[0] + 1, A.shape[1]), A.dtype)
    stacked[1:] = A
    return stacked


class MLP:
    """Lists are indexed by the layer l = 0..L. Column 0 of W[l] (n_l, 1 + n_{l-1}) holds the biases b[l]."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        self.network = network
        self.L = L = network.depth
        self.activation = [ACTIVATIONS[network.hidden]] * L + [ACTIVATIONS[network.output]]
        self.mean_loss = loss_of(network)
        self.W = [None] + [np.hstack((b[:, None], W)) for W, b in parameters]
        self.velocity = [None] + [np.zeros_like(W) for W in self.W[1:]]
        self.dW = [None] * (L + 1)
        self.Z = [None] * (L + 1)
        self.A = [None] * (L + 1)
        self.A_bias = [None] * L

    def fetch_batch(self, X, Y, index):
        self.A[0] = X[index].T  # phase: gather
        self.Y = Y[index].T  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            self.A_bias[l - 1] = add_bias_row(self.A[l - 1])  # phase: bias row
            self.Z[l] = self.W[l] @ self.A_bias[l - 1]  # phase: weighted sum
            self.A[l] = self.activation[l].value(self.Z[l])  # phase: activation

    def loss(self):
        return self.mean_loss(self.A[self.L], self.Y)  # phase: cost

    def backward(self):
        m = self.Y.shape[1]
        for l in reversed(range(1, self.L + 1)):
            if l == self.L:
                delta = (self.A[l] - self.Y) / m  # phase: error
                if self.network.delta_needs_derivative:
                    delta = delta * self.activation[l].derivative_from_Z(self.Z[l])  # phase: derivative
            else:
                Z = add_bias_row(self.Z[l])  # phase: bias row
                D = self.activation[l].derivative_from_Z(Z)  # phase: derivative
                propagated = self.W[l + 1].T @ delta  # phase: propagate
                delta = (propagated * D)[1:]  # phase: multiply
            self.dW[l] = delta @ self.A_bias[l - 1].T  # phase: gradient
            self.regularize(l)  # phase: regularize

    def regularize(self, l):
        if self.network.l2 > 0:
            self.dW[l][:, 1:] += self.network.l2 * self.W[l][:, 1:]
        if self.network.l1 > 0:
            self.dW[l][:, 1:] += self.network.l1 * np.sign(self.W[l][:, 1:])

    def update(self):
        for l in range(1, self.L + 1):
            self.velocity[l] = self.network.momentum * self.velocity[l] + self.dW[l]  # phase: momentum
            self.W[l] -= self.network.rate * self.velocity[l]  # phase: descend

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def parameters(self):
        return [(W[:, 1:].copy(), W[:, 0].copy()) for W in self.W[1:]]

    def gradients(self):
        return [(dW[:, 1:].copy(), dW[:, 0].copy()) for dW in self.dW[1:]]

    def predict(self, X):
        A = X.T
        for l in range(1, self.L + 1):
            A = self.activation[l].value(self.W[l] @ add_bias_row(A))
        return A.T
