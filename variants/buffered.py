"""Every array is allocated once: after that, results go to out= or in place.

Idea: `A + B` makes a new array. The operating system has to provide its memory page by page, the memory is not in any
cache, and after one or two uses it is given back. The parent does this about forty times per step. Here each array of
a step is made once, for a batch of m samples, and every operation writes into an array that exists already.

    A[l], delta[l], D[l]  (m, n_l)   These are made again only if m changes. A sample is a row, so that X.take can write
                                     into A[0] and the product with W[l].T can write into A[l].
    theta                 (all,)     One block holds the weights of all layers, then the biases of all layers. W[l]
                                     (n_l, n_{l-1}) and b[l] (n_l,) are views of it.
    velocity, gradient    (all,)     These have the same layout.

What changes against `tanh_sigmoid`: the place of the results. X.take(..., mode="clip") is X[index] with out=. Its
default mode checks the index, and would gather into an array of its own first. The loss takes two logarithms in place
and two inner products.

Why it is faster: the step allocates no large array, and its arrays stay in the cache if they fit. An update is a few
long passes over theta instead of a few short ones per layer. The penalty needs no loop over layers either, because
the weights, which alone are penalized, are the first part of the block.

Source: the project's own measurements. variants/README.md shows what this rung gains.
"""

import numpy as np

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES

PARENT = "tanh_sigmoid"


def views(block, sizes):
    """Return W[l] (n_l, n_{l-1}) and b[l] (n_l,) as views of a flat block: all weights first, then all biases."""
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
    """Lists are indexed by the layer l = 0..L. W[l] (n_l, n_{l-1}) and b[l] (n_l,) are views of theta."""

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
        self.W, self.b = views(self.theta, network.layers)
        self.dW, self.db = views(self.gradient, network.layers)
        self.weights = slice(sum(W.size for W in self.W[1:]))
        self.m = self.capacity = 0

    def allocate(self, m):
        """Take the first m rows of the arrays; make new arrays only if this is the largest batch so far."""
        if m > self.capacity:
            sizes = self.network.layers
            widths = (*sizes, *sizes[1:], *sizes[1:], *(3 * sizes[-1:]))
            self.arrays = [np.empty((m, n), self.theta.dtype) for n in widths]
            self.capacity = m
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
