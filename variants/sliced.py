"""Bias slices: cut the bias column out of W instead of stacking rows on A.

Idea: a row of ones on top of A only lets the bias ride along in the matrix product. It costs a copy of every
activation matrix in forward, and another in backward, whose row is cut off again at once. W[l] (n_l, 1 + n_{l-1}) stays
as it is; a slice of it costs nothing, since a view is a pointer and two strides:

    W[l][:, 1:]   the weights. Neither C- nor F-contiguous, for a row is followed by the next row's bias; but the
                  elements of a row are neighbours, and that is all that BLAS asks (it calls the row stride lda)
    W[l][:, :1]   the biases, a column that broadcasts over the samples
    A[0]          X[index].T itself: F, and now it goes into the product as it is. The gather is its only copy, so
                  this rung has no bias row left that could collide with it (see contiguous)
    A[l].T        (m, n_l): F, a view of the C-contiguous A[l]; BLAS reads it as a transposed factor

What changes: stacking goes, slices come; the gradient of the biases becomes a sum over the samples.

Source: second half of "step III" of the series behind workload `stepiii`: t1, and the slice in t4. There the row is
left in forward; here it goes there too.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "cached"


class MLP:
    """Lists are indexed by the layer l = 0..L; W[l] (n_l, 1 + n_{l-1}) holds the biases b[l] in its column 0."""

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
