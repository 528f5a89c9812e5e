"""Memory order: the copy for the bias row no longer mixes C and F order.

The table shows how each array lies in memory. In C order the elements of a row are neighbours, in F order those of a
column:

    X[index]                     (m, n_0)       C   the gather copies whole rows
    A[0] = X[index].T            (n_0, m)       F   a view: only the strides are exchanged
    add_bias_row(A[0]), parent   (1 + n_0, m)   C   np.ones is in C order, so the copy has to transpose
    add_bias_row(A[0]), here     (1 + n_0, m)   F   the copy reads and writes along memory
    Z[l] = W[l] @ ...            (n_l, m)       C   the result of a product is always in C order
    add_bias_row(A[l]), l > 0    (1 + n_l, m)   C   in both files

Idea: give the stacked array the memory order of the array that is copied into it.

What changes against `no_input_delta`: np.ones gets the argument `order`.

Why it is faster: in the parent, the copy of A[0] reads memory in one order and writes it in the other, so every
element comes from another cache line. With the same order on both sides, the copy uses whole cache lines. The product
W[1] @ A_bias[0] is as fast as before, because BLAS can read a transposed factor.

Source: "step II" of the series that workload `stepiii` reproduces. The mixed orders took more than half of the
forward pass of large batches there. variants/README.md shows how much they cost today, and why.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "no_input_delta"


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
