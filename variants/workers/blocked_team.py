"""Many steps of `blocked` by a team of threads that meet within compiled code.

Idea: a step of `blocked` takes 100 microseconds or less on small networks. The workers of `processes` need a tenth of
that for each call from Python and each meeting. Here every worker makes one compiled call for many steps, as many as
take about 20 milliseconds. This call needs neither Python nor its lock, so that the workers can be threads. They meet
in a few tenths of a microsecond:

    mlpprof.engines.meeting        how they wait for each other, and when they give their core away
    mlpprof.engines.blocked_team   what each of them computes: shares of a large batch, or parts of a small one

What changes against `blocked`: `train_step` and `train` give the work to the team, of which the thread that calls them
is one. The five methods, called singly, are those of `blocked`, on one thread. With one worker, `train` runs on one
thread as well.

Why it is faster: the products are shared, and so are the updates. Batches of up to 128 samples for each worker write
no gradient. Beside a busy program, where a team of two can be slower than one worker, `mlpprof.engines.pace` finds
this out from the times of the last steps, and one worker makes the next ones.

Limits: a call of the team takes some ten microseconds, and more if its threads sleep because the last call was long
ago. So the team is slower than one worker in a call of `train_step`, or of `train` with few steps, if a step takes a
few microseconds. The times of the last steps decide whether the team makes the next ones, and it adds up numbers in
another order than one worker. So a second run may differ in the last digits. Ctrl-C is noticed between two calls.

Source: the meetings are those of `processes`, in compiled code. variants/README.md shows what this variant gains.
"""

import numpy as np

from mlpprof.engines.blocked_passes import backward, forward, make_steps
from mlpprof.engines.blocked_team import make_steps_with_parts, make_steps_with_shares
from mlpprof.engines.meeting import CompiledTeam
from mlpprof.engines.numba_passes import activate, cost, descend, settings
from mlpprof.engines.pace import Pace
from mlpprof.engines.panels import gains_of, pack, plan_of, scratch_of, take_targets, unpack, widths_of
from mlpprof.engines.team import workers_wanted

PARENT = "blocked"
BRANCH = "workers"
EXTRA = "compiled"

ROWS = 128  # samples in a piece of a large batch, so that it stays in the second level of cache


