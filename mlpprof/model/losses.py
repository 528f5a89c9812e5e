"""Losses: the mean over the batch of a sum over the output neurons, without the penalty."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlpprof.model.interface import Array
from mlpprof.model.network import Network

Loss = Callable[[Array, Array], float]
"""A (n_L, m) activations of the output layer, Y (n_L, m) targets -> mean loss over the m samples."""


def squared_error(A: Array, Y: Array) -> float:
    """Half the squared distance: mean over samples of sum (A - Y)**2 / 2."""
    error = A - Y
    return float(0.5 * np.vdot(error, error) / A.shape[1])


def binary_cross_entropy(A: Array, Y: Array) -> float:
    """Each sigmoid output is a yes or no of its own: -sum(Y log A + (1 - Y) log(1 - A)).

    A saturated output would give log 0; A is kept an epsilon of its dtype inside (0, 1).
    """
    epsilon = np.finfo(A.dtype).eps
    A = np.clip(A, epsilon, 1 - epsilon)
    return float(-np.sum(Y * np.log(A) + (1 - Y) * np.log(1 - A)) / A.shape[1])


def categorical_cross_entropy(A: Array, Y: Array) -> float:
    """Softmax outputs are one distribution: -sum Y log A, with A kept away from 0."""
    return float(-np.sum(Y * np.log(np.maximum(A, np.finfo(A.dtype).tiny))) / A.shape[1])


def sample_losses(network: Network, A: Array, Y: Array) -> Array:
    """The loss of every sample by itself, (m,): what `loss_of` is the mean of. A, Y (n_L, m)."""
    if network.loss == "squared_error":
        losses = 0.5 * (A - Y) ** 2
    elif network.output == "softmax":
        losses = -Y * np.log(np.maximum(A, np.finfo(A.dtype).tiny))
    else:
        epsilon = np.finfo(A.dtype).eps
        A = np.clip(A, epsilon, 1 - epsilon)
        losses = -(Y * np.log(A) + (1 - Y) * np.log(1 - A))
    total: Array = losses.sum(axis=0)
    return total


def loss_of(network: Network) -> Loss:
    """The loss of a network: cross-entropy is categorical behind a softmax and binary behind a sigmoid."""
    if network.loss == "squared_error":
        return squared_error
    return categorical_cross_entropy if network.output == "softmax" else binary_cross_entropy
