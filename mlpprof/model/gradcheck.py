"""The gradient check: whether a variant computes the right numbers.

Variants are compared on small random networks (`Case`) with an oracle: the function that training descends, written
once in float64, and its finite differences. The oracle is row-major and shares no code with any variant but the
activation and loss functions.

A deviation is normwise per layer: |ours - theirs| / |theirs| over W and b together. Tolerances: 1e-6 against finite
differences, 1e-10 against the parent, and for float32 against the variant's own float64 a multiple of eps * sqrt(n),
where n is the longest sum in the network (fan-in or batch).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mlpprof.model.activations import ACTIVATIONS, loss_of
from mlpprof.model.interface import Array, Parameters, Variant
from mlpprof.model.network import HIDDEN, ILLEGAL_PAIRS, LOSS_NAMES, OUTPUTS, Network

DIFFERENCE_STEP = 1e-5
"""The errors of central differences are h**2 times the third derivative and eps / h: both near 1e-10 with this h."""

KINK_MARGIN = 1e-3
"""Each |Z| of a ReLU and each |W| under an L1 penalty is at least a hundred difference steps away from its kink."""

FINITE_DIFFERENCE_TOLERANCE = 1e-6
EQUIVALENCE_TOLERANCE = 1e-10
TRAJECTORY_STEPS = 20
TRAJECTORY_TOLERANCE = 1e-8
"""In one step 1e-10 is allowed; over 20 steps the differences feed back into the weights and grow."""
PARTIAL_STEPS = 3
"""The velocity has an effect from the second step on, so more than one step is needed."""
OWN_STEPS, OWN_STEP_ROWS = 3, 8
"""A user's own network may be large and its parent slow, so it is trained for few steps with few samples."""
SINGLE_PRECISION_FACTOR = 64.0
"""The factor of eps * sqrt(n): over 2,000 random networks a correct variant of the ladder needed at most 14."""


class NetworkKind(NamedTuple):
    """The functions of a network. Many hand-written classes support one kind only."""

    hidden: str
    output: str
    loss: str

    @property
    def text(self) -> str:
        """'tanh/softmax, cross_entropy': hidden and output activation, and loss."""
        return f"{self.hidden}/{self.output}, {self.loss}"


_PAIRS = [(output, loss) for output in OUTPUTS for loss in LOSS_NAMES if (output, loss) not in ILLEGAL_PAIRS]
KINDS = tuple(NetworkKind(HIDDEN[i % len(HIDDEN)], *_PAIRS[i % len(_PAIRS)]) for i in range(len(HIDDEN) * len(_PAIRS)))
"""Every legal kind once, since 3 and 4 have no common factor; the first 4 have every activation and every loss."""

