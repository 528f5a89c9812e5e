"""Full batch, more features than samples: the Gram matrix replaces the samples.

Idea: a step moves W[1] by a sum of samples, -rate delta[1].T X. So W[1] never leaves the span of the N samples and of
where it began, and N + 2 numbers a neuron tell it instead of n_0. What forward needs is not W[1] but its products with
the samples, and for those the samples' products with one another are enough:

    W[1]        = cW[:N].T @ X + cW[N] W_0 + cW[N + 1] V_0    cW (N + 2, n_1); W_0, V_0: weights and velocity at first
    velocity[1] = cV[:N].T @ X + cV[N] W_0 + cV[N + 1] V_0    cV (N + 2, n_1)
    Z[1]        = G @ cW[:N] + cW[N] XW + cW[N + 1] XV        G = X @ X.T (N, N), XW = X @ W_0.T, XV = X @ V_0.T, once

With 12288 features of 209 samples the two products of the first layer, which were the step, become one that is 118
times smaller, and X is read no more. The weights themselves are made when somebody asks for them.

What changes: the first layer's products and its update. A step goes through all N samples, each with its share of the
batch: 1 / N in a full one. The result is exact but for rounding. It is a gain of the algorithm and not of the code: any
variant could be written so.

TODO

Limits: X has to be the same array, unchanged, from step to step; another one costs a new G. Where there are more
samples than features G would be larger than X, and the steps are the parent's. An L1 penalty is refused, since the
sign of W[1] leaves the span.

Source: "Gram form" in the project's own measurements.
"""

import numpy as np

from mlpprof.model import UnsupportedNetwork

PARENT = "buffered"

FEW = 32  # samples, for which G is used even with fewer features: else no small test would get to it


def sigmoid(Z):
    """Z becomes 1 / (1 + exp(-Z)) = (1 + tanh(Z / 2)) / 2."""
    Z *= 0.5
    np.tanh(Z, out=Z)
    Z *= 0.5
    Z += 0.5


def tanh(Z):
    """Z becomes tanh(Z)."""
    np.tanh(Z, out=Z)


def relu(Z):
    """Z becomes max(Z, 0)."""
    np.maximum(Z, 0, out=Z)


def identity(Z):
    """Z stays."""


def softmax(Z):
    """Z becomes exp(Z), normalized over each row."""
    Z -= Z.max(axis=1, keepdims=True)
    np.exp(Z, out=Z)
    Z /= Z.sum(axis=1, keepdims=True)


def sigmoid_derivative(A, D):
    """D becomes A (1 - A)."""
    np.subtract(1, A, out=D)
    D *= A


def tanh_derivative(A, D):
    """D becomes 1 - A**2."""
    np.multiply(A, A, out=D)
    np.subtract(1, D, out=D)


def relu_derivative(A, D):
    """D becomes 1 where A > 0, else 0."""
    np.greater(A, 0, out=D)


def squared_error(A, Y, P, Q):
    """Half the sum of (A - Y)**2; P is scratch."""
    np.subtract(A, Y, out=P)
    return 0.5 * float(np.vdot(P, P))


def binary_cross_entropy(A, Y, P, Q):
    """-sum(Y log A + (1 - Y) log(1 - A)), A an epsilon inside (0, 1) at least; P and Q are scratch."""
    epsilon = float(np.finfo(A.dtype).eps)
    np.maximum(A, epsilon, out=P)
    np.minimum(P, 1 - epsilon, out=P)
    np.log(P, out=Q)
    np.subtract(1, P, out=P)
    np.log(P, out=P)
    Q -= P
    return -float(np.vdot(Y, Q)) - float(P.sum())


def categorical_cross_entropy(A, Y, P, Q):
    """-sum(Y log A), A kept away from 0; P is scratch."""
    np.maximum(A, np.finfo(A.dtype).tiny, out=P)
    np.log(P, out=P)
    return -float(np.vdot(Y, P))


