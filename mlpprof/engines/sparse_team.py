"""Many steps of `sparse_passes` by a team of threads. Each thread makes one compiled call and meets the others in it.

Every worker takes its samples through all layers, in pieces, and adds up a gradient of its own, as in `blocked_team`.
"""

from __future__ import annotations

from typing import Any

from mlpprof.engines.meeting import WITHOUT_LOCK, meet, stopped
from mlpprof.engines.nonzeros import Lists, list_by_feature, list_by_sample
from mlpprof.engines.numba_passes import add_up_and_descend, cost
from mlpprof.engines.panels import Plan, take_targets
from mlpprof.engines.sparse_passes import backward, forward
from mlpprof.model.interface import Array


@WITHOUT_LOCK
def make_steps_with_shares(
    numbers: Array, part: tuple[int, int], plan: Plan, widths: Any, codes: Array, theta: Array, velocity: Array,
    gradients: Array, optimizer: Any, gains: Array, X: Array, Y: Array, indices: Array, A: Array, out: Array, T: Array,
    delta: Array, turned: Array, by_sample: Lists, by_feature: Lists, least: float, losses: Array,
) -> None:  # fmt: skip
    """Make one worker's part of a step for each row of indices (steps, m), in pieces of at most len(T) samples.

    gradients: (workers, parameters). losses: (workers, steps). A, out, T, delta, turned and the lists are the worker's
    own.
    """
    m, L = indices.shape[1], plan.n.size - 1
    k, workers = part
    first, end = m * k // workers, m * (k + 1) // workers
    order, share = indices.reshape(indices.size), theta.dtype.type(1 / m)
    state = theta, velocity, gradients[k]
    for step in range(len(indices)):
        losses[k, step] = 0
        for start in range(first, end, len(T)):
            here, place = min(len(T), end - start), step * m + start
            take_targets(Y, order[place : place + here], T)
            list_by_sample(X, order, place, here, by_sample)
            list_by_feature(by_sample, here, by_feature)
            forward(plan, widths, codes, theta, gains, A, out[:here], by_sample)
            losses[k, step] += cost(codes[L + 1], codes[L], out[:here], T[:here], least) / m
            backward(
                plan, widths, codes, state, optimizer, A, out[:here], T[:here], delta, turned, share, start == first,
                False, by_feature,
            )  # fmt: skip
            if stopped(numbers):
                return
        if not meet(numbers, k):
            return
        add_up_and_descend(gradients, part, theta, velocity, plan.b[1], optimizer)
        if not meet(numbers, k):
            return