OPTIONS: dict[str, tuple[Any, ...]] = {
    "momentum": (0.9, 0.0),
    "l1": (0.01, 0.0),
    "l2": (0.1, 0.0),
    "batch": ("one", "divides", "leaves a rest"),
    "depth": (1, 2, 3),
    "narrow": (True, False),
    "outputs": (1, 2, 3),
}
"""The options that vary within every kind. batch: one sample, or several that divide the samples or leave a rest.
depth: weight layers, 3 stands for 3 or 4. narrow: a layer below the output has 1 neuron. outputs: neurons (softmax has
2 or more).
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
    def kind(self) -> NetworkKind:
        return NetworkKind(self.network.hidden, self.network.output, self.network.loss)

    @property
    def text(self) -> str:
        used = [f", {name} {getattr(self.network, name):g}" for name in ("momentum", "l1", "l2")]
        options = "".join(text for text in used if not text.endswith(" 0"))
        return f"{self.network.text} {self.kind.text}, batch {len(self.index)}{options}"


@dataclass(frozen=True)
class Deviation:
    """One comparison: what was compared, in which layer (None: the whole network), its size, and the tolerance."""

    what: str
    layer: int | None
    size: float
    tolerance: float

    @property
    def severity(self) -> float:
        """Size divided by tolerance: above 1 the comparison failed; NaN counts as infinite."""
        return self.size / self.tolerance if math.isfinite(self.size) else math.inf


def outputs(network: Network, parameters: Parameters, X: Array) -> tuple[Array, list[Array]]:
    """Activations of the output layer (N, n_L) for X (N, n_0), and Z of the hidden layers."""
    A = X
    hidden_Z = []
    for l, (W, b) in enumerate(parameters, start=1):
        Z = A @ W.T + b
        if l < network.depth:
            hidden_Z.append(Z)
        # The functions work on columns of samples: softmax normalizes over axis 0.
        A = ACTIVATIONS[network.hidden if l < network.depth else network.output].value(Z.T).T
    return A, hidden_Z


def penalty(network: Network, parameters: Parameters) -> float:
    """The penalty: l1 * sum |W| + l2 / 2 * sum W**2 over all weights."""
    return sum(network.l1 * float(np.abs(W).sum()) + network.l2 / 2 * float(np.square(W).sum()) for W, _ in parameters)


def objective(network: Network, parameters: Parameters, X: Array, Y: Array) -> float:
    """The function that training descends: mean loss of the samples plus penalty."""
    A, _ = outputs(network, parameters, X)
    return loss_of(network)(A.T, Y.T) + penalty(network, parameters)


def finite_difference_gradients(network: Network, parameters: Parameters, X: Array, Y: Array) -> Parameters:
    """Central differences of `objective`, weight by weight: twice as many evaluations as there are parameters."""
    trial = [(W.copy(), b.copy()) for W, b in parameters]
    gradients = []
    for pair in trial:
        pair_gradients = []
        for values in pair:
            gradient = np.empty_like(values)
            for position in np.ndindex(values.shape):
                kept = values[position]
                values[position] = kept + DIFFERENCE_STEP
                above = objective(network, trial, X, Y)
                values[position] = kept - DIFFERENCE_STEP
                below = objective(network, trial, X, Y)
                values[position] = kept
                gradient[position] = (above - below) / (2 * DIFFERENCE_STEP)
            pair_gradients.append(gradient)
        gradients.append((pair_gradients[0], pair_gradients[1]))
    return gradients


def far_from_kinks(case: Case) -> bool:
    """Whether no difference step can cross a kink of ReLU or of the L1 penalty."""
    if case.network.hidden == "relu":
        _, hidden_Z = outputs(case.network, case.parameters, case.X)
        if any(np.abs(Z).min() < KINK_MARGIN for Z in hidden_Z):
            return False
    return case.network.l1 == 0 or all(np.abs(W).min() > KINK_MARGIN for W, _ in case.parameters)


def random_cases(count: int, seed: int) -> Iterator[Case]:
    """Small random networks, kind after kind in rounds, in which every option varies by itself.

    For every seed, the first CASES_PER_KIND networks of each kind have each value of each of OPTIONS at least once,
    and so do the first CASES_PER_KIND networks of a round. The values of two options are drawn independently, so that
    no value always occurs together with another or with a kind.
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
    """The value of one option for each kind, round after round; each kind goes through them from a random start."""
    n = len(values)
    while True:
        starts = [int(start) for _ in range(0, len(KINDS), n) for start in rng.permutation(n)]
        for turn in range(n):
            yield [values[(start + turn) % n] for start in starts[: len(KINDS)]]


def _random_network(kind: NetworkKind, options: dict[str, Any], rng: np.random.Generator) -> Network:
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


