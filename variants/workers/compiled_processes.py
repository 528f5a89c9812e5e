"""Shares of a batch, compiled: what each worker does between two matrix products is one pass over memory.

Idea: `processes` and `compiled` shorten different parts of a step, so do both. The team of processes shares out the
samples; within a share, numba's functions of `mlpprof.engines.numba_passes` take the place of NumPy's passes, as they
do in
`compiled`, and the layers above layer 1 are one call each way. And where the parent's workers add up the gradients of
all, penalize, and descend in a pass for each worker and seven more, `add_up_and_descend` goes over a piece of the
weights once: the piece of every gradient is read, the weight and its velocity are read and written, and that is all the
memory that the second half of a step touches. As in `compiled`, hidden layers are padded to a multiple of 4 neurons,
whose weights are and stay 0, because BLAS takes columns by the four.

What changes: the functions that a worker calls, and the padding. The functions are compiled before the workers are
forked, by the caller, so that all have the machine code; so the first step takes seconds, unless a folder keeps it.

Source: the project's own measurements ("processes, sample shards", "numba"); what it is worth tells variants/README.md.
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

PARENT = "processes"
BRANCH = "workers"
EXTRA = "compiled"

ROWS = 500
TAKE, DESCEND = 1, 2


@COMPILE
def add_up_and_descend(gradients, workers, theta, velocity, start, end, weights, optimizer):
    """Update theta from start to end with the sum of the workers' gradients; only the first `weights` are penalized."""
    rate, momentum, l1, l2, one, zero = optimizer
    g = gradients[0, start:end]
    for k in range(1, workers):
        more = gradients[k, start:end]
        for i in range(g.size):
            g[i] += more[i]
    cut = max(start, min(weights, end))
    descend(theta[start:cut], velocity[start:cut], g[: cut - start], one, rate, momentum, l1, l2)
    descend(theta[cut:end], velocity[cut:end], g[cut - start :], one, rate, momentum, zero, zero)


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


