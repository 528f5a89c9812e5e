"""Wide layers shared by processes: each has some neurons of every layer, and gradients are never exchanged.

Idea: in a network of wide layers the weights are many: `processes`, which shares the samples, adds up as many gradients
of 2.5 million numbers as it has workers, for a batch of 100. Share the neurons instead. Worker k has some rows of every
W[l], so some columns of every A[l] and delta[l], for all samples. It needs A[l-1] as a whole and gives its columns of
A[l]; backward it needs delta[l+1] as a whole, reads the columns of W[l+1] that belong to its neurons, and gives its
columns of delta[l]. So the workers meet after every layer, each way, and what they exchange are activations, m times
n_l numbers. The gradient of a row of W[l] is made by one worker, once.

    theta, velocity, gradient  (all,)      shared; rows of W[l] belong to a worker
    A[l], delta[l]             (m, n_l)    shared; columns belong to a worker, but for the output layer, which each
                                           computes for itself: it is small, and a softmax needs all of it

A profile of 1000-900-900-900-10 at batch 100 shows seven products of half a millisecond each, and a wait after nearly
every one: the slowest worker sets the pace of every layer, so another busy program costs more here than elsewhere. With
narrow layers a worker has few neurons, and the products get slow; with large batches there is more to exchange than a
gradient: `processes` is faster then. Called singly, the five methods make a step of worker 0 with all neurons.

What changes: columns and rows in place of samples, `meet` after every layer, and no sum over gradients.

Source: the project's own measurements ("neuron shards"); what it is worth tells variants/README.md.
"""

import numpy as np

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES
from mlpprof.engines.team import Meeting, ProcessTeam, shared_zeros, workers_wanted

PARENT = "processes"
BRANCH = "workers"

STEP = 1


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

    def __init__(self, network, theta, velocity, gradient, k, workers):
        self.network, self.k, self.workers = network, k, workers
        self.theta, self.velocity, self.gradient = theta, velocity, gradient
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.cost = COSTS[network.loss, network.output]
        self.scratch = np.empty_like(self.theta)
        self.W, self.b = windows(self.theta, network.layers)
        self.dW, self.db = windows(self.gradient, network.layers)
        self.weights = sum(W.size for W in self.W[1:])
        self.m = 0
        self.together = False  # whether a step of the whole team is under way

    def share(self, size):
        """This worker's share of so many samples, neurons or weights; all of them where it works alone."""
        if not self.together:
            return slice(0, size)
        return slice(size * self.k // self.workers, size * (self.k + 1) // self.workers)

    def allocate(self, m, room):
        """Arrays for a batch of m samples; room: A[0..L-1] and delta[1..L-1], which all workers share."""
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
        """Update this worker's piece of theta: all gradients are there."""
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
            self.meeting.meet(self.k, self.look)


class MLP(Worker):
    """Worker 0, and what the others need from it."""

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
        """Arrays that the workers share, for up to m samples."""
        self.close()
        self.index = shared_zeros(m, np.int64)
        widths = (*self.network.layers[:-1], *self.network.layers[1:-1])
        self.room = [shared_zeros((m, n), self.theta.dtype) for n in widths]
        self.m = 0

    def call_together(self, X, Y):
        """Fork the other workers, which see X, Y and the arrays as they are now."""
        self.close()
        self.X, self.T = X, Y
        others = [Worker(self.network, *self.blocks, k, self.workers) for k in range(1, self.workers)]
        self.meeting = Meeting(self.workers)

        def work(k, task):
            me, m = others[k - 1], int(self.size[0])
            if m != me.m:
                me.allocate(m, self.room)
                me.together, me.meeting, me.look = True, self.meeting, None
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
            self.call_together(X, Y)
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
