"""Products for narrow layers, which are finished while they are in registers.

Idea: a matrix product of BLAS is written for large squares. It copies both factors into an order that suits it, and it
knows nothing of what happens to the result. The layers of a multi-layer perceptron are narrow, so the copies take a
large share, and each result is read and written again by the activation, the derivative or the update. This variant
has its own product, in three small files:

    mlpprof.engines.tiles            the product of some rows with a panel of a few columns. Its tile stays in vector
                                     registers until the bias, activation, derivative or update has been applied, for
                                     sums over up to 400 inputs, or over up to 72 neurons (with AVX-512, in single
                                     precision). Longer sums are stored after each panel, and read again.
    mlpprof.engines.panels           the order of all matrices in memory, so that nothing is ever copied for a product.
    mlpprof.engines.blocked_passes   the step, and the loop over all steps of an epoch in one compiled call.

What changes against `compiled`: no product is left to BLAS, whatever its shape. Weights, activations and deltas lie in
panels, whose columns are padded to a multiple of 8. A batch is not gathered: the two products of layer 1 read the
samples where they are, in the order of the batch, and ask the memory for the next ones meanwhile. In `train`, the
gradient is not stored, unless a batch comes in several pieces: a tile of it changes the weights directly. A piece has
128 samples, so that it stays in the second level of cache.

Why it is faster: with AVX-512, the two products with 784 inputs and 70 neurons ran at 103 to 113 GFLOP/s here,
for batches of 32 to 500. NumPy's BLAS reached 50 to 73 for the forward product and 86 to 91 for the gradient in the
same run. The bias, the activation and the derivative of these layers need no pass over memory of their own.

Limits: code is compiled for the widths of panels that a network has, which takes a few seconds for every new set of
widths and each precision. A layer of 1 to 7 neurons costs as much as one of 8. Without AVX2, AVX-512 or NEON, the
products are right but slow. As in `compiled`, results differ from the parent's in the last digits.

Source: the form of the product is that of the BLIS library (Van Zee, van de Geijn, 2015). libxsmm, which compiles
products for small shapes, had shown what there was to gain. variants/README.md shows what this variant gains.
"""

import numpy as np

from mlpprof.engines.blocked_passes import backward, forward, make_steps
from mlpprof.engines.numba_passes import activate, cost, descend, settings
from mlpprof.engines.panels import aligned, gains_of, pack, plan_of, scratch_of, take_targets, unpack, widths_of

PARENT = "compiled"
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

    def fetch_batch(self, X, Y, index):
        if len(index) != self.m:
            self.allocate(len(index))
        self.first, self.share = True, 1.0
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
        share = self.theta.dtype.type(self.share / self.m)
        arrays = self.A, self.out, self.T, self.delta, self.turned
        backward(*layers, *arrays, share, self.first, False, self.samples)  # phase: gradient

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
            *(self.A, self.out, self.T, self.delta, self.turned, self.least, losses),
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
