"""The interface that every variant has: five phases, which in this order make one training step.

It is structural: a class needs these methods but no base class. `mlpprof.catalog` explains which ones are missing.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpprof.model.network import Network

Array = NDArray[Any]
Parameters = list[tuple[Array, Array]]
"""Canonical parameters or gradients, one pair for each layer 1..L: W (n_l, n_{l-1}) and b (n_l,)."""

PHASES = ("fetch_batch", "forward", "loss", "backward", "update")


class Variant(Protocol):
    """A multi-layer perceptron whose training step can be profiled phase by phase.

    These methods are optional: ``train(X, Y, indices) -> losses`` if the class trains many steps in one call (the
    default is a loop over train_step), ``close()`` if it holds processes or memory, ``phase_seconds()`` if it fuses
    phases, and ``partial_steps(X, Y, index)`` if its step is a schedule of partial updates. The last one is a generator
    that makes one step. Before each update it yields the layers (1..L) that the update changes; gradients() and
    parameters() are then those from which the update starts. Such a class is checked update by update instead of by
    its losses.
    """

    DTYPE: type[np.floating[Any]]
    """The precision of the variant, float64 or float32; ``--dtype`` overrides it for a run."""

    def __init__(self, network: Network, parameters: Parameters) -> None:
        """Copy the canonical parameters, which have the run's dtype, into the variant's own form.

        Raises UnsupportedNetwork if this variant cannot train the network.
        """

    def fetch_batch(self, X: Array, Y: Array, index: Array) -> None:
        """Take the rows `index` (m,) of X (N, n_0) and Y (N, n_L): C-contiguous, in the run's dtype."""

    def forward(self) -> None:
        """Propagate the batch to the output layer."""

    def loss(self) -> float:
        """Mean loss over the batch, without the penalty."""

    def backward(self) -> None:
        """Compute the gradients of loss + penalty with respect to all weights and biases."""

    def update(self) -> None:
        """Take one step of gradient descent with heavy-ball momentum: v = mu v + grad; W -= rate v."""

    def train_step(self, X: Array, Y: Array, index: Array) -> float:
        """One whole step on the rows `index`; returns the loss of the batch before the update."""

    def parameters(self) -> Parameters:
        """The parameters in canonical form."""

    def gradients(self) -> Parameters:
        """The gradients in canonical form; valid between backward and update; never timed."""

    def predict(self, X: Array) -> Array:
        """The output layer's activations (N, n_L) for the samples X (N, n_0)."""
