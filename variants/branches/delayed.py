"""Single-sample steps: W[1] changes once in 32 steps; products correct for it.

Idea: with one sample per step, W[1] is read for Z[1] and then changed for the next step. Each weight is fetched twice
and used once per fetch, while a matrix product would use it for many samples. The change of W[1] can be delayed. Step
t uses W[1] only in its product with the sample x_t. An earlier step s of the same block adds -rate delta_s x_s.T to
W[1], and the product of this with x_t is -rate (x_s . x_t) delta_s. So, with W[1] and b[1] as they were at the
beginning of the block of 32 steps,

    Z[1] of step t = W[1] x_t + b[1] - rate * sum over s < t of (x_s . x_t + 1) delta_s       (+ 1: the bias)

An L2 penalty multiplies W[1] by the factor q = 1 - rate * l2 in each step, and with it what earlier steps have added.
The result is exact except for rounding.

What changes against `sliced`: there is a method `train`, which gets the indices of many steps. train_step is the
parent's, and for batches of more than one sample `train` calls it in a loop.

Why it is faster: all W[1] x_t of a block are one matrix product, all x_s . x_t are another, and a third one adds all
changes to W[1], as one update of rank 32. The rest of a step is about 16 calls on short vectors, where a call costs
more than its computation. So there are few calls, and they need no new arrays:

- All arrays of a block, and all views of them, are made once.
- D holds W[1] x_t + b[1] in the rows of the steps to come, and -rate delta[1] in the rows of the steps before. So the
  sum above is one product with a row of K.
- H holds the hidden activations of a step one after the other, with a 1 before each layer for the biases. So one call
  computes the derivatives of all layers.
- The BLAS call ger adds an outer product to the weights of the upper layers in place.

Limits: momentum and L1 are refused. A velocity would need a correction like that of W[1], and the sign in the L1
penalty is not linear.

Source: "first layer's rank-1 updates delayed" in the project's own measurements. variants/README.md shows what this
variant gains.
"""

import numpy as np
from scipy.linalg import get_blas_funcs
from scipy.special import expit

from mlpprof.model import ACTIVATIONS, UnsupportedNetwork, loss_of, sample_losses

PARENT = "sliced"

STEPS = 32  # steps of a block


def relu(Z, A):
    """A becomes max(Z, 0)."""
    np.maximum(Z, 0, out=A)


def softmax(Z, A):
    """A becomes exp(Z), divided by its sum."""
    np.exp(Z - Z.max(), A)
    A /= A.sum()


def sigmoid_derivative(A, D):
    """D becomes A - A**2."""
    np.multiply(A, A, D)
    np.subtract(A, D, D)


def tanh_derivative(A, D):
    """D becomes 1 - A**2."""
    np.multiply(A, A, D)
    np.subtract(1, D, D)


def relu_derivative(A, D):
    """D becomes 1 where A > 0, else 0."""
    np.greater(A, 0, D)


VALUES = {"sigmoid": expit, "tanh": np.tanh, "relu": relu, "identity": np.positive, "softmax": softmax}
DERIVATIVES = {"sigmoid": sigmoid_derivative, "tanh": tanh_derivative, "relu": relu_derivative}


