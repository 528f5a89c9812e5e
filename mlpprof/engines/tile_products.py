"""The products of a layer as `blocked` computes them: in tiles that stay in registers, from matrices in panels.

Each product is repeated within one compiled call, so that a measurement contains no call of Python. Importing this
module needs numba (extra `compiled`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlpprof.engines.blocked_passes import ALONE, back_layer, forward_layer, gradient_layer
from mlpprof.engines.numba_passes import EXACTLY, settings
from mlpprof.engines.panels import Plan, gains_of, plan_of, scratch_of, widths_of
from mlpprof.engines.tiles import UNFINISHED
from mlpprof.model import Network
from mlpprof.model.interface import Array

Repeat = Callable[[int], object]
"""A function that computes a product so many times."""

PLAIN = {"hidden": "relu", "output": "identity", "loss": "squared_error"}
"""Functions that cost next to nothing when a tile is finished with them."""


@EXACTLY
def _forward(
    times: int, plan: Plan, widths: Any, codes: Array, theta: Array, gains: Array, A: Array, m: int, l: int
) -> None:
    for _ in range(times):
        forward_layer(plan, widths, codes, theta, gains, A, m, l, ALONE)


@EXACTLY
def _back(
    times: int, plan: Plan, widths: Any, codes: Array, theta: Array, A: Array, delta: Array, turned: Array, m: int,
    l: int,
) -> None:  # fmt: skip
    for _ in range(times):
        back_layer(plan, widths, codes, theta, A, delta, turned, m, l, ALONE)


@EXACTLY
def _gradient(
    times: int, plan: Plan, widths: Any, state: Any, numbers: Any, A: Array, delta: Array, m: int, l: int
) -> None:
    for _ in range(times):
        gradient_layer(plan, widths, state, numbers, A, delta, m, l, True, UNFINISHED, ALONE)


def layer_products(layers: tuple[int, ...], m: int, dtype: str) -> dict[str, Repeat]:
    """The products forward, gradient and back of the last layer of a network, on m samples; each needs no other.

    The first layer has no product back. Each is compiled when it is called for the first time.
    """
    network, real = Network(layers, **PLAIN), np.dtype(dtype)  # type: ignore[arg-type]  # all three are names
    l = network.depth
    plan = plan_of(network, real.itemsize)
    widths = widths_of(plan, real.itemsize)
    codes, (rate, momentum, l1, l2, _, _), _ = settings(network, real)
    rng = np.random.default_rng(0)
    size = plan.b[-1] + plan.columns[-1] - plan.columns[-2]
    theta, gradient = rng.random(size).astype(real), np.zeros(size, real)
    A, delta = (rng.random(m * plan.columns[-1]).astype(real) for _ in range(2))
    gains = gains_of(plan, codes, real)
    state, numbers = (theta, gradient, gradient), (rate, momentum, l1, l2)  # the velocity is not read
    products: dict[str, Repeat] = {
        "forward": lambda times: _forward(times, plan, widths, codes, theta, gains, A, m, l),
        "gradient": lambda times: _gradient(times, plan, widths, state, numbers, A, delta, m, l),
    }
    if l > 1:
        turned = scratch_of(plan, real)
        products["back"] = lambda times: _back(times, plan, widths, codes, theta, A, delta, turned, m, l)
    return products