class Worker:
    """What one worker does. W[l] (n_l, n_{l-1}) and b[l] (n_l,), l = 1..L, are windows into theta."""

    def __init__(self, network, sizes, theta, velocity, gradients, losses, k):
        self.network, self.sizes = network, sizes
        self.theta, self.velocity, self.losses, self.k = theta, velocity, losses, k
        self.of_workers = gradients
        self.L = L = network.depth
        self.gradient = gradients[k]
        self.more = np.empty_like(self.theta)
        self.W, self.b = windows(self.theta, sizes)
        self.dW, self.db = windows(self.gradient, sizes)
        self.dW_more, _ = windows(self.more, sizes)
        self.n = n = np.array(sizes)
        self.weights = self.theta.size - n[1:].sum()
        self.at = np.zeros((4, L + 1), np.int64)
        self.at[0, 2:] = np.cumsum(n[1:-1] * n[:-2])
        self.at[1, 1:] = self.weights + np.cumsum(n[1:]) - n[1:]
        self.at[2, 2:] = np.cumsum(n[1:-1])
        self.at[3] = network.layers
        self.codes, self.optimizer, self.least = settings(network, theta.dtype)
        self.m = self.most = 0

    def allocate(self, m):
        """Arrays for m samples: the beginning of those that the largest batch so far has needed."""
        n, dtype = self.n, self.theta.dtype
        above = n[1:].sum()
        if m > self.most:
            self.rows = [np.empty((m, k), dtype) for k in (n[0], n[-1])]
            self.blocks = np.empty((2, m * above), dtype)
            self.most = m
        self.m = m
        self.x, self.Y = (array[:m] for array in self.rows)
        self.A, self.delta = self.blocks[:, : m * above]
        self.Z_1, self.delta_1 = (block[: m * n[1]].reshape(m, n[1]) for block in (self.A, self.delta))
        self.A_L = self.A[-m * n[-1] :].reshape(m, n[-1])

    def fetch_batch(self, X, Y, index):
        if len(index) != self.m:
            self.allocate(len(index))
        self.first, self.share = True, 1.0
        X.take(index, axis=0, out=self.x, mode="clip")  # phase: gather
        Y.take(index, axis=0, out=self.Y, mode="clip")  # phase: gather

    def forward(self):
        np.matmul(self.x, self.W[1].T, out=self.Z_1)  # phase: weighted sum
        forward_above(self.codes, self.n, self.at, self.theta, self.A, self.m)  # phase: activation

    def loss(self):
        return cost(self.codes[-1], self.codes[-2], self.A_L, self.Y, self.least) / self.m  # phase: cost

    def backward(self):
        gradient, dW = (self.gradient, self.dW) if self.first else (self.more, self.dW_more)
        layers, share = (self.codes, self.n, self.at, self.theta), self.theta.dtype.type(self.share / self.m)
        backward_above(*layers, self.A, self.Y, self.delta, gradient, share)  # phase: propagate
        np.matmul(self.delta_1.T, self.x, out=dW[1])  # phase: gradient
        if not self.first:
            self.gradient += self.more  # phase: gradient

    def take(self, X, Y, index):
        """Forward and backward with this worker's rows of the batch: its loss and gradient."""
        workers, loss = len(self.of_workers), 0.0
        mine = index[len(index) * self.k // workers : len(index) * (self.k + 1) // workers]
        if len(mine) == 0:
            self.gradient[:] = 0
        rows = -(-len(mine) // max(1, -(-len(mine) // ROWS)))  # all pieces are equal, but for the last
        for start in range(0, len(mine), rows or 1):
            self.fetch_batch(X, Y, mine[start : start + rows])
            self.first, self.share = start == 0, self.m / len(index)
            self.forward()
            loss += self.share * self.loss()
            self.backward()
        self.losses[self.k] = loss

    def descend(self, workers):
        """Add up the gradients of so many workers, for this worker's piece of theta, and update that."""
        size = self.theta.size
        start, end = size * self.k // workers, size * (self.k + 1) // workers
        state = self.of_workers, workers, self.theta, self.velocity
        add_up_and_descend(*state, start, end, self.weights, self.optimizer)

    def compile(self, X, Y, index):
        """Have all functions translated for this network and precision; no weight is changed."""
        self.fetch_batch(X, Y, index)
        self.forward()
        self.loss()
        self.backward()
        add_up_and_descend(self.of_workers, 1, self.theta, self.velocity, 0, 0, 0, self.optimizer)


class MLP(Worker):
    """Worker 0, and what the others need from it."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        sizes, parameters = padded(network, parameters)
        theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        workers = workers_wanted()
        shared = [shared_zeros(theta.shape, theta.dtype) for _ in range(2)]
        gradients = shared_zeros((workers, theta.size), theta.dtype)
        shared[0][:] = theta
        super().__init__(network, sizes, *shared, gradients, shared_zeros(workers, np.float64), 0)
        self.team = self.X = self.T = None
        self.index, self.size = shared_zeros(0, np.int64), shared_zeros(1, np.int64)
        self.together = False  # whether a step of the whole team is under way

    def call_together(self, X, Y, m):
        """Fork the other workers, which see X, Y and the arrays as they are now."""
        self.close()
        self.compile(X, Y, np.arange(1))
        self.X, self.T, self.index = X, Y, shared_zeros(m, np.int64)
        workers = len(self.of_workers)
        state = self.network, self.sizes, self.theta, self.velocity, self.of_workers, self.losses
        team = [Worker(*state, k) for k in range(workers)]

        def work(k, task):
            if task == TAKE:
                team[k].take(X, Y, self.index[: self.size[0]])
            else:
                team[k].descend(workers)

        self.team = ProcessTeam(workers, work)

    def train_step(self, X, Y, index):
        if self.team is None or X is not self.X or Y is not self.T or len(index) > len(self.index):
            self.call_together(X, Y, len(index))
        self.size[0] = len(index)
        self.index[: len(index)] = index
        self.team.go(TAKE)
        self.together = True
        self.take(X, Y, index)
        self.update()
        self.together = False
        return float(self.losses.sum())

    def update(self):
        if self.together:
            self.team.wait()  # phase: wait
            self.team.go(DESCEND)
            self.descend(self.team.workers)  # phase: descend
            self.team.wait()  # phase: wait
        else:
            self.descend(1)  # phase: descend

    def close(self):
        if self.team is not None:
            self.team.close()
            self.team, self.together = None, False

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
            activate(self.codes[l], A, b, b.size)
        return A
