"""Many steps of `sparse` by a team of threads that meet within compiled code.

Idea: the threads of `blocked_team` meet in a few tenths of a microsecond. So the steps of `sparse`, which are shorter,
can be shared as well.

What changes against `sparse`: `train_step` and `train` give the work to the team. Each worker lists its samples, takes
them through all layers, and adds up a gradient of its own. They meet. Then each adds up a range of all gradients, and
updates these weights. They meet. This is the plan for large batches of `blocked_team`, with its meetings and its pace:

    mlpprof.engines.meeting       how they wait for each other, and when they give their core away
    mlpprof.engines.pace          the choice of one worker where the team is slower
    mlpprof.engines.sparse_team   what each of them computes

Why it is faster: listing and both products of layer 1 are shared.

Limits: as for `sparse` and `blocked_team`. Every worker writes a gradient of its own, and another one reads it. With
small batches this takes a large share, because the gradient is as large as for a large batch.

Source: the plan is that of `processes`, in compiled code. variants/README.md shows what this variant gains.
"""

import numpy as np

from mlpprof.engines.meeting import CompiledTeam
from mlpprof.engines.nonzeros import list_by_feature, list_by_sample, room_by_feature, room_by_sample
from mlpprof.engines.numba_passes import activate, cost, descend, settings
from mlpprof.engines.pace import Pace
from mlpprof.engines.panels import aligned, gains_of, pack, plan_of, scratch_of, take_targets, unpack, widths_of
from mlpprof.engines.sparse_passes import backward, forward, make_steps
from mlpprof.engines.sparse_team import make_steps_with_shares
from mlpprof.engines.team import workers_wanted

PARENT = "sparse"
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
        self.velocity, self.gradient = (aligned(self.theta.size, self.theta.dtype) for _ in range(2))
        self.state = self.theta, self.velocity, self.gradient
        self.codes, self.optimizer, self.least = settings(network, self.theta.dtype)
        self.gains = gains_of(self.plan, self.codes, self.theta.dtype)
        self.turned = scratch_of(self.plan, self.theta.dtype)
        self.m = 0
        self.workers, self.rows = workers_wanted(), 0
        self.team, self.pace = CompiledTeam(self.workers), {}

    def allocate(self, m):
        self.m = m
        self.A, self.delta = (aligned(m * self.plan.columns[-1], self.theta.dtype) for _ in range(2))
        self.out, self.T = np.empty((2, m, self.plan.n[-1]), self.theta.dtype)
        self.by_sample = room_by_sample(self.plan, m, self.theta.dtype)
        self.by_feature = room_by_feature(self.plan, m, self.theta.dtype)

    def fetch_batch(self, X, Y, index):
        if len(index) != self.m:
            self.allocate(len(index))
        self.first, self.share = True, 1.0
        order = np.ascontiguousarray(index, np.int64)
        take_targets(Y, order, self.T)  # phase: gather
        list_by_sample(X, order, 0, self.m, self.by_sample)  # phase: gather
        list_by_feature(self.by_sample, self.m, self.by_feature)  # phase: gather

    def forward(self):
        layers = self.plan, self.widths, self.codes, self.theta, self.gains
        forward(*layers, self.A, self.out, self.by_sample)  # phase: weighted sum

    def loss(self):
        return cost(self.codes[-1], self.codes[-2], self.out, self.T, self.least) / self.m  # phase: cost

    def backward(self):
        layers = self.plan, self.widths, self.codes, self.state, self.optimizer
        share = self.theta.dtype.type(self.share / self.m)
        arrays = self.A, self.out, self.T, self.delta, self.turned
        backward(*layers, *arrays, share, self.first, False, self.by_feature)  # phase: gradient

    def update(self):
        rate, momentum, l1, l2, one, zero = self.optimizer
        w = self.plan.b[1]
        W, b = ([block[part] for block in self.state] for part in (slice(w), slice(w, None)))
        descend(*W, one, rate, momentum, l1, l2)  # phase: descend
        descend(*b, one, rate, momentum, zero, zero)  # phase: descend

    def make_room(self, rows):
        """Allocate what each worker needs for pieces of so many samples."""
        dtype, plan = self.theta.dtype, self.plan
        self.rows, self.own = rows, []
        self.gradients = aligned(self.workers * self.theta.size, dtype).reshape(self.workers, -1)
        for _ in range(self.workers):
            A, delta = (aligned(rows * plan.columns[-1], dtype) for _ in range(2))
            out, T = np.empty((2, rows, plan.n[-1]), dtype)
            lists = room_by_sample(plan, rows, dtype), room_by_feature(plan, rows, dtype)
            self.own.append((A, out, T, delta, scratch_of(plan, dtype), *lists))

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

        if batches.shape[1] < self.workers or self.workers == 1:  # every worker needs a sample
            alone(0, len(batches))
        else:
            self.pace.setdefault(batches.shape[1], Pace()).run(len(batches), together, alone)
        return losses.tolist()

    def make_steps_alone(self, X, Y, batches, losses):
        """Make a step for each row of batches on this thread, as `sparse` does."""
        pieces = -(-batches.shape[1] // ROWS)
        rows = -(-batches.shape[1] // pieces)
        if rows != self.m:
            self.allocate(rows)
        make_steps(
            *(self.plan, self.widths, self.codes, self.state, self.optimizer, self.gains, X, Y, batches),
            *(self.A, self.out, self.T, self.delta, self.turned, self.by_sample, self.by_feature, self.least, losses),
        )

    def make_steps_together(self, X, Y, batches, losses):
        """Make a step for each row of batches with all workers."""
        share = -(-batches.shape[1] // self.workers)
        rows = -(-share // -(-share // ROWS))  # all pieces of a worker are equal; only the last may be smaller
        if rows != self.rows:
            self.make_room(rows)
        losses_of_all = np.empty((self.workers, len(batches)))
        layers = self.plan, self.widths, self.codes, self.theta, self.velocity, self.gradients, self.optimizer
        given = *layers, self.gains, X, Y, batches

        def work(meeting, k):
            part = k, self.workers
            make_steps_with_shares(meeting, part, *given, *self.own[k], self.least, losses_of_all)

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
