"""Compiled by numba: one pass where NumPy needs several, and few Python calls.

Idea: two costs are left in the parent that no NumPy code can avoid. A step makes about 50 calls of half a microsecond
or more, which is most of the step if the batch is small. And every call is a separate pass over memory: the bias,
sigmoid, derivative and product of a layer are seven passes over A[l] and delta[l], and the penalty, momentum and
update are eight passes over all weights. numba translates loops to machine code (see `mlpprof.engines.numba_passes`,
which the compiled shards use too):

    activate   adds the bias and applies the activation in one pass
    descend    adds the penalty, changes the velocity and changes the weights in one pass
    cost       takes one logarithm per sample, of the product of the numbers whose logarithms are needed
    exp        is a polynomial without a branch, so that the compiler can fill the SIMD registers; numba would call the
               exponential of the C library, which handles one number at a time

What changes against `buffered`: these functions replace the passes of NumPy, and `train` runs the steps of a small
network, or of a small batch, without returning to Python. The matrix products stay with BLAS, which handles four
columns at a time. So hidden layers are padded to a multiple of 4 neurons, whose weights and activations always stay
0. A step with one sample needs no matrix product: `learn` reads each row of weights once on the way forward, and once
on the way back, where it propagates delta through the row and then changes it.

numba calls SciPy's BLAS, which was up to a fifth slower here than NumPy's for the gradient of layer 1. So large
batches of large networks stay in Python, in pieces of 500 samples as in `chunked`.

Why it is faster: at batch 32 of 784-70-30-10, half of the parent's step was calls and passes. At batch 500 little is
left to gain: the products with 784 inputs are two thirds of the step and reach 92 % of what this shape allows. On
39-39-39-1 the sigmoids were 30 % of the step; this exp takes a third of the time of NumPy's tanh on AVX2. With
padding, the products of 784 inputs with 72 neurons took 5 to 7 % less time on AVX2 than those with 70. With AVX-512,
padding to 80 had gained nothing.

Limits: the first call compiles the functions, which takes a few seconds for each precision. numba may add numbers in
any order, and may join a product and a sum into one operation (the fastmath flags for this are on, those that ignore
NaN and infinity are off). So the results differ from the parent's in the last digits, within what every check allows.

Source: "numba" in the project's own measurements. variants/README.md shows what this variant gains.
"""

import numpy as np

from mlpprof.engines.numba_passes import (
    COMPILE,
    activate,
    backward_above,
    cost,
    descend,
    forward_above,
    matrix,
    padded,
    settings,
    slope,
    unpadded,
)

PARENT = "buffered"
BRANCH = "compiled"
EXTRA = "compiled"

ROWS = 500  # samples in a piece of a large batch, as in `chunked`
MAX_WEIGHTS, MAX_SAMPLES = 20_000, 64  # above both, a faster BLAS saves more time than fewer calls


@COMPILE
def gather(X, Y, index, n, A, T):
    """Copy the rows `index` of X into the first layer of A, and those of Y into T."""
    A_0 = matrix(A, 0, len(index), n[0])
    for i in range(len(index)):
        x, y, a, t = X[index[i]], Y[index[i]], A_0[i], T[i]
        for k in range(x.size):
            a[k] = x[k]
        for k in range(y.size):
            t[k] = y[k]


@COMPILE
def forward(codes, n, at, theta, A, m):
    """Compute all layers. n: padded sizes; at: where W[l], b[l] and, for one sample, A[l] begin, and neurons."""
    W = matrix(theta, at[0, 1], n[1], n[0])
    np.dot(matrix(A, 0, m, n[0]), W.T, matrix(A, m * at[2, 1], m, n[1]))
    forward_above(codes, n, at, theta, A, m)


@COMPILE
def backward(codes, n, at, theta, A, T, delta, gradient, m):
    """Compute the gradients of the loss. delta has the layout of A."""
    backward_above(codes, n, at, theta, A, T, delta, gradient, theta.dtype.type(1 / m))
    dW = matrix(gradient, at[0, 1], n[1], n[0])
    np.dot(matrix(delta, m * at[2, 1], m, n[1]).T, matrix(A, 0, m, n[0]), dW)


