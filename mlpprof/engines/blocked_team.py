"""Many steps of `blocked_passes` by a team of threads. Each thread makes one compiled call and meets the others in it.

All threads belong to one process, so that every worker can read everything. There are two plans.

    a large batch       Every worker takes its samples through all layers, in pieces, and adds up a gradient of its own.
                        They meet. Then each adds up a range of all gradients, and updates these weights. They meet.
    a small batch       All A[l] and delta[l] of the batch are shared. Every worker computes a part of each: its
                        samples, or, where a layer has several panels, its panels. They meet where a worker needs
                        what others have computed. Then each updates its part of every W[l], with all samples and within
                        the tiles, so that no gradient is written. They meet.

The second plan writes no gradient, but the samples go from core to core. It meets twice in a step if no layer has
several panels, and about twice per layer if all have.
"""

from __future__ import annotations

from typing import Any

from mlpprof.engines.blocked_passes import (
    activation_of,
    add_bias_gradient,
    back_layer,
    backward,
    begin_backward,
    finish_of,
    forward,
    forward_input,
    forward_layer,
    gradient_input,
    gradient_layer,
    rows_of,
    take_output,
)
from mlpprof.engines.meeting import WITHOUT_LOCK, meet, stopped
from mlpprof.engines.numba_passes import COMPILE, EXACTLY, add_up_and_descend, cost, descend
from mlpprof.engines.panels import Plan, take_targets
from mlpprof.engines.tiles import UNFINISHED, UNIT, multiply_forward
from mlpprof.model.interface import Array

# fmt: off


@WITHOUT_LOCK
def make_steps_with_shares(
    numbers: Array, part: tuple[int, int], plan: Plan, widths: Any, codes: Array, theta: Array, velocity: Array,
    gradients: Array, optimizer: Any, gains: Array, X: Array, Y: Array, indices: Array, A: Array, out: Array, T: Array,
    delta: Array, turned: Array, least: float, losses: Array,
) -> None:
    """Make one worker's part of a step for each row of indices (steps, m), in pieces of at most len(T) samples.

    gradients: (workers, parameters). losses: (workers, steps). A, out, T, delta and turned are the worker's own.
    """
    m, L = indices.shape[1], plan.n.size - 1
    k, workers = part
    first, end = m * k // workers, m * (k + 1) // workers
    order = indices.reshape(indices.size)
    state = theta, velocity, gradients[k]
    for step in range(len(indices)):
        losses[k, step] = 0
        for start in range(first, end, len(T)):
            index = indices[step, start : min(end, start + len(T))]
            here = len(index)
            samples = X, order, step * m + start, order.size - step * m - start
            take_targets(Y, index, T)
            forward(plan, widths, codes, theta, gains, A, out[:here], samples)
            losses[k, step] += cost(codes[L + 1], codes[L], out[:here], T[:here], least) / m
            backward(
                plan, widths, codes, state, optimizer, A, out[:here], T[:here], delta, turned, theta.dtype.type(1 / m),
                start == first, False, samples,
            )
            if stopped(numbers):
                return
        if not meet(numbers, k):
            return
        add_up_and_descend(gradients, part, theta, velocity, plan.b[1], optimizer)
        if not meet(numbers, k):
            return


@COMPILE
def has_several_panels(plan: Plan, l: int) -> bool:
    """Whether the workers share the panels of layer l, and not only samples. They always share the samples of X."""
    return l > 0 and plan.first[l + 1] - plan.first[l] > 2


@EXACTLY
def forward_features(
    plan: Plan, widths: Any, theta: Array, gains: Array, samples: Any, A: Array, parts: Array, m: int,
    part: tuple[int, int],
) -> None:
    """Multiply a part of the features with W[1], which is one panel: into A[1] for worker 0, else into parts[worker].

    Only worker 0 adds the bias. parts: (workers + 1, samples and their neurons); the last one is 0.
    """
    X, order, first, known = samples
    low, high = rows_of(part, 0, 1, plan.rows[1])
    width, nothing = plan.columns[2] - plan.columns[1], theta.dtype.type(0)
    to = (A, m * plan.columns[1]) if part[0] == 0 else (parts[part[0]], 0)
    bias = (theta, plan.b[1]) if part[0] == 0 else (parts[-1], 0)
    for q in range(plan.first[0], plan.first[1] - 1):
        start, end = plan.cuts[q], plan.cuts[q + 1]
        begin, stop = max(start, low), min(end, high, plan.n[0])
        if begin < stop:
            multiply_forward(
                widths, width // UNIT,
                (X, begin, plan.n[0], 1, order, first, known),
                (theta, plan.W[1] + begin * width), stop - begin,
                to, m, begin == low, UNFINISHED,
                bias, (gains, 0), (nothing, nothing, nothing, nothing),
            )