def layer_deviations(what: str, ours: Parameters, theirs: Parameters, tolerance: float) -> list[Deviation]:
    """Normwise deviation of every layer.

    If the norm of a layer is below a thousandth of the whole, its deviation is relative to that thousandth: such a
    layer is lost in rounding. Shapes that differ, and layers that are missing or too many, are an infinite deviation.
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
        found.append(Deviation(what, l, size, tolerance))
    if len(ours) != len(theirs):
        found.append(Deviation(what, len(found) + 1, math.inf, tolerance))
    return found


def first_gradients(cls: type[Variant], case: Case, dtype: type = np.float64) -> tuple[float, Parameters]:
    """Loss and gradients of the first batch by a fresh instance, the five methods called singly.

    In float64 the instance gets the case's own arrays, so that a variant that writes into them is noticed.
    """
    parameters: Parameters = [(W.astype(dtype, copy=False), b.astype(dtype, copy=False)) for W, b in case.parameters]
    with closed_after(cls(case.network, parameters)) as instance:
        instance.fetch_batch(case.X.astype(dtype, copy=False), case.Y.astype(dtype, copy=False), case.index)
        instance.forward()
        loss = instance.loss()
        instance.backward()
        return float(loss), instance.gradients()


def trajectory(cls: type[Variant], case: Case, steps: int = TRAJECTORY_STEPS) -> tuple[list[float], Parameters]:
    """Losses of training steps that go through the samples, and the parameters after them."""
    with closed_after(cls(case.network, list(case.parameters))) as instance:
        losses = [float(instance.train_step(case.X, case.Y, index)) for index in _walk(case, steps)]
        return losses, instance.parameters()


def training_deviations(cls: type[Variant], case: Case) -> list[Deviation]:
    """For a variant with `train`: the difference between many steps in one call and the same steps one by one."""
    indices = 3 * list(_walk(case, TRAJECTORY_STEPS))  # more than the blocks in which such a variant may work
    with (
        closed_after(cls(case.network, list(case.parameters))) as spanning,
        closed_after(cls(case.network, list(case.parameters))) as single,
    ):
        ours = [float(loss) for loss in spanning.train(case.X, case.Y, indices)]
        theirs = [float(single.train_step(case.X, case.Y, index)) for index in indices]
        what, tolerance = f"of {len(indices)} steps by train against train_step", TRAJECTORY_TOLERANCE
        size = _furthest(ours, theirs) if len(ours) == len(theirs) else math.inf
        return [
            Deviation(f"losses {what}", None, size, tolerance),
            *layer_deviations(f"parameters {what}", spanning.parameters(), single.parameters(), tolerance),
        ]


def oracle_trajectory(case: Case) -> tuple[list[float], Parameters]:
    """The same steps by finite differences and heavy ball: for the root of the ladder, which has no parent.

    Ends before a step that starts near a kink of ReLU or L1, where a difference is not a derivative.
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
    """Release the processes and memory of an instance, if it has a close()."""
    release = getattr(instance, "close", None)
    if release is not None:
        release()


@contextmanager
def closed_after(instance: Variant) -> Iterator[Any]:
    """The instance, which is closed when the block ends."""
    try:
        yield instance
    finally:
        close(instance)


