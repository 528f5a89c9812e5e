"""A batch shared by ranks, on one or many machines: the gradients are added up.

Idea: this is the plan of `processes` for workers that share no memory. Every rank has all weights and all data. Of a
batch of m samples each rank takes m / size. It goes forward and backward with them, as the parent does, and so has
the gradient of its own samples. One call of MPI, an all-reduce, gives the sum of all gradients to every rank. Then
all ranks make the same update. So their weights stay equal without being sent; a step sends only one gradient.

    mlpprof profile mpi --ranks 4                      mlpprof starts mpiexec itself
    mlpprof profile mpi --ranks 8 --hostfile hosts     on several machines, like any MPI program
    mpiexec -n 4 python train.py                       your own script, in which all ranks make the same calls

variants/README.md lists what the machines of a hostfile need.

The loss is sent as one more number of the same message, because a message of its own would have to wait for all ranks
again. The penalty depends on the weights alone, which all ranks have, so it is added after the sum. In a profile,
"all-reduce" is the time of the message and the time in which this rank waits for the slowest one. Without mpiexec
there is one rank, and it does everything. `mlpprof.engines.mpi` makes the other ranks repeat the steps that rank 0 is
asked to make.

What changes against `chunked`: each rank takes its own rows, and the all-reduce stands between backward and update.

Why it is faster: all products and all elementwise passes of a step run on several cores, or machines, at once.

Source: synchronous data parallelism, as MPI programs and the large frameworks do it. variants/README.md compares this
variant with `processes`.
"""

import numpy as np

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES
from mlpprof.engines.mpi import Ranks

PARENT = "chunked"
BRANCH = "workers"
EXTRA = "mpi"

ROWS = 500


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
    """Lists are indexed by the layer l = 0..L. W[l] (n_l, n_{l-1}) and b[l] (n_l,) are views of theta."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        self.network = network
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.cost = COSTS[network.loss, network.output]
        self.theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        self.velocity = np.zeros_like(self.theta)
        self.sums = np.zeros(self.theta.size + 1, self.theta.dtype)  # gradient and loss of the batch
        self.gradient = self.sums[:-1]
        self.scratch = np.empty_like(self.theta)
        self.W, self.b = views(self.theta, network.layers)
        self.dW, self.db = views(self.gradient, network.layers)
        self.dW_more, self.db_more = views(self.scratch, network.layers)
        self.weights = slice(sum(W.size for W in self.W[1:]))
        self.m = self.capacity = 0
        self.ranks = Ranks(self, __file__, network, (self.theta, self.velocity))

    def allocate(self, m):
        """Take the first m rows of the arrays; make new arrays only if this is the largest batch so far."""
        if m > self.capacity:
            sizes = self.network.layers
            widths = (*sizes, *sizes[1:], *sizes[1:], *(3 * sizes[-1:]))
            self.arrays = [np.empty((m, n), self.theta.dtype) for n in widths]
            self.capacity = m
        self.m, L = m, self.L
        rows = [array[:m] for array in self.arrays]
        self.A, self.delta, self.D = rows[: L + 1], [None, *rows[L + 1 : 2 * L + 1]], [None, *rows[2 * L + 1 : -3]]
        self.Y, self.P, self.Q = rows[-3:]
        self.ones = np.ones(m, self.theta.dtype)

    def fetch_batch(self, X, Y, index):
        if len(index) != self.m:
            self.allocate(len(index))
        self.first, self.share = True, 1.0
        X.take(index, axis=0, out=self.A[0], mode="clip")  # phase: gather
        Y.take(index, axis=0, out=self.Y, mode="clip")  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])  # phase: weighted sum
            self.A[l] += self.b[l]  # phase: bias
            self.value[l](self.A[l])  # phase: activation

    def loss(self):
        return self.cost(self.A[self.L], self.Y, self.P, self.Q) / self.m  # phase: cost

    def backward(self):
        dW, db = (self.dW, self.db) if self.first else (self.dW_more, self.db_more)
        for l in reversed(range(1, self.L + 1)):
            delta = self.delta[l]
            if l == self.L:
                np.subtract(self.A[l], self.Y, out=delta)  # phase: error
                delta *= self.share / self.m  # phase: error
            else:
                np.matmul(self.delta[l + 1], self.W[l + 1], out=delta)  # phase: propagate
            if l < self.L or self.network.delta_needs_derivative:
                self.derivative[l](self.A[l], self.D[l])  # phase: derivative
                delta *= self.D[l]  # phase: multiply
            np.matmul(delta.T, self.A[l - 1], out=dW[l])  # phase: gradient
            np.dot(self.ones, delta, out=db[l])  # phase: gradient
        if not self.first:
            self.gradient += self.scratch  # phase: gradient
        elif not self.ranks.stepping:
            self.regularize()  # phase: regularize

    def regularize(self):
        weights, gradient, scratch = (block[self.weights] for block in (self.theta, self.gradient, self.scratch))
        if self.network.l2 > 0:
            np.multiply(weights, self.network.l2, out=scratch)
            gradient += scratch
        if self.network.l1 > 0:
            np.sign(weights, out=scratch)
            scratch *= self.network.l1
            gradient += scratch

    def update(self):
        if self.ranks.stepping:
            self.ranks.all_reduce(self.sums)  # phase: all-reduce
            self.regularize()  # phase: regularize
        else:
            self.ranks.apart = True
        self.velocity *= self.network.momentum  # phase: momentum
        self.velocity += self.gradient  # phase: momentum
        np.multiply(self.velocity, self.network.rate, out=self.scratch)  # phase: descend
        self.theta -= self.scratch  # phase: descend

    def train_step(self, X, Y, index):
        self.ranks.begin(X, Y, index)
        mine = index[self.ranks.rank :: self.ranks.size]
        rows = -(-len(mine) // max(1, -(-len(mine) // ROWS)))  # all pieces are equal; only the last may be smaller
        self.sums[:] = 0  # a rank that has no rows adds 0
        for start in range(0, len(mine), rows or 1):
            self.fetch_batch(X, Y, mine[start : start + rows])
            self.first, self.share = start == 0, self.m / len(index)
            self.forward()
            self.sums[-1] += self.share * self.loss()
            self.backward()
        self.update()
        self.ranks.end()
        return float(self.sums[-1])

    def parameters(self):
        return [(W.copy(), b.copy()) for W, b in zip(self.W[1:], self.b[1:], strict=True)]

    def gradients(self):
        return [(dW.copy(), db.copy()) for dW, db in zip(self.dW[1:], self.db[1:], strict=True)]

    def predict(self, X):
        A = X
        for l in range(1, self.L + 1):
            A = A @ self.W[l].T + self.b[l]
            self.value[l](A)
        return A
