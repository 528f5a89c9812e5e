"""Layer by layer, cumulative: update the last layer, then the last two, then more.

Idea: one call of train_step is one epoch of a method that its author calls optimized propagation. With L = 3 weight
layers:

    1   forward through 1, 2, 3    gradients of layer  3         update         3
    2   forward through       3    gradients of layers 2, 3      update      2, 3
    3   forward through    2, 3    gradients of layers 1, 2, 3   update   1, 2, 3

Layer l is updated l times, so there are L (L + 1) / 2 updates of a layer, where backpropagation makes L. Every
gradient is exact for the weights at its moment. The upper layers have changed, so their forward pass is repeated. The
lower layers have not changed in this epoch, so their A[l] are still correct. This keeps the additional work small:
the first layer, which is most of the network if the input is wide, is computed and updated once, as usual.

The source leaves some questions open. This file answers them as follows:

- Which activations are computed again? Those of the layers that have just changed.
- Where is the gradient of the loss taken? At the output after the latest partial update, not at the start of the epoch.
- What does "update all the weights once" mean? The sentence contradicts the updates that are described before it. This
  file follows the description (the last layers change in every stage); `layerwise_once` follows the sentence.
- Which loss is reported? That of the full forward pass, before any weight has changed. The losses in between are not
  needed for the gradients, and are not computed.

What changes against `sliced`: the schedule in train_step. The five methods, called one by one, make a standard step.
The loss therefore does not follow that of the parent and is not compared with it. Instead, each partial gradient is
compared with finite differences (see `partial_steps`).

Source: "optimized propagation", workload `optprop`.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "sliced"


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
        """Make one epoch; yield the layers of every partial update before it is made."""
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