@COMPILE
def update(n, at, theta, velocity, gradient, optimizer):
    """Update all parameters. The weights come first and are penalized; the biases after them are not."""
    rate, momentum, l1, l2, one, zero = optimizer
    w = at[1, 1]
    descend(theta[:w], velocity[:w], gradient[:w], one, rate, momentum, l1, l2)
    descend(theta[w:], velocity[w:], gradient[w:], one, rate, momentum, zero, zero)


@COMPILE
def learn(x, y, codes, n, at, theta, velocity, a, delta, optimizer):
    """Make a step with one sample. a and delta hold the vectors of all layers, one after the other."""
    rate, momentum, l1, l2, one, zero = optimizer
    keep = one - rate * l2
    L = n.size - 1
    below = x
    for l in range(1, L + 1):
        W, above = matrix(theta, at[0, l], n[l], n[l - 1]), a[at[2, l] : at[2, l] + n[l]]
        for j in range(n[l]):
            total = zero
            for k in range(n[l - 1]):
                total += W[j, k] * below[k]
            above[j] = total
        activate(codes[l], above.reshape(1, n[l]), theta[at[1, l] : at[1, l] + n[l]], at[3, l])
        below = above
    d = delta[at[2, L] : at[2, L] + n[L]]
    for j in range(n[L]):
        d[j] = below[j] - y[j]
    if codes[0]:
        slope(codes[L], below, d)
    for l in range(L, 0, -1):
        W, V = matrix(theta, at[0, l], n[l], n[l - 1]), matrix(velocity, at[0, l], n[l], n[l - 1])
        below = a[at[2, l - 1] : at[2, l]] if l > 1 else x
        propagated = delta[at[2, l - 1] : at[2, l]]
        if l > 1:
            propagated[:] = 0
            for j in range(n[l]):
                for k in range(n[l - 1]):
                    propagated[k] += d[j] * W[j, k]
            slope(codes[l - 1], below, propagated)
        for j in range(n[l]):  # as descend does, which would need a call per row
            if momentum == 0 and l1 == 0:
                for k in range(n[l - 1]):
                    W[j, k] = keep * W[j, k] - rate * d[j] * below[k]
            else:
                for k in range(n[l - 1]):
                    V[j, k] = momentum * V[j, k] + d[j] * below[k] + l2 * W[j, k] + l1 * np.sign(W[j, k])
                    W[j, k] -= rate * V[j, k]
        start, end = at[1, l], at[1, l] + n[l]
        descend(theta[start:end], velocity[start:end], d, one, rate, momentum, zero, zero)
        d = propagated