class MLP:
    """theta, velocity and gradient are flat blocks of panels: all weights, then all biases. So are A and delta."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        self.network = network
        self.plan = plan_of(network, parameters[0][0].itemsize)
        self.widths = widths_of(self.plan, parameters[0][0].itemsize)
        self.theta = pack(self.plan, parameters)
        self.velocity = np.zeros_like(self.theta)
        self.gradient = np.zeros_like(self.theta)
        self.state = self.theta, self.velocity, self.gradient
        self.codes, self.optimizer, self.least = settings(network, self.theta.dtype)
        self.gains = gains_of(self.plan, self.codes, self.theta.dtype)
        self.turned = scratch_of(self.plan, self.theta.dtype)
        self.m = 0
        self.workers, self.rows = workers_wanted(), 0
        self.team, self.pace = CompiledTeam(self.workers), {}

    def allocate(self, m):
        self.m = m
        self.A = np.empty(m * self.plan.columns[-1], self.theta.dtype)
        self.delta = np.empty_like(self.A)
        self.out, self.T = np.empty((2, m, self.plan.n[-1]), self.theta.dtype)

    def fetch_batch(self, X, Y, index):
        if len(index) != self.m:
            self.allocate(len(index))
        order = np.ascontiguousarray(index, np.int64)
        self.samples = X, order, 0, len(order)
        take_targets(Y, order, self.T)  # phase: gather

    def forward(self):
        layers = self.plan, self.widths, self.codes, self.theta, self.gains
        forward(*layers, self.A, self.out, self.samples)  # phase: weighted sum

    def loss(self):
        return cost(self.codes[-1], self.codes[-2], self.out, self.T, self.least) / self.m  # phase: cost

    def backward(self):
        layers = self.plan, self.widths, self.codes, self.state, self.optimizer
        share = self.theta.dtype.type(1 / self.m)
        arrays = self.A, self.out, self.T, self.delta, self.turned
        backward(*layers, *arrays, share, True, False, self.samples)  # phase: gradient

    def update(self):
        rate, momentum, l1, l2, one, zero = self.optimizer
        w = self.plan.b[1]
        W, b = ([block[part] for block in self.state] for part in (slice(w), slice(w, None)))
        descend(*W, one, rate, momentum, l1, l2)  # phase: descend
        descend(*b, one, rate, momentum, zero, zero)  # phase: descend

    def make_room(self, rows):
        """Allocate what each worker needs for pieces of so many samples."""
        workers, dtype, columns = self.workers, self.theta.dtype, self.plan.columns
        self.rows = rows
        self.A_of_all, self.delta_of_all = np.empty((2, workers, rows * columns[-1]), dtype)
        self.out_of_all, self.T_of_all = np.empty((2, workers, rows, self.plan.n[-1]), dtype)
        self.turned_of_all = np.empty((workers, self.turned.size), dtype)
        self.gradients_of_all = np.empty((workers, self.theta.size), dtype)
        self.parts = np.zeros((workers + 1, workers * rows * (columns[2] - columns[1])), dtype)  # the last one stays 0

    def train_step(self, X, Y, index):
        return self.train(X, Y, [index])[0]

    def train(self, X, Y, indices):
        if any(len(index) != len(indices[0]) for index in indices):
            return [self.train_step(X, Y, index) for index in indices]
        batches, losses = np.array(indices, np.int64), np.empty(len(indices))

        def alone(first, end):
            self.make_steps_alone(X, Y, batches[first:end], losses[first:end])

        def together(first, end):
            self.make_steps_together(X, Y, batches[first:end], losses[first:end])

        if self.workers == 1:
            alone(0, len(batches))
        else:
            self.pace.setdefault(batches.shape[1], Pace()).run(len(batches), together, alone)
        return losses.tolist()

    def make_steps_alone(self, X, Y, batches, losses):
        """Make a step for each row of batches on this thread, as `blocked` does."""
        pieces = -(-batches.shape[1] // ROWS)
        rows = -(-batches.shape[1] // pieces)
        if rows != self.m:
            self.allocate(rows)
        make_steps(
            *(self.plan, self.widths, self.codes, self.state, self.optimizer, self.gains, X, Y, batches),
            *(self.A, self.out, self.T, self.delta, self.turned, self.least, losses),
        )

    def make_steps_together(self, X, Y, batches, losses):
        """Make a step for each row of batches with all workers."""
        m, workers = batches.shape[1], self.workers
        share = -(-m // workers)
        rows = -(-share // -(-share // ROWS))  # all pieces of a worker are equal; only the last may be smaller
        if rows != self.rows:
            self.make_room(rows)
        losses_of_all = np.empty((workers, len(batches)))
        layers = self.plan, self.widths, self.codes, self.theta, self.velocity, self.gradients_of_all, self.optimizer
        given = *layers, self.gains, X, Y, batches
        turned, last = self.turned_of_all, (self.least, losses_of_all)
        blocks = self.A_of_all, self.out_of_all, self.T_of_all, self.delta_of_all
        if share > ROWS:

            def work(meeting, k):
                own = [block[k] for block in blocks]
                make_steps_with_shares(meeting, (k, workers), *given, *own, turned[k], *last)

        else:
            A, out, T, delta = (block.reshape(-1, *block.shape[2:]) for block in blocks)

            def work(meeting, k):
                arrays = A, out[:m], T[:m], delta, turned[k], self.parts
                make_steps_with_parts(meeting, (k, workers), *given, *arrays, *last)

        self.team.run(work)
        losses[:] = losses_of_all.sum(axis=0)

    def close(self):
        self.team.close()

    def parameters(self):
        return unpack(self.plan, self.theta)

    def gradients(self):
        l1, l2 = self.network.l1, self.network.l2
        pairs = zip(self.parameters(), unpack(self.plan, self.gradient), strict=True)
        return [(dW + l1 * np.sign(W) + l2 * W, db) for (W, _), (dW, db) in pairs]

    def predict(self, X):
        A = np.ascontiguousarray(X)
        for l, (W, b) in enumerate(self.parameters(), start=1):
            A = A @ W.T
            activate(self.codes[l], A, b, len(b))
        return A
