"""Shares of the input features, compiled: two products and a few calls per step.

Idea: if the batch is small, most of a step of `feature_shards` is the overhead of calls. Every worker computes the
small layers above layer 1, with some forty calls of NumPy on short arrays. Here these layers are one compiled
function in each direction: `forward_above` and `backward_above` of `mlpprof.engines.numba_passes`. Python only does
the gather, the two products with the features, and the meetings.

    A, delta    Flat blocks: the vectors of layers 1..L for all samples of the batch, layer by layer.
    n, at       The sizes of the layers; where W[l] and b[l] begin in upper, where A[l] of one sample begins in A, and
                the number of neurons.

What changes against `feature_shards`: compiled functions on flat blocks replace those of NumPy on lists of arrays. As
in `compiled`, hidden layers are padded to a multiple of 4 neurons, whose weights always stay 0, because BLAS handles
four columns at a time.

Why it is faster: there are fewer calls. With 72 columns instead of 70 the two products took 6 to 10 % less time.

Limits: the functions are compiled before the workers are forked. The first step therefore takes seconds, unless
NUMBA_CACHE_DIR names a folder that keeps the machine code.

Source: "input-feature shards (with numba at 32)" in the project's own measurements. variants/README.md shows what
this variant gains.
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
    """Write the sum of the parts (workers, m or more, n_1) into Z (m, n_1)."""
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
    """Update `first`, weights of some features, and `upper`, whose biases come last; each is (w, v, gradient)."""
    rate, momentum, l1, l2, one, zero = optimizer
    w, v, g = first
    descend(w, v, g, one, rate, momentum, l1, l2)
    w, v, g = upper
    descend(w[:weights], v[:weights], g[:weights], one, rate, momentum, l1, l2)
    descend(w[weights:], v[weights:], g[weights:], one, rate, momentum, zero, zero)


def views(block, sizes):
    """Return W[l] (n_l, n_{l-1}), l = 2..L, and b[l] (n_l,) as views of a flat block: weights first, then biases."""
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
    """The part of one worker. W[l] (n_l, n_{l-1}), l = 2..L, and b[l] (n_l,) are views of its row of upper."""

    def __init__(self, network, sizes, first, upper, k):
        self.network, self.sizes, self.k = network, sizes, k
        self.first, self.first_velocity, self.first_gradient = first
        self.upper, self.upper_velocity = upper[:, k]
        self.L = L = network.depth
        self.upper_gradient = np.zeros_like(self.upper)
        self.W, self.b = views(self.upper, sizes)
        self.dW, self.db = views(self.upper_gradient, sizes)
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
        self.together = False  # True during a step of the whole team

    def own_columns(self, X):
        """Copy the worker's columns of all samples, so that a batch is gathered in whole rows."""
        return np.ascontiguousarray(X[:, self.columns])

    def allocate(self, m, width):
        """Make arrays for a batch of m samples with `width` features."""
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
        """Compute the part of Z[1] that belongs to this worker's features."""
        np.matmul(self.x, self.W_1, out=out)  # phase: weighted sum

    def rest(self, parts):
        """Add up the parts of Z[1], and compute the layers above."""
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
    """Worker 0, which also starts the other workers and gives them their work."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        sizes, parameters = padded(network, parameters)
        first = [shared_zeros(parameters[0][0].T.shape, parameters[0][0].dtype) for _ in range(3)]
        upper = np.concatenate([W.ravel() for W, _ in parameters[1:]] + [b for _, b in parameters])
        self.upper_of_all = shared_zeros((2, workers_wanted(), upper.size), upper.dtype)
        first[0][:], self.upper_of_all[0] = parameters[0][0].T, upper
        super().__init__(network, sizes, first, self.upper_of_all, 0)
        self.shared_first = first
        self.team = self.X = self.T = None
        self.index, self.size = shared_zeros(0, np.int64), shared_zeros(1, np.int64)

    def compile(self, X, Y):
        """Compile all functions for this network and precision, without changing a weight."""
        self.fetch_batch(X, Y, np.arange(1))
        super().forward()
        self.loss()
        self.backward()
        update((self.upper[:0],) * 3, (self.upper[:0],) * 3, 0, self.optimizer)

    def start_team(self, X, Y, m):
        """Fork the other workers. They see X, Y and the arrays as they are at this moment."""
        self.close()
        self.compile(X, Y)
        workers, n = self.upper_of_all.shape[1], self.sizes[1]
        self.X, self.T, self.index = X, Y, shared_zeros(m, np.int64)
        self.parts = shared_zeros((workers, m, n), self.upper.dtype)
        self.own = self.own_columns(X)
        others = [Worker(self.network, self.sizes, self.shared_first, self.upper_of_all, k) for k in range(1, workers)]

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
            self.start_team(X, Y, len(index))
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
