"""Activations, derivatives and losses that write into existing arrays, for variants that allocate nothing.

All arrays are (m, n): a sample is a row. The sigmoid is the tanh form, which NumPy evaluates in SIMD registers. A cost
is a sum over the batch, not yet divided by m; P and Q are scratch arrays of the shape of A.
"""

from __future__ import annotations

import numpy as np

from mlpprof.model.interface import Array


def sigmoid_in_place(Z: Array) -> None:
    """Z becomes 1 / (1 + exp(-Z)) = (1 + tanh(Z / 2)) / 2."""
    Z *= 0.5
    np.tanh(Z, out=Z)
    Z *= 0.5
    Z += 0.5


def tanh_in_place(Z: Array) -> None:
    """Z becomes tanh(Z)."""
    np.tanh(Z, out=Z)


def relu_in_place(Z: Array) -> None:
    """Z becomes max(Z, 0)."""
    np.maximum(Z, 0, out=Z)


def identity_in_place(Z: Array) -> None:
    """Z stays as it is."""


def softmax_in_place(Z: Array) -> None:
    """Z becomes exp(Z), normalized over each row."""
    Z -= Z.max(axis=1, keepdims=True)
    np.exp(Z, out=Z)
    Z /= Z.sum(axis=1, keepdims=True)


def sigmoid_derivative_into(A: Array, D: Array) -> None:
    """D becomes A (1 - A)."""
    np.subtract(1, A, out=D)
    D *= A


def tanh_derivative_into(A: Array, D: Array) -> None:
    """D becomes 1 - A**2."""
    np.multiply(A, A, out=D)
    np.subtract(1, D, out=D)


def relu_derivative_into(A: Array, D: Array) -> None:
    """D becomes 1 where A > 0, else 0."""
    np.greater(A, 0, out=D)


def squared_error_cost(A: Array, Y: Array, P: Array, Q: Array) -> float:
    """Half the sum of (A - Y)**2; P is scratch."""
    np.subtract(A, Y, out=P)
    return 0.5 * float(np.vdot(P, P))


def binary_cross_entropy_cost(A: Array, Y: Array, P: Array, Q: Array) -> float:
    """-sum(Y log A + (1 - Y) log(1 - A)), A kept an epsilon inside (0, 1); P and Q are scratch."""
    epsilon = float(np.finfo(A.dtype).eps)
    np.maximum(A, epsilon, out=P)
    np.minimum(P, 1 - epsilon, out=P)
    np.log(P, out=Q)
    np.subtract(1, P, out=P)
    np.log(P, out=P)
    Q -= P
    return -float(np.vdot(Y, Q)) - float(P.sum())


def categorical_cross_entropy_cost(A: Array, Y: Array, P: Array, Q: Array) -> float:
    """-sum(Y log A), A kept away from 0; P is scratch."""
    np.maximum(A, np.finfo(A.dtype).tiny, out=P)
    np.log(P, out=P)
    return -float(np.vdot(Y, P))


VALUES = {
    "sigmoid": sigmoid_in_place,
    "tanh": tanh_in_place,
    "relu": relu_in_place,
    "identity": identity_in_place,
    "softmax": softmax_in_place,
}
DERIVATIVES = {"sigmoid": sigmoid_derivative_into, "tanh": tanh_derivative_into, "relu": relu_derivative_into}
COSTS = {
    ("squared_error", "sigmoid"): squared_error_cost,
    ("squared_error", "identity"): squared_error_cost,
    ("cross_entropy", "sigmoid"): binary_cross_entropy_cost,
    ("cross_entropy", "softmax"): categorical_cross_entropy_cost,
}
