"""The whole batch as matrices: no loop over samples, but five other flaws.

Idea: the samples of a batch become the columns of one matrix, A[0] = X[index].T of shape (n_0, m). One matrix product
per layer then does the work of m products with vectors.

What changes against `per_sample`: the loop over the samples is gone, and vectors (n_l,) become matrices (n_l, m).

Why it is faster: the parent calls NumPy about 20 times per sample and layer. Here the number of calls does not depend
on m, and a matrix product loads each weight into the cache once and uses it m times.

What is still slow (each later rung removes one of these):

- All arrays are float64, although float32 is precise enough.                   (float32)
- backward computes the delta of the input layer, which nobody uses.            (no_input_delta)
- The copy below the bias row mixes two memory orders.                          (contiguous)
- backward evaluates the activation on Z[l] a second time.                      (cached)
- forward copies every A[l] to add a row of ones, and backward does it again.   (sliced)

Source: the state before "step I" of the series that workload `stepiii` reproduces, and the matrix form in the answer
to `persample`. The question there adds the gradient of the output layer twice. The defect is not copied.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "per_sample"


def add_bias_row(A):
    """Return a new array (n + 1, m): the bias neuron, a row of ones, on top of A (n, m)."""
    stacked = np.ones((A.shape[0] + 1, A.shape[1]), A.dtype)
    stacked[1:] = A
    return stacked


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
        self.dW = [None] * (L + 1)
        self.Z = [None] * (L + 1)
        self.A = [None] * (L + 1)
        self.A_bias = [None] * L

    def fetch_batch(self, X, Y, index):
        self.A[0] = self.Z[0] = X[index].T  # phase: gather
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
        for l in reversed(range(self.L + 1)):
            if l == self.L:
                delta = (self.A[l] - self.Y) / m  # phase: error
                if self.network.delta_needs_derivative:
                    delta = delta * self.activation[l].derivative_from_Z(self.Z[l])  # phase: derivative
            else:
                Z = add_bias_row(self.Z[l])  # phase: bias row
                D = self.activation[l].derivative_from_Z(Z)  # phase: derivative
                propagated = self.W[l + 1].T @ delta  # phase: propagate
                delta = (propagated * D)[1:]  # phase: multiply
            if l > 0:
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
