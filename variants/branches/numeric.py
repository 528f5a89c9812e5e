"""The gradient without a backward pass: shift a weight, look what the loss does, shift it back.

This needs no calculus at all. The slope of a function is the difference of two of its values over the distance of the
two places, so every weight and every bias is moved by a small h up and down:

    dJ/dw  =  (J(w + h) - J(w - h)) / (2 h)        J: mean loss of the batch, plus the penalty

Why it is slow: each slope costs two forward passes of the whole batch. A network with P parameters needs 2 P of them
for one step, where backpropagation needs a forward pass and some two more of work, whatever P is.

Why it is here: it cannot be wrong in the ways in which a backward pass goes wrong. A forgotten transpose, a factor 2,
a bias that is regularized: none of that can enter. So it is what backward passes are checked against.

How small is h? The central difference errs by h**2 times the third derivative, which wants h small, and by the rounding
of J over h, which wants h large. In double precision both are near 1e-10 at h = 1e-5. In single precision there is no
good h: J has 7 digits, and the difference of two such numbers has hardly any. So this file computes in float64 in any
case, and rounds only what it gives away.

Source: the question behind workload `forever`, whose author computed every weight's delta so, for 28 minutes a pass;
the answer keeps the method as the one test to have.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = None

H = 1e-5


class MLP:
    """Lists are indexed by the layer l = 0..L; W[l] (n_l, 1 + n_{l-1}) holds the biases b[l] in its column 0."""

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
        """How the objective changes with W[l][j, i]: two forward passes."""
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