VALUE = {"sigmoid": sigmoid, "tanh": tanh, "relu": relu, "identity": identity, "softmax": softmax}
DERIVATIVE = {"sigmoid": sigmoid_derivative, "tanh": tanh_derivative, "relu": relu_derivative}
COST = {
    ("squared_error", "sigmoid"): squared_error,
    ("squared_error", "identity"): squared_error,
    ("cross_entropy", "sigmoid"): binary_cross_entropy,
    ("cross_entropy", "softmax"): categorical_cross_entropy,
}


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
        if network.l1 > 0:
            raise UnsupportedNetwork(f"gram cannot do l1 {network.l1}: the sign of W[1] is no sum of samples; use l1 0")
        self.network = network
        self.L = L = network.depth
        self.value = [VALUE[network.hidden]] * L + [VALUE[network.output]]
        self.derivative = [DERIVATIVE[network.hidden]] * L + [DERIVATIVE.get(network.output)]
        self.cost = COST[network.loss, network.output]
        self.theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        self.velocity = np.zeros_like(self.theta)
        self.gradient = np.zeros_like(self.theta)
        self.scratch = np.empty_like(self.theta)
        self.W, self.b = windows(self.theta, network.layers)
        self.dW, self.db = windows(self.gradient, network.layers)
        self.V1 = windows(self.velocity, network.layers)[0][1]
        self.X = self.G = None
        self.m = self.most = 0

    def adopt(self, X):
        """Leave the samples so far for others, which are many or get a Gram matrix."""
        self.W[1][:], self.V1[:] = self.first_layer()
        self.X, self.most = X, 0
        few = len(X) <= max(X.shape[1], FEW)
        self.G = X @ X.T if few else None
        told_by_G = self.W[1].size if few else 0
        self.rest, self.weights = slice(told_by_G, None), slice(told_by_G, sum(W.size for W in self.W[1:]))
        if few:
            self.XW, self.XV = X @ self.W[1].T, X @ self.V1.T
            self.cW, self.cV = np.zeros((2, len(X) + 2, len(self.W[1])), X.dtype)
            self.cW[-2] = self.cV[-1] = 1
            self.allocate(len(X))
            self.share = np.empty((len(X), 1), X.dtype)

    def first_layer(self):
        """W[1] and its velocity."""
        if self.G is None:
            return self.W[1], self.V1
        return tuple(
            c[:-2].T @ self.X + c[-2][:, None] * self.W[1] + c[-1][:, None] * self.V1 for c in (self.cW, self.cV)
        )

    def allocate(self, m):
        """Arrays for a batch of m samples: the first rows of those that the largest batch so far has needed."""
        if m > self.most:
            sizes = self.network.layers if self.G is None else (0, *self.network.layers[1:])
            widths = (*sizes, *sizes[1:], *sizes[1:], *(3 * sizes[-1:]))
            self.arrays = [np.empty((m, n), self.theta.dtype) for n in widths]
            self.most = m
        self.m, L = m, self.L
        rows = [array[:m] for array in self.arrays]
        self.A, self.delta, self.D = rows[: L + 1], [None, *rows[L + 1 : 2 * L + 1]], [None, *rows[2 * L + 1 : -3]]
        self.Y, self.P, self.Q = rows[-3:]
        self.ones = np.ones(m, self.theta.dtype)

    def fetch_batch(self, X, Y, index):
        if X is not self.X:
            self.adopt(X)
        if self.G is None:
            if len(index) != self.m:
                self.allocate(len(index))
            X.take(index, axis=0, out=self.A[0], mode="clip")  # phase: gather
            Y.take(index, axis=0, out=self.Y, mode="clip")  # phase: gather
            self.share, self.rows = 1 / self.m, slice(None)
        else:
            self.Y, self.rows = Y, index
            np.divide(np.bincount(index, minlength=self.m), len(index), out=self.share[:, 0], casting="same_kind")

    def forward(self):
        for l in range(1, self.L + 1):
            if l == 1 and self.G is not None:
                self.weigh_samples()  # phase: weighted sum
            else:
                np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])  # phase: weighted sum
            self.A[l] += self.b[l]  # phase: bias
            self.value[l](self.A[l])  # phase: activation

    def weigh_samples(self):
        Z, D = self.A[1], self.D[1]
        np.matmul(self.G, self.cW[:-2], out=Z)
        for product, c in ((self.XW, self.cW[-2]), (self.XV, self.cW[-1])):
            np.multiply(product, c, out=D)
            Z += D

    def loss(self):
        A, Y = self.A[self.L][self.rows], self.Y[self.rows]  # phase: cost
        return self.cost(A, Y, np.empty_like(A), np.empty_like(A)) / len(A)  # phase: cost

    def backward(self):
        for l in reversed(range(1, self.L + 1)):
            delta = self.delta[l]
            if l == self.L:
                np.subtract(self.A[l], self.Y, out=delta)  # phase: error
                delta *= self.share  # phase: error
            else:
                np.matmul(self.delta[l + 1], self.W[l + 1], out=delta)  # phase: propagate
            if l < self.L or self.network.delta_needs_derivative:
                self.derivative[l](self.A[l], self.D[l])  # phase: derivative
                delta *= self.D[l]  # phase: multiply
            if l > 1 or self.G is None:
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
        blocks = (self.theta, self.velocity, self.gradient, self.scratch)
        theta, velocity, gradient, scratch = (block[self.rest] for block in blocks)
        velocity *= self.network.momentum  # phase: momentum
        velocity += gradient  # phase: momentum
        np.multiply(velocity, self.network.rate, out=scratch)  # phase: descend
        theta -= scratch  # phase: descend
        if self.G is not None:
            self.cV *= self.network.momentum  # phase: momentum
            self.cV += self.network.l2 * self.cW  # phase: momentum
            self.cV[:-2] += self.delta[1]  # phase: momentum
            self.cW -= self.network.rate * self.cV  # phase: descend

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def parameters(self):
        W = [self.first_layer()[0], *self.W[2:]]
        return [(W.copy(), b.copy()) for W, b in zip(W, self.b[1:], strict=True)]

    def gradients(self):
        if self.G is not None:
            self.dW[1][:] = self.delta[1].T @ self.X + self.network.l2 * self.first_layer()[0]
        return [(dW.copy(), db.copy()) for dW, db in zip(self.dW[1:], self.db[1:], strict=True)]

    def predict(self, X):
        A = X
        for l, (W, b) in enumerate(self.parameters(), start=1):
            A = A @ W.T + b
            self.value[l](A)
        return A
