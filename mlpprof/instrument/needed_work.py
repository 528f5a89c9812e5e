"""The part of a step's operations that the network's mathematics needs. A program may execute more than that.

One step on m samples, with n_l neurons in layer l and P_l = n_l n_{l-1} weights, needs:

| phase       | needs                                                                                             |
| ----------- | ------------------------------------------------------------------------------------------------- |
| fetch_batch | the rows of X and Y, read and written once                                                        |
| forward     | in each layer: product 2 m P_l, biases m n_l, one evaluation of the activation m n_l (ReLU: as     |
|             | much arithmetic; identity: nothing; softmax: m n_l evaluations and 4 m n_l of arithmetic)         |
| loss        | all its operations                                                                                |
| backward    | in each layer: gradient 2 m P_l and m n_l for the biases; error 2 m n_L, and the output's          |
|             | derivative where `Network.delta_needs_derivative`; in each hidden layer: propagation 2 m P_{l+1},  |
|             | derivative from A (sigmoid, tanh: 2 m n_l, ReLU: m n_l) and its product m n_l; penalties (L2:      |
|             | 2 P_l, L1: 3 P_l)                                                                                 |
| update      | step 2 (P_l + n_l), and the same again for momentum                                               |

So a step does not need: a bias row or column multiplied by ones, the delta of the input layer, an activation that is
evaluated again in backward, and every copy except the gather.

An operation is recognised by its phase, its kind and its shape; one row or column more than the network has is a bias.
In the order of execution, each operation takes its part of the needs until they are used up. An operation whose shape
fits no layer is not needed. Single numbers, as scalar loops compute them, have no shape: they take whatever is left in
their phase.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, EVALUATION, FILL, PRODUCT
from mlpprof.model import Network
from mlpprof.results import Operation

GRADIENT, PROPAGATION, BIAS, WEIGHTS = "gradient", "propagation", "bias", "weights"

Key = tuple[str, str, frozenset[int] | tuple[int, ...]]
"""A need: the phase, the purpose, and the sizes: {n_l, n_{l-1}} of weights, (n_l,) of a layer's samples."""

DERIVATIVE = {"sigmoid": 2, "tanh": 2, "relu": 1, "identity": 0}
"""The arithmetic operations per element of the derivative from A."""


class Needs:
    """The operations that a step still needs; `take` returns as many of them as are left."""

    def __init__(self, network: Network, m: int) -> None:
        self._left: dict[Key, float] = {}
        n, L = network.layers, network.depth
        for l in range(1, L + 1):
            pair, layer = frozenset((n[l], n[l - 1])), (n[l],)
            weights = n[l] * n[l - 1]
            hidden = network.hidden if l < L else network.output
            self._add(("forward", PRODUCT, pair), 2 * m * weights)
            self._add(("forward", BIAS, layer), m * n[l])
            evaluations, arithmetic = {"relu": (0, 1), "identity": (0, 0), "softmax": (1, 4)}.get(hidden, (1, 0))
            self._add(("forward", EVALUATION, layer), evaluations * m * n[l])
            self._add(("forward", ARITHMETIC, layer), arithmetic * m * n[l])
            self._add(("backward", GRADIENT, pair), 2 * m * weights)
            self._add(("backward", PROPAGATION, pair), 2 * m * weights if l > 1 else 0)
            self._add(("backward", BIAS, layer), m * n[l])
            derivative = DERIVATIVE.get(hidden, 0) + 1
            error = 2 + (derivative if network.delta_needs_derivative else 0)
            self._add(("backward", ARITHMETIC, layer), (derivative if l < L else error) * m * n[l])
            self._add(("backward", WEIGHTS, pair), ((network.l2 > 0) * 2 + (network.l1 > 0) * 3) * weights)
            self._add(("update", WEIGHTS, pair), (4 if network.momentum > 0 else 2) * (weights + n[l]))

    def _add(self, key: Key, amount: float) -> None:
        self._left[key] = self._left.get(key, 0.0) + amount

    def available(self, key: Key) -> float:
        return self._left.get(key, 0.0)

    def take_any(self, phase: str, amount: float) -> float:
        """Take up to `amount` of all that is left in a phase, for single numbers, which have no shape."""
        taken = 0.0
        for key in self._left:
            if key[0] == phase:
                taken += self.take(key, amount - taken)
        return taken

    def take(self, key: Key, amount: float) -> float:
        """Take up to `amount` of what is left for a key; returns how much that is."""
        taken = min(amount, self.available(key))
        if taken > 0:
            self._left[key] -= taken
        return taken


@dataclass(frozen=True)
class Claim:
    """A possible purpose of an operation: a key, and the number of floating-point operations for it."""

    key: Key
    flop: float


def mark_useful(operations: Sequence[Operation], network: Network, m: int) -> tuple[Operation, ...]:
    """The operations with their useful parts, in the same order; m: samples in the batch."""
    needs = Needs(network, m)
    gather_left = {n: m * n for n in (network.layers[0], network.layers[-1])}
    return tuple(_marked(operation, network, needs, gather_left) for operation in operations)


def needed_products(network: Network, m: int) -> Iterator[tuple[int, int, int]]:
    """(p, k, q) of the products (p, k) by (k, q) that a step needs: forward, gradient, delta of hidden layers."""
    n = network.layers
    for l in range(1, network.depth + 1):
        yield n[l], n[l - 1], m
        yield n[l], m, n[l - 1]
        if l > 1:
            yield n[l - 1], n[l], m