class MLP:
    """Lists are indexed by the layer l = 0..L. Column 0 of W[l] (n_l, 1 + n_{l-1}) holds the biases b[l]."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        if network.momentum > 0 or network.l1 > 0:
            raise UnsupportedNetwork(
                f"delayed cannot use momentum {network.momentum:g} with l1 {network.l1:g}; it does gradient descent "
                "without momentum, with an L2 penalty or none; use --momentum 0 --l1 0"
            )
        self.network = network
        self.L = L = network.depth
        self.activation = [ACTIVATIONS[network.hidden]] * L + [ACTIVATIONS[network.output]]
        self.mean_loss = loss_of(network)
        self.W = [None] + [np.hstack((b[:, None], W)) for W, b in parameters]
        self.velocity = [None] + [np.zeros_like(W) for W in self.W[1:]]
        self.dW = [None] + [np.empty_like(W) for W in self.W[1:]]
        self.A = [None] * (L + 1)
        self.prepare_blocks(network.layers, self.W[1].dtype)

    def prepare_blocks(self, n, dtype):
        """Make the arrays of a block: vectors z[l], delta[l] (n_l,) and h[l] (1 + n_l,) with h[l][0] = 1."""
        L, self.rate, self.q = self.L, self.network.rate, 1 - self.network.rate * self.network.l2
        self.hidden, self.last = VALUES[self.network.hidden], VALUES[self.network.output]
        self.derivative = DERIVATIVES[self.network.hidden]
        age = np.arange(STEPS)[:, None] - np.arange(STEPS) - 1  # steps between s and t: t - s - 1
        self.decay = np.tril(self.q ** np.maximum(age, 0.0), -1).astype(dtype)
        self.shrunk = (self.q ** np.arange(STEPS + 1.0)[:, None]).astype(dtype)
        self.tri = np.tri(STEPS, dtype=dtype)
        self.K, self.D = np.zeros((STEPS, STEPS), dtype), np.zeros((STEPS, n[1]), dtype)
        self.output = np.empty((STEPS, n[L]), dtype)
        self.rows = [(self.K[t, : t + 1], self.D[: t + 1], self.D[t], self.output[t]) for t in range(STEPS)]
        self.z = [None] + [np.empty(k, dtype) for k in n[1:]]
        self.ger = get_blas_funcs("ger", dtype=dtype)
        self.W_T = [None] + [W.T for W in self.W[1:]]
        self.H, self.slopes, self.deltas = (np.ones(sum(1 + k for k in n[1:L]), dtype) for _ in range(3))
        ends = np.cumsum([1 + k for k in n[1:L]])[:-1]
        self.h, self.slope, self.e = ([None, *np.split(block, ends)] for block in (self.H, self.slopes, self.deltas))
        self.a = [None] + [h[1:] for h in self.h[1:]]
        self.delta = [*[None, *(e[1:] for e in self.e[1:])][:L], np.empty(n[L], dtype)]

    def fetch_batch(self, X, Y, index):
        self.A[0] = X[index].T  # phase: gather
        self.Y = Y[index].T  # phase: gather

    def forward(self):
        for l in range(1, self.L + 1):
            Z = self.W[l][:, 1:] @ self.A[l - 1]  # phase: weighted sum
            Z += self.W[l][:, :1]  # phase: bias
            self.A[l] = self.activation[l].value(Z)  # phase: activation

    def loss(self):
        return self.mean_loss(self.A[self.L], self.Y)  # phase: cost

    def backward(self):
        m = self.Y.shape[1]
        for l in reversed(range(1, self.L + 1)):
            if l == self.L:
                delta = (self.A[l] - self.Y) / m  # phase: error
                if self.network.delta_needs_derivative:
                    delta = delta * self.activation[l].derivative_from_A(self.A[l])  # phase: derivative
            else:
                D = self.activation[l].derivative_from_A(self.A[l])  # phase: derivative
                propagated = self.W[l + 1][:, 1:].T @ delta  # phase: propagate
                delta = propagated * D  # phase: multiply
            self.dW[l][:, 1:] = delta @ self.A[l - 1].T  # phase: gradient
            self.dW[l][:, 0] = delta.sum(axis=1)  # phase: gradient
            self.regularize(l)  # phase: regularize

    def regularize(self, l):
        if self.network.l2 > 0:
            self.dW[l][:, 1:] += self.network.l2 * self.W[l][:, 1:]
        if self.network.l1 > 0:
            self.dW[l][:, 1:] += self.network.l1 * np.sign(self.W[l][:, 1:])

    def update(self):
        for l in range(1, self.L + 1):
            self.velocity[l] = self.network.momentum * self.velocity[l] + self.dW[l]  # phase: momentum
            self.W[l] -= self.network.rate * self.velocity[l]  # phase: descend

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def train(self, X, Y, indices):
        if any(len(index) != 1 for index in indices):
            return [self.train_step(X, Y, index) for index in indices]
        order = np.concatenate(indices)
        A = np.empty((len(order), self.network.layers[-1]), X.dtype)
        for start in range(0, len(order), STEPS):
            index = order[start : start + STEPS]
            A[start : start + STEPS] = self.block(X[index], Y[index])
        return sample_losses(self.network, A.T, Y[order].T).tolist()  # phase: cost

    def block(self, x, y):
        """Make a step for each of the samples x (m, n_0), y (m, n_L); return their outputs (m, n_L)."""
        m, W, b = len(x), self.W[1][:, 1:], self.W[1][:, 0]
        np.multiply(x @ x.T, self.decay[:m, :m], out=self.K[:m, :m])  # phase: weighted sum
        self.K += self.tri  # phase: weighted sum
        np.multiply(x @ W.T, self.shrunk[:m], out=self.D[:m])  # phase: weighted sum
        self.D[:m] += b  # phase: bias
        for t in range(m):  # phase: steps
            self.step(*self.rows[t], y[t])
        D = self.D[:m]
        b += D.sum(axis=0)  # phase: descend
        if self.q != 1:
            W *= self.shrunk[m]  # phase: descend
            D *= self.shrunk[:m][::-1]  # phase: descend
        W += D.T @ x  # phase: descend
        return self.output[:m]

    def step(self, K, D, change, output, y):
        """Make one step with its row K of the block; write -rate delta[1] into its row of D, `change`."""
        L, W, z, h, e, delta = self.L, self.W, self.z, self.h, self.e, self.delta
        np.dot(K, D, z[1])
        for l in range(1, L):
            self.hidden(z[l], self.a[l])
            np.dot(W[l + 1], h[l], z[l + 1])
        self.last(z[L], output)
        np.subtract(output, y, delta[L])
        if self.network.delta_needs_derivative:
            delta[L] *= output - output * output
        self.derivative(self.H, self.slopes)
        for l in range(L, 1, -1):
            np.dot(delta[l], W[l], e[l - 1])
            e[l - 1] *= self.slope[l - 1]
            if self.q != 1:
                W[l][:, 1:] *= self.q
            self.ger(-self.rate, h[l - 1], delta[l], 1, 1, self.W_T[l], 1, 1, 1)  # in place
        np.multiply(delta[1], -self.rate, change)

    def parameters(self):
        return [(W[:, 1:].copy(), W[:, 0].copy()) for W in self.W[1:]]

    def gradients(self):
        return [(dW[:, 1:].copy(), dW[:, 0].copy()) for dW in self.dW[1:]]

    def predict(self, X):
        A = X.T
        for l in range(1, self.L + 1):
            A = self.activation[l].value(self.W[l][:, 1:] @ A + self.W[l][:, :1])
        return A.T
