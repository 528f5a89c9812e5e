"""Full batch, fewer samples than features: their products replace the samples.

Idea: in full batch, every step changes W[1] by a sum of the same N samples, -rate delta[1].T X. So W[1] always
remains a sum of the samples and of its initial value W_0, and N numbers per neuron describe it instead of n_0:

    W[1] = C @ X + s W_0              C (n_1, N); s is 1 until a penalty makes it smaller
    Z[1] = X @ W[1].T = G @ C.T + s X @ W_0.T        G = X @ X.T (N, N), computed once

What changes against `buffered`: the network gets an input layer of N + n_1 features, [G | X @ W_0.T], with the
weights [C | s I], and is trained as in the parent. Only the gradient of C needs no product, because it is delta[1].T.
Every step handles all N samples. If a batch omits a sample or contains it twice, the sample counts accordingly. The
real W[1] is computed when somebody asks for it.

Why it is faster: with 209 samples of 12,288 features, the two products of the first layer take nearly the whole step.
Here the product in forward is 54 times smaller, the product in backward is gone, and X is not read any more. The
result is exact except for rounding. This is a gain of the algorithm, which every other rung could have too.

Limits: X has to be the same array, unchanged, as long as the instance exists, and may have at most 4,096 samples.
With as many samples as features there is no gain. Heavy ball and L2 are linear, so C and s follow the same recurrence
as W[1]. An L1 penalty is refused, because the sign of W[1] is not a sum of samples.

Source: "Gram form" in the project's own measurements. variants/README.md shows what this variant gains.
"""

import numpy as np

from mlpprof.engines.in_place import DERIVATIVES, VALUES
from mlpprof.model import UnsupportedNetwork, sample_losses

PARENT = "buffered"

MAX_SAMPLES = 4096  # G takes 64 MiB then in float32


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
        if network.l1 > 0:
            raise UnsupportedNetwork(
                f"gram cannot use l1 {network.l1:g}, because the sign of W[1] is not a sum of samples; use l1 0"
            )
        self.network = network
        self.L = L = network.depth
        self.value = [VALUES[network.hidden]] * L + [VALUES[network.output]]
        self.derivative = [DERIVATIVES[network.hidden]] * L + [DERIVATIVES.get(network.output)]
        self.W_0 = parameters[0][0].copy()
        self.X = np.empty((0, network.layers[0]), self.W_0.dtype)  # no samples yet: C is empty and s is 1
        self.begin([(np.eye(network.layers[1], dtype=self.W_0.dtype), parameters[0][1]), *parameters[1:]])

    def begin(self, parameters):
        """Put the parameters, with [C | s I] as W[1], into one block, and make the other blocks of its size."""
        sizes = (parameters[0][0].shape[1], *self.network.layers[1:])
        self.theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        self.velocity = np.zeros_like(self.theta)
        self.gradient = np.zeros_like(self.theta)
        self.scratch = np.empty_like(self.theta)
        self.W, self.b = views(self.theta, sizes)
        self.dW, self.db = views(self.gradient, sizes)
        self.weights = slice(sum(W.size for W in self.W[1:]))

    def adopt(self, X):
        """Use X as the samples: their products with each other and with W_0 are the new input layer."""
        if len(self.X) > 0 or len(X) > MAX_SAMPLES:
            raise UnsupportedNetwork(
                f"gram stores the products of all samples with each other, for one array of at most {MAX_SAMPLES:,}, "
                f"but this is {'another one' if len(self.X) else f'one of {len(X):,}'}; use buffered"
            )
        C = np.zeros((len(self.W_0), len(X)), X.dtype)
        self.begin([(np.hstack((C, self.W[1])), self.b[1]), *zip(self.W[2:], self.b[2:], strict=True)])
        self.X = X
        widths = 3 * self.network.layers[1:]
        arrays = [np.empty((len(X), n), X.dtype) for n in widths]
        L = self.L
        self.A = [np.hstack((X @ X.T, X @ self.W_0.T)), *arrays[:L]]
        self.delta, self.D = [None, *arrays[L : 2 * L]], [None, *arrays[2 * L :]]
        self.ones = np.ones(len(X), X.dtype)
        self.share = np.empty_like(self.ones)

    def fetch_batch(self, X, Y, index):
        if X is not self.X:
            self.adopt(X)
        self.Y = Y
        times = np.bincount(index, minlength=len(X))  # phase: gather
        np.divide(times, len(index), out=self.share, casting="same_kind")  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            np.matmul(self.A[l - 1], self.W[l].T, out=self.A[l])  # phase: weighted sum
            self.A[l] += self.b[l]  # phase: bias
            self.value[l](self.A[l])  # phase: activation

    def loss(self):
        return float(self.share @ sample_losses(self.network, self.A[self.L].T, self.Y.T))  # phase: cost

    def backward(self):
        for l in reversed(range(1, self.L + 1)):
            delta = self.delta[l]
            if l == self.L:
                np.subtract(self.A[l], self.Y, out=delta)  # phase: error
                delta *= self.share[:, None]  # phase: error
            else:
                np.matmul(self.delta[l + 1], self.W[l + 1], out=delta)  # phase: propagate
            if l < self.L or self.network.delta_needs_derivative:
                self.derivative[l](self.A[l], self.D[l])  # phase: derivative
                delta *= self.D[l]  # phase: multiply
            if l > 1:
                np.matmul(delta.T, self.A[l - 1], out=self.dW[l])  # phase: gradient
            else:
                self.dW[1][:, : len(self.X)] = delta.T  # phase: gradient
                self.dW[1][:, len(self.X) :] = 0  # phase: gradient
            np.dot(self.ones, delta, out=self.db[l])  # phase: gradient
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
        self.velocity *= self.network.momentum  # phase: momentum
        self.velocity += self.gradient  # phase: momentum
        np.multiply(self.velocity, self.network.rate, out=self.scratch)  # phase: descend
        self.theta -= self.scratch  # phase: descend

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def true_form(self, W, b):
        """Return weights or gradients in canonical form: those of layer 1 are sums of samples and of W_0."""
        N = len(self.X)
        return [(W[1][:, :N] @ self.X + W[1][:, N:] @ self.W_0, b[1].copy())] + [
            (W[l].copy(), b[l].copy()) for l in range(2, self.L + 1)
        ]

    def parameters(self):
        return self.true_form(self.W, self.b)

    def gradients(self):
        return self.true_form(self.dW, self.db)

    def predict(self, X):
        A = X
        for l, (W, b) in enumerate(self.parameters(), start=1):
            A = A @ W.T + b
            self.value[l](A)
        return A
