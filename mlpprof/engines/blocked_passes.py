"""A training step whose products are those of `tiles` and whose matrices lie in the panels of `panels`.

    step                a product computes             and finishes its tiles with      memory is written
    forward, layer l    A[l-1] W[l].T + b[l]           the activation                   A[l]
    backward, layer l   delta[l] W[l]                  the derivative of layer l - 1    delta[l-1]
                        delta[l].T A[l-1]              the update                       W[l], and its velocity

The samples are not gathered (`forward_input`, `gradient_input`): the products of layer 1 read them where they are. In
processor time, this made a step of 784-70-30-10 faster by 5 % at batch 500 and by 6 % at batch 32, and a step of
39-39-39-1 with all of 10,000 samples by 16 %.

A number of A[l] or delta[l] is written once, when it is complete, if the layer that its sum runs over is one panel. An
input is one panel for up to 400 numbers. Another layer is one panel for up to 72 neurons (AVX-512, single precision;
48 in double precision, and 24 or 8 with AVX2 and NEON). For wider layers, such as 784 inputs, the sum over a panel is
stored, and the product with the next panel reads it again.

Gradients are not written at all, unless a large batch is taken in pieces that fit into the cache. In this case the
gradient is stored and added up, and the tiles of the last piece are finished with the update.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlpprof.engines.numba_passes import COMPILE, EXACTLY, RELU, SOFTMAX, TANH, compiled_softmax, cost, descend
from mlpprof.engines.panels import Plan, take_targets, turn
from mlpprof.engines.tiles import (
    HEAVY_BALL,
    KINKED,
    PLAIN,
    SMOOTH,
    UNFINISHED,
    UNIT,
    multiply_back,
    multiply_forward,
    multiply_gradient,
)
from mlpprof.model.interface import Array

ALONE = (0, 1)
"""The part of a worker that does everything itself. A part is the number of a worker and the number of all workers."""


@COMPILE
def rows_of(part: tuple[int, int], p: int, panels: int, rows: int) -> tuple[int, int]:
    """The first row of panel p that belongs to a part, and the end of these rows; each panel has so many rows.

    The rows of all panels together are divided among the workers. So a worker has whole panels where there are many,
    and some rows of the panel where there is only one. A part begins at a multiple of UNIT.
    """
    k, workers = part
    first, end = panels * rows * k // workers - p * rows, panels * rows * (k + 1) // workers - p * rows
    return (
        rows if first >= rows else max(0, first - first % UNIT),
        rows if end >= rows else max(0, end - end % UNIT),
    )


@EXACTLY
def activation_of(codes: Array, theta: Array, l: int) -> tuple[int, Any]:
    """How a tile of A[l] is finished, and the numbers that this needs, of the type of theta."""
    floor = theta.dtype.type(0 if codes[l] == RELU else -np.inf)
    numbers = (theta.dtype.type(2 if codes[l] == TANH else 1), floor, floor, floor)
    return SMOOTH if codes[l] <= TANH else KINKED, numbers


# fmt: off


@EXACTLY
def forward_layer(
    plan: Plan, widths: Any, codes: Array, theta: Array, gains: Array, A: Array, m: int, l: int, part: tuple[int, int]
) -> None:
    """Compute a part of A[l] from A[l-1]."""
    finish, numbers = activation_of(codes, theta, l)
    panels = plan.first[l + 1] - 1 - plan.first[l]
    for p in range(plan.first[l], plan.first[l + 1] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        low, high = rows_of(part, p - plan.first[l], panels, m)
        for q in range(plan.first[l - 1], plan.first[l] - 1):
            start, end = plan.cuts[q], plan.cuts[q + 1]
            multiply_forward(
                widths, width // UNIT,
                (A, m * (plan.columns[l - 1] + start) + low * (end - start), end - start, 1),
                (theta, plan.W[l] + plan.rows[l] * left + start * width), min(end, plan.n[l - 1]) - start,
                (A, m * (plan.columns[l] + left) + low * width), high - low, start == 0,
                finish if q == plan.first[l] - 2 else UNFINISHED,
                (theta, plan.b[l] + left), (gains, plan.columns[l] + left), numbers,
            )


@EXACTLY
def forward_input(
    plan: Plan, widths: Any, codes: Array, theta: Array, gains: Array, samples: Any, A: Array, m: int,
    part: tuple[int, int],
) -> None:
    """Compute a part of A[1] from X as it is, as `forward_layer` does from panels; samples: see `forward`."""
    X, order, first, known = samples
    finish, numbers = activation_of(codes, theta, 1)
    panels = plan.first[2] - 1 - plan.first[1]
    for p in range(plan.first[1], plan.first[2] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        low, high = rows_of(part, p - plan.first[1], panels, m)
        for q in range(plan.first[0], plan.first[1] - 1):
            start, end = plan.cuts[q], min(plan.cuts[q + 1], plan.n[0])
            multiply_forward(
                widths, width // UNIT,
                (X, start, plan.n[0], 1, order, first + low, known - low),
                (theta, plan.W[1] + plan.rows[1] * left + start * width), end - start,
                (A, m * (plan.columns[1] + left) + low * width), high - low, start == 0,
                finish if q == plan.first[1] - 2 else UNFINISHED,
                (theta, plan.b[1] + left), (gains, plan.columns[1] + left), numbers,
            )


@EXACTLY
def back_layer(
    plan: Plan, widths: Any, codes: Array, theta: Array, A: Array, delta: Array, turned: Array, m: int, l: int,
    part: tuple[int, int],
) -> None:
    """Compute a part of delta[l-1] from delta[l]; turned: scratch for a panel of W[l]."""
    p_slope = theta.dtype.type(codes[l - 1] == TANH)
    numbers = (p_slope, 1 - p_slope, p_slope, p_slope)
    finish = SMOOTH if codes[l - 1] <= TANH else KINKED
    panels = plan.first[l] - 1 - plan.first[l - 1]
    for p in range(plan.first[l - 1], plan.first[l] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        low, high = rows_of(part, p - plan.first[l - 1], panels, m)
        if low == high:
            continue
        turn(plan, theta, l, left, left + width, turned)
        to = m * (plan.columns[l - 1] + left) + low * width
        for q in range(plan.first[l], plan.first[l + 1] - 1):
            start, end = plan.cuts[q], plan.cuts[q + 1]
            multiply_back(
                widths, width // UNIT,
                (delta, m * (plan.columns[l] + start) + low * (end - start), end - start, 1),
                (turned, start * width), min(end, plan.n[l]) - start,
                (delta, to), high - low, start == 0, finish if q == plan.first[l + 1] - 2 else UNFINISHED,
                (A, to), (A, to), numbers,
            )


@EXACTLY
def gradient_layer(
    plan: Plan, widths: Any, state: Any, numbers: Any, A: Array, delta: Array, m: int, l: int, fresh: bool, finish: int,
    part: tuple[int, int],
) -> None:
    """Add a part of the gradient of W[l] to what it has, or update this part of W[l] with it."""
    theta, velocity, gradient = state
    panels = plan.first[l + 1] - 1 - plan.first[l]
    for p in range(plan.first[l], plan.first[l + 1] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        low, high = rows_of(part, p - plan.first[l], panels, plan.rows[l])
        for q in range(plan.first[l - 1], plan.first[l] - 1):
            start, end = plan.cuts[q], plan.cuts[q + 1]
            begin, stop = max(start, low), min(end, high)
            if begin < stop:
                at = plan.W[l] + plan.rows[l] * left + begin * width
                multiply_gradient(
                    widths, width // UNIT,
                    (A, m * (plan.columns[l - 1] + start) + begin - start, 1, end - start),
                    (delta, m * (plan.columns[l] + left)), m,
                    (gradient, at), stop - begin, fresh, finish,
                    (theta, at), (velocity, at), numbers,
                )


@EXACTLY
def gradient_input(
    plan: Plan, widths: Any, state: Any, numbers: Any, samples: Any, delta: Array, m: int, fresh: bool, finish: int,
    part: tuple[int, int],
) -> None:
    """What `gradient_layer` does for W[1], from X as it is."""
    theta, velocity, gradient = state
    X, order, first, known = samples
    panels = plan.first[2] - 1 - plan.first[1]
    for p in range(plan.first[1], plan.first[2] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        low, high = rows_of(part, p - plan.first[1], panels, plan.rows[1])
        for q in range(plan.first[0], plan.first[1] - 1):
            start, end = plan.cuts[q], min(plan.cuts[q + 1], plan.n[0])
            begin, stop = max(start, low), min(end, high)
            if begin < stop:
                at = plan.W[1] + plan.rows[1] * left + begin * width
                multiply_gradient(
                    widths, width // UNIT,
                    (X, begin, 1, plan.n[0], order, first, known),
                    (delta, m * (plan.columns[1] + left)), m,
                    (gradient, at), stop - begin, fresh, finish,
                    (theta, at), (velocity, at), numbers,
                )

# fmt: on


@COMPILE
def forward(
    plan: Plan, widths: Any, codes: Array, theta: Array, gains: Array, A: Array, out: Array, samples: Any
) -> None:
    """Compute all layers, and copy the output to out (m, n_L). A has the panels of all layers.

    samples: X, and the order of its rows: an array, the place where this batch begins in it, and how many numbers it
    has from there on. The rows that follow this batch are asked for beforehand.
    """
    forward_input(plan, widths, codes, theta, gains, samples, A, len(out), ALONE)
    forward_above(plan, widths, codes, theta, gains, A, out)


@COMPILE
def forward_above(plan: Plan, widths: Any, codes: Array, theta: Array, gains: Array, A: Array, out: Array) -> None:
    """Compute the layers 2..L from A[1], and copy the output to out (m, n_L)."""
    m, L = len(out), plan.n.size - 1
    for l in range(2, L + 1):
        forward_layer(plan, widths, codes, theta, gains, A, m, l, ALONE)
    take_output(plan, codes, A, out, 0, m)


@COMPILE
def take_output(plan: Plan, codes: Array, A: Array, out: Array, low: int, high: int) -> None:
    """Copy the rows low..high of the output to out (m, n_L), and apply the softmax if the network has it."""
    m, L = len(out), plan.n.size - 1
    for p in range(plan.first[L], plan.first[L + 1] - 1):
        left, right = plan.cuts[p], plan.cuts[p + 1]
        for i in range(low, high):
            at = m * (plan.columns[L] + left) + i * (right - left)
            for j in range(left, min(right, plan.n[L])):
                out[i, j] = A[at + j - left]
    if codes[L] == SOFTMAX:
        for i in range(low, high):
            compiled_softmax(out[i])


@COMPILE
def begin_backward(
    plan: Plan, codes: Array, out: Array, T: Array, delta: Array, share: float, low: int, high: int
) -> None:
    """Compute the rows low..high of delta[L] from the output and the targets T.

    share: the weight of one sample in the loss.
    """
    m, L = len(out), plan.n.size - 1
    for p in range(plan.first[L], plan.first[L + 1] - 1):
        left, right = plan.cuts[p], plan.cuts[p + 1]
        for i in range(low, high):
            at = m * (plan.columns[L] + left) + i * (right - left)
            row = delta[at : at + right - left]
            row[:] = 0
            for j in range(left, min(right, plan.n[L])):
                row[j - left] = (out[i, j] - T[i, j]) * share
                if codes[0]:
                    row[j - left] *= out[i, j] - out[i, j] * out[i, j]


@COMPILE
def add_bias_gradient(plan: Plan, gradient: Array, delta: Array, m: int, l: int, fresh: bool) -> None:
    """Add up delta[l] over the samples."""
    for p in range(plan.first[l], plan.first[l + 1] - 1):
        left, width = plan.cuts[p], plan.cuts[p + 1] - plan.cuts[p]
        db = gradient[plan.b[l] + left : plan.b[l] + left + width]
        if fresh:
            db[:] = 0
        for i in range(m):
            at = m * (plan.columns[l] + left) + i * width
            row = delta[at : at + width]
            for j in range(row.size):
                db[j] += row[j]


@COMPILE
def finish_of(optimizer: Any) -> int:
    """How a tile of the gradient is finished if it updates the weights."""
    momentum, l1 = optimizer[1], optimizer[2]
    return PLAIN if momentum == 0 and l1 == 0 else HEAVY_BALL


@COMPILE
def backward(
    plan: Plan, widths: Any, codes: Array, state: Any, optimizer: Any, A: Array, out: Array, T: Array, delta: Array,
    turned: Array, share: float, fresh: bool, update: bool, samples: Any,
) -> None:  # fmt: skip
    """Compute all delta[l] and gradients, and update all parameters with them if this piece is the last of its batch.

    state: parameters, velocity and gradient, as `pack` lays them out. fresh: whether this piece is the first. samples:
    as in `forward`.
    """
    finish = finish_of(optimizer) if update else UNFINISHED
    backward_above(plan, widths, codes, state, optimizer, A, out, T, delta, turned, share, fresh, finish)
    gradient_input(plan, widths, state, optimizer[:4], samples, delta, len(out), fresh, finish, ALONE)
    if update:
        update_biases(plan, state, optimizer)


@COMPILE
def backward_above(
    plan: Plan, widths: Any, codes: Array, state: Any, optimizer: Any, A: Array, out: Array, T: Array, delta: Array,
    turned: Array, share: float, fresh: bool, finish: int,
) -> None:  # fmt: skip
    """Compute all delta[l], the gradients of W[2] to W[L], and those of all biases."""
    theta, _, gradient = state
    m, L = len(out), plan.n.size - 1
    begin_backward(plan, codes, out, T, delta, share, 0, m)
    for l in range(L, 0, -1):
        if l > 1:
            back_layer(plan, widths, codes, theta, A, delta, turned, m, l, ALONE)
            gradient_layer(plan, widths, state, optimizer[:4], A, delta, m, l, fresh, finish, ALONE)
        add_bias_gradient(plan, gradient, delta, m, l, fresh)


@COMPILE
def update_biases(plan: Plan, state: Any, optimizer: Any) -> None:
    """Change all biases by their gradients. They have no penalty."""
    rate, momentum, _, _, one, zero = optimizer
    theta, velocity, gradient = state
    b = plan.b[1]
    descend(theta[b:], velocity[b:], gradient[b:], one, rate, momentum, zero, zero)


@COMPILE
def make_steps(
    plan: Plan, widths: Any, codes: Array, state: Any, optimizer: Any, gains: Array, X: Array, Y: Array, indices: Array,
    A: Array, out: Array, T: Array, delta: Array, turned: Array, least: float, losses: Array,
) -> None:  # fmt: skip
    """Make a step for each row of indices (steps, m), in pieces of len(T) samples."""
    m, rows, L = indices.shape[1], len(T), plan.n.size - 1
    order = indices.reshape(indices.size)
    for step in range(len(indices)):
        losses[step] = 0
        for start in range(0, m, rows):
            here, first = min(rows, m - start), step * m + start
            samples = X, order, first, order.size - first
            take_targets(Y, order[first : first + here], T)
            forward(plan, widths, codes, state[0], gains, A, out[:here], samples)
            losses[step] += cost(codes[L + 1], codes[L], out[:here], T[:here], least) / m
            share = state[0].dtype.type(1 / m)
            backward(
                plan, widths, codes, state, optimizer, A, out[:here], T[:here], delta, turned, share, start == 0,
                start + rows >= m, samples,
            )  # fmt: skip
