"""One sample at a time: matrix times vector, in a Python loop over the batch.

Textbooks describe backpropagation in this way, and most people write it like this first: take a sample, send it
forward, send its error back, add its gradient to the sum, and take the next one.

Why it is slow: every array operation handles one sample. A batch of 500 samples and three layers needs some 30,000
calls into NumPy, and each call costs about a microsecond before it computes anything. Each product of a matrix with a
vector reads all weights from memory and uses every weight once. The outer product writes a matrix as large as W[l]
for every sample, only to add it to the sum.

What changes against `scalar`: the loops over the neurons and over the weights become operations on arrays. The file
also has the flaws of `naive`, so that the next rung differs in the loop alone.

Source: workload `persample`. In that source the gradient of the output layer is added twice. The defect is not copied
here, because the gradient check would fail.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "scalar"


def add_bias(a):
    """Return a new vector (n + 1,): the bias neuron, a one, before a (n,)."""
    stacked = np.ones(a.shape[0] + 1, a.dtype)
    stacked[1:] = a
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

    def fetch_batch(self, X, Y, index):
        self.X = X[index]  # phase: gather
        self.Y = Y[index]  # phase: gather

    def forward(self):
        self.samples = []
        for x in self.X:
            z = [x]
            a = [x]
            a_bias = []
            for l in range(1, self.L + 1):
                a_bias.append(add_bias(a[l - 1]))  # phase: bias row
                z.append(self.W[l] @ a_bias[l - 1])  # phase: weighted sum
                a.append(self.activation[l].value(z[l]))  # phase: activation
            self.samples.append((z, a, a_bias))

    def loss(self):
        total = 0.0
        for (_, a, _), y in zip(self.samples, self.Y, strict=True):
            total += self.mean_loss(a[self.L][:, None], y[:, None])  # phase: cost
        return total / len(self.Y)

    def backward(self):
        m = len(self.Y)
        self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]
        for (z, a, a_bias), y in zip(self.samples, self.Y, strict=True):
            for l in reversed(range(self.L + 1)):
                if l == self.L:
                    delta = (a[l] - y) / m  # phase: error
                    if self.network.delta_needs_derivative:
                        delta = delta * self.activation[l].derivative_from_Z(z[l])  # phase: derivative
                else:
                    z_bias = add_bias(z[l])  # phase: bias row
                    d = self.activation[l].derivative_from_Z(z_bias)  # phase: derivative
                    propagated = self.W[l + 1].T @ delta  # phase: propagate
                    delta = (propagated * d)[1:]  # phase: multiply
                if l > 0:
                    self.dW[l] += np.outer(delta, a_bias[l - 1])  # phase: gradient
        for l in range(1, self.L + 1):
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
        outputs = []
        for a in X:
            for l in range(1, self.L + 1):
                a = self.activation[l].value(self.W[l] @ add_bias(a))
            outputs.append(a)
        return np.array(outputs)
