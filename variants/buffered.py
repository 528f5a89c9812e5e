"""Every array is allocated once: from then on, out= and in place.

Idea: `A + B` makes a new array. Its memory comes from the operating system page by page, empty and cold, and goes back
after a use or two; the parent does so some forty times a step. Here each array of a step exists once, for a batch of m
samples, and every operation writes into one that is there, still warm in cache where it fits:

    A[l], delta[l], D[l]  (m, n_l)  made anew only when m changes. A sample is a row, so that a product with W[l].T
                                    goes into A[l] as it lies
    theta                 (all,)    the weights of all layers, then the biases of all layers, in one block; W[l]
                                    (n_l, n_{l-1}) and b[l] (n_l,) are windows into it
    velocity, gradient    (all,)    alike: an update is a few long passes instead of a few per layer, and the weights,
                                    which alone are penalized, are the first piece of the block

What changes: where results go. X.take(..., mode="clip") is X[index] with out=; its default mode, which checks the
index, would gather into an array of its own first. The cost is two logarithms in place and two inner products.

Source: the project's own measurements; what the rung is worth tells variants/README.md.
"""

import numpy as np

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES

PARENT = "tanh_sigmoid"


def windows(block, sizes):
    """W[l] (n_l, n_{l-1}) and b[l] (n_l,), views of a flat block: the weights of all layers, then all biases."""
    W, b, start = [None], [None], 0
    for l in range(1, len(sizes)):
        end = start + sizes[l] * sizes[l - 1]
        W.append(block[start:end].reshape(sizes[l], sizes[l - 1]))
        start = end
    for n in sizes[1:]:
        b.append(block[start : start + n])
        start += n
    return W, b


class MLP:
    """Lists are indexed by the layer l = 0..L; W[l] (n_l, n_{l-1}) and b[l] (n_l,) are windows into theta."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        self.network = network
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.cost = COSTS[network.loss, network.output]
        self.theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        self.velocity = np.zeros_like(self.theta)
        self.gradient = np.zeros_like(self.theta)
        self.scratch = np.empty_like(self.theta)
        self.W, self.b = windows(self.theta, network.layers)
        self.dW, self.db = windows(self.gradient, network.layers)
        self.weights = slice(sum(W.size for W in self.W[1:]))
        self.m = self.most = 0

    def allocate(self, m):
        """Arrays for a batch of m samples: the first rows of those that the largest batch so far has needed."""
        if m > self.most:
            sizes = self.network.layers
            widths = (*sizes, *sizes[1:], *sizes[1:], *(3 * sizes[-1:]))
            self.arrays = [np.empty((m, n), self.theta.dtype) for n in widths]
            self.most = m
        self.m, L = m, self.L
        rows = [array[:m] for array in self.arrays]
        self.A, self.delta, self.D = rows[: L + 1], [None, *rows[L + 1 : 2 * L + 1]], [None, *rows[2 * L + 1 : -3]]
        self.Y, self.P, self.Q = rows[-3:]
        self.ones = np.ones(m, self.theta.dtype)

    def fetch_batch(self, X, Y, index):
        if len(index) != self.m:
            self.allocate(len(index))
        X.take(index, axis=0, out=self.A[0], mode="clip")  # phase: gather
        Y.take(index, axis=0, out=self.Y, mode="clip")  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])  # phase: weighted sum
            self.A[l] += self.b[l]  # phase: bias
            self.value[l](self.A[l])  # phase: activation

    def loss(self):
        return self.cost(self.A[self.L], self.Y, self.P, self.Q) / self.m  # phase: cost

    def backward(self):
        for l in reversed(range(1, self.L + 1)):
            delta = self.delta[l]
            if l == self.L:
                np.subtract(self.A[l], self.Y, out=delta)  # phase: error
                delta *= 1 / self.m  # phase: error
            else:
                np.matmul(self.delta[l + 1], self.W[l + 1], out=delta)  # phase: propagate
            if l < self.L or self.network.delta_needs_derivative:
                self.derivative[l](self.A[l], self.D[l])  # phase: derivative
                delta *= self.D[l]  # phase: multiply
            np.matmul(delta.T, self.A[l - 1], out=self.dW[l])  # phase: gradient
            np.dot(self.ones, delta, out=self.db[l])  # phase: gradient
        self.regularize()  # phase: regularize

    def regularize(self):
        weights, gradient, scratch = (block[self.weights] for block in (self.theta, self.gradient, self.scratch))
        if self.network.l2 > 0:
            np.multiply(weights, self.network.l2, out=scratch)
            gradient += scratch
        if self.network.l1 > 0:
            np.sign(weights, out=scratch)
            scratch *= self.network.l1
            gradient += scratch

    def update(self):
        self.velocity *= self.network.momentum  # phase: momentum
        self.velocity += self.gradient  # phase: momentum
        np.multiply(self.velocity, self.network.rate, out=self.scratch)  # phase: descend
        self.theta -= self.scratch  # phase: descend

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def parameters(self):
        return [(W.copy(), b.copy()) for W, b in zip(self.W[1:], self.b[1:], strict=True)]

    def gradients(self):
        return [(dW.copy(), db.copy()) for dW, db in zip(self.dW[1:], self.db[1:], strict=True)]

    def predict(self, X):
        A = X
        for l in range(1, self.L + 1):
            A = A @ self.W[l].T + self.b[l]
            self.value[l](A)
        return A
