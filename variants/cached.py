"""The derivative from A, which forward has stored: no second evaluation on Z.

Idea: the derivative of every common activation is simple arithmetic on the value of the activation:

    sigmoid   A (1 - A)        tanh   1 - A**2        relu   A > 0

forward has computed A[l] and stored it, because the gradient needs it anyway.

What changes against `contiguous`: derivative_from_Z(Z) becomes derivative_from_A(A). Nobody needs Z[l] after that, so
it is no longer stored.

Why it is faster: the exponential in a sigmoid costs as much as about ten multiplications. The parent evaluates it
twice per neuron and sample, and it is the most expensive elementwise operation of the step.

Source: first half of "step III" of the series that workload `stepiii` reproduces. It is t2 there, "by far dominant
for big batches".
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "contiguous"


def add_bias_row(A):
    """Return a new array (n + 1, m): the bias neuron, a row of ones, on top of A (n, m)."""
    order = "F" if A.flags.f_contiguous else "C"
    stacked = np.ones((A.shape[0] + 1, A.shape[1]), A.dtype, order=order)
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
        self.A = [None] * (L + 1)
        self.A_bias = [None] * L

    def fetch_batch(self, X, Y, index):
        self.A[0] = X[index].T  # phase: gather
        self.Y = Y[index].T  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            self.A_bias[l - 1] = add_bias_row(self.A[l - 1])  # phase: bias row
            Z = self.W[l] @ self.A_bias[l - 1]  # phase: weighted sum
            self.A[l] = self.activation[l].value(Z)  # phase: activation

    def loss(self):
        return self.mean_loss(self.A[self.L], self.Y)  # phase: cost

    def backward(self):
        m = self.Y.shape[1]
        for l in reversed(range(1, self.L + 1)):
            if l == self.L:
                delta = (self.A[l] - self.Y) / m  # phase: error
                if self.network.delta_needs_derivative:
                    delta = delta * self.activation[l].derivative_from_A(self.A[l])  # phase: derivative
            else:
                A = add_bias_row(self.A[l])  # phase: bias row
                D = self.activation[l].derivative_from_A(A)  # phase: derivative
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
