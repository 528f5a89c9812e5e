"""A layer is an object: it keeps its weights, its input and its gradients.

Idea: the network becomes a list of layers that know nothing about each other. forward hands A from one layer to the
next. backward hands dA, the derivative of the loss with respect to a layer's output, from each layer to the one
before it. Frameworks divide a network in the same way, because a new kind of layer then needs no change anywhere
else.

What changes against `scalar`: the weights of a layer are one matrix W (n, n_in), the samples of a batch are the
columns of X (n_in, m), and each formula is one line for all neurons and all samples. dW and db are divided by m,
because the loss is a mean over the batch.

What the division into layers costs: a layer does not know whether it is the last one. So dA comes from the loss and
is multiplied by the derivative of the activation. With a sigmoid and cross-entropy, this would divide A - Y by
A (1 - A) and then multiply by the same factor. Where the two cancel, this file hands over dZ = A - Y directly, as
loss functions "from logits" do. The first layer does not know that it is the first one, either. It computes a dA for
the input that nobody uses (as `naive` does). With 784 inputs, this is its second most expensive line.

Source: the layer class of workload `liu`. Its weights start at 0.01 times a normal random number; here they are those
of the run. It evaluates the derivative on Z again, and so does this file.
"""

import numpy as np

from mlpprof.model import ACTIVATIONS, loss_of

PARENT = "scalar"


class DenseLayer:
    """The weights W (n, n_in) and biases b (n, 1) of a layer, and what backward needs from forward."""

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
        # Squared error after a sigmoid needs the derivative. With every other pair, the error is dZ already.
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
