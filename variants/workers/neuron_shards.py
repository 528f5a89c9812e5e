"""Wide layers shared by processes: each has some neurons of every layer.

Idea: a network of wide layers has many weights. The workers of `processes`, which share the samples, add up as many
gradients of 2.5 million numbers as there are workers, for a batch of 100. Share the neurons instead. Worker k has
some rows of every W[l], and so some columns of every A[l] and delta[l], for all samples. Forward, it reads all of A[l
- 1] and writes its own columns of A[l]. Backward, it reads all of delta[l + 1], multiplies by the columns of W[l + 1]
that belong to its neurons, and writes its own columns of delta[l]. So the workers meet after every layer, in both
directions, and exchange activations, m times n_l numbers. The gradient of a row of W[l] is computed by one worker,
once.

    theta, velocity, gradient  (all,)      These are shared. Each row of W[l] belongs to one worker.
    A[l], delta[l]             (m, n_l)    These are shared, and each column belongs to one worker. Only the output
                                           layer is computed by every worker, because it is small, and because a
                                           softmax needs all of it.

The five methods, called one by one, make a step of worker 0 with all neurons.

What changes against `processes`: a worker has columns and rows instead of samples, the workers `meet` after every
layer, and there is no sum of gradients.

Why it is faster: an exchanged A[l] is much smaller than a gradient if layers are wide and the batch is small.

Limits: a profile of 1000-900-900-900-10 at batch 100 shows seven products of half a millisecond each, and a wait
after nearly every one. The slowest worker sets the pace of every layer, so another busy program costs more here than
in other variants. With narrow layers a worker has few neurons, and the products become slow. With large batches the
activations have more numbers than a gradient, and `processes` is faster.

Source: "neuron shards" in the project's own measurements. variants/README.md shows what this variant gains.
"""

import numpy as np

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES
from mlpprof.engines.team import Barrier, ProcessTeam, shared_zeros, workers_wanted

PARENT = "processes"
BRANCH = "workers"

