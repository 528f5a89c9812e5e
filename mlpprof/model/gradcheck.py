"""Whether a variant computes what it should: finite differences and equivalence, never a clock.

A deviation is normwise per layer: |ours - theirs| / |theirs| over W and b together. Tolerances: 1e-6 against the
central differences of `mlpprof.model.oracle`, 1e-10 against the parent, and for float32 against the variant's own
float64 a multiple of eps * sqrt(n), n the longest sum in the network (fan-in or batch).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpprof.model.cases import Case, far_from_kinks
from mlpprof.model.interface import Array, Parameters, Variant
from mlpprof.model.oracle import finite_difference_gradients, objective, outputs, penalty

FINITE_DIFFERENCE_TOLERANCE = 1e-6
EQUIVALENCE_TOLERANCE = 1e-10
TRAJECTORY_STEPS = 20
TRAJECTORY_TOLERANCE = 1e-8
"""Per step the parent's 1e-10 holds; over 20 steps the differences feed back into the weights and grow."""
PARTIAL_STEPS = 3
"""The velocity of the first step shows from the second on."""
OWN_STEPS, OWN_STEP_ROWS = 3, 8
"""Steps, and samples in each, that a user's own network is trained for: it may be large, and its parent slow."""
SINGLE_PRECISION_FACTOR = 64.0
"""c in c * eps * sqrt(n): over 2,000 random networks a right rung needed at most 14."""


@dataclass(frozen=True)
class Deviation:
    """One comparison: what was compared, in which layer (None: the whole network), how far off, how far is allowed."""

    what: str
    layer: int | None
    size: float
    tolerance: float

    @property
    def severity(self) -> float:
        """Size over tolerance: above 1 the comparison failed; NaN counts as infinite."""
        return self.size / self.tolerance if math.isfinite(self.size) else math.inf


def layer_deviations(what: str, ours: Parameters, theirs: Parameters, tolerances: list[float]) -> list[Deviation]:
    """Normwise deviation of every layer.

    A layer whose norm is below a thousandth of the whole is held against that: what is lost there is lost in rounding.
    Shapes that differ, and layers that are missing or too many, count as an infinite deviation.
    """
    norms = [math.hypot(np.linalg.norm(W), np.linalg.norm(b)) for W, b in theirs]
    floor = max(1e-3 * math.hypot(*norms), np.finfo(np.float64).tiny)
    found = []
    for l, ((W, b), (W_ref, b_ref)) in enumerate(zip(ours, theirs, strict=False), start=1):
        if W.shape != W_ref.shape or b.shape != b_ref.shape:
            size = math.inf
        else:
            distance = math.hypot(np.linalg.norm(W - W_ref), np.linalg.norm(b - b_ref))
            size = distance / max(norms[l - 1], floor)
        found.append(Deviation(what, l, size, tolerances[l - 1]))
    if len(ours) != len(theirs):
        found.append(Deviation(what, len(found) + 1, math.inf, tolerances[0]))
    return found


def first_gradients(cls: type[Variant], case: Case, dtype: type = np.float64) -> tuple[float, Parameters]:
    """Loss and gradients of the first batch by a fresh instance, the five methods called singly.

    In float64 the instance gets the case's own arrays, so that one that writes into them is found out.
    """
    parameters: Parameters = [(W.astype(dtype, copy=False), b.astype(dtype, copy=False)) for W, b in case.parameters]
    instance = cls(case.network, parameters)
    try:
        instance.fetch_batch(case.X.astype(dtype, copy=False), case.Y.astype(dtype, copy=False), case.index)
        instance.forward()
        loss = instance.loss()
        instance.backward()
        return float(loss), instance.gradients()
    finally:
        close(instance)


def trajectory(cls: type[Variant], case: Case, steps: int = TRAJECTORY_STEPS) -> tuple[list[float], Parameters]:
    """Losses of training steps that walk through the samples, and the parameters after them."""
    instance = cls(case.network, list(case.parameters))
    try:
        losses = [float(instance.train_step(case.X, case.Y, index)) for index in _walk(case, steps)]
        return losses, instance.parameters()
    finally:
        close(instance)


def training_deviations(cls: type[Variant], case: Case) -> list[Deviation]:
    """For a form that spans steps: what its `train` makes of many steps against the same steps one by one."""
    indices = 3 * list(_walk(case, TRAJECTORY_STEPS))  # longer than the blocks that such a form may work in
    spanning: Any = cls(case.network, list(case.parameters))
    single = cls(case.network, list(case.parameters))
    try:
        ours = [float(loss) for loss in spanning.train(case.X, case.Y, indices)]
        theirs = [float(single.train_step(case.X, case.Y, index)) for index in indices]
        what, tolerance = f"of {len(indices)} steps by train against train_step", TRAJECTORY_TOLERANCE
        size = _furthest(ours, theirs) if len(ours) == len(theirs) else math.inf
        return [
            Deviation(f"losses {what}", None, size, tolerance),
            *layer_deviations(
                f"parameters {what}", spanning.parameters(), single.parameters(), [tolerance] * case.network.depth
            ),
        ]
    finally:
        close(spanning)
        close(single)


