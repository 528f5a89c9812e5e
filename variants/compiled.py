"""Compiled by numba: one pass over an array where NumPy needs several, and no call to wait for.

Idea: two costs are left in the parent that no NumPy code can avoid. A step is some 50 calls of half a microsecond or
more, which for small batches is the step. And every call is a pass of its own: a layer's bias, sigmoid, derivative and
product are seven passes over A[l] and delta[l], penalty, momentum and update eight over all weights. numba translates
loops to machine code, where

    activate   adds the bias and applies the function in one pass
    descend    penalizes, adds to the velocity and changes the weights in one pass
    cost       takes one logarithm a sample, of the product of what it would have taken the logarithms of
    exp        is a polynomial, without a branch, so that the compiler puts 4 numbers into a register; the exponential
               of the C library, which numba would call, takes one number at a time

The matrix products stay with BLAS. With one sample a step there are none: `learn` reads each row of weights once on the
way up and once on the way down, where it propagates delta through it and changes it at once.

What changes: `train`, which runs many steps without coming back to Python. The five methods call the same functions one
by one.

Limits: the first call compiles, a few seconds for each precision. numba may add in any order and contract a product and
a sum into one operation (fastmath, but for what tells NaN and infinity apart), so results differ from the parent's in
the last digits, within what every check allows.

Source: "numba" in the project's own measurements; what it is worth tells variants/README.md.
"""

import numpy as np
from numba import config, njit

PARENT = "buffered"
EXTRA = "compiled"

