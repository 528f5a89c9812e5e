"""Random networks with random samples, on which variants are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlpprof.model.interface import Array, Parameters
from mlpprof.model.network import HIDDEN, ILLEGAL_PAIRS, LOSS_NAMES, OUTPUTS, Network
from mlpprof.model.oracle import outputs

KINK_MARGIN = 1e-3
"""Least |Z| of a ReLU and |W| under an L1 penalty: a hundred difference steps away from the kink."""


class Kind(NamedTuple):
    """The functions of a network. A class that does one kind only is common among hand-written ones."""

    hidden: str
    output: str
    loss: str

    @property
    def text(self) -> str:
        """'tanh/softmax, cross_entropy': hidden and output activation, and loss."""
        return f"{self.hidden}/{self.output}, {self.loss}"


_PAIRS = [(output, loss) for output in OUTPUTS for loss in LOSS_NAMES if (output, loss) not in ILLEGAL_PAIRS]
KINDS = tuple(Kind(HIDDEN[i % len(HIDDEN)], *_PAIRS[i % len(_PAIRS)]) for i in range(len(HIDDEN) * len(_PAIRS)))
"""Every legal kind once, since 3 and 4 share no factor; the first 4 hold every activation and every loss."""

OPTIONS: dict[str, tuple[Any, ...]] = {
    "momentum": (0.9, 0.0),
    "l1": (0.01, 0.0),
    "l2": (0.1, 0.0),
    "batch": ("one", "divides", "leaves a rest"),
    "depth": (1, 2, 3),
    "narrow": (True, False),
    "outputs": (1, 2, 3),
}
"""What varies within every kind. batch: one sample, or several that divide the samples or leave a rest; depth: weight
layers, 3 standing for 3 or 4; narrow: a layer below the output has 1 neuron; outputs: neurons (softmax has 2 or more).
"""
CASES_PER_KIND = max(len(values) for values in OPTIONS.values())


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
    def kind(self) -> Kind:
        """The kind of its network."""
        return Kind(self.network.hidden, self.network.output, self.network.loss)

    @property
    def text(self) -> str:
        """The case in one line, for messages."""
        used = [f", {name} {getattr(self.network, name):g}" for name in ("momentum", "l1", "l2")]
        options = "".join(text for text in used if not text.endswith(" 0"))
        return f"{self.network.text} {self.kind.text}, batch {len(self.index)}{options}"


def far_from_kinks(case: Case) -> bool:
    """Whether no difference step can cross a kink of ReLU or of the L1 penalty."""
    if case.network.hidden == "relu":
        _, hidden_Z = outputs(case.network, case.parameters, case.X)
        if any(np.abs(Z).min() < KINK_MARGIN for Z in hidden_Z):
            return False
    return case.network.l1 == 0 or all(np.abs(W).min() > KINK_MARGIN for W, _ in case.parameters)


def random_cases(count: int, seed: int) -> Iterator[Case]:
    """Small random networks, kind after kind in rounds, in which every option varies by itself.

    What holds for every seed: the first CASES_PER_KIND networks of each kind have each value of each of OPTIONS at
    least once, and so do the first that many networks of a round. The values of two options are drawn apart, so none
    goes along with another or with a kind.
    """
    rng = np.random.default_rng(seed)
    rounds = [_rounds(values, rng) for values in OPTIONS.values()]
    for i in range(count):
        j = i % len(KINDS)
        if j == 0:
            values_of_round = [next(option) for option in rounds]
        options = dict(zip(OPTIONS, (values[j] for values in values_of_round), strict=True))
        network = _random_network(KINDS[j], options, rng)
        m = 1 if options["batch"] == "one" else int(rng.integers(2, 9))
        rest = int(rng.integers(1, m)) if options["batch"] == "leaves a rest" else 0
        yield random_case(network, m, int(rng.integers(2**32)), rest)


def _rounds(values: Sequence[Any], rng: np.random.Generator) -> Iterator[list[Any]]:
    """The value of one option for each kind, round after round: for a kind, they come in turn from a shuffled start."""
    n = len(values)
    while True:
        starts = [int(start) for _ in range(0, len(KINDS), n) for start in rng.permutation(n)]
        for turn in range(n):
            yield [values[(start + turn) % n] for start in starts[: len(KINDS)]]


def _random_network(kind: Kind, options: dict[str, Any], rng: np.random.Generator) -> Network:
    depth = options["depth"] if options["depth"] < 3 else int(rng.integers(3, 5))
    widths = [int(n) for n in rng.integers(2, 6, size=depth)]
    if options["narrow"]:
        widths[int(rng.integers(depth))] = 1
    least = 2 if kind.output == "softmax" else 1
    return Network(
        layers=(*widths, max(least, options["outputs"])),
        hidden=kind.hidden,
        output=kind.output,
        loss=kind.loss,
        rate=float(rng.uniform(0.01, 0.2)),
        momentum=options["momentum"],
        l1=options["l1"],
        l2=options["l2"],
    )


def random_case(network: Network, m: int, seed: int, rest: int = 0) -> Case:
    """A case with m samples in the batch out of 2 m + rest, drawn again until it lies away from all kinks."""
    samples = 2 * m + rest
    rng = np.random.default_rng(seed)
    while True:
        parameters = [
            (rng.standard_normal((n_out, n_in)) / math.sqrt(n_in), 0.5 * rng.standard_normal(n_out))
            for n_in, n_out in zip(network.layers[:-1], network.layers[1:], strict=True)
        ]
        X = rng.standard_normal((samples, network.layers[0]))
        if network.loss == "cross_entropy" and network.layers[-1] == 1:
            Y = rng.integers(2, size=(samples, 1)).astype(np.float64)  # one-hot of one class would be 1 everywhere
        elif network.loss == "cross_entropy":
            Y = np.eye(network.layers[-1])[rng.integers(network.layers[-1], size=samples)]
        else:
            Y = rng.uniform(size=(samples, network.layers[-1]))
        case = Case(network, parameters, X, Y, rng.permutation(samples)[:m])
        if far_from_kinks(case):
            return case
