"""Activations, derivatives, losses and the update in one pass over memory each, compiled by numba.

The compiled variants share these functions, as other variants share `in_place`. All arrays are (m, n): a sample is a
row. The functions are called from Python and from other compiled code. The first call for each precision takes about a
second, unless NUMBA_CACHE_DIR names a folder for machine code, as it does in mlpprof's workers.

Source: the exponential is 2**k times a Taylor series; the two parts of log 2 are those of the Cephes library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import config, njit

from mlpprof.model.interface import Array, Parameters
from mlpprof.model.network import Network

# Machine code is kept only in the folder that NUMBA_CACHE_DIR names, and never beside this file. fastmath lets the
# compiler add in any order and contract a product and a sum. The compiler may not ignore NaN and infinity: `cost` needs
# them.
COMPILE = njit(cache=bool(config.CACHE_DIR), error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
EXACTLY = njit(cache=bool(config.CACHE_DIR), error_model="numpy", fastmath=False)

CODES = {"sigmoid": 0, "tanh": 1, "relu": 2, "softmax": 3, "identity": 4}
"""The numbers that stand for the activations in compiled functions."""
SIGMOID, TANH, RELU, SOFTMAX, _ = CODES.values()
LEAST_PRODUCT = 1e-250
"""`cost` takes the logarithm of a product of outputs before the product becomes smaller than this."""
EVEN = 4
"""Hidden layers are padded to a multiple of this many neurons, because BLAS works on four columns at a time."""
PIECE = 2048
"""A pass works on this many numbers at a time, so that the next pass finds them in the first level of cache."""

# These are float32: a plain number in the code would turn the whole expression into float64.
ONE, LOG2E, TOP, WHOLE = (np.float32(value) for value in (1, 1.4426950408889634, 87, 1.5 * 2**23))
LOG2_HIGH, LOG2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
C_2, C_3, C_4, C_5, C_6, C_7 = (np.float32(1 / factorial) for factorial in (2, 6, 24, 120, 720, 5040))


def padded(network: Network, parameters: Parameters) -> tuple[list[int], list[tuple[Array, Array]]]:
    """The sizes of the padded layers, and W (n_l, n_{l-1}) and b (n_l,) of these, 0 where the network has no neuron."""
    layers, found = network.layers, []
    sizes = [layers[0], *(-(-n // EVEN) * EVEN for n in layers[1:-1]), layers[-1]]
    for (W, b), n, k in zip(parameters, sizes[1:], sizes[:-1], strict=True):
        W_padded, b_padded = np.zeros((n, k), W.dtype), np.zeros(n, b.dtype)
        W_padded[: W.shape[0], : W.shape[1]], b_padded[: b.size] = W, b
        found.append((W_padded, b_padded))
    return sizes, found


def unpadded(network: Network, W: Sequence[Array], b: Sequence[Array]) -> list[tuple[Array, Array]]:
    """Copies of the unpadded parts of the matrices and vectors of layers 1..L."""
    n = network.layers
    return [(W[: n[l], : n[l - 1]].copy(), b[: n[l]].copy()) for l, (W, b) in enumerate(zip(W, b, strict=True), 1)]


def settings(network: Network, dtype: np.dtype[Any]) -> tuple[Array, tuple[Any, ...], float]:
    """The settings of a network for the compiled functions: codes, optimizer, least.

    codes: whether the output's delta needs the derivative, the functions of layers 1..L, whether the loss is squared.
    optimizer: rate, momentum, l1, l2, one and zero, of the dtype. least: how near to 0 or 1 `cost` takes an output.
    """
    functions = [network.hidden] * (network.depth - 1) + [network.output]
    squared = network.loss == "squared_error"
    codes = np.array([network.delta_needs_derivative, *(CODES[name] for name in functions), squared])
    optimizer = tuple(dtype.type(value) for value in (network.rate, network.momentum, network.l1, network.l2, 1, 0))
    return codes, optimizer, float(np.finfo(dtype).tiny if network.output == "softmax" else np.finfo(dtype).eps)


@EXACTLY
def exp_single(x: np.float32) -> np.float32:
    """2**k times the series of exp(r), where x = k log 2 + r; adding WHOLE rounds k, and its bits are the exponent."""
    x = min(max(x, -TOP), TOP)  # in this order, NaN stays
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
def exp_double(x: float) -> float:
    """``exp(x)`` for one float64, by the method of ``exp_single``."""
    x = min(max(x, -700.0), 700.0)
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
def compiled_sigmoid(z: Array) -> None:
    """z (n,) becomes 1 / (1 + exp(-z))."""
    if z.itemsize == 4:
        for j in range(z.size):
            z[j] = ONE / (ONE + exp_single(-np.float32(z[j])))
    else:
        for j in range(z.size):
            z[j] = 1 / (1 + exp_double(-np.float64(z[j])))


@COMPILE
def activate(function: int, Z: Array, b: Array, used: int) -> None:
    """Z (m, n) becomes the activation of Z + b, piece after piece; its columns from `used` on become 0."""
    rows = max(1, PIECE // Z.shape[1])
    for start in range(0, Z.shape[0], rows):
        piece = Z[start : start + rows]
        for i in range(piece.shape[0]):
            z = piece[i]
            for j in range(z.size):
                z[j] += b[j]
        z = piece.reshape(piece.size)
        if function == SIGMOID:
            compiled_sigmoid(z)
        elif function == TANH:  # tanh(z) = 2 sigmoid(2 z) - 1
            z *= 2
            compiled_sigmoid(z)
            z *= 2
            z -= 1
        elif function == RELU:
            for j in range(z.size):
                z[j] = max(z[j], 0)
        elif function == SOFTMAX:
            for i in range(piece.shape[0]):
                compiled_softmax(piece[i])
        if used < Z.shape[1]:
            piece[:, used:] = 0


@COMPILE
def compiled_softmax(z: Array) -> None:
    """z (n,) becomes exp(z), normalized."""
    highest, total = z.max(), 0.0
    for j in range(z.size):
        z[j] = exp_double(np.float64(z[j] - highest))
        total += z[j]
    for j in range(z.size):
        z[j] /= total


@COMPILE
def slope(function: int, a: Array, d: Array) -> None:
    """d (n,) is multiplied by the derivative, computed from a (n,)."""
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
def cost(squared: bool, output: int, A: Array, Y: Array, least: float) -> float:
    """The sum of the losses of all samples; an output nearer to 0 or 1 than `least` counts as `least` away from it."""
    total = 0.0
    for i in range(A.shape[0]):
        product = 1.0
        for j in range(A.shape[1]):
            a: float = np.float64(A[i, j])
            y: float = np.float64(Y[i, j])
            if squared:
                total += 0.5 * (a - y) ** 2
            elif output == SOFTMAX:
                total -= y * np.log(max(a, least)) if y > 0 else 0.0
            else:
                a = min(max(a, least), 1 - least)
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
def descend(w: Array, v: Array, g: Array, scale: float, rate: float, momentum: float, l1: float, l2: float) -> None:
    """v = momentum v + scale g + penalty; w -= rate v."""
    if momentum == 0 and l1 == 0:
        for k in range(w.size):
            w[k] -= rate * (scale * g[k] + l2 * w[k])
    else:
        for k in range(w.size):
            v[k] = momentum * v[k] + scale * g[k] + l2 * w[k] + l1 * np.sign(w[k])
            w[k] -= rate * v[k]


@COMPILE
def add_up_and_descend(
    gradients: Array, part: tuple[int, int], theta: Array, velocity: Array, weights: int, optimizer: Any
) -> None:
    """Update a worker's range of theta with the sum of the workers' gradients; only theta[:weights] is penalized.

    part: the number of the worker, and that of all. The sum is written into the worker's own gradient, which it has in
    its cache.
    """
    rate, momentum, l1, l2, one, zero = optimizer
    k, workers = part
    start, end = theta.size * k // workers, theta.size * (k + 1) // workers
    g = gradients[k, start:end]
    for other in range(workers):
        if other != k:
            more = gradients[other, start:end]
            for i in range(g.size):
                g[i] += more[i]
    cut = max(start, min(weights, end))
    descend(theta[start:cut], velocity[start:cut], g[: cut - start], one, rate, momentum, l1, l2)
    descend(theta[cut:end], velocity[cut:end], g[cut - start :], one, rate, momentum, zero, zero)


@COMPILE
def matrix(block: Array, start: int, rows: int, columns: int) -> Array:
    """A window (rows, columns) of a flat block."""
    window: Array = block[start : start + rows * columns].reshape(rows, columns)
    return window


@COMPILE
def forward_above(codes: Array, n: Array, at: Array, theta: Array, A: Array, m: int) -> None:
    """From Z[1], which is already in its place in A, to the output: bias and function of layer 1, and the layers above.

    The m samples lie in flat blocks, layer by layer. n: the padded sizes of the layers. at: the places where W[l] and
    b[l] begin in theta and A[l] of one sample begins in A, and the number of neurons in use. codes: the functions, from
    codes[1] on.
    """
    for l in range(1, n.size):
        Z = matrix(A, m * at[2, l], m, n[l])
        if l > 1:
            np.dot(matrix(A, m * at[2, l - 1], m, n[l - 1]), matrix(theta, at[0, l], n[l], n[l - 1]).T, Z)
        activate(codes[l], Z, theta[at[1, l] : at[1, l] + n[l]], at[3, l])


@COMPILE
def backward_above(
    codes: Array, n: Array, at: Array, theta: Array, A: Array, T: Array, delta: Array, gradient: Array, share: float
) -> None:
    """All delta[l], down to delta[1], and all gradients but that of W[1]; delta lies like A, gradient like theta.

    T: the targets (m, n_L). share: the weight of one sample in the loss. codes[0]: whether the output needs its
    derivative.
    """
    m = len(T)
    for l in range(n.size - 1, 0, -1):
        A_l, delta_l = matrix(A, m * at[2, l], m, n[l]), matrix(delta, m * at[2, l], m, n[l])
        if l == n.size - 1:
            for i in range(m):
                for j in range(n[l]):
                    delta_l[i, j] = (A_l[i, j] - T[i, j]) * share
        else:
            W_above = matrix(theta, at[0, l + 1], n[l + 1], n[l])
            delta_above = matrix(delta, m * at[2, l + 1], m, n[l + 1])
            if n[l + 1] > 1:
                np.dot(delta_above, W_above, delta_l)
            else:  # BLAS packs columns of one number each
                for i in range(m):
                    for j in range(n[l]):
                        delta_l[i, j] = delta_above[i, 0] * W_above[0, j]
        if l < n.size - 1 or codes[0]:
            slope(codes[l], A_l.reshape(A_l.size), delta_l.reshape(A_l.size))
        if l > 1:
            dW = matrix(gradient, at[0, l], n[l], n[l - 1])
            np.dot(delta_l.T, matrix(A, m * at[2, l - 1], m, n[l - 1]), dW)
        db = gradient[at[1, l] : at[1, l] + n[l]]
        db[:] = 0
        for i in range(m):
            for j in range(n[l]):
                db[j] += delta_l[i, j]
