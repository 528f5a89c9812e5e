"""The sigmoid through tanh, which NumPy evaluates in SIMD registers.

Idea: the sigmoid is a shifted and scaled hyperbolic tangent:

    1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2

What changes against `sliced`: one function, and the table of activations that contains it. The derivative A (1 - A)
is the same.

Why it is faster: scipy's expit calls the exp of the C library for one number at a time, because it is exact to the
last bit even for very small results. np.tanh works on as many numbers at once as a register holds: 8 in float32 with
AVX2, 16 with AVX-512. The three cheap passes around it (halve, halve, add) cost less than the calls that they
replace.

Limits: the gain depends on the registers of the CPU. The table shows thousand million float32 sigmoids per second:

                by expit   by exp   by tanh
    AVX-512       0.37      1.46     2.43
    AVX2          0.24      0.55     0.34      NumPy's tanh is slower than its exp here

The absolute error is as small as before. But a very small result is lost when it is added to 1: below z = -17 a
float32 sigmoid is 0 here, and 4e-8 in the parent.

Source: the project's own measurements. variants/README.md shows what this rung gains.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, Activation, loss_of

PARENT = "sliced"


def sigmoid(Z):
    """Return 1 / (1 + exp(-Z)) = (1 + tanh(Z / 2)) / 2."""
    A = np.tanh(0.5 * Z)
    A *= 0.5
    A += 0.5
    return A


EXPIT = ACTIVATIONS["sigmoid"]
TANH_FORM = ACTIVATIONS | {
    "sigmoid": Activation("sigmoid", sigmoid, EXPIT.derivative_from_Z, EXPIT.derivative_from_A),
}


class MLP:
    """Lists are indexed by the layer l = 0..L. Column 0 of W[l] (n_l, 1 + n_{l-1}) holds the biases b[l]."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        self.network = network
        self.L = L = network.depth
        self.activation = [TANH_FORM[network.hidden]] * L + [TANH_FORM[network.output]]
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
