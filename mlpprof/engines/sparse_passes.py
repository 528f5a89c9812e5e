"""The step of `blocked_passes` with products of layer 1 that use only the numbers of X that are not 0.

Layer 1 reads the lists of `nonzeros` instead of X. All other layers are computed as in `blocked_passes`.
"""

from __future__ import annotations

from typing import Any

from mlpprof.engines.blocked_passes import (
    activation_of,
    backward_above,
    finish_of,
    forward_above,
    update_biases,
)
from mlpprof.engines.nonzeros import Lists, list_by_feature, list_by_sample
from mlpprof.engines.numba_passes import COMPILE, EXACTLY, cost
from mlpprof.engines.panels import Plan, take_targets
from mlpprof.engines.tiles import PLAIN, UNFINISHED, UNIT, multiply_forward, multiply_gradient
from mlpprof.model.interface import Array

# fmt: off


@EXACTLY
def forward_lists(
    plan: Plan, widths: Any, codes: Array, theta: Array, gains: Array, lists: Lists, A: Array, m: int
) -> None:
    """Compute A[1] of m samples from their lists, part after part."""
    parts = lists.cuts.size - 1
    finish, numbers = activation_of(codes, theta, 1)
    for p in range(plan.first[1], plan.first[2] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        for q in range(parts):
            multiply_forward(
                widths, width // UNIT,
                (lists.values, 0, lists.starts, q * m, lists.ends, q * m, lists.places, 0),
                (theta, plan.W[1] + plan.rows[1] * left), 0,
                (A, m * (plan.columns[1] + left)), m, q == 0, finish if q == parts - 1 else UNFINISHED,
                (theta, plan.b[1] + left), (gains, plan.columns[1] + left), numbers,
            )


@EXACTLY
def gradient_lists(
    plan: Plan, widths: Any, state: Any, numbers: Any, lists: Lists, delta: Array, m: int, fresh: bool, finish: int,
) -> None:
    """Add to the gradient of W[1], or update W[1] with it, from the lists of all features."""
    theta, velocity, gradient = state
    for p in range(plan.first[1], plan.first[2] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        at = plan.W[1] + plan.rows[1] * left
        multiply_gradient(
            widths, width // UNIT,
            (lists.values, 0, lists.starts, 0, lists.ends, 0, lists.places, 0),
            (delta, m * (plan.columns[1] + left)), 0,
            (gradient, at), plan.n[0], fresh, finish,
            (theta, at), (velocity, at), numbers,
        )


@EXACTLY
def update_by_sample(
    plan: Plan, widths: Any, state: Any, numbers: Any, lists: Lists, delta: Array
) -> None:
    """Update the rows of W[1] for the features of one sample that are not 0; the others do not change."""
    theta, velocity, gradient = state
    for p in range(plan.first[1], plan.first[2] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        at = plan.W[1] + plan.rows[1] * left
        multiply_gradient(
            widths, width // UNIT,
            (lists.values, 0, lists.starts, 0, lists.places, 0),
            (delta, plan.columns[1] + left), 0,
            (gradient, at), lists.ends[-1], True, PLAIN,
            (theta, at), (velocity, at), numbers,
        )

# fmt: on


@COMPILE
def forward(
    plan: Plan, widths: Any, codes: Array, theta: Array, gains: Array, A: Array, out: Array, by_sample: Lists
) -> None:
    """Compute all layers, and copy the output to out (m, n_L)."""
    forward_lists(plan, widths, codes, theta, gains, by_sample, A, len(out))
    forward_above(plan, widths, codes, theta, gains, A, out)


@COMPILE
def backward(
    plan: Plan, widths: Any, codes: Array, state: Any, optimizer: Any, A: Array, out: Array, T: Array, delta: Array,
    turned: Array, share: float, fresh: bool, update: bool, by_feature: Lists,
) -> None:  # fmt: skip
    """Compute all delta[l] and gradients, and update all parameters if this piece is the last of its batch."""
    finish = finish_of(optimizer) if update else UNFINISHED
    backward_above(plan, widths, codes, state, optimizer, A, out, T, delta, turned, share, fresh, finish)
    gradient_lists(plan, widths, state, optimizer[:4], by_feature, delta, len(out), fresh, finish)
    if update:
        update_biases(plan, state, optimizer)


@COMPILE
def make_steps(
    plan: Plan, widths: Any, codes: Array, state: Any, optimizer: Any, gains: Array, X: Array, Y: Array, indices: Array,
    A: Array, out: Array, T: Array, delta: Array, turned: Array, by_sample: Lists, by_feature: Lists, least: float,
    losses: Array,
) -> None:  # fmt: skip
    """Make a step for each row of indices (steps, m), in pieces of len(T) samples.

    Without momentum and penalties, a step of one sample changes few rows of W[1], and needs no lists by feature.
    """
    m, rows, L = indices.shape[1], len(T), plan.n.size - 1
    order, share = indices.reshape(indices.size), state[0].dtype.type(1 / indices.shape[1])
    few_rows = m == 1 and finish_of(optimizer) == PLAIN and optimizer[3] == 0
    for step in range(len(indices)):
        losses[step] = 0
        for start in range(0, m, rows):
            here, first, update = min(rows, m - start), step * m + start, start + rows >= m
            take_targets(Y, order[first : first + here], T)
            list_by_sample(X, order, first, here, by_sample)
            forward(plan, widths, codes, state[0], gains, A, out[:here], by_sample)
            losses[step] += cost(codes[L + 1], codes[L], out[:here], T[:here], least) / m
            layers = plan, widths, codes, state, optimizer, A, out[:here], T[:here], delta, turned, share
            if few_rows:
                backward_above(*layers, True, PLAIN)
                update_by_sample(plan, widths, state, optimizer[:4], by_sample, delta)
                update_biases(plan, state, optimizer)
            else:
                list_by_feature(by_sample, here, by_feature)
                backward(*layers, start == 0, update, by_feature)