def oracle_trajectory(case: Case) -> tuple[list[float], Parameters]:
    """The same steps by finite differences and heavy ball: for the root of the ladder, which has no parent.

    Ends before a step that starts near a kink of ReLU or L1, where a difference means nothing.
    """
    network = case.network
    parameters = [(W.copy(), b.copy()) for W, b in case.parameters]
    velocity = [(np.zeros_like(W), np.zeros_like(b)) for W, b in parameters]
    losses: list[float] = []
    for index in _walk(case, TRAJECTORY_STEPS):
        if not far_from_kinks(replace(case, parameters=parameters)):
            break
        X, Y = case.X[index], case.Y[index]
        losses.append(objective(network, parameters, X, Y) - penalty(network, parameters))
        gradients = finite_difference_gradients(network, parameters, X, Y)
        velocity = [
            (network.momentum * v_W + dW, network.momentum * v_b + db)
            for (v_W, v_b), (dW, db) in zip(velocity, gradients, strict=True)
        ]
        parameters = [
            (W - network.rate * v_W, b - network.rate * v_b)
            for (W, b), (v_W, v_b) in zip(parameters, velocity, strict=True)
        ]
    return losses, parameters


def close(instance: Variant) -> None:
    """Release what an instance holds, where it has a close()."""
    release = getattr(instance, "close", None)
    if release is not None:
        release()


def deviations(cls: type[Variant], parent: type[Variant] | None, case: Case) -> list[Deviation]:
    """Every comparison of one variant on one case; parent None is the root, compared with the oracle alone.

    Raises whatever the variant raises, UnsupportedNetwork among it.
    """
    network, index = case.network, case.index
    X, Y = case.X[index], case.Y[index]
    kept = _copies(case)

    loss, gradients = first_gradients(cls, case)
    expected = objective(network, case.parameters, X, Y) - penalty(network, case.parameters)
    found = [Deviation("loss against the oracle", None, _relative(loss, expected), EQUIVALENCE_TOLERANCE)]
    found += layer_deviations(
        "gradients against finite differences",
        gradients,
        finite_difference_gradients(network, case.parameters, X, Y),
        [FINITE_DIFFERENCE_TOLERANCE] * network.depth,
    )
    if len(gradients) != network.depth:
        return found  # found to be infinitely wrong; there is nothing to compare the rest with
    found.append(_prediction(cls, case))

    _, single = first_gradients(cls, case, np.float32)
    epsilon = float(np.finfo(np.float32).eps)
    # A gradient sums over the batch, Z over the fan-in, delta over the fan-out.
    longest_sum = max(*network.layers, len(index))
    found += layer_deviations(
        "float32 gradients against float64",
        single,
        gradients,
        [SINGLE_PRECISION_FACTOR * epsilon * math.sqrt(longest_sum)] * network.depth,
    )
    in_parts = hasattr(cls, "partial_steps")
    if in_parts:
        found += partial_deviations(cls, case)
    if parent is not None:
        found += layer_deviations(
            "gradients against the parent",
            gradients,
            first_gradients(parent, case)[1],
            [EQUIVALENCE_TOLERANCE] * network.depth,
        )
    if not in_parts:
        theirs, their_parameters = oracle_trajectory(case) if parent is None else trajectory(parent, case)
        ours, our_parameters = trajectory(cls, case, len(theirs))
        tolerance = FINITE_DIFFERENCE_TOLERANCE if parent is None else TRAJECTORY_TOLERANCE
        found += _steps_apart(ours, our_parameters, theirs, their_parameters, tolerance)
    if hasattr(cls, "train"):
        found += training_deviations(cls, case)
    found.append(_overwritten(case, kept))
    return found


def partial_deviations(cls: type[Variant], case: Case) -> list[Deviation]:
    """Every partial update: its gradients against finite differences, and the step that it makes of them.

    For a variant whose step is a schedule of partial updates and so follows no other's trajectory. In the first step,
    an update that starts away from kinks is held against finite differences at the weights of that moment. In all
    steps, the layers that an update moves must follow heavy ball, and the others stay. train_step must lead to the
    same parameters as the partial updates.
    """
    network = case.network
    tolerances = [FINITE_DIFFERENCE_TOLERANCE] * network.depth
    found = []
    instance: Any = cls(network, [(W.copy(), b.copy()) for W, b in case.parameters])
    expected = [(W.copy(), b.copy()) for W, b in case.parameters]
    velocity = [(np.zeros_like(W), np.zeros_like(b)) for W, b in case.parameters]
    for step, index in enumerate(_walk(case, PARTIAL_STEPS)):
        for layers in instance.partial_steps(case.X, case.Y, index):
            gradients, parameters = instance.gradients(), instance.parameters()
            if step == 0 and far_from_kinks(replace(case, parameters=parameters)):
                differences = finite_difference_gradients(network, parameters, case.X[index], case.Y[index])
                every = layer_deviations("partial gradients", gradients, differences, tolerances)
                found += [deviation for deviation in every if deviation.layer in layers]
            for l in layers:
                velocity[l - 1] = _sums(network.momentum, velocity[l - 1], gradients[l - 1])
                expected[l - 1] = _sums(-network.rate, velocity[l - 1], expected[l - 1])
    what = f"parameters after the partial updates of {PARTIAL_STEPS} steps against heavy ball"
    found += layer_deviations(what, instance.parameters(), expected, [TRAJECTORY_TOLERANCE] * network.depth)
    _, whole = trajectory(cls, case, PARTIAL_STEPS)
    what = "parameters after train_step against its partial updates"
    return found + layer_deviations(what, whole, instance.parameters(), tolerances)


