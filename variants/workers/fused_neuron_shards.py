"""Neurons shared by processes, with the update inside the BLAS call.

Idea: in `neuron_shards` the gradient of a weight is computed by one worker and used by the same worker only. So it
does not have to exist as an array. `fused_update` makes BLAS add rate * delta.T A to the weights within the product.
Here each worker does this for its own rows of W[l].

    without momentum    W = (1 - rate l2) W - rate delta.T A        gemm multiplies W by the factor of the penalty
    otherwise           v = mu v + rate delta.T A + rate l2 W; then W -= v

What changes against `neuron_shards`: backward only propagates delta, and the products with A move to update, after
the last meeting, because nobody reads W[l] any more then. The block of gradients is gone. A worker updates its own
rows instead of a piece of theta.

Why it is faster: at least three passes over all parameters are saved (10 MB each for 1000-900-900-900-10): the
gradient is not written, it is not read, and the weights are read once less. With a penalty, more are saved.

Source: the project's own measurements. variants/README.md shows what this variant gains.
"""

import numpy as np
from scipy.linalg import get_blas_funcs

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES
from mlpprof.engines.team import Barrier, ProcessTeam, shared_zeros, workers_wanted

PARENT = "neuron_shards"
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

    def __init__(self, network, theta, velocity, k, workers):
        self.network, self.k, self.workers = network, k, workers
        self.theta, self.velocity = theta, velocity
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.cost = COSTS[network.loss, network.output]
        self.W, self.b = views(self.theta, network.layers)
        self.vW, self.vb = views(self.velocity, network.layers)
        self.gemm = get_blas_funcs("gemm", dtype=self.theta.dtype)
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
            self.barrier.wait(self.k, self.look)


class MLP(Worker):
    """Worker 0, which also starts the other workers and gives them their work."""

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