# Machine code is kept only where a folder for it was named, and never beside this file.
COMPILE = njit(cache=bool(config.CACHE_DIR), error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
EXACTLY = njit(cache=bool(config.CACHE_DIR), error_model="numpy", fastmath=False)

CODES = {"sigmoid": 0, "tanh": 1, "relu": 2, "softmax": 3, "identity": 4}
SIGMOID, TANH, RELU, SOFTMAX, _ = CODES.values()
LEAST_PRODUCT = 1e-250
ROWS = 500  # samples of a large batch that are taken through all layers together, as in `chunked`
PIECE = 2048  # numbers that a pass leaves in the first level of cache for the next one

# of float32: a plain number in the code would turn the whole expression into float64
ONE, LOG2E, TOP, WHOLE = (np.float32(value) for value in (1, 1.4426950408889634, 87, 1.5 * 2**23))
LOG2_HIGH, LOG2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
C_2, C_3, C_4, C_5, C_6, C_7 = (np.float32(1 / factorial) for factorial in (2, 6, 24, 120, 720, 5040))


@EXACTLY
def exp_single(x):
    """2**k times the series of exp(r), where x = k log 2 + r; adding WHOLE rounds k, and its bits are the exponent."""
    x = max(-TOP, min(x, TOP))
    shifted = x * LOG2E + WHOLE
    k = shifted - WHOLE
    r = (x - k * LOG2_HIGH) - k * LOG2_LOW
    p = C_7 * r + C_6
    p = p * r + C_5
    p = p * r + C_4
    p = p * r + C_3
    p = p * r + C_2
    p = p * r + ONE
    p = p * r + ONE
    bits = np.float32(shifted).view(np.int32) + 127
    return p * np.int32(bits << 23).view(np.float32)


@EXACTLY
def exp_double(x):
    """The same in float64."""
    x = max(-700.0, min(x, 700.0))
    shifted = x * 1.4426950408889634 + 1.5 * 2.0**52
    k = shifted - 1.5 * 2.0**52
    r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    p = 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    p = p * r + 1
    p = p * r + 1
    bits = np.float64(shifted).view(np.int64) + 1023
    return p * np.int64(bits << 52).view(np.float64)


@COMPILE
def sigmoid(z):
    """z (n,) becomes 1 / (1 + exp(-z))."""
    if z.itemsize == 4:
        for j in range(z.size):
            z[j] = ONE / (ONE + exp_single(-np.float32(z[j])))
    else:
        for j in range(z.size):
            z[j] = 1 / (1 + exp_double(-np.float64(z[j])))


@COMPILE
def activate(function, Z, b):
    """Z (m, n) becomes the activation of Z + b, a piece of it after the other."""
    rows = max(1, PIECE // Z.shape[1])
    for start in range(0, Z.shape[0], rows):
        piece = Z[start : start + rows]
        for i in range(piece.shape[0]):
            z = piece[i]
            for j in range(z.size):
                z[j] += b[j]
        z = piece.reshape(piece.size)
        if function == SIGMOID:
            sigmoid(z)
        elif function == TANH:  # tanh(z) = 2 sigmoid(2 z) - 1
            z *= 2
            sigmoid(z)
            z *= 2
            z -= 1
        elif function == RELU:
            for j in range(z.size):
                z[j] = max(z[j], 0)
        elif function == SOFTMAX:
            for i in range(piece.shape[0]):
                softmax(piece[i])


@COMPILE
def softmax(z):
    """z (n,) becomes exp(z), normalized."""
    highest, total = z.max(), 0.0
    for j in range(z.size):
        z[j] = exp_double(np.float64(z[j] - highest))
        total += z[j]
    for j in range(z.size):
        z[j] /= total


@COMPILE
def slope(function, a, d):
    """d (n,) is multiplied by the derivative, told from a (n,)."""
    if function == SIGMOID:
        for j in range(a.size):
            d[j] *= a[j] - a[j] * a[j]
    elif function == TANH:
        for j in range(a.size):
            d[j] -= d[j] * a[j] * a[j]
    elif function == RELU:
        for j in range(a.size):
            d[j] = d[j] if a[j] > 0 else 0


@COMPILE
def cost(squared, output, A, Y, least):
    """The sum of the losses of all samples; no output is taken to be nearer to 0 or 1 than `least`."""
    total = 0.0
    for i in range(A.shape[0]):
        product = 1.0
        for j in range(A.shape[1]):
            a, y = np.float64(A[i, j]), np.float64(Y[i, j])
            if squared:
                total += 0.5 * (a - y) ** 2
            elif output == SOFTMAX:
                total -= y * np.log(max(a, least)) if y > 0 else 0.0
            else:
                a = max(least, min(a, 1 - least))
                if y == 0 or y == 1:
                    product *= a if y == 1 else 1 - a
                    if product < LEAST_PRODUCT:
                        total -= np.log(product)
                        product = 1.0
                else:
                    total -= y * np.log(a) + (1 - y) * np.log(1 - a)
        total -= np.log(product)
    return total


@COMPILE
def descend(w, v, g, scale, rate, momentum, l1, l2):
    """v = momentum v + scale g + penalty; w -= rate v."""
    if momentum == 0 and l1 == 0:
        for k in range(w.size):
            w[k] -= rate * (scale * g[k] + l2 * w[k])
    else:
        for k in range(w.size):
            v[k] = momentum * v[k] + scale * g[k] + l2 * w[k] + l1 * np.sign(w[k])
            w[k] -= rate * v[k]


@COMPILE
def matrix(block, start, rows, columns):
    """A window of a flat block."""
    return block[start : start + rows * columns].reshape(rows, columns)


@COMPILE
def gather(X, Y, index, n, A, T):
    """The rows `index` of X into the first layer of A, those of Y into T."""
    A_0 = matrix(A, 0, len(index), n[0])
    for i in range(len(index)):
        x, y, a, t = X[index[i]], Y[index[i]], A_0[i], T[i]
        for k in range(x.size):
            a[k] = x[k]
        for k in range(y.size):
            t[k] = y[k]


@COMPILE
def forward(codes, n, at, theta, A, m):
    """Layer by layer; n (L + 1,) sizes, at (3, L + 1) where W[l] and b[l] begin in theta, and A[l] for one sample."""
    for l in range(1, n.size):
        W = matrix(theta, at[0, l], n[l], n[l - 1])
        Z = matrix(A, m * at[2, l], m, n[l])
        np.dot(matrix(A, m * at[2, l - 1], m, n[l - 1]), W.T, Z)
        activate(codes[l], Z, theta[at[1, l] : at[1, l] + n[l]])


@COMPILE
def backward(codes, n, at, theta, A, T, delta, gradient, m, of):
    """The gradients of the loss of m samples out of a batch of `of`; delta lies like A."""
    for l in range(n.size - 1, 0, -1):
        A_l, delta_l = matrix(A, m * at[2, l], m, n[l]), matrix(delta, m * at[2, l], m, n[l])
        if l == n.size - 1:
            share = theta.dtype.type(1 / of)
            for i in range(m):
                for j in range(n[l]):
                    delta_l[i, j] = (A_l[i, j] - T[i, j]) * share
        else:
            W_above, delta_above = (
                matrix(theta, at[0, l + 1], n[l + 1], n[l]),
                matrix(delta, m * at[2, l + 1], m, n[l + 1]),
            )
            if n[l + 1] > 1:
                np.dot(delta_above, W_above, delta_l)
            else:  # BLAS packs columns of one number each
                for i in range(m):
                    for j in range(n[l]):
                        delta_l[i, j] = delta_above[i, 0] * W_above[0, j]
        if l < n.size - 1 or codes[0]:
            slope(codes[l], A_l.reshape(A_l.size), delta_l.reshape(A_l.size))
        dW = matrix(gradient, at[0, l], n[l], n[l - 1])
        np.dot(delta_l.T, matrix(A, m * at[2, l - 1], m, n[l - 1]), dW)
        db = gradient[at[1, l] : at[1, l] + n[l]]
        db[:] = 0
        for i in range(m):
            for j in range(n[l]):
                db[j] += delta_l[i, j]


@COMPILE
def update(n, at, theta, velocity, gradient, optimizer):
    """The weights, which begin with those of layer 1, are penalized; the biases, behind them, are not."""
    rate, momentum, l1, l2, one, zero = optimizer
    w = at[1, 1]
    descend(theta[:w], velocity[:w], gradient[:w], one, rate, momentum, l1, l2)
    descend(theta[w:], velocity[w:], gradient[w:], one, rate, momentum, zero, zero)


@COMPILE
def learn(x, y, codes, n, at, theta, velocity, a, delta, optimizer):
    """One step on one sample; a and delta hold the vectors of all layers, one behind the other."""
    rate, momentum, l1, l2, one, zero = optimizer
    keep = one - rate * l2
    L = n.size - 1
    below = x
    for l in range(1, L + 1):
        W, above = matrix(theta, at[0, l], n[l], n[l - 1]), a[at[2, l] : at[2, l] + n[l]]
        for j in range(n[l]):
            total = zero
            for k in range(n[l - 1]):
                total += W[j, k] * below[k]
            above[j] = total
        activate(codes[l], above.reshape(1, n[l]), theta[at[1, l] : at[1, l] + n[l]])
        below = above
    d = delta[at[2, L] : at[2, L] + n[L]]
    for j in range(n[L]):
        d[j] = below[j] - y[j]
    if codes[0]:
        slope(codes[L], below, d)
    for l in range(L, 0, -1):
        W, V = matrix(theta, at[0, l], n[l], n[l - 1]), matrix(velocity, at[0, l], n[l], n[l - 1])
        below = a[at[2, l - 1] : at[2, l]] if l > 1 else x
        propagated = delta[at[2, l - 1] : at[2, l]]
        if l > 1:
            propagated[:] = 0
            for j in range(n[l]):
                for k in range(n[l - 1]):
                    propagated[k] += d[j] * W[j, k]
            slope(codes[l - 1], below, propagated)
        for j in range(n[l]):  # as in descend; but a call for every short row costs as much as the row
            if momentum == 0 and l1 == 0:
                for k in range(n[l - 1]):
                    W[j, k] = keep * W[j, k] - rate * d[j] * below[k]
            else:
                for k in range(n[l - 1]):
                    V[j, k] = momentum * V[j, k] + d[j] * below[k] + l2 * W[j, k] + l1 * np.sign(W[j, k])
                    W[j, k] -= rate * V[j, k]
        start, end = at[1, l], at[1, l] + n[l]
        descend(theta[start:end], velocity[start:end], d, one, rate, momentum, zero, zero)
        d = propagated


@COMPILE
def run(X, Y, indices, codes, n, at, theta, velocity, gradient, more, optimizer, A, T, delta, least, losses):
    """Steps on the batches indices (steps, m), each in pieces of as many samples as T has rows."""
    m, L = indices.shape[1], n.size - 1
    for step in range(len(indices)):
        if m == 1:
            x, y = X[indices[step, 0]], Y[indices[step, 0]]
            learn(x, y, codes, n, at, theta, velocity, A, delta, optimizer)
            losses[step] = cost(codes[n.size], codes[L], matrix(A, at[2, L], 1, n[L]), y.reshape(1, n[L]), least)
            continue
        for start in range(0, m, len(T)):
            index = indices[step, start : start + len(T)]
            rows = len(index)
            gather(X, Y, index, n, A, T)
            forward(codes, n, at, theta, A, rows)
            losses[step] += cost(codes[n.size], codes[L], matrix(A, rows * at[2, L], rows, n[L]), T[:rows], least) / m
            backward(codes, n, at, theta, A, T, delta, gradient if start == 0 else more, rows, m)
            if start > 0:
                gradient += more
        update(n, at, theta, velocity, gradient, optimizer)


class MLP:
    """Flat blocks: theta the weights of all layers, then the biases of all; A and delta all layers of a batch."""

    DTYPE = np.float32

    def __init__(self, network, parameters):
        self.network = network
        self.theta = np.concatenate([W.ravel() for W, _ in parameters] + [b for _, b in parameters])
        dtype = self.theta.dtype
        self.velocity = np.zeros_like(self.theta)
        self.gradient = np.zeros_like(self.theta)
        self.more = np.zeros_like(self.theta)
        self.n = n = np.array(network.layers)
        self.at = np.zeros((3, n.size), np.int64)
        self.at[0, 2:] = np.cumsum(n[1:-1] * n[:-2])
        self.at[1, 1:] = np.sum(n[1:] * n[:-1]) + np.cumsum(n[1:]) - n[1:]
        self.at[2, 1:] = np.cumsum(n[:-1])
        functions = [network.hidden] * (network.depth - 1) + [network.output]
        squared = network.loss == "squared_error"
        self.codes = np.array([network.delta_needs_derivative, *(CODES[name] for name in functions), squared])
        self.optimizer = tuple(
            dtype.type(value) for value in (network.rate, network.momentum, network.l1, network.l2, 1, 0)
        )
        self.least = float(np.finfo(dtype).tiny if network.output == "softmax" else np.finfo(dtype).eps)
        self.m = 0

    def allocate(self, m):
        self.m, dtype = m, self.theta.dtype
        self.A = np.empty(m * self.n.sum(), dtype)
        self.delta = np.empty_like(self.A)
        self.T = np.empty((m, self.n[-1]), dtype)

    def fetch_batch(self, X, Y, index):
        if len(index) != self.m:
            self.allocate(len(index))
        gather(X, Y, index, self.n, self.A, self.T)  # phase: gather

    def forward(self):
        forward(self.codes, self.n, self.at, self.theta, self.A, self.m)

    def loss(self):
        A = self.A[self.m * self.at[2, -1] :].reshape(self.m, -1)
        return cost(self.codes[-1], self.codes[-2], A, self.T, self.least) / self.m  # phase: cost

    def backward(self):
        backward(*(self.codes, self.n, self.at, self.theta, self.A, self.T, self.delta, self.gradient, self.m, self.m))

    def update(self):
        update(self.n, self.at, self.theta, self.velocity, self.gradient, self.optimizer)

    def train_step(self, X, Y, index):
        self.fetch_batch(X, Y, index)
        self.forward()
        loss = self.loss()
        self.backward()
        self.update()
        return loss

    def train(self, X, Y, indices):
        if any(len(index) != len(indices[0]) for index in indices):
            return [self.train_step(X, Y, index) for index in indices]
        batches, losses = np.array(indices), np.zeros(len(indices))
        pieces = -(-batches.shape[1] // ROWS)
        rows = -(-batches.shape[1] // pieces)  # all pieces are equal, but for the last
        if rows != self.m:
            self.allocate(rows)
        run(
            *(X, Y, batches, self.codes, self.n, self.at, self.theta, self.velocity, self.gradient, self.more),
            *(self.optimizer, self.A, self.T, self.delta, self.least, losses),
        )
        return losses.tolist()

    def windows(self, block):
        """W[l] (n_l, n_{l-1}) and b[l] (n_l,) of a block, copied."""
        sizes, found = self.network.layers, []
        for l in range(1, len(sizes)):
            (w, b), size = self.at[:2, l], sizes[l] * sizes[l - 1]
            found.append((block[w : w + size].reshape(sizes[l], sizes[l - 1]).copy(), block[b : b + sizes[l]].copy()))
        return found

    def parameters(self):
        return self.windows(self.theta)

    def gradients(self):
        l1, l2, found = self.network.l1, self.network.l2, []
        for (W, _), (dW, db) in zip(self.parameters(), self.windows(self.gradient), strict=True):
            found.append((dW + l1 * np.sign(W) + l2 * W, db))
        return found

    def predict(self, X):
        A = np.ascontiguousarray(X)
        for l, (W, b) in enumerate(self.parameters(), start=1):
            A = A @ W.T
            activate(self.codes[l], A, b)
        return A
