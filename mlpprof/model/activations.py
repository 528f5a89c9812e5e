"""The functions in a network: activations with their derivatives, and losses.

A derivative comes in two forms: from Z, which evaluates the function again, and from A, which forward has stored.
A loss is the mean over the batch of a sum over the output neurons, without the penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from mlpprof.model.interface import Array
from mlpprof.model.network import Network


@dataclass(frozen=True)
class Activation:
    """One activation: elementwise (softmax: over the rows of a column); the result has the dtype of the argument.

    value: Z (n, m) -> A (n, m).
    derivative_from_Z: Z -> dA/dZ; evaluates the function again.
    derivative_from_A: A -> dA/dZ; cheap arithmetic on the stored activations.
    Softmax has no elementwise derivative; it is used with cross-entropy only, where delta = A - Y needs none.
    """

    name: str
    value: Callable[[Array], Array]
    derivative_from_Z: Callable[[Array], Array]
    derivative_from_A: Callable[[Array], Array]


def sigmoid(Z: Array) -> Array:
    """1 / (1 + exp(-Z)), without overflow."""
    A: Array = scipy.special.expit(Z)  # SciPy loads `special` when it is first used, which takes 0.2 s
    return A


def sigmoid_derivative_from_Z(Z: Array) -> Array:
    """S (1 - S), where S is the sigmoid, evaluated a second time: as expensive as in forward."""
    S = sigmoid(Z)
    D: Array = S * (1 - S)
    return D


def sigmoid_derivative_from_A(A: Array) -> Array:
    """A (1 - A)."""
    D: Array = A * (1 - A)
    return D


def tanh(Z: Array) -> Array:
    """Hyperbolic tangent."""
    A: Array = np.tanh(Z)
    return A


def tanh_derivative_from_Z(Z: Array) -> Array:
    """1 - tanh(Z)**2, with the hyperbolic tangent evaluated a second time."""
    T = tanh(Z)
    return 1 - T * T


def tanh_derivative_from_A(A: Array) -> Array:
    """1 - A**2."""
    return 1 - A * A


def relu(Z: Array) -> Array:
    """max(Z, 0)."""
    A: Array = np.maximum(Z, 0)
    return A


def relu_derivative(Z_or_A: Array) -> Array:
    """1 where Z > 0, which is where A > 0; else 0 (also at the kink)."""
    return (Z_or_A > 0).astype(Z_or_A.dtype)


def identity(Z: Array) -> Array:
    """Z itself."""
    return Z


def softmax(Z: Array) -> Array:
    """exp(Z) normalized over the neurons, axis 0 of Z (n, m) or (n,); shifted by the maximum against overflow."""
    E = np.exp(Z - Z.max(axis=0))
    A: Array = E / E.sum(axis=0)
    return A


def _no_elementwise_derivative(_: Array) -> Array:
    raise NotImplementedError("softmax is used with cross-entropy, where delta = A - Y needs no derivative")


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("sigmoid", sigmoid, sigmoid_derivative_from_Z, sigmoid_derivative_from_A),
        Activation("tanh", tanh, tanh_derivative_from_Z, tanh_derivative_from_A),
        Activation("relu", relu, relu_derivative, relu_derivative),
        Activation("identity", identity, np.ones_like, np.ones_like),
        Activation("softmax", softmax, _no_elementwise_derivative, _no_elementwise_derivative),
    )
}


Loss = Callable[[Array, Array], float]
"""A (n_L, m) activations of the output layer, Y (n_L, m) targets -> mean loss over the m samples."""


def squared_error(A: Array, Y: Array) -> float:
    """Half the squared distance: mean over samples of sum (A - Y)**2 / 2."""
    error = A - Y
    return float(0.5 * np.vdot(error, error) / A.shape[1])


def binary_cross_entropy(A: Array, Y: Array) -> float:
    """Each sigmoid output is a yes or no of its own: mean over samples of -sum(Y log A + (1 - Y) log(1 - A))."""
    return float(-np.sum(_binary_log_likelihood(A, Y)) / A.shape[1])


def categorical_cross_entropy(A: Array, Y: Array) -> float:
    """Softmax outputs are one distribution: mean over samples of -sum Y log A."""
    return float(-np.sum(_categorical_log_likelihood(A, Y)) / A.shape[1])


def sample_losses(network: Network, A: Array, Y: Array) -> Array:
    """The loss of each sample (m,); the loss of `loss_of` is their mean. A, Y (n_L, m)."""
    if network.loss == "squared_error":
        losses = 0.5 * (A - Y) ** 2
    elif network.output == "softmax":
        losses = -_categorical_log_likelihood(A, Y)
    else:
        losses = -_binary_log_likelihood(A, Y)
    total: Array = losses.sum(axis=0)
    return total


def loss_of(network: Network) -> Loss:
    """The loss of a network: cross-entropy is categorical after a softmax and binary after a sigmoid."""
    if network.loss == "squared_error":
        return squared_error
    return categorical_cross_entropy if network.output == "softmax" else binary_cross_entropy


def _binary_log_likelihood(A: Array, Y: Array) -> Array:
    # A saturated output would give log 0, so A is kept an epsilon of its dtype inside (0, 1).
    epsilon = np.finfo(A.dtype).eps
    A = np.clip(A, epsilon, 1 - epsilon)
    terms: Array = Y * np.log(A) + (1 - Y) * np.log(1 - A)
    return terms


def _categorical_log_likelihood(A: Array, Y: Array) -> Array:
    terms: Array = Y * np.log(np.maximum(A, np.finfo(A.dtype).tiny))
    return terms
