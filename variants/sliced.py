"""Bias slices: cut the bias column out of W instead of stacking rows on A.

Idea: the row of ones on top of A is only there to bring the bias into the matrix product. It costs a copy of every
A[l] in forward, and another copy in backward, whose extra row is cut off again at once. Leave A[l] as it is, and take
slices of W[l] (n_l, 1 + n_{l-1}). A slice is a view: it costs nothing, because it is only a pointer and two strides.

    W[l][:, 1:]   The weights. They are neither in C nor in F order, because the next row's bias follows each row. But
                  the elements of a row are neighbours, and BLAS needs nothing more (the distance between two rows is
                  its argument lda).
    W[l][:, :1]   The biases: a column, which NumPy adds to all samples.
    A[0]          X[index].T itself, in F order. The gather is its only copy, so no bias row is left that could mix
                  two memory orders (see `contiguous`).
    A[l].T        (m, n_l) in F order: a view of A[l], which BLAS reads as a transposed factor.

What changes against `cached`: stacking goes and slices come. The gradient of the biases becomes a sum over the
samples.

Why it is faster: no array of the batch is copied any more.

Source: second half of "step III" of the series that workload `stepiii` reproduces: t1, and the slice in t4. That
source keeps the row of ones in forward; here it is removed there too.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "cached"


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
        self.dW = [None] + [np.empty_like(W) for W in self.W[1:]]
        self.A = [None] * (L + 1)

    def fetch_batch(self, X, Y, index):
        self.A[0] = X[index].T  # phase: gather
        self.Y = Y[index].T  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            Z = self.W[l][:, 1:] @ self.A[l - 1]  # phase: weighted sum
            Z += self.W[l][:, :1]  # phase: bias
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
                D = self.activation[l].derivative_from_A(self.A[l])  # phase: derivative
                propagated = self.W[l + 1][:, 1:].T @ delta  # phase: propagate
                delta = propagated * D  # phase: multiply
            self.dW[l][:, 1:] = delta @ self.A[l - 1].T  # phase: gradient
            self.dW[l][:, 0] = delta.sum(axis=1)  # phase: gradient
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
            A = self.activation[l].value(self.W[l][:, 1:] @ A + self.W[l][:, :1])
        return A.T
