"""Shares of a batch, compiled: one pass over memory between two products.

Idea: `processes` and `compiled` make different parts of a step shorter, so this variant does both. The processes
share the samples. Within a share, the compiled functions of `mlpprof.engines.numba_passes` replace the passes of
NumPy, as in `compiled`, and the layers above layer 1 take one call in each direction. As in `compiled`, hidden layers
are padded to a multiple of 4 neurons, whose weights always stay 0, because BLAS handles four columns at a time.

What changes against `processes`: the functions that a worker calls, and the padding.

Why it is faster: the parent's workers add up all gradients, add the penalty and update, in one pass for each worker
and seven more. `add_up_and_descend` makes one pass over a piece of the weights. It reads this piece of every
gradient, and reads and writes the weights and their velocity. The second half of a step touches no other memory.

Limits: the caller compiles the functions before it forks the workers, so that all of them have the machine code. The
first step therefore takes seconds, unless NUMBA_CACHE_DIR names a folder that keeps the machine code.

Source: "processes, sample shards" and "numba" in the project's own measurements. variants/README.md shows what this
variant gains.
"""

import numpy as np

from mlpprof.engines.numba_passes import (
    activate,
    add_up_and_descend,
    backward_above,
    cost,
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


class Worker:
    """The part of one worker. W[l] (n_l, n_{l-1}) and b[l] (n_l,), l = 1..L, are views of theta."""

    def __init__(self, network, sizes, theta, velocity, gradients, losses, k):
        self.network, self.sizes = network, sizes
        self.theta, self.velocity, self.losses, self.k = theta, velocity, losses, k
        self.gradients_of_all = gradients
        self.L = L = network.depth
        self.gradient = gradients[k]
        self.more = np.empty_like(self.theta)
        self.W, self.b = views(self.theta, sizes)
        self.dW, self.db = views(self.gradient, sizes)
        self.dW_more, _ = views(self.more, sizes)
        self.n = n = np.array(sizes)
        self.weights = self.theta.size - n[1:].sum()
        self.at = np.zeros((4, L + 1), np.int64)
        self.at[0, 2:] = np.cumsum(n[1:-1] * n[:-2])
        self.at[1, 1:] = self.weights + np.cumsum(n[1:]) - n[1:]
        self.at[2, 2:] = np.cumsum(n[1:-1])
        self.at[3] = network.layers
        self.codes, self.optimizer, self.least = settings(network, theta.dtype)
        self.m = self.capacity = 0

    def allocate(self, m):
        """Take the first part of the arrays for m samples; make new arrays only if this is the largest batch so far."""
        n, dtype = self.n, self.theta.dtype
        above = n[1:].sum()
        if m > self.capacity:
            self.rows = [np.empty((m, k), dtype) for k in (n[0], n[-1])]
            self.blocks = np.empty((2, m * above), dtype)
            self.capacity = m
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
        """Go forward and backward with this worker's rows of the batch; store its loss and gradient."""
        workers, loss = len(self.gradients_of_all), 0.0
        mine = index[len(index) * self.k // workers : len(index) * (self.k + 1) // workers]
        if len(mine) == 0:
            self.gradient[:] = 0
        rows = -(-len(mine) // max(1, -(-len(mine) // ROWS)))  # all pieces are equal; only the last may be smaller
        for start in range(0, len(mine), rows or 1):
            self.fetch_batch(X, Y, mine[start : start + rows])
            self.first, self.share = start == 0, self.m / len(index)
            self.forward()
            loss += self.share * self.loss()
            self.backward()
        self.losses[self.k] = loss

    def descend(self, workers):
        """Add up the gradients of the first `workers` workers for this worker's piece of theta, and update it."""
        part = self.k, workers
        add_up_and_descend(self.gradients_of_all, part, self.theta, self.velocity, self.weights, self.optimizer)

    def compile(self, X, Y, index):
        """Compile all functions for this network and precision, without changing a weight."""
        self.fetch_batch(X, Y, index)
        self.forward()
        self.loss()
        self.backward()
        add_up_and_descend(self.gradients_of_all, (0, 1), self.theta[:0], self.velocity[:0], 0, self.optimizer)


class MLP(Worker):
    """Worker 0, which also starts the other workers and gives them their work."""

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
        self.together = False  # True during a step of the whole team

    def start_team(self, X, Y, m):
        """Fork the other workers. They see X, Y and the arrays as they are at this moment."""
        self.close()
        self.compile(X, Y, np.arange(1))
        self.X, self.T, self.index = X, Y, shared_zeros(m, np.int64)
        workers = len(self.gradients_of_all)
        state = self.network, self.sizes, self.theta, self.velocity, self.gradients_of_all, self.losses
        team = [Worker(*state, k) for k in range(workers)]

        def work(k, task):
            if task == TAKE:
                team[k].take(X, Y, self.index[: self.size[0]])
            else:
                team[k].descend(workers)

        self.team = ProcessTeam(workers, work)

    def train_step(self, X, Y, index):
        if self.team is None or X is not self.X or Y is not self.T or len(index) > len(self.index):
            self.start_team(X, Y, len(index))
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