def own_network_deviations(cls: type[Variant], parent: type[Variant], case: Case) -> list[Deviation]:
    """Every comparison with the parent that a network of any size can afford: on a user's own network and data."""
    kept = _copies(case)
    loss, gradients = first_gradients(cls, case)
    their_loss, their_gradients = first_gradients(parent, case)
    tolerances = [EQUIVALENCE_TOLERANCE] * case.network.depth
    found = [
        Deviation("loss against the parent", None, _relative(loss, their_loss), EQUIVALENCE_TOLERANCE),
        *layer_deviations("gradients against the parent", gradients, their_gradients, tolerances),
        _prediction(cls, case),
    ]
    few = replace(case, index=case.index[:OWN_STEP_ROWS])
    if not hasattr(cls, "partial_steps"):
        ours, theirs = trajectory(cls, few, OWN_STEPS), trajectory(parent, few, OWN_STEPS)
        found += _steps_apart(*ours, *theirs, TRAJECTORY_TOLERANCE)
    if hasattr(cls, "train"):
        found += training_deviations(cls, few)
    return [*found, _overwritten(case, kept)]


def agreement_with(cls: type[Variant], other: type[Variant], case: Case) -> list[Deviation]:
    """The gradients of two variants on one case in float64: the quick comparison on a user's own network and data."""
    return agreement_between(first_gradients(cls, case)[1], first_gradients(other, case)[1], case)


def agreement_between(ours: Parameters, theirs: Parameters, case: Case) -> list[Deviation]:
    """The deviation of gradients that two variants have on one case in float64."""
    return layer_deviations("gradients against the parent", ours, theirs, [EQUIVALENCE_TOLERANCE] * case.network.depth)


def _steps_apart(
    ours: list[float], our_parameters: Parameters, theirs: list[float], their_parameters: Parameters, tolerance: float
) -> list[Deviation]:
    steps, tolerances = len(theirs), [tolerance] * len(their_parameters)
    return [
        Deviation(f"losses over {steps} steps", None, _furthest(ours, theirs), tolerance),
        *layer_deviations(f"parameters after {steps} steps", our_parameters, their_parameters, tolerances),
    ]


def _sums(factor: float, ours: tuple[Array, Array], theirs: tuple[Array, Array]) -> tuple[Array, Array]:
    """factor * ours + theirs, for W and for b."""
    return factor * ours[0] + theirs[0], factor * ours[1] + theirs[1]


def _copies(case: Case) -> list[Array]:
    return [values.copy() for values in _arrays(case)]


def _arrays(case: Case) -> list[Array]:
    return [*(values for pair in case.parameters for values in pair), case.X, case.Y]


def _overwritten(case: Case, kept: list[Array]) -> Deviation:
    untouched = all(np.array_equal(a, b) for a, b in zip(kept, _arrays(case), strict=True))
    return Deviation("X, Y or parameters, overwritten in place,", None, 0.0 if untouched else math.inf, 1.0)


def _prediction(cls: type[Variant], case: Case) -> Deviation:
    instance = cls(case.network, list(case.parameters))
    try:
        ours = instance.predict(case.X)
    finally:
        close(instance)
    theirs, _ = outputs(case.network, case.parameters, case.X)
    if ours.shape != theirs.shape:
        return Deviation(f"predict, shape {ours.shape} for {theirs.shape},", None, math.inf, EQUIVALENCE_TOLERANCE)
    size = float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), np.finfo(np.float64).tiny))
    return Deviation("predict against the oracle", None, size, EQUIVALENCE_TOLERANCE)


def _furthest(ours: list[float], theirs: list[float]) -> float:
    # np.max, since max() passes over a NaN
    return float(np.max([_relative(a, b) for a, b in zip(ours, theirs, strict=True)]))


def _relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / max(abs(theirs), 1e-3)


def _walk(case: Case, steps: int) -> Iterator[Array]:
    """Indices of batches: the first batch, then the samples in turn."""
    m = len(case.index)
    for step in range(steps):
        yield case.index if step == 0 else (np.arange(m) + step * m) % len(case.X)
