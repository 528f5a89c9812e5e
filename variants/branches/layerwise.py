"""Layer by layer, cumulative: update the last layer, then the last two, and so on down to the first.

One call of train_step is one epoch of what its author calls optimized propagation. With L = 3 weight layers:

    1   forward through 1, 2, 3    gradients of layer  3         update         3
    2   forward through       3    gradients of layers 2, 3      update      2, 3
    3   forward through    2, 3    gradients of layers 1, 2, 3   update   1, 2, 3

Layer l is updated l times, the whole network L (L + 1) / 2 times a layer, where backpropagation makes L updates. Every
gradient is exact at the weights of its moment: the layers above have moved, so they are run again, and what comes up
from the layers below is still true, for those have not moved in this epoch. That is what makes the extra work small:
the first layer, most of the network when the input is wide, is run and updated once, as ever.

What the text leaves open, and what is done here:

- which activations are computed again: those of the layers that have just moved; A below them is kept from the forward
  pass at the start of the epoch
- where the loss gradient is taken: at the output after the last partial update, not at the start of the epoch
- "update all the weights once": the sentence contradicts the updates before it. This file takes the updates at their
  word (the last layers move in every stage), `layerwise_once` the sentence
- the loss that is shown: that of the full forward pass, before anything has moved. The losses in between are not
  needed for the gradients, and not computed

Called singly, the five methods make a standard step; only train_step has the schedule. So the loss does not follow the
parent's, and is not compared with it; instead each partial gradient is, with finite differences (`partial_steps`).

Source: "optimized propagation", workload `optprop`.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "sliced"


class MLP:
    """Lists are indexed by the layer l = 0..L; W[l] (n_l, 1 + n_{l-1}) holds the biases b[l] in its column 0."""

    DTYPE = np.float64

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

    def forward(self, lowest=1):
        for l in range(lowest, self.L + 1):
            Z = self.W[l][:, 1:] @ self.A[l - 1]  # phase: weighted sum
            Z += self.W[l][:, :1]  # phase: bias
            self.A[l] = self.activation[l].value(Z)  # phase: activation

    def loss(self):
        return self.mean_loss(self.A[self.L], self.Y)  # phase: cost

    def backward(self, layers=None):
        m = self.Y.shape[1]
        layers = layers or range(1, self.L + 1)
        for l in reversed(range(layers[0], self.L + 1)):
            if l == self.L:
                delta = (self.A[l] - self.Y) / m  # phase: error
                if self.network.delta_needs_derivative:
                    delta = delta * self.activation[l].derivative_from_A(self.A[l])  # phase: derivative
            else:
                D = self.activation[l].derivative_from_A(self.A[l])  # phase: derivative
                propagated = self.W[l + 1][:, 1:].T @ delta  # phase: propagate
                delta = propagated * D  # phase: multiply
            if l in layers:
                self.dW[l][:, 1:] = delta @ self.A[l - 1].T  # phase: gradient
                self.dW[l][:, 0] = delta.sum(axis=1)  # phase: gradient
                self.regularize(l)  # phase: regularize

    def regularize(self, l):
        if self.network.l2 > 0:
            self.dW[l][:, 1:] += self.network.l2 * self.W[l][:, 1:]
        if self.network.l1 > 0:
            self.dW[l][:, 1:] += self.network.l1 * np.sign(self.W[l][:, 1:])

    def update(self, layers=None):
        for l in layers or range(1, self.L + 1):
            self.velocity[l] = self.network.momentum * self.velocity[l] + self.dW[l]  # phase: momentum
            self.W[l] -= self.network.rate * self.velocity[l]  # phase: descend

    def partial_steps(self, X, Y, index):
        """One epoch; stops before every partial update and tells which layers it is of."""
        self.fetch_batch(X, Y, index)
        self.forward()
        self.epoch_loss = self.loss()
        for lowest in reversed(range(1, self.L + 1)):
            layers = range(lowest, self.L + 1)
            self.backward(layers)
            yield layers
            self.update(layers)
            if lowest > 1:
                self.forward(lowest)

    def train_step(self, X, Y, index):
        for _ in self.partial_steps(X, Y, index):
            pass
        return self.epoch_loss

    def parameters(self):
        return [(W[:, 1:].copy(), W[:, 0].copy()) for W in self.W[1:]]

    def gradients(self):
        return [(dW[:, 1:].copy(), dW[:, 0].copy()) for dW in self.dW[1:]]

    def predict(self, X):
        A = X.T
        for l in range(1, self.L + 1):
            A = self.activation[l].value(self.W[l][:, 1:] @ A + self.W[l][:, :1])
        return A.T