def _marked(operation: Operation, network: Network, needs: Needs, gather_left: dict[int, int]) -> Operation:
    if operation.phase == "loss" and operation.kind not in (COPY, FILL):
        return operation
    if operation.kind in (COPY, FILL):
        share = _gathered(operation, gather_left) if operation.phase == "fetch_batch" else 0.0
        return replace(operation, useful_flop=0, useful_bytes=round(operation.bytes_moved * share))
    if operation.flop == 0:
        return replace(operation, useful_bytes=0)
    if not operation.shape:
        return replace(operation, useful_flop=round(needs.take_any(operation.phase, operation.flop)))
    choices = list(_interpretations(operation, network))
    best = max(choices, key=lambda claims: sum(min(c.flop, needs.available(c.key)) for c in claims), default=())
    useful = round(sum(needs.take(claim.key, claim.flop) for claim in best))
    return replace(operation, useful_flop=useful, useful_bytes=round(operation.bytes_moved * useful / operation.flop))


def _gathered(operation: Operation, gather_left: dict[int, int]) -> float:
    """The share of a gather that reads rows for the first time."""
    elements = math.prod(operation.shape) * operation.times
    for n in operation.shape:
        if gather_left.get(n, 0) > 0 and operation.name != "fill":
            taken = min(elements, gather_left[n])
            gather_left[n] -= taken
            return taken / elements
    return 0.0


def _interpretations(operation: Operation, network: Network) -> Iterator[tuple[Claim, ...]]:
    """The possible purposes of an operation, one tuple of claims for each way to understand its shape."""
    if operation.phase not in ("forward", "backward", "update"):
        yield from (
            claims
            for phase in ("forward", "backward", "update")
            for claims in _interpretations(replace(operation, phase=phase), network)
        )
        return
    if operation.kind == PRODUCT or operation.name == "outer":
        yield from _products(operation, network)
        return
    yield from _of_weights(operation, network)
    if operation.phase != "update":
        yield from _of_samples(operation, network)


def _products(operation: Operation, network: Network) -> Iterator[tuple[Claim, ...]]:
    """A product of weights with samples or of samples with deltas; multiplying a bias by ones is not needed."""
    n, phase, times = network.layers, operation.phase, operation.times
    per_weight = 1 if operation.name == "outer" else 2
    if phase == "update":
        return
    p, k, q = operation.shape if operation.kind == PRODUCT else (operation.shape[0], 1, operation.shape[-1])
    for l in range(1, network.depth + 1):
        pair = frozenset((n[l], n[l - 1]))
        weights = n[l] * n[l - 1]
        for bias in (0, 1):
            inputs = n[l - 1] + bias
            kind = PRODUCT if phase == "forward" else GRADIENT
            if phase == "forward":
                samples = q if (p, k) == (n[l], inputs) else p if (k, q) == (inputs, n[l]) else 0
            elif (p, q) in ((n[l], inputs), (inputs, n[l])):
                samples = k  # the gradient: a sum over the samples
            elif l > 1 and k == n[l] and inputs in (p, q):
                # The delta is propagated; the bias row of the result is cut off again.
                samples = q if p == inputs else p
                yield (Claim((phase, PROPAGATION, pair), 2 * samples * weights * times),)
                continue
            else:
                continue
            if samples:
                biases = Claim((phase, BIAS, (n[l],)), bias * (per_weight - 1) * samples * n[l] * times)
                yield Claim((phase, kind, pair), per_weight * samples * weights * times), biases


def _of_weights(operation: Operation, network: Network) -> Iterator[tuple[Claim, ...]]:
    """Arithmetic on weights: momentum and step, penalties, and outer products added up sample by sample."""
    n, phase = network.layers, operation.phase
    for l in range(1, network.depth + 1):
        pair = frozenset((n[l], n[l - 1]))
        for shape, part in (
            ((n[l], n[l - 1]), 1.0),
            ((n[l], n[l - 1] + 1), 1.0 if phase == "update" else n[l - 1] / (n[l - 1] + 1)),
            ((n[l],), 1.0),
            ((n[l], 1), 1.0),
        ):
            if operation.shape not in (shape, shape[::-1]):
                continue
            if len(shape) == 1 or shape[1] == 1:
                if phase == "update":
                    yield (Claim((phase, WEIGHTS, pair), operation.flop),)
                continue
            added = operation.flop * part
            if phase == "backward" and operation.name == "add":
                yield (
                    Claim((phase, GRADIENT, pair), added),
                    Claim((phase, BIAS, (n[l],)), operation.flop - added),
                )
            if phase != "forward" and operation.kind == ARITHMETIC:
                yield (Claim((phase, WEIGHTS, pair), added),)


def _of_samples(operation: Operation, network: Network) -> Iterator[tuple[Claim, ...]]:
    """Arithmetic and evaluations on a layer's neurons, for all samples of the batch or for some."""
    sizes: Iterable[int] = (operation.shape or (1,)) if len(operation.shape) <= 2 else ()
    kind = EVALUATION if operation.kind == EVALUATION else ARITHMETIC
    is_sum = operation.name in ("sum", "mean") or (operation.name == "add" and 1 in (len(operation.shape), *sizes))
    may_be_bias = is_sum if operation.phase == "backward" else operation.name == "add"
    for n in dict.fromkeys(network.layers[1:]):
        for rows in (n, n + 1):
            if rows in sizes:
                flop = operation.flop * n / rows
                if may_be_bias:
                    yield (Claim((operation.phase, BIAS, (n,)), flop),)
                yield (Claim((operation.phase, kind, (n,)), flop),)
