"""The check finds every option that a variant does not heed, in every variant, and in every kind of network by itself.

A mutant is a right variant that is handed another network than it was asked for, or whose gradients are changed on
the way out. Left out are the variants of several processes or threads and those that numba compiles: starting and
compiling would take longer than all the others together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlpprof.catalog import Entry, ladder, load
from mlpprof.errors import UnsupportedNetwork
from mlpprof.model import Network, Parameters
from mlpprof.model.gradcheck import KINDS, NetworkKind
from mlpprof.profile.check import CHECK_CASES, QUICK_CASES, check_variant, load_pair

LADDER = ladder()
VARIANTS = [name for name, entry in LADDER.items() if entry.extra is None and entry.branch != "workers"]


def against_momentum(network: Network) -> Network:
    other = replace(network)
    object.__setattr__(other, "momentum", -network.momentum)  # which no network can be asked for
    return other


NETWORKS: dict[str, Callable[[Network], Network]] = {
    "momentum ignored": lambda n: replace(n, momentum=0.0),
    "momentum with the wrong sign": against_momentum,
    "momentum dampened": lambda n: replace(n, rate=(1 - n.momentum) * n.rate),
    "L1 ignored": lambda n: replace(n, l1=0.0),
    "L2 ignored": lambda n: replace(n, l2=0.0),
    "rate ignored": lambda n: replace(n, rate=0.1),
    "rate doubled": lambda n: replace(n, rate=2 * n.rate),
}
GRADIENTS: dict[str, Callable[[Network, int, Parameters, Parameters], Parameters]] = {
    "sum in place of mean": lambda n, m, grads, _: [(m * dW, m * db) for dW, db in grads],
    "biases penalized by L1": lambda n, m, grads, theta: [
        (dW, db + n.l1 * (b > 0)) for (dW, db), (_, b) in zip(grads, theta, strict=True)
    ],
    "biases penalized by L2": lambda n, m, grads, theta: [
        (dW, db + n.l2 * b) for (dW, db), (_, b) in zip(grads, theta, strict=True)
    ],
    "bias lost at a batch of 1": lambda n, m, grads, _: [(dW, db * (m > 1)) for dW, db in grads],
}
MUTANTS = [*NETWORKS, *GRADIENTS]
NONE_OF_ITS_OWN = {
    "delayed": {"momentum dampened", "biases penalized by L1"},
    "gram": {"biases penalized by L1"},
}
"""What changes nothing in a variant, since it refuses every network with that option."""


def mutant_of(
    cls: Any, what: str, wrong: tuple[NetworkKind, ...] = KINDS, done: tuple[NetworkKind, ...] = KINDS
) -> Any:
    """The class with one option treated wrongly in some kinds of network; it refuses those that it does not do."""

    class Mutant(cls):
        def __init__(self, network: Network, parameters: Parameters) -> None:
            kind = NetworkKind(network.hidden, network.output, network.loss)
            if kind not in done:
                raise UnsupportedNetwork(f"no {kind}")
            self.asked, self.is_wrong = network, kind in wrong
            super().__init__(NETWORKS[what](network) if what in NETWORKS and self.is_wrong else network, parameters)

        def fetch_batch(self, X: Any, Y: Any, index: Any) -> None:
            self.rows = len(index)
            super().fetch_batch(X, Y, index)

        def gradients(self) -> Parameters:
            right = super().gradients()
            if what not in GRADIENTS or not self.is_wrong:
                return right
            return GRADIENTS[what](self.asked, self.rows, right, self.parameters())

    return Mutant


def is_right(entry: Entry, cls: Any, parent: Any, cases: int) -> bool | None:
    return check_variant(entry, cls, parent, cases, 0, lambda what, share: None).ok


@pytest.mark.parametrize("name", VARIANTS)
def test_every_mutant_of_a_variant_is_found(name):
    cls, parent = load_pair(LADDER[name], LADDER)
    found = {what: is_right(LADDER[name], mutant_of(cls, what), parent, CHECK_CASES) for what in MUTANTS}
    assert found == {what: what in NONE_OF_ITS_OWN.get(name, ()) for what in MUTANTS}


@pytest.mark.parametrize("what", MUTANTS)
def test_a_mutant_that_does_one_kind_of_network_is_found_by_few_networks_whichever_the_kind(what):
    cls, parent = load(LADDER["sliced"]), load(LADDER["cached"])
    found = {
        kind: is_right(LADDER["sliced"], mutant_of(cls, what, done=(kind,)), parent, QUICK_CASES) for kind in KINDS
    }
    assert found == dict.fromkeys(KINDS, False)


@pytest.mark.parametrize("kind", KINDS[-3:], ids=lambda kind: "-".join(kind))
def test_momentum_ignored_in_one_kind_of_network_alone_is_found(kind):
    cls, parent = load(LADDER["sliced"]), load(LADDER["cached"])
    assert is_right(LADDER["sliced"], mutant_of(cls, "momentum ignored", wrong=(kind,)), parent, CHECK_CASES) is False
