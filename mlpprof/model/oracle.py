"""The oracle: the function that training descends, written once in float64, and its finite differences.

It is row-major and shares no code with any variant but the activation and loss functions.
"""

from __future__ import annotations

import numpy as np

from mlpprof.model.activations import ACTIVATIONS
from mlpprof.model.interface import Array, Parameters
from mlpprof.model.losses import loss_of
from mlpprof.model.network import Network

DIFFERENCE_STEP = 1e-5
"""Central differences err by h**2 times the third derivative and by eps / h: both near 1e-10 here."""


def outputs(network: Network, parameters: Parameters, X: Array) -> tuple[Array, list[Array]]:
    """Activations of the output layer (N, n_L) for X (N, n_0), and Z of the hidden layers."""
    A = X
    hidden_Z = []
    for l, (W, b) in enumerate(parameters, start=1):
        Z = A @ W.T + b
        if l < network.depth:
            hidden_Z.append(Z)
        # The functions work on columns of samples: softmax normalizes over axis 0.
        A = ACTIVATIONS[network.hidden if l < network.depth else network.output].value(Z.T).T
    return A, hidden_Z


def penalty(network: Network, parameters: Parameters) -> float:
    """The penalty: l1 * sum |W| + l2 / 2 * sum W**2 over all weights."""
    return sum(network.l1 * float(np.abs(W).sum()) + network.l2 / 2 * float(np.square(W).sum()) for W, _ in parameters)


def objective(network: Network, parameters: Parameters, X: Array, Y: Array) -> float:
    """The function that training descends: mean loss of the samples plus penalty."""
    A, _ = outputs(network, parameters, X)
    return loss_of(network)(A.T, Y.T) + penalty(network, parameters)


def finite_difference_gradients(network: Network, parameters: Parameters, X: Array, Y: Array) -> Parameters:
    """Central differences of `objective`, weight by weight: twice as many evaluations as there are parameters."""
    trial = [(W.copy(), b.copy()) for W, b in parameters]
    gradients = []
    for pair in trial:
        pair_gradients = []
        for values in pair:
            gradient = np.empty_like(values)
            for position in np.ndindex(values.shape):
                kept = values[position]
                values[position] = kept + DIFFERENCE_STEP
                above = objective(network, trial, X, Y)
                values[position] = kept - DIFFERENCE_STEP
                below = objective(network, trial, X, Y)
                values[position] = kept
                gradient[position] = (above - below) / (2 * DIFFERENCE_STEP)
            pair_gradients.append(gradient)
        gradients.append((pair_gradients[0], pair_gradients[1]))
    return gradients