STEP = 1


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

    def __init__(self, network, theta, velocity, gradient, k, workers):
        self.network, self.k, self.workers = network, k, workers
        self.theta, self.velocity, self.gradient = theta, velocity, gradient
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.cost = COSTS[network.loss, network.output]
        self.scratch = np.empty_like(self.theta)
        self.W, self.b = views(self.theta, network.layers)
        self.dW, self.db = views(self.gradient, network.layers)
        self.weights = sum(W.size for W in self.W[1:])
        self.m = 0
        self.together = False  # True during a step of the whole team

    def share(self, size):
        """Return this worker's share of `size` samples, neurons or weights, or all of them if it works alone."""
        if not self.together:
            return slice(0, size)
        return slice(size * self.k // self.workers, size * (self.k + 1) // self.workers)

    def allocate(self, m, room):
        """Make arrays for a batch of m samples; room: A[0..L-1] and delta[1..L-1], which all workers share."""
        sizes, L = self.network.layers, self.L
        self.m, dtype = m, self.theta.dtype
        *own, self.Y, self.P, self.Q = (np.empty((m, n), dtype) for n in (*sizes[1:], *(5 * sizes[-1:])))
        self.D, (last, last_delta) = [None, *own[:L]], own[L:]
        self.A = [*(array[:m] for array in room[:L]), last]
        self.delta = [None, *(array[:m] for array in room[L:]), last_delta]
        self.ones = np.ones(m, dtype)

    def fetch_batch(self, X, Y, index):
        rows = self.share(len(index))
        X.take(index[rows], axis=0, out=self.A[0][rows], mode="clip")  # phase: gather
        Y.take(index, axis=0, out=self.Y, mode="clip")  # phase: gather
        self.meet()  # phase: wait

    def forward(self):
        for l in range(1, self.L + 1):
            own = self.share(len(self.W[l])) if l < self.L else slice(None)
            A = self.A[l][:, own]
            np.matmul(self.A[l - 1], self.W[l][own].T, out=A)  # phase: weighted sum
            A += self.b[l][own]  # phase: bias
            self.value[l](A)  # phase: activation
            if l < self.L:
                self.meet()  # phase: wait

    def loss(self):
        return self.cost(self.A[self.L], self.Y, self.P, self.Q) / self.m  # phase: cost

    def backward(self):
        for l in reversed(range(1, self.L + 1)):
            own = self.share(len(self.W[l])) if l < self.L else slice(None)
            delta, A, D = self.delta[l][:, own], self.A[l][:, own], self.D[l][:, own]
            if l == self.L:
                np.subtract(A, self.Y, out=delta)  # phase: error
                delta *= 1 / self.m  # phase: error
            else:
                np.matmul(self.delta[l + 1], self.W[l + 1][:, own], out=delta)  # phase: propagate
            if l < self.L or self.network.delta_needs_derivative:
                self.derivative[l](A, D)  # phase: derivative
                delta *= D  # phase: multiply
            if 1 < l < self.L:
                self.meet()  # phase: wait
            own = self.share(len(self.W[l]))
            delta = self.delta[l][:, own]
            np.matmul(delta.T, self.A[l - 1], out=self.dW[l][own])  # phase: gradient
            np.dot(self.ones, delta, out=self.db[l][own])  # phase: gradient
        self.meet()  # phase: wait

    def update(self):
        """Update this worker's piece of theta. All gradients are complete at this point."""
        piece = self.share(self.theta.size)
        w, v, scratch = (block[piece] for block in (self.theta, self.velocity, self.scratch))
        penalized = max(0, self.weights - piece.start)
        v *= self.network.momentum  # phase: momentum
        v += self.gradient[piece]  # phase: momentum
        if self.network.l2 > 0:
            np.multiply(w, self.network.l2, out=scratch)  # phase: regularize
            v[:penalized] += scratch[:penalized]  # phase: regularize
        if self.network.l1 > 0:
            np.sign(w, out=scratch)  # phase: regularize
            scratch *= self.network.l1  # phase: regularize
            v[:penalized] += scratch[:penalized]  # phase: regularize
        np.multiply(v, self.network.rate, out=scratch)  # phase: descend
        w -= scratch  # phase: descend

    def meet(self):
        if self.together:
            self.barrier.wait(self.k, self.look)


class MLP(Worker):
    """Worker 0, which also starts the other workers and gives them their work."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        blocks = [shared_zeros(theta.shape, theta.dtype) for _ in range(3)]
        blocks[0][:] = theta
        super().__init__(network, *blocks, 0, workers_wanted())
        self.blocks = blocks
        self.team = self.X = self.T = None
        self.index, self.size = shared_zeros(0, np.int64), shared_zeros(1, np.int64)

    def make_room(self, m):
        """Make the arrays that the workers share, for up to m samples."""
        self.close()
        self.index = shared_zeros(m, np.int64)
        widths = (*self.network.layers[:-1], *self.network.layers[1:-1])
        self.room = [shared_zeros((m, n), self.theta.dtype) for n in widths]
        self.m = 0

    def start_team(self, X, Y):
        """Fork the other workers. They see X, Y and the arrays as they are at this moment."""
        self.close()
        self.X, self.T = X, Y
        others = [Worker(self.network, *self.blocks, k, self.workers) for k in range(1, self.workers)]
        self.barrier = Barrier(self.workers)

        def work(k, task):
            me, m = others[k - 1], int(self.size[0])
            if m != me.m:
                me.allocate(m, self.room)
                me.together, me.barrier, me.look = True, self.barrier, None
            me.fetch_batch(X, Y, self.index[:m])
            me.forward()
            me.backward()
            me.update()

        self.team = ProcessTeam(self.workers, work)
        self.look = self.team.require_all_alive

    def fetch_batch(self, X, Y, index):
        if len(index) > len(self.index):
            self.make_room(len(index))
        if len(index) != self.m:
            self.allocate(len(index), self.room)
        super().fetch_batch(X, Y, index)

    def train_step(self, X, Y, index):
        if len(index) > len(self.index):
            self.make_room(len(index))
        if self.team is None or X is not self.X or Y is not self.T:
            self.start_team(X, Y)
        self.size[0] = len(index)
        self.index[: len(index)] = index
        self.team.go(STEP)
        self.together = True
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        self.team.wait()
        self.together = False
        return loss

    def close(self):
        if self.team is not None:
            self.team.close()
            self.team, self.together = None, False

    def parameters(self):
        return [(W.copy(), b.copy()) for W, b in zip(self.W[1:], self.b[1:], strict=True)]

    def gradients(self):
        l1, l2, found = self.network.l1, self.network.l2, []
        for W, dW, db in zip(self.W[1:], self.dW[1:], self.db[1:], strict=True):
            found.append((dW + l1 * np.sign(W) + l2 * W, db.copy()))
        return found

    def predict(self, X):
        A = X
        for l in range(1, self.L + 1):
            A = A @ self.W[l].T + self.b[l]
            self.value[l](A)
        return A
