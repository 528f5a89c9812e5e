"""The network to train, as a frozen specification: sizes, functions, optimizer, and its initial weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mlpprof.errors import UsageError, did_you_mean

HIDDEN = ("sigmoid", "tanh", "relu")
OUTPUTS = ("sigmoid", "softmax", "identity")
LOSS_NAMES = ("squared_error", "cross_entropy")

ILLEGAL_PAIRS = {
    ("softmax", "squared_error"): "its derivative is a full matrix for every sample, which the ladder does not teach",
    ("identity", "cross_entropy"): "the logarithm needs outputs between 0 and 1",
}
"""The pairs of output and loss that are not offered, each with the reason; every other pair is legal."""

MAX_PARAMETERS = 200_000_000


@dataclass(frozen=True)
class Network:
    """A fully connected network and how it is trained.

    layers: (n_0, n_1, ..., n_L), neurons per layer; layer 0 is the input.
    hidden, output, loss: names of functions; see `ILLEGAL_PAIRS` for the pairs of output and loss that are refused.
    rate, momentum: of heavy-ball gradient descent on the mean gradient of the batch.
    l1, l2: the penalty is l1 * sum |W| + l2 / 2 * sum W**2 over all weights, never the biases.
    Raises UsageError that names the value if a value is not allowed.
    """

    layers: tuple[int, ...]
    hidden: str = "sigmoid"
    output: str = "sigmoid"
    loss: str = "cross_entropy"
    rate: float = 0.1
    momentum: float = 0.0
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        if len(self.layers) < 2 or any(n < 1 for n in self.layers):
            raise UsageError(
                f"layers {self.text} do not make a network; expected at least an input and an output size, "
                "each 1 or more, such as 784-70-30-10"
            )
        if self.parameter_count > MAX_PARAMETERS:
            raise UsageError(
                f"layers {self.text} have {self.parameter_count:,} parameters; at most {MAX_PARAMETERS:,} are allowed"
            )
        _known("hidden activation", self.hidden, HIDDEN)
        _known("output activation", self.output, OUTPUTS)
        _known("loss", self.loss, LOSS_NAMES)
        reason = ILLEGAL_PAIRS.get((self.output, self.loss))
        if reason is not None:
            legal = ", ".join(o for o in OUTPUTS if (o, self.loss) not in ILLEGAL_PAIRS)
            raise UsageError(f"output '{self.output}' does not go with loss '{self.loss}': {reason}; use {legal}")
        if self.output == "softmax" and self.layers[-1] == 1:
            raise UsageError("output 'softmax' with 1 output neuron is always 1; use sigmoid, or 2 output neurons")
        for name in ("rate", "momentum", "l1", "l2"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise UsageError(f"{name} {value} is out of range; expected a finite number of 0 or more")
        if self.momentum >= 1:
            raise UsageError(f"momentum {self.momentum} diverges; expected 0 <= momentum < 1")

    @property
    def depth(self) -> int:
        """L, the number of weight layers."""
        return len(self.layers) - 1

    @property
    def text(self) -> str:
        """The sizes as they are typed: '784-70-30-10'."""
        return "-".join(str(n) for n in self.layers)

    @property
    def parameter_count(self) -> int:
        return sum((n_in + 1) * n_out for n_in, n_out in zip(self.layers[:-1], self.layers[1:], strict=True))

    @property
    def delta_needs_derivative(self) -> bool:
        """Whether delta[L] holds the output's derivative.

        It is (A - Y) alone where loss and output cancel: cross-entropy after a sigmoid or softmax, squared error
        after the identity. Squared error after a sigmoid keeps the factor A * (1 - A).
        """
        return self.output == "sigmoid" and self.loss == "squared_error"

    def initial_parameters(self, seed: int, dtype: DTypeLike = np.float64) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Random weights N(0, 1) / sqrt(fan_in) and zero biases in canonical form, the same for every dtype.

        Drawn in float64 and rounded, so that runs in different precision start from the same network.
        """
        rng = np.random.default_rng(seed)
        return [
            ((rng.standard_normal((n_out, n_in)) / math.sqrt(n_in)).astype(dtype), np.zeros(n_out, dtype))
            for n_in, n_out in zip(self.layers[:-1], self.layers[1:], strict=True)
        ]


def parse_layers(text: str) -> tuple[int, ...]:
    """The sizes in '784-70-30-10'; raises UsageError that names the part that is not a whole number."""
    sizes = []
    for part in text.strip().split("-"):
        # Python refuses to read a number with thousands of digits.
        if not part.isascii() or not part.isdigit() or len(part) > 18:
            raise UsageError(
                f"layers '{text}': '{part}' is not a layer size; expected whole numbers such as 784-70-30-10"
            )
        sizes.append(int(part))
    return tuple(sizes)


def _known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UsageError(f"there is no {what} '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
