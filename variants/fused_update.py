"""The update inside the BLAS call: no gradient is ever stored.

Idea: the matrix product of BLAS, gemm, computes C = alpha A B + beta C. NumPy offers beta = 0 only, but SciPy offers
all of it. So one call can compute the gradient and add it to the weights, or to the velocity v. Here v already
contains the learning rate:

    without momentum, one piece   W = (1 - rate l2) W - rate delta.T A
    otherwise                     v = mu v + rate l2 W + rate delta.T A, where each piece adds its product; then W -= v

What changes against `chunked`: backward only propagates delta. The products with A move to update, after the last use
of W. The arrays gradient and scratch are gone.

Why it is faster: the parent writes a gradient as large as W, reads it to add it to the velocity, and reads that to
change W. These are six passes over all parameters. For a small batch, or for wide layers, they take most of the step.

Limits: it is faster only where the update is a large part of the step. With more than one BLAS thread it is slow:
NumPy and SciPy each have their own pool of threads, and both pools then wait for the same cores.

Source: the project's own measurements. variants/README.md shows what this rung gains.
"""

import numpy as np
from scipy.linalg import get_blas_funcs

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES

PARENT = "chunked"

ROWS = 500


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
        self.W, self.b = views(self.theta, network.layers)
        self.vW, self.vb = views(self.velocity, network.layers)
        self.gemm, self.gemv, self.axpy = get_blas_funcs(("gemm", "gemv", "axpy"), dtype=self.theta.dtype)
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
        self.first, self.last, self.share = True, True, 1.0
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
                delta *= self.share / self.m  # phase: error
            else:
                np.matmul(self.delta[l + 1], self.W[l + 1], out=delta)  # phase: propagate
            if l < self.L or self.network.delta_needs_derivative:
                self.derivative[l](self.A[l], self.D[l])  # phase: derivative
                delta *= self.D[l]  # phase: multiply

    def update(self):
        in_one_call = self.network.momentum == 0 and self.first and self.last
        W, b, rate = (self.W, self.b, -self.network.rate) if in_one_call else (self.vW, self.vb, self.network.rate)
        if self.first:
            self.velocity *= self.network.momentum  # phase: momentum
            self.regularize(self.theta if in_one_call else self.velocity, rate)  # phase: regularize
        for l in range(1, self.L + 1):
            A, delta = self.A[l - 1].T, self.delta[l].T
            self.gemm(rate, A, delta, 1, W[l].T, trans_b=True, overwrite_c=True)  # phase: descend
            self.gemv(rate, delta, self.ones, 1, b[l], overwrite_y=True)  # phase: descend
        if self.last and not in_one_call:
            self.theta -= self.velocity  # phase: descend

    def regularize(self, block, rate):
        weights = self.theta[self.weights]
        slope = np.sign(weights) if self.network.l1 > 0 else None
        if self.network.l2 > 0:
            self.axpy(weights, block[self.weights], a=rate * self.network.l2)
        if self.network.l1 > 0:
            self.axpy(slope, block[self.weights], a=rate * self.network.l1)

    def train_step(self, X, Y, index):
        loss, pieces = 0.0, -(-len(index) // ROWS)
        rows = -(-len(index) // pieces)  # all pieces are equal; only the last may be smaller
        for start in range(0, len(index), rows):
            self.fetch_batch(X, Y, index[start : start + rows])
            self.first, self.last = start == 0, start + rows >= len(index)
            self.share = self.m / len(index)
            self.forward()
            loss += self.share * self.loss()
            self.backward()
            self.update()
        return loss

    def parameters(self):
        return [(W.copy(), b.copy()) for W, b in zip(self.W[1:], self.b[1:], strict=True)]

    def gradients(self):
        found = []
        for W, delta, A in zip(self.W[1:], self.delta[1:], self.A, strict=False):
            found.append((delta.T @ A + self.network.l2 * W + self.network.l1 * np.sign(W), delta.sum(axis=0)))
        return found

    def predict(self, X):
        A = X
        for l in range(1, self.L + 1):
            A = A @ self.W[l].T + self.b[l]
            self.value[l](A)
        return A