def deviations(cls: type[Variant], parent: type[Variant] | None, case: Case) -> list[Deviation]:
    """Every comparison of one variant on one case; the root, whose parent is None, is compared with the oracle alone.

    Raises whatever the variant raises, such as UnsupportedNetwork.
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
        FINITE_DIFFERENCE_TOLERANCE,
    )
    if len(gradients) != network.depth:
        return found  # infinitely wrong, so the rest has nothing to be compared with
    found.append(_prediction(cls, case))

    _, single = first_gradients(cls, case, np.float32)
    epsilon = float(np.finfo(np.float32).eps)
    # A gradient sums over the batch, Z over the fan-in, delta over the fan-out.
    longest_sum = max(*network.layers, len(index))
    allowed = SINGLE_PRECISION_FACTOR * epsilon * math.sqrt(longest_sum)
    found += layer_deviations("float32 gradients against float64", single, gradients, allowed)
    in_parts = hasattr(cls, "partial_steps")
    if in_parts:
        found += partial_deviations(cls, case)
    if parent is not None:
        theirs = first_gradients(parent, case)[1]
        found += layer_deviations("gradients against the parent", gradients, theirs, EQUIVALENCE_TOLERANCE)
    if not in_parts:
        losses, parameters = oracle_trajectory(case) if parent is None else trajectory(parent, case)
        tolerance = FINITE_DIFFERENCE_TOLERANCE if parent is None else TRAJECTORY_TOLERANCE
        found += _steps_apart(*trajectory(cls, case, len(losses)), losses, parameters, tolerance)
    if hasattr(cls, "train"):
        found += training_deviations(cls, case)
    found.append(_overwritten(case, kept))
    return found


def partial_deviations(cls: type[Variant], case: Case) -> list[Deviation]:
    """Every partial update: its gradients against finite differences, and the update that follows from them.

    A variant whose step is a schedule of partial updates has a trajectory of its own. In the first step, an update that
    starts away from kinks is compared with finite differences at the current weights. In all steps, the layers that an
    update changes must follow heavy ball, and the others must stay. train_step must lead to the same parameters as the
    partial updates.
    """
    network = case.network
    found = []
    expected = [(W.copy(), b.copy()) for W, b in case.parameters]
    velocity = [(np.zeros_like(W), np.zeros_like(b)) for W, b in case.parameters]
    with closed_after(cls(network, [(W.copy(), b.copy()) for W, b in case.parameters])) as instance:
        for step, index in enumerate(_walk(case, PARTIAL_STEPS)):
            for layers in instance.partial_steps(case.X, case.Y, index):
                gradients, parameters = instance.gradients(), instance.parameters()
                if step == 0 and far_from_kinks(replace(case, parameters=parameters)):
                    differences = finite_difference_gradients(network, parameters, case.X[index], case.Y[index])
                    every = layer_deviations("partial gradients", gradients, differences, FINITE_DIFFERENCE_TOLERANCE)
                    found += [deviation for deviation in every if deviation.layer in layers]
                for l in layers:
                    velocity[l - 1] = _sums(network.momentum, velocity[l - 1], gradients[l - 1])
                    expected[l - 1] = _sums(-network.rate, velocity[l - 1], expected[l - 1])
        reached = instance.parameters()
    what = f"parameters after the partial updates of {PARTIAL_STEPS} steps against heavy ball"
    found += layer_deviations(what, reached, expected, TRAJECTORY_TOLERANCE)
    _, whole = trajectory(cls, case, PARTIAL_STEPS)
    what = "parameters after train_step against its partial updates"
    return found + layer_deviations(what, whole, reached, FINITE_DIFFERENCE_TOLERANCE)


def own_network_deviations(cls: type[Variant], parent: type[Variant], case: Case) -> list[Deviation]:
    """The comparisons with the parent that are quick on a network of any size, such as the user's own with its data."""
    kept = _copies(case)
    loss, gradients = first_gradients(cls, case)
    their_loss, their_gradients = first_gradients(parent, case)
    found = [
        Deviation("loss against the parent", None, _relative(loss, their_loss), EQUIVALENCE_TOLERANCE),
        *layer_deviations("gradients against the parent", gradients, their_gradients, EQUIVALENCE_TOLERANCE),
        _prediction(cls, case),
    ]
    few = replace(case, index=case.index[:OWN_STEP_ROWS])
    if not hasattr(cls, "partial_steps"):
        ours, theirs = trajectory(cls, few, OWN_STEPS), trajectory(parent, few, OWN_STEPS)
        found += _steps_apart(*ours, *theirs, TRAJECTORY_TOLERANCE)
    if hasattr(cls, "train"):
        found += training_deviations(cls, few)
    return [*found, _overwritten(case, kept)]


def _steps_apart(
    ours: list[float], our_parameters: Parameters, theirs: list[float], their_parameters: Parameters, tolerance: float
) -> list[Deviation]:
    steps = len(theirs)
    return [
        Deviation(f"losses over {steps} steps", None, _furthest(ours, theirs), tolerance),
        *layer_deviations(f"parameters after {steps} steps", our_parameters, their_parameters, tolerance),
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
    with closed_after(cls(case.network, list(case.parameters))) as instance:
        ours = instance.predict(case.X)
    theirs, _ = outputs(case.network, case.parameters, case.X)
    if ours.shape != theirs.shape:
        return Deviation(f"predict, shape {ours.shape} for {theirs.shape},", None, math.inf, EQUIVALENCE_TOLERANCE)
    size = float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), np.finfo(np.float64).tiny))
    return Deviation("predict against the oracle", None, size, EQUIVALENCE_TOLERANCE)


def _furthest(ours: list[float], theirs: list[float]) -> float:
    # np.max keeps a NaN, max() may lose it.
    return float(np.max([_relative(a, b) for a, b in zip(ours, theirs, strict=True)]))


def _relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / max(abs(theirs), 1e-3)


def _walk(case: Case, steps: int) -> Iterator[Array]:
    """Indices of batches: the first batch, then the samples in turn."""
    m = len(case.index)
    for step in range(steps):
        yield case.index if step == 0 else (np.arange(m) + step * m) % len(case.X)
