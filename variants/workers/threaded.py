"""A batch shared by threads: the plan of `processes` in a single process.

Idea: NumPy releases the interpreter's lock while it computes. So threads can do what the workers of `processes` do,
without shared memory, without forks, and with nothing to clean up.

What changes against `chunked`: the same as in `processes`, whose docstring describes the plan. `mlpprof diff
processes threaded` shows the difference: ThreadTeam replaces ProcessTeam, and ordinary arrays replace shared ones. In
a profile, "wait" is the time in which worker 0 waits for the others. BLAS has one thread.

Why it is faster: the calls of NumPy run on several cores at once.

Limits: between two calls of NumPy a thread needs the lock, and waits until another thread releases it. A step has
about fifty calls per worker. So threads are faster only if a call takes long compared with this wait, which needs
thousands of samples per worker. With fewer samples they are slower than one thread.

Source: "Python threads" in the project's own measurements. variants/README.md shows what this variant gains.
"""

import numpy as np

from mlpprof.engines.in_place import COSTS, DERIVATIVES, VALUES
from mlpprof.engines.team import ThreadTeam, workers_wanted

PARENT = "chunked"
BRANCH = "workers"

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

    def __init__(self, network, theta, velocity, gradients, losses, k):
        self.network = network
        self.theta, self.velocity, self.losses, self.k = theta, velocity, losses, k
        self.gradients_of_all = gradients
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.cost = COSTS[network.loss, network.output]
        self.gradient = gradients[k]
        self.scratch = np.empty_like(self.theta)
        self.W, self.b = views(self.theta, network.layers)
        self.dW, self.db = views(self.gradient, network.layers)
        self.dW_more, self.db_more = views(self.scratch, network.layers)
        self.weights = sum(W.size for W in self.W[1:])
        self.m = self.capacity = 0

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
        size = self.theta.size
        start, end = size * self.k // workers, size * (self.k + 1) // workers
        w, v, scratch = (block[start:end] for block in (self.theta, self.velocity, self.scratch))
        penalized = max(0, self.weights - start)
        v *= self.network.momentum
        for gradient in self.gradients_of_all[:workers, start:end]:
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


class MLP(Worker):
    """Worker 0, which also starts the other workers and gives them their work."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        workers = workers_wanted()
        shared = [np.zeros(theta.shape, theta.dtype) for _ in range(2)]
        gradients = np.zeros((workers, theta.size), theta.dtype)
        shared[0][:] = theta
        super().__init__(network, *shared, gradients, np.zeros(workers), 0)
        self.team = self.X = self.T = None
        self.index, self.size = np.zeros(0, np.int64), np.zeros(1, np.int64)
        self.together = False  # True during a step of the whole team

    def start_team(self, X, Y, m):
        """Start the other workers. They see X, Y and the arrays."""
        self.close()
        self.X, self.T, self.index = X, Y, np.zeros(m, np.int64)
        workers = len(self.gradients_of_all)
        state = self.network, self.theta, self.velocity, self.gradients_of_all, self.losses
        team = [Worker(*state, k) for k in range(workers)]

        def work(k, task):
            if task == TAKE:
                team[k].take(X, Y, self.index[: self.size[0]])
            else:
                team[k].descend(workers)

        self.team = ThreadTeam(workers, work)

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
            self.team = None

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
