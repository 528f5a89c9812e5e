"""Shares of the input features, compiled: a worker's step is two matrix products and a few calls.

Idea: on a small batch most of a step of `feature_shards` are calls: every worker does the small layers above layer 1
for itself, in some forty calls of NumPy on short arrays. So these layers become one function each way, translated by
numba: `forward_above` and `backward_above` of `mlpprof.engines.numba_passes`. What is left to Python is the gather,
the two
products with the features, and the meetings.

    A, delta    flat blocks: the vectors of layers 1..L for all samples of the batch, layer by layer
    n, at       the sizes of the layers; where W[l] and b[l] begin in upper, and A[l] of one sample in A; neurons

As in `compiled`, hidden layers are padded to a multiple of 4 neurons, whose weights are and stay 0, because BLAS takes
columns by the four: with 72 columns in place of 70 the two products took 6 to 10 % less time.

What changes: compiled functions on flat blocks in place of NumPy's on a list of arrays. They are compiled before the
workers are forked; so the first step takes seconds, unless a folder keeps the machine code.

Source: the project's own measurements ("input-feature shards (with numba at 32)"); what it is worth tells
variants/README.md.
"""

import numpy as np

from mlpprof.engines.numba_passes import (
    COMPILE,
    activate,
    backward_above,
    cost,
    descend,
    forward_above,
    padded,
    settings,
    unpadded,
)
from mlpprof.engines.team import ProcessTeam, shared_zeros, workers_wanted

PARENT = "feature_shards"
BRANCH = "workers"
EXTRA = "compiled"

PART, REST = 1, 2


@COMPILE
def exchange(parts, Z):
    """Z (m, n_1) becomes the sum of the parts (workers, m, n_1) of it, which may have room for more samples."""
    for i in range(len(Z)):
        z, part = Z[i], parts[0, i]
        for j in range(z.size):
            z[j] = part[j]
        for k in range(1, len(parts)):
            part = parts[k, i]
            for j in range(z.size):
                z[j] += part[j]


@COMPILE
def update(first, upper, weights, optimizer):
    """The weights of some features, `first`, and all of `upper`, biases last; each is (w, v, gradient)."""
    rate, momentum, l1, l2, one, zero = optimizer
    w, v, g = first
    descend(w, v, g, one, rate, momentum, l1, l2)
    w, v, g = upper
    descend(w[:weights], v[:weights], g[:weights], one, rate, momentum, l1, l2)
    descend(w[weights:], v[weights:], g[weights:], one, rate, momentum, zero, zero)


def windows(block, sizes):
    """W[l] (n_l, n_{l-1}), l = 2..L, and b[l] (n_l,), views of a flat block: the weights, then all biases."""
    W, b, start = [None, None], [None], 0
    for l in range(2, len(sizes)):
        end = start + sizes[l] * sizes[l - 1]
        W.append(block[start:end].reshape(sizes[l], sizes[l - 1]))
        start = end
    for n in sizes[1:]:
        b.append(block[start : start + n])
        start += n
    return W, b


