"""A layer is an object: it keeps its weights, what went in, and its gradients.

The network has become a list of layers that know nothing of each other. Forward hands A from one to the next, backward
hands dA, the derivative of the loss by the layer's output, from each to the one before it. This is how the frameworks
cut it, because another kind of layer then needs no change anywhere else.

What changes against the lists of `scalar`: the weights of a layer are one matrix W (n, n_in), the samples of a batch
stand side by side as columns of X (n_in, m), and each formula is one line for all neurons and all samples. dW and db
are means over the batch, hence the 1 / m: the cost is a mean, and a sum would let the step grow with the batch.

What the cut costs. A layer does not know that it is the last one, so dA comes from the loss and is multiplied by the
derivative of the activation here: with a sigmoid and cross-entropy (A - Y) / (A (1 - A)) is divided by what it is then
multiplied with. Where the two cancel, this file hands over dZ = A - Y at once, as loss functions "from logits" do. Nor
does the first layer know that it is the first one: it computes a dA for the input that nobody wants (as `naive` does),
which for 784 inputs is its dearest line but one.

Source: the layer class of workload `liu`. Its weights start at 0.01 times a normal number; here they are what the run
gives. It evaluates the derivative on Z anew, and so does this.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "scalar"


class DenseLayer:
    """Weights W (n, n_in), biases b (n, 1), and what forward has to leave for backward."""

    def __init__(self, W, b, activation, network):
        self.W = W.copy()
        self.b = b[:, None].copy()
        self.activation = activation
        self.network = network
        self.velocity_W = np.zeros_like(self.W)
        self.velocity_b = np.zeros_like(self.b)

    def forward(self, X):
        self.X = X
        self.Z = self.W @ X + self.b  # phase: weighted sum
        return self.activation.value(self.Z)  # phase: activation

    def backward(self, dA):
        dZ = dA * self.activation.derivative_from_Z(self.Z)  # phase: derivative
        return self.backward_from_Z(dZ)

    def backward_from_Z(self, dZ):
        m = dZ.shape[1]
        self.dW = dZ @ self.X.T / m  # phase: gradient
        self.db = dZ.sum(axis=1, keepdims=True) / m  # phase: gradient
        self.regularize()  # phase: regularize
        return self.W.T @ dZ  # phase: propagate

    def regularize(self):
        if self.network.l2 > 0:
            self.dW += self.network.l2 * self.W
        if self.network.l1 > 0:
            self.dW += self.network.l1 * np.sign(self.W)

    def update(self):
        self.velocity_W = self.network.momentum * self.velocity_W + self.dW  # phase: momentum
        self.velocity_b = self.network.momentum * self.velocity_b + self.db  # phase: momentum
        self.W -= self.network.rate * self.velocity_W  # phase: descend
        self.b -= self.network.rate * self.velocity_b  # phase: descend


class MLP:
    """A list of layers, the first one next to the input."""

    DTYPE = np.float64

    def __init__(self, network, parameters):
        self.network = network
        names = [network.hidden] * (network.depth - 1) + [network.output]
        self.layers = [
            DenseLayer(W, b, ACTIVATIONS[name], network) for (W, b), name in zip(parameters, names, strict=True)
        ]
        self.mean_loss = loss_of(network)

    def fetch_batch(self, X, Y, index):
        self.X = X[index].T  # phase: gather
        self.Y = Y[index].T  # phase: gather

    def forward(self):
        A = self.X
        for layer in self.layers:
            A = layer.forward(A)
        self.A = A

    def loss(self):
        return self.mean_loss(self.A, self.Y)  # phase: cost

    def backward(self):
        error = self.A - self.Y  # phase: error
        last, *others = reversed(self.layers)
        # Squared error behind a sigmoid keeps its derivative; in every other pair, error is dZ already.
        dA = last.backward(error) if self.network.delta_needs_derivative else last.backward_from_Z(error)
        for layer in others:
            dA = layer.backward(dA)

    def update(self):
        for layer in self.layers:
            layer.update()

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def parameters(self):
        return [(layer.W.copy(), layer.b[:, 0].copy()) for layer in self.layers]

    def gradients(self):
        return [(layer.dW.copy(), layer.db[:, 0].copy()) for layer in self.layers]

    def predict(self, X):
        A = X.T
        for layer in self.layers:
            A = layer.forward(A)
        return A.T
