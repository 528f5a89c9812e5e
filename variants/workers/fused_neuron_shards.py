"""Neurons shared by processes, their weights updated inside the BLAS call: no gradient is ever stored.

Idea: in `neuron_shards` the gradient of a weight is made by one worker and used by the same, and nobody else asks for
it. So it need not exist: `fused_update` has BLAS add rate * delta.T A to the weights in the product itself, and here
each worker does that for the rows of W[l] that are its own. What is saved are three passes over all parameters, or
more with a penalty, 10 MB each for 1000-900-900-900-10: the gradient written, read, and the weights read once more.

    without momentum    W = (1 - rate l2) W - rate delta.T A        the penalty is the factor that gemm has for W
    else                v = mu v + rate delta.T A, + rate l2 W; then W -= v

What changes: backward only propagates delta, and the products with A go into update, behind the last meeting: by then
nobody reads W[l] any more. The block of gradients is gone, and a worker updates its rows, no longer a piece of theta.

Source: the project's own measurements; what it is worth tells variants/README.md.
"""

import numpy as np
from scipy.linalg import get_blas_funcs

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES
from mlpprof.engines.team import Meeting, ProcessTeam, shared_zeros, workers_wanted

PARENT = "neuron_shards"
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

    def __init__(self, network, theta, velocity, k, workers):
        self.network, self.k, self.workers = network, k, workers
        self.theta, self.velocity = theta, velocity
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.cost = COSTS[network.loss, network.output]
        self.W, self.b = windows(self.theta, network.layers)
        self.vW, self.vb = windows(self.velocity, network.layers)
        self.gemm = get_blas_funcs("gemm", dtype=self.theta.dtype)
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
        self.meet()  # phase: wait

    def update(self):
        """Update this worker's rows, layer by layer."""
        network, rate = self.network, self.network.rate
        for l in range(1, self.L + 1):
            own = self.share(len(self.W[l]))
            if own.start == own.stop:  # fewer neurons than workers
                continue
            W, b, v, vb = self.W[l][own], self.b[l][own], self.vW[l][own], self.vb[l][own]
            A, delta = self.A[l - 1].T, self.delta[l][:, own].T
            if network.momentum == 0 and network.l1 == 0:
                self.gemm(-rate, A, delta, 1 - rate * network.l2, W.T, trans_b=True, overwrite_c=True)  # phase: descend
                b -= rate * (delta @ self.ones)  # phase: descend
            else:
                self.gemm(rate, A, delta, network.momentum, v.T, trans_b=True, overwrite_c=True)  # phase: momentum
                vb *= network.momentum  # phase: momentum
                vb += rate * (delta @ self.ones)  # phase: momentum
                self.regularize(W, v)  # phase: regularize
                W -= v  # phase: descend
                b -= vb  # phase: descend

    def regularize(self, W, v):
        if self.network.l2 > 0:
            v += self.network.rate * self.network.l2 * W
        if self.network.l1 > 0:
            v += self.network.rate * self.network.l1 * np.sign(W)

    def meet(self):
        if self.together:
            self.meeting.meet(self.k, self.look)


class MLP(Worker):
    """Worker 0, and what the others need from it."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        blocks = [shared_zeros(theta.shape, theta.dtype) for _ in range(2)]
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
