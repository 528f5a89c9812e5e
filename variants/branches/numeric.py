"""The gradient without a backward pass: change a weight, see how the loss changes.

Idea: this needs no calculus. The slope of a function is approximately the difference of two of its values, divided by
the distance between the two places. So move every weight and every bias up and down by a small h:

    dJ/dw  =  (J(w + h) - J(w - h)) / (2 h)        J: mean loss of the batch, plus the penalty

Why it is slow: each slope costs two forward passes of the whole batch. A network with P parameters needs 2 P forward
passes for one step. Backpropagation needs one forward pass and about twice that work in addition, whatever P is.

What it is good for: it cannot contain the mistakes of a backward pass, such as a forgotten transpose, a factor of 2,
or a penalty on the biases. Therefore the backward passes of the other variants are checked against it.

How small should h be? The error of the central difference is h**2 times the third derivative, so h should be small.
But the rounding error of J is divided by h, so h should be large. In double precision both errors are near 1e-10 at h
= 1e-5. In single precision no h is good, because J has only 7 digits and most of them cancel in the difference. So
this file always computes in float64, and rounds only its results.

Source: the question of workload `forever`. Its author computed the delta of every weight in this way, which took 28
minutes per pass. The answer keeps the method as the one test that everybody should have.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = None

H = 1e-5


class MLP:
    """Lists are indexed by the layer l = 0..L. Column 0 of W[l] (n_l, 1 + n_{l-1}) holds the biases b[l]."""

    DTYPE = np.float64

    def __init__(self, network, parameters):
        self.network = network
        self.dtype = parameters[0][0].dtype
        self.L = L = network.depth
        self.activation = [ACTIVATIONS[network.hidden]] * L + [ACTIVATIONS[network.output]]
        self.mean_loss = loss_of(network)
        self.W = [None] + [np.hstack((b[:, None], W)).astype(np.float64) for W, b in parameters]
        self.velocity = [None] + [np.zeros_like(W) for W in self.W[1:]]
        self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]

    def fetch_batch(self, X, Y, index):
        self.X = X[index].T.astype(np.float64)  # phase: gather
        self.Y = Y[index].T.astype(np.float64)  # phase: gather

    def forward(self):
        A = self.X
        for l in range(1, self.L + 1):
            Z = self.W[l][:, 1:] @ A + self.W[l][:, :1]  # phase: weighted sum
            A = self.activation[l].value(Z)  # phase: activation
        self.output = A

    def loss(self):
        return self.mean_loss(self.output, self.Y)  # phase: cost

    def objective(self):
        self.forward()
        penalty = 0.0
        for W in self.W[1:]:
            penalty += self.network.l1 * np.abs(W[:, 1:]).sum() + self.network.l2 / 2 * np.square(W[:, 1:]).sum()
        return self.loss() + penalty

    def slope(self, l, j, i):
        """Return how the objective changes with W[l][j, i]. This takes two forward passes."""
        kept = self.W[l][j, i]
        self.W[l][j, i] = kept + H
        above = self.objective()
        self.W[l][j, i] = kept - H
        below = self.objective()
        self.W[l][j, i] = kept
        return (above - below) / (2 * H)

    def backward(self):
        for l in range(1, self.L + 1):
            for j, i in np.ndindex(self.W[l].shape):
                self.dW[l][j, i] = self.slope(l, j, i)  # phase: gradient

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
        return [(W[:, 1:].astype(self.dtype), W[:, 0].astype(self.dtype)) for W in self.W[1:]]

    def gradients(self):
        return [(dW[:, 1:].astype(self.dtype), dW[:, 0].astype(self.dtype)) for dW in self.dW[1:]]

    def predict(self, X):
        A = X.T.astype(np.float64)
        for l in range(1, self.L + 1):
            A = self.activation[l].value(self.W[l][:, 1:] @ A + self.W[l][:, :1])
        return A.T.astype(X.dtype)
