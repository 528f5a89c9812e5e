"""A small batch shared by processes: each takes some of the input features.

Idea: the processes of `processes` exchange a gradient, which is as large for a batch of 32 as for one of 20,000. If
most weights belong to a wide input, share the input instead of the samples. Worker k has some columns of X, and the
weights that belong to them. With all samples of the batch it computes its part of Z[1], the sum over its own
features. Then the workers meet, and each adds up the parts, m times n_1 numbers. After that all workers do the same:
the layers above are small, so each worker computes and updates all of them, and their weights stay equal without any
message. The gradient of a worker's own part of W[1] needs delta[1], which every worker has now, and its own columns
of X. So each worker updates its part at once, and nobody adds up gradients.

    own     (N, n_0 / workers) A worker's columns of X. Together they are a second copy of the data, made once.
    first   (n_0, n_1)         W[1], transposed: the weights of a worker's features are rows that lie together.
    upper   (2, workers, all)  The other weights and all biases, and their velocity: one row per worker, all rows equal.
    parts   (workers, m, n_1)  The parts of Z[1]. Each is written by one worker and read by all.

The five methods, called one by one, make a step of worker 0 with all columns.

What changes against `processes`: the part that a worker has, and its step: `part` before the meeting, `rest` after
it.

Why it is faster: in a profile of 784-70-30-10 at batch 32 the exchange took 6 of 200 microseconds.

Limits: the layers that every worker computes took some 100 of the 200 microseconds. They and the exchange grow with
the batch, and a gradient does not. So `processes` is faster with larger batches.

Source: "input-feature shards" in the project's own measurements. variants/README.md shows what this variant gains.
"""

import numpy as np

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES
from mlpprof.engines.team import ProcessTeam, shared_zeros, workers_wanted

PARENT = "processes"
BRANCH = "workers"

PART, REST = 1, 2


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

    def __init__(self, network, first, upper, k):
        self.network, self.k = network, k
        self.first, self.first_velocity, self.first_gradient = first
        self.upper, self.upper_velocity = upper[:, k]
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.cost = COSTS[network.loss, network.output]
        self.upper_gradient = np.zeros_like(self.upper)
        self.scratch = np.empty(max(self.first.size, self.upper.size), self.upper.dtype)
        self.W, self.b = views(self.upper, network.layers)
        self.dW, self.db = views(self.upper_gradient, network.layers)
        self.weights = self.upper.size - sum(network.layers[1:])
        n, workers = network.layers[0], upper.shape[1]
        self.columns = slice(n * k // workers, n * (k + 1) // workers)
        self.m = self.width = 0
        self.together = False  # True during a step of the whole team

    def own_columns(self, X):
        """Copy the worker's columns of all samples, so that a batch is gathered in whole rows."""
        return np.ascontiguousarray(X[:, self.columns])

    def allocate(self, m, width):
        """Make arrays for a batch of m samples with `width` features."""
        self.m, self.width, sizes, L = m, width, self.network.layers, self.L
        widths = (width, *sizes[1:], *sizes[1:], *sizes[1:], *(3 * sizes[-1:]))
        arrays = [np.empty((m, n), self.upper.dtype) for n in widths]
        self.A, self.delta, self.D = (
            arrays[: L + 1],
            [None, *arrays[L + 1 : 2 * L + 1]],
            [None, *arrays[2 * L + 1 : -3]],
        )
        self.Y, self.P, self.Q = arrays[-3:]
        self.ones = np.ones(m, self.upper.dtype)

    def fetch_batch(self, X, Y, index):
        if (len(index), X.shape[1]) != (self.m, self.width):
            self.allocate(len(index), X.shape[1])
        self.rows = self.columns if self.together else slice(None)
        X.take(index, axis=0, out=self.A[0], mode="clip")  # phase: gather
        Y.take(index, axis=0, out=self.Y, mode="clip")  # phase: gather

    def part(self, out):
        """Compute the part of Z[1] that belongs to this worker's features."""
        np.matmul(self.A[0], self.first[self.rows], out=out)  # phase: weighted sum

    def rest(self, parts):
        """Add up the parts of Z[1], and compute the layers above."""
        if parts is not None:
            np.add.reduce(parts, axis=0, out=self.A[1])  # phase: exchange
        for l in range(1, self.L + 1):
            if l > 1:
                np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])  # phase: weighted sum
            self.A[l] += self.b[l]  # phase: bias
            self.value[l](self.A[l])  # phase: activation

    def forward(self):
        self.part(self.A[1])
        self.rest(None)

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
            if l > 1:
                np.matmul(delta.T, self.A[l - 1], out=self.dW[l])  # phase: gradient
            else:
                np.matmul(self.A[0].T, delta, out=self.first_gradient[self.rows])  # phase: gradient
            np.dot(self.ones, delta, out=self.db[l])  # phase: gradient

    def descend(self, w, v, gradient, penalized):
        """Update a flat block. Its first `penalized` numbers are weights, the others are biases."""
        scratch = self.scratch[: w.size]
        v *= self.network.momentum
        v += gradient
        if self.network.l2 > 0:
            np.multiply(w, self.network.l2, out=scratch)
            v[:penalized] += scratch[:penalized]
        if self.network.l1 > 0:
            np.sign(w, out=scratch)
            scratch *= self.network.l1
            v[:penalized] += scratch[:penalized]
        np.multiply(v, self.network.rate, out=scratch)
        w -= scratch

    def update(self):
        w, v, gradient = (a[self.rows].ravel() for a in (self.first, self.first_velocity, self.first_gradient))
        self.descend(w, v, gradient, w.size)  # phase: descend
        self.descend(self.upper, self.upper_velocity, self.upper_gradient, self.weights)  # phase: descend