@EXACTLY
def add_up_features(
    plan: Plan, widths: Any, codes: Array, theta: Array, gains: Array, A: Array, parts: Array, m: int,
    part: tuple[int, int],
) -> None:
    """Add up what all workers have computed for the samples of this one, and apply the activation of layer 1."""
    low, high = rows_of(part, 0, 1, m)
    width = plan.columns[2] - plan.columns[1]
    at = m * plan.columns[1] + low * width
    z = A[at : at + (high - low) * width]
    for other in range(1, part[1]):
        more = parts[other, low * width : high * width]
        for i in range(z.size):
            z[i] += more[i]
    finish, numbers = activation_of(codes, theta, 1)
    multiply_forward(
        widths, width // UNIT, (A, at, width, 1), (theta, 0), 0, (A, at), high - low, False, finish,
        (theta, plan.b[1]), (gains, plan.columns[1]), numbers,
    )


@WITHOUT_LOCK
def make_steps_with_parts(
    numbers: Array, part: tuple[int, int], plan: Plan, widths: Any, codes: Array, theta: Array, velocity: Array,
    gradients: Array, optimizer: Any, gains: Array, X: Array, Y: Array, indices: Array, A: Array, out: Array, T: Array,
    delta: Array, turned: Array, parts: Array, least: float, losses: Array,
) -> None:
    """Make one worker's part of a step for each row of indices (steps, m), where all samples are in one piece.

    gradients: (workers, parameters). losses: (workers, steps). Only turned is the worker's own.
    """
    m, L = indices.shape[1], plan.n.size - 1
    k, workers = part
    low, high = rows_of(part, 0, 1, m)
    order = indices.reshape(indices.size)
    features = not has_several_panels(plan, 1) and plan.rows[1] >= UNIT * workers
    gradient = gradients[0]
    state = theta, velocity, gradient
    rate, momentum, l1, l2, one, zero = optimizer
    finish = finish_of(optimizer)
    for step in range(len(indices)):
        samples = X, order, step * m, order.size - step * m
        take_targets(Y, indices[step, low:high], T[low:high])
        if features:
            forward_features(plan, widths, theta, gains, samples, A, parts, m, part)
            if not meet(numbers, k):
                return
            add_up_features(plan, widths, codes, theta, gains, A, parts, m, part)
        else:
            forward_input(plan, widths, codes, theta, gains, samples, A, m, part)
        for l in range(2, L + 1):
            if (has_several_panels(plan, l) or has_several_panels(plan, l - 1)) and not meet(numbers, k):
                return
            forward_layer(plan, widths, codes, theta, gains, A, m, l, part)
        if has_several_panels(plan, L) and not meet(numbers, k):
            return
        take_output(plan, codes, A, out, low, high)
        losses[k, step] = cost(codes[L + 1], codes[L], out[low:high], T[low:high], least) / m
        begin_backward(plan, codes, out, T, delta, theta.dtype.type(1 / m), low, high)
        for l in range(L, 1, -1):
            if (has_several_panels(plan, l) or has_several_panels(plan, l - 1)) and not meet(numbers, k):
                return
            back_layer(plan, widths, codes, theta, A, delta, turned, m, l, part)
        if not meet(numbers, k):
            return
        for l in range(L, 0, -1):
            if l > 1:
                gradient_layer(plan, widths, state, (rate, momentum, l1, l2), A, delta, m, l, True, finish, part)
            else:
                gradient_input(plan, widths, state, (rate, momentum, l1, l2), samples, delta, m, True, finish, part)
            if l % workers == k:
                add_bias_gradient(plan, gradient, delta, m, l, True)
                b, end = plan.b[l], plan.b[l] + plan.columns[l + 1] - plan.columns[l]
                descend(theta[b:end], velocity[b:end], gradient[b:end], one, rate, momentum, zero, zero)
        if not meet(numbers, k):
            return