@COMPILE
def run(X, Y, indices, codes, n, at, theta, velocity, gradient, optimizer, A, T, delta, least, losses):
    """Make a step for each row of indices (steps, m)."""
    m, L = indices.shape[1], n.size - 1
    for step in range(len(indices)):
        index = indices[step]
        if m == 1:
            learn(X[index[0]], Y[index[0]], codes, n, at, theta, velocity, A, delta, optimizer)
            T[0] = Y[index[0]]
        else:
            gather(X, Y, index, n, A, T)
            forward(codes, n, at, theta, A, m)
        losses[step] = cost(codes[n.size], codes[L], matrix(A, m * at[2, L], m, n[L]), T, least) / m
        if m > 1:
            backward(codes, n, at, theta, A, T, delta, gradient, m)
            update(n, at, theta, velocity, gradient, optimizer)


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
    """theta is a flat block of all weights, then all biases. A and delta are flat blocks of all layers."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        self.network = network
        sizes, parameters = padded(network, parameters)
        self.theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        dtype = self.theta.dtype
        self.velocity = np.zeros_like(self.theta)
        self.gradient = np.zeros_like(self.theta)
        self.more = np.zeros_like(self.theta)
        self.L = network.depth
        self.W, self.b = views(self.theta, sizes)
        self.dW, self.db = views(self.gradient, sizes)
        self.dW_more, self.db_more = views(self.more, sizes)
        self.n = n = np.array(sizes)
        self.at = np.zeros((4, n.size), np.int64)
        self.at[0, 2:] = np.cumsum(n[1:-1] * n[:-2])
        self.at[1, 1:] = np.sum(n[1:] * n[:-1]) + np.cumsum(n[1:]) - n[1:]
        self.at[2, 1:] = np.cumsum(n[:-1])
        self.at[3] = network.layers
        self.codes, self.optimizer, self.least = settings(network, dtype)
        self.m = 0

    def allocate(self, m):
        """Make flat blocks for m samples, and their views A[l] and delta[l] (m, n_l)."""
        self.m, dtype = m, self.theta.dtype
        self.A_all = np.empty(m * self.n.sum(), dtype)
        self.delta_all = np.empty_like(self.A_all)
        ends = np.cumsum(m * self.n)[:-1]
        self.A, self.delta = (
            [layer.reshape(m, -1) for layer in np.split(block, ends)] for block in (self.A_all, self.delta_all)
        )
        self.T = np.empty((m, self.n[-1]), dtype)
        self.ones = np.ones(m, dtype)

    def fetch_batch(self, X, Y, index):
        if len(index) != self.m:
            self.allocate(len(index))
        self.first, self.share = True, 1.0
        X.take(index, axis=0, out=self.A[0], mode="clip")  # phase: gather
        Y.take(index, axis=0, out=self.T, mode="clip")  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])  # phase: weighted sum
            activate(self.codes[l], self.A[l], self.b[l], self.at[3, l])  # phase: activation

    def loss(self):
        return cost(self.codes[-1], self.codes[-2], self.A[self.L], self.T, self.least) / self.m  # phase: cost

    def backward(self):
        dW, db = (self.dW, self.db) if self.first else (self.dW_more, self.db_more)
        for l in reversed(range(1, self.L + 1)):
            delta = self.delta[l]
            if l == self.L:
                np.subtract(self.A[l], self.T, out=delta)  # phase: error
                delta *= self.share / self.m  # phase: error
            else:
                product = np.matmul if self.n[l + 1] > 1 else np.multiply  # BLAS is slow if the columns have one number
                product(self.delta[l + 1], self.W[l + 1], out=delta)  # phase: propagate
            if l < self.L or self.codes[0]:
                slope(self.codes[l], self.A[l].ravel(), delta.ravel())  # phase: multiply
            np.matmul(delta.T, self.A[l - 1], out=dW[l])  # phase: gradient
            np.dot(self.ones, delta, out=db[l])  # phase: gradient
        if not self.first:
            self.gradient += self.more  # phase: gradient

    def update(self):
        update(self.n, self.at, self.theta, self.velocity, self.gradient, self.optimizer)  # phase: descend

    def train_step(self, X, Y, index):
        loss, pieces = 0.0, -(-len(index) // ROWS)
        rows = -(-len(index) // pieces)  # all pieces are equal; only the last may be smaller
        for start in range(0, len(index), rows):
            self.fetch_batch(X, Y, index[start : start + rows])
            self.first, self.share = start == 0, self.m / len(index)
            self.forward()
            loss += self.share * self.loss()
            self.backward()
        self.update()
        return loss

    def train(self, X, Y, indices):
        m = len(indices[0])
        large = self.theta.size > MAX_WEIGHTS and m > MAX_SAMPLES
        if large or any(len(index) != m for index in indices):
            return [self.train_step(X, Y, index) for index in indices]
        batches, losses = np.array(indices), np.empty(len(indices))
        if m != self.m:
            self.allocate(m)
        run(
            *(X, Y, batches, self.codes, self.n, self.at, self.theta, self.velocity, self.gradient),
            *(self.optimizer, self.A_all, self.T, self.delta_all, self.least, losses),
        )
        return losses.tolist()

    def parameters(self):
        return unpadded(self.network, self.W[1:], self.b[1:])

    def gradients(self):
        l1, l2 = self.network.l1, self.network.l2
        dW = [dW + l1 * np.sign(W) + l2 * W for W, dW in zip(self.W[1:], self.dW[1:], strict=True)]
        return unpadded(self.network, dW, self.db[1:])

    def predict(self, X):
        A = np.ascontiguousarray(X)
        for l, (W, b) in enumerate(self.parameters(), start=1):
            A = A @ W.T
            activate(self.codes[l], A, b, len(b))
        return A