class MLP(Worker):
    """Worker 0, which also starts the other workers and gives them their work."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        first = [shared_zeros(parameters[0][0].T.shape, parameters[0][0].dtype) for _ in range(3)]
        upper = np.concatenate([W.ravel() for W, _ in parameters[1:]] + [b for _, b in parameters])
        self.upper_of_all = shared_zeros((2, workers_wanted(), upper.size), upper.dtype)
        first[0][:], self.upper_of_all[0] = parameters[0][0].T, upper
        super().__init__(network, first, self.upper_of_all, 0)
        self.shared_first = first
        self.team = self.X = self.T = None
        self.index, self.size = shared_zeros(0, np.int64), shared_zeros(1, np.int64)

    def start_team(self, X, Y, m):
        """Fork the other workers. They see X, Y and the arrays as they are at this moment."""
        self.close()
        workers, n = self.upper_of_all.shape[1], self.network.layers[1]
        self.X, self.T, self.index = X, Y, shared_zeros(m, np.int64)
        self.parts = shared_zeros((workers, m, n), self.upper.dtype)
        self.own = self.own_columns(X)
        others = [Worker(self.network, self.shared_first, self.upper_of_all, k) for k in range(1, workers)]

        def work(k, task):
            me = others[k - 1]
            if task == PART:
                if not me.together:
                    me.own, me.together = me.own_columns(X), True
                me.fetch_batch(me.own, Y, self.index[: self.size[0]])
                me.part(self.parts[k, : me.m])
            else:
                me.rest(self.parts[:, : me.m])
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
            self.rest(self.parts[:, : self.m])
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
        W = [self.first.T.copy(), *(W.copy() for W in self.W[2:])]
        return [(W, b.copy()) for W, b in zip(W, self.b[1:], strict=True)]

    def gradients(self):
        l1, l2, found = self.network.l1, self.network.l2, []
        gradients = zip([self.first_gradient.T, *self.dW[2:]], self.db[1:], strict=True)
        for (W, _), (dW, db) in zip(self.parameters(), gradients, strict=True):
            found.append((dW + l1 * np.sign(W) + l2 * W, db.copy()))
        return found

    def predict(self, X):
        A = X @ self.first
        for l in range(1, self.L + 1):
            A = (A if l == 1 else A @ self.W[l].T) + self.b[l]
            self.value[l](A)
        return A