class Worker:
    """What one worker does. W[l] (n_l, n_{l-1}), l = 2..L, and b[l] (n_l,) are windows into its row of upper."""

    def __init__(self, network, sizes, first, upper, k):
        self.network, self.sizes, self.k = network, sizes, k
        self.first, self.first_velocity, self.first_gradient = first
        self.upper, self.upper_velocity = upper[:, k]
        self.L = L = network.depth
        self.upper_gradient = np.zeros_like(self.upper)
        self.W, self.b = windows(self.upper, sizes)
        self.dW, self.db = windows(self.upper_gradient, sizes)
        self.n = n = np.array(sizes)
        self.weights = self.upper.size - n[1:].sum()
        self.at = np.zeros((4, L + 1), np.int64)
        self.at[0, 3:] = np.cumsum(n[2:-1] * n[1:-2])
        self.at[1, 1:] = self.weights + np.cumsum(n[1:]) - n[1:]
        self.at[2, 2:] = np.cumsum(n[1:-1])
        self.at[3] = network.layers
        self.codes, self.optimizer, self.least = settings(network, self.upper.dtype)
        workers = upper.shape[1]
        self.columns = slice(n[0] * k // workers, n[0] * (k + 1) // workers)
        self.m = self.width = 0
        self.together = False  # whether a step of the whole team is under way

    def own_columns(self, X):
        """The worker's columns of all samples, lying together so that a batch is gathered in whole rows."""
        return np.ascontiguousarray(X[:, self.columns])

    def allocate(self, m, width):
        """Arrays for a batch of m samples with so many features."""
        self.m, self.width, n, dtype = m, width, self.n, self.upper.dtype
        rows = self.columns if self.together else slice(None)
        first = [array[rows] for array in (self.first, self.first_velocity, self.first_gradient)]
        self.W_1, self.dW_1, self.own_first = first[0], first[2], tuple(array.ravel() for array in first)
        self.x, self.Y = np.empty((m, width), dtype), np.empty((m, n[-1]), dtype)
        self.whole = np.empty((1, m, n[1]), dtype)
        self.A, self.delta = np.empty((2, m * n[1:].sum()), dtype)
        self.Z_1, self.delta_1 = (block[: m * n[1]].reshape(m, n[1]) for block in (self.A, self.delta))
        self.A_L = self.A[-m * n[-1] :].reshape(m, n[-1])

    def fetch_batch(self, X, Y, index):
        if (len(index), X.shape[1]) != (self.m, self.width):
            self.allocate(len(index), X.shape[1])
        X.take(index, axis=0, out=self.x, mode="clip")  # phase: gather
        Y.take(index, axis=0, out=self.Y, mode="clip")  # phase: gather

    def part(self, out):
        """The part of Z[1] that comes from the features at hand."""
        np.matmul(self.x, self.W_1, out=out)  # phase: weighted sum

    def rest(self, parts):
        """Add up the parts, and go on forward."""
        exchange(parts, self.Z_1)  # phase: exchange
        forward_above(self.codes, self.n, self.at, self.upper, self.A, self.m)  # phase: activation

    def forward(self):
        self.part(self.whole[0])
        self.rest(self.whole)

    def loss(self):
        return cost(self.codes[-1], self.codes[-2], self.A_L, self.Y, self.least) / self.m  # phase: cost

    def backward(self):
        layers, share = (self.codes, self.n, self.at, self.upper), self.upper.dtype.type(1 / self.m)
        backward_above(*layers, self.A, self.Y, self.delta, self.upper_gradient, share)  # phase: propagate
        np.matmul(self.x.T, self.delta_1, out=self.dW_1)  # phase: gradient

    def update(self):
        upper = self.upper, self.upper_velocity, self.upper_gradient
        update(self.own_first, upper, self.weights, self.optimizer)  # phase: descend


class MLP(Worker):
    """Worker 0, and what the others need from it."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        sizes, parameters = padded(network, parameters)
        first = [shared_zeros(parameters[0][0].T.shape, parameters[0][0].dtype) for _ in range(3)]
        upper = np.concatenate([W.ravel() for W, _ in parameters[1:]] + [b for _, b in parameters])
        self.upper_of_all = shared_zeros((2, workers_wanted(), upper.size), upper.dtype)
        first[0][:], self.upper_of_all[0] = parameters[0][0].T, upper
        super().__init__(network, sizes, first, self.upper_of_all, 0)
        self.of_first = first
        self.team = self.X = self.T = None
        self.index, self.size = shared_zeros(0, np.int64), shared_zeros(1, np.int64)

    def compile(self, X, Y):
        """Have all functions translated for this network and precision; no weight is changed."""
        self.fetch_batch(X, Y, np.arange(1))
        super().forward()
        self.loss()
        self.backward()
        update((self.upper[:0],) * 3, (self.upper[:0],) * 3, 0, self.optimizer)

    def call_together(self, X, Y, m):
        """Fork the other workers, which see X, Y and the arrays as they are now."""
        self.close()
        self.compile(X, Y)
        workers, n = self.upper_of_all.shape[1], self.sizes[1]
        self.X, self.T, self.index = X, Y, shared_zeros(m, np.int64)
        self.parts = shared_zeros((workers, m, n), self.upper.dtype)
        self.own = self.own_columns(X)
        others = [Worker(self.network, self.sizes, self.of_first, self.upper_of_all, k) for k in range(1, workers)]

        def work(k, task):
            me = others[k - 1]
            if task == PART:
                if not me.together:
                    me.own, me.together = me.own_columns(X), True
                me.fetch_batch(me.own, Y, self.index[: self.size[0]])
                me.part(self.parts[k, : me.m])
            else:
                me.rest(self.parts)
                me.backward()
                me.update()

        self.team = ProcessTeam(workers, work)

    def train_step(self, X, Y, index):
        if self.team is None or X is not self.X or Y is not self.T or len(index) > len(self.index):
            self.call_together(X, Y, len(index))
        self.size[0] = len(index)
        self.index[: len(index)] = index
        self.team.go(PART)
        self.together = True
        self.fetch_batch(self.own, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        self.together = False
        return loss

    def forward(self):
        if self.together:
            self.part(self.parts[0, : self.m])
            self.team.wait()  # phase: wait
            self.team.go(REST)
            self.rest(self.parts)
        else:
            super().forward()

    def update(self):
        super().update()
        if self.together:
            self.team.wait()  # phase: wait
        else:
            self.upper_of_all[:, 1:] = self.upper_of_all[:, :1]

    def close(self):
        if self.team is not None:
            self.team.close()
            self.team, self.together = None, False

    def parameters(self):
        return unpadded(self.network, [self.first.T, *self.W[2:]], self.b[1:])

    def gradients(self):
        l1, l2 = self.network.l1, self.network.l2
        W, dW = [self.first.T, *self.W[2:]], [self.first_gradient.T, *self.dW[2:]]
        dW = [dW + l1 * np.sign(W) + l2 * W for W, dW in zip(W, dW, strict=True)]
        return unpadded(self.network, dW, self.db[1:])

    def predict(self, X):
        A = np.ascontiguousarray(X)
        for l, (W, b) in enumerate(self.parameters(), start=1):
            A = A @ W.T
            activate(self.codes[l], A, b, b.size)
        return A
