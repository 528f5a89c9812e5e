"""Products of the first layer that use only the inputs that are not 0.

Idea: four of five pixels of a handwritten digit are 0. An input that is 0 adds nothing to the weighted sums of its
sample, and nothing to the gradient of its weights. So the two products of layer 1, which take most of the step of a
network with many inputs, need only a fifth of the multiplications. Two small files do this:

    mlpprof.engines.nonzeros        the lists of the numbers that are not 0, by sample for the forward product, and by
                                    feature for the gradient.
    mlpprof.engines.sparse_passes   the products from these lists, and the loop over all steps of an epoch.

What changes against `blocked`: the gather makes the lists of its batch, and layer 1 reads them instead of X. A row of
weights is multiplied with one number at a time, not with those of 4 samples. For a step of one sample without momentum
and penalties, only the rows of W[1] that change are read and written. Everything else is as in `blocked`.

Why it is faster: a multiplication takes about twice as long as in `blocked`, because each row of weights comes from the
cache for one sample only. But there are five times fewer on the pixels of digits. The lists take a quarter of the time
of the step.

Limits: what this gains depends on the data. Where more than 45 % of the inputs were not 0, `blocked` was faster here.
Inputs that are standardized have no zeros; `np.mean(X == 0)` is the share of zeros in yours. The gradients are exact,
because a product with 0 changes no sum. (With a weight that is infinite, it would: 0 times infinity is not a number.)
The lists have room for all numbers of a piece, so wide inputs need as much memory as without zeros.

Source: the row-wise product is that of Gustavson (1978) for sparse matrices. variants/README.md shows what this variant
gains.
"""

import numpy as np

from mlpprof.engines.nonzeros import list_by_feature, list_by_sample, room_by_feature, room_by_sample
from mlpprof.engines.numba_passes import activate, cost, descend, settings
from mlpprof.engines.panels import aligned, gains_of, pack, plan_of, scratch_of, take_targets, unpack, widths_of
from mlpprof.engines.sparse_passes import backward, forward, make_steps

PARENT = "blocked"
BRANCH = "compiled"
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

    def train_step(self, X, Y, index):
        loss, pieces = 0.0, -(-len(index) // ROWS)
        rows = -(-len(index) // pieces)  # all pieces are equal; only the last may be smaller
        for start in range(0, len(index), rows):
            self.fetch_batch(X, Y, index[start : start + rows])
            self.first, self.share = start == 0, self.m / len(index)
            self.forward()
            loss += self.share * self.loss()
            self.backward()
        self.update()
        return loss

    def train(self, X, Y, indices):
        if any(len(index) != len(indices[0]) for index in indices):
            return [self.train_step(X, Y, index) for index in indices]
        batches, losses = np.array(indices, np.int64), np.empty(len(indices))
        pieces = -(-batches.shape[1] // ROWS)
        rows = -(-batches.shape[1] // pieces)
        if rows != self.m:
            self.allocate(rows)
        make_steps(
            *(self.plan, self.widths, self.codes, self.state, self.optimizer, self.gains, X, Y, batches),
            *(self.A, self.out, self.T, self.delta, self.turned, self.by_sample, self.by_feature, self.least, losses),
        )
        return losses.tolist()

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
