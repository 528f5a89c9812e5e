"""Random networks with random samples, on which variants are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlpprof.model.interface import Array, Parameters
from mlpprof.model.network import ILLEGAL_PAIRS, LOSS_NAMES, OUTPUTS, Network
from mlpprof.model.oracle import outputs

KINK_MARGIN = 1e-3
"""Least |Z| of a ReLU and |W| under an L1 penalty: a hundred difference steps away from the kink."""


@dataclass(frozen=True)
class Case:
    """A network, its parameters and samples, all float64, on which variants are compared.

    X (N, n_0), Y (N, n_L); index: the rows of the first batch.
    """

    network: Network
    parameters: Parameters
    X: Array
    Y: Array
    index: Array

    @property
    def text(self) -> str:
        """The case in one line, for messages."""
        n = self.network
        return f"{n.text} {n.hidden}/{n.output}, {n.loss}, batch {len(self.index)}"


def far_from_kinks(case: Case) -> bool:
    """Whether no difference step can cross a kink of ReLU or of the L1 penalty."""
    if case.network.hidden == "relu":
        _, hidden_Z = outputs(case.network, case.parameters, case.X)
        if any(np.abs(Z).min() < KINK_MARGIN for Z in hidden_Z):
            return False
    return case.network.l1 == 0 or all(np.abs(W).min() > KINK_MARGIN for W, _ in case.parameters)


def random_cases(count: int, seed: int) -> Iterator[Case]:
    """Small random networks that between them hold every legal pair, sizes of 1, one layer, and batches of 1."""
    rng = np.random.default_rng(seed)
    pairs = [(o, c) for o in OUTPUTS for c in LOSS_NAMES if (o, c) not in ILLEGAL_PAIRS]
    hidden_names = ("sigmoid", "tanh", "relu")
    for i in range(count):
        output, loss = pairs[i % len(pairs)]
        n_out = int(rng.integers(2 if output == "softmax" else 1, 4))
        network = Network(
            layers=(int(rng.integers(1, 6)), *(int(n) for n in rng.integers(1, 6, size=i % 4)), n_out),
            hidden=hidden_names[(i // len(pairs) + i) % 3],
            output=output,
            loss=loss,
            rate=float(rng.uniform(0.01, 0.2)),
            # Periods that share no factor with the pairs' meet all of them, and the first few cases hold each once.
            momentum=(0.9, 0.0)[i // 3 % 2],
            l1=0.01 if i % 5 == 2 else 0.0,
            l2=(0.1, 0.0)[i // 5 % 2],
        )
        m = 1 if i % 3 == 0 else int(rng.integers(2, 9))
        yield random_case(network, m, int(rng.integers(2**32)))


def random_case(network: Network, m: int, seed: int) -> Case:
    """A case with m samples in the batch out of 2 m, drawn again until it lies away from all kinks."""
    rng = np.random.default_rng(seed)
    while True:
        parameters = [
            (rng.standard_normal((n_out, n_in)) / math.sqrt(n_in), 0.5 * rng.standard_normal(n_out))
            for n_in, n_out in zip(network.layers[:-1], network.layers[1:], strict=True)
        ]
        X = rng.standard_normal((2 * m, network.layers[0]))
        if network.loss == "cross_entropy":
            Y = np.eye(network.layers[-1])[rng.integers(network.layers[-1], size=2 * m)]
        else:
            Y = rng.uniform(size=(2 * m, network.layers[-1]))
        case = Case(network, parameters, X, Y, rng.permutation(2 * m)[:m])
        if far_from_kinks(case):
            return case
