"""What is wrong with a learner's MLP, in words that help: run inside a worker, on one small network.

The five methods are called one by one, each is held against what it should have done, and a wrong number against what
typical mistakes come to (`mistakes`). The first finding is told: what follows from it would only confuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpprof.model import ACTIVATIONS, Activation, Array, Network, Parameters, Variant, loss_of
from mlpprof.model.gradcheck import (
    Case,
    close,
    finite_difference_gradients,
    layer_deviations,
    outputs,
    penalty,
    random_case,
)

# What typical mistakes compute: the gradients, losses and updates that each of them gives instead of the right ones.
#
# A learner's numbers are held against all of them; the one that they agree with names the mistake. Everything here is
# written row by row (a sample is a row) and shares no code with any variant but the activation functions.


@dataclass(frozen=True)
class Backward:
    """How a gradient is computed; the defaults are right.

    derivative: of a hidden activation, from (Z, A). at_output: the factor that delta[L] gets although loss and output
    cancel. scale: of the error A - Y, times 1 / m. wrong_way: W[l + 1] instead of its transpose, where that fits.
    overwritten: A[l] has become its own derivative before dW[l + 1] is taken. updated: W[l + 1] has made its step
    before delta[l] is taken.
    """

    scale: Callable[[int], float] = lambda m: 1.0
    derivative: Callable[[Network, Array, Array], Array] = lambda n, Z, A: _activation(n).derivative_from_A(A)
    at_output: bool = False
    l2_on_weights: float = 1.0
    l2_on_biases: float = 0.0
    bias: Callable[[Array], Array] = lambda delta: delta.sum(axis=0)
    wrong_way: bool = False
    overwritten: bool = False
    updated: bool = False

    def gradients(self, case: Case) -> Parameters:
        """The gradients of the first batch; l1 is left out, since the workshop has none."""
        network, parameters = case.network, case.parameters
        Z, A = forward(case)
        L = network.depth
        m = len(case.index)
        delta = self.scale(m) * (A[L] - case.Y[case.index]) / m
        if network.delta_needs_derivative or self.at_output:
            delta = delta * ACTIVATIONS[network.output].derivative_from_A(A[L])
        gradients: Parameters = []
        for l in reversed(range(1, L + 1)):
            W, b = parameters[l - 1]
            below = A[l - 1]
            if self.overwritten and l > 1:
                below = self.derivative(network, Z[l - 1], below)
            dW = delta.T @ below + self.l2_on_weights * network.l2 * W
            db = self.bias(delta) + self.l2_on_biases * network.l2 * b
            gradients.insert(0, (dW, db))
            if l > 1:
                if self.updated:
                    W = W - network.rate * dW
                back = delta @ (W.T if self.wrong_way else W)
                delta = back * self.derivative(network, Z[l - 1], A[l - 1])
        return gradients


def forward(case: Case) -> tuple[list[Array], list[Array]]:
    """Z[l] and A[l] (m, n_l) of the first batch, l = 0..L; Z[0] is the input."""
    network = case.network
    Z, A = [case.X[case.index]], [case.X[case.index]]
    for l, (W, b) in enumerate(case.parameters, start=1):
        function = ACTIVATIONS[network.hidden if l < network.depth else network.output]
        Z.append(A[-1] @ W.T + b)
        A.append(function.value(Z[-1].T).T)
    return Z, A


RIGHT = Backward()

GRADIENT_MISTAKES: tuple[tuple[Backward, str], ...] = (
    (
        Backward(bias=lambda delta: np.zeros(delta.shape[1])),
        "the gradient of the biases is missing (it is 0): db[l] is the sum of delta[l] over the samples, and stands in "
        "column 0 of dW[l]",
    ),
    (
        Backward(bias=lambda delta: delta.mean(axis=0)),
        "the gradient of the biases is a mean over the samples: delta[l] is divided by m already, so db[l] is its sum",
    ),
    (
        Backward(scale=float),
        "the gradients are m times too large: the loss is the mean over the batch, so delta[L] is (A[L] - Y) / m",
    ),
    (
        Backward(scale=lambda m: 1 / m),
        "the gradients are m times too small: they are divided by m twice",
    ),
    (
        Backward(scale=lambda m: -1.0),
        "the gradients have the wrong sign: delta[L] is (A[L] - Y) / m, not (Y - A[L]) / m",
    ),
    (
        Backward(l2_on_weights=0.0),
        "the penalty is missing: dW[l] needs network.l2 * W[l] on the weights (regularize), or it was lost when dW[l] "
        "was assigned after it",
    ),
    (
        Backward(l2_on_biases=1.0),
        "the penalty is on the biases too: it counts for the weights alone, columns 1: of W[l]",
    ),
    (
        Backward(l2_on_weights=2.0),
        "the penalty is added twice: dW[l] needs network.l2 * W[l] once",
    ),
    (
        Backward(derivative=lambda n, Z, A: np.ones_like(A)),
        "the derivative of the activation is missing: delta[l] = (W[l + 1].T @ delta[l + 1]) * derivative",
    ),
    (
        Backward(derivative=lambda n, Z, A: _activation(n).derivative_from_Z(A)),
        "derivative_from_Z was given A: it takes Z and evaluates the activation again; with A at hand, use "
        "derivative_from_A(A)",
    ),
    (
        Backward(derivative=lambda n, Z, A: _activation(n).derivative_from_A(Z)),
        "derivative_from_A was given Z: it takes A, what forward has computed; A (1 - A) of Z is something else",
    ),
    (
        Backward(derivative=lambda n, Z, A: A),
        "delta[l] is multiplied by A[l] instead of the derivative A[l] * (1 - A[l])",
    ),
    (
        Backward(at_output=True),
        "delta[L] has a derivative too much: with cross-entropy behind a sigmoid, loss and output cancel, and delta[L] "
        "is (A[L] - Y) / m alone",
    ),
    (
        Backward(wrong_way=True),
        "W is transposed: the error goes back through W[l + 1].T, of shape (n_l, n_{l+1}); forward uses W itself",
    ),
    (
        Backward(overwritten=True),
        "A[l] was overwritten by its derivative before dW[l + 1] was taken from it: in place (`*=`, `out=`) on an "
        "array that is still needed; take dW[l + 1] first, or let the derivative have an array of its own",
    ),
    (
        Backward(updated=True),
        "W[l + 1] is updated before delta[l] has used it: compute all deltas and gradients first, then update",
    ),
)
"""What is computed instead -> what to say. The first that agrees is told."""


def loss_mistakes(case: Case) -> list[tuple[float, str]]:
    """What a wrong loss comes to -> what to say."""
    network, m = case.network, len(case.index)
    _, A = forward(case)
    right = loss_of(network)(A[-1].T, case.Y[case.index].T)
    return [
        (m * right, "loss() is a sum over the batch; expected the mean: divide by m"),
        (right / m, "loss() is divided by m twice"),
        (
            right + penalty(network, case.parameters),
            "loss() holds the penalty; expected the mean loss of the batch without it",
        ),
        (-right, "loss() has the wrong sign: cross-entropy is minus the sum of Y log A + (1 - Y) log(1 - A)"),
    ]


Step = Callable[[Array, Array, Array, float, float], tuple[Array, Array]]
"""(W, v, gradient, rate, momentum) -> (W, v) after an update."""


def heavy_ball(W: Array, v: Array, g: Array, rate: float, momentum: float) -> tuple[Array, Array]:
    """The right update."""
    v = momentum * v + g
    return W - rate * v, v


UPDATE_MISTAKES: tuple[tuple[Step, str], ...] = (
    (
        lambda W, v, g, rate, mu: (W - rate * g, v),
        "the momentum is missing: v = momentum * v + gradient; W -= rate * v",
    ),
    (
        lambda W, v, g, rate, mu: (W - rate * (g - mu * v), g - mu * v),
        "the momentum has the wrong sign: v = momentum * v + gradient",
    ),
    (
        lambda W, v, g, rate, mu: (W + rate * (mu * v + g), mu * v + g),
        "update() climbs: W -= rate * v, with a minus",
    ),
    (
        lambda W, v, g, rate, mu: (W - (mu * v + g), mu * v + g),
        "update() leaves out the rate: W -= rate * v",
    ),
    (
        lambda W, v, g, rate, mu: (W - rate * (mu * v + (1 - mu) * g), mu * v + (1 - mu) * g),
        "the gradient is weighted by 1 - momentum: this is heavy ball, v = momentum * v + gradient",
    ),
    (
        lambda W, v, g, rate, mu: (W - rate * v, mu * v + g),
        "W is moved by the velocity of the step before: first v = momentum * v + gradient, then W -= rate * v",
    ),
    (
        lambda W, v, g, rate, mu: (W - rate * (mu * (v + g)), mu * (v + g)),
        "the momentum multiplies the gradient too: v = momentum * v + gradient",
    ),
    (
        lambda W, v, g, rate, mu: (W, v),
        "update() changes nothing: W -= rate * v has to write into the W that forward uses",
    ),
)
"""What an update does instead -> what to say."""


def _activation(network: Network) -> Activation:
    return ACTIVATIONS[network.hidden]


DIAGNOSED_LAYERS = (5, 3, 3, 3)
"""Square weights above the first layer: a transposed W fits there, and shows in its numbers."""
DIAGNOSED_SAMPLES = 4
LIKE_A_MISTAKE = 1e-6
LIKE_SINGLE_PRECISION = 1e-4
"""A deviation below this that is none of the mistakes is what float32 loses."""
ONLY_SINGLE = (
    "the numbers are right, but only to single precision, although this check runs the class in float64 too: something "
    "is cast to float32 on the way (astype(np.float32), dtype=np.float32, np.float32(...)); take the dtype from the "
    "array beside it (A.dtype), so that the class works in both"
)
DEEPEST = 3
"""Lists in lists are followed so far."""


def diagnosed_case(network: Network) -> Case:
    """The network of the workshop, small, with momentum and penalty large enough to be seen."""
    small = replace(network, layers=DIAGNOSED_LAYERS, rate=0.5, momentum=0.7, l2=0.1)
    return random_case(small, DIAGNOSED_SAMPLES, seed=1)


def diagnose(cls: type[Variant], network: Network) -> str | None:
    """The first thing that is wrong; None where this small network shows nothing.

    Raises whatever the learner's code raises.
    """
    case = diagnosed_case(network)
    instance = cls(case.network, [(W.copy(), b.copy()) for W, b in case.parameters])
    try:
        return _diagnose_step(instance, case) or _diagnose_update(instance, case) or _diagnose_rest(cls, case)
    finally:
        close(instance)


def _diagnose_step(instance: Variant, case: Case) -> str | None:
    """One step up to backward."""
    X, Y = case.X.copy(), case.Y.copy()
    instance.fetch_batch(X, Y, case.index)
    instance.forward()
    found = _loss_problem(instance.loss(), case)
    if found:
        return found
    before = instance.parameters()
    held = activations_held(instance, case)
    instance.backward()
    gradients = instance.gradients()
    found = _shape_problem(gradients, case)
    if found:
        return found
    if not (np.array_equal(X, case.X) and np.array_equal(Y, case.Y)):
        return (
            "the data were overwritten: X and Y belong to the caller; fetch_batch takes copies (X[index] with an "
            "array of indices is one, a slice or X itself is not)"
        )
    if _distance(instance.parameters(), before) > 0:
        return (
            "backward changes the weights: delta[l] needs W[l + 1] as it was in forward; compute all gradients first, "
            "and move the weights in update()"
        )
    right = finite_difference_gradients(case.network, case.parameters, X[case.index], Y[case.index])
    if _agree(gradients, right):
        return None
    overwritten = [l for l, arrays in held.items() if not all(_is_still(array, case, l) for array in arrays)]
    for backward, message in GRADIENT_MISTAKES:
        try:
            wrong = backward.gradients(case)
        except ValueError:
            continue  # a mistake whose shapes do not fit here
        if _agree(gradients, wrong):
            return _with_place(message, gradients, right)
    if _distance(gradients, right) < LIKE_SINGLE_PRECISION:
        return ONLY_SINGLE
    if overwritten:
        layers = ", ".join(f"A[{l}]" for l in overwritten)
        return (
            f"{layers} was overwritten in backward, in place (`*=`, `-=`, `+=` or out=), and the gradients are wrong: "
            "it is still needed for a gradient; let the result have an array of its own"
        )
    if _agree([(dW, 0 * db) for dW, db in gradients], [(dW, 0 * db) for dW, db in right]):
        return _with_place(
            "only the gradient of the biases is wrong: db[l] is the sum of delta[l] over the samples, column 0 of "
            "dW[l]; is it written at all?",
            gradients,
            right,
        )
    return _with_place("the gradients are wrong", gradients, right)


def _diagnose_update(instance: Variant, case: Case) -> str | None:
    """The update of that step, then a second step on other samples, where state of the first one shows."""
    network = case.network
    first = instance.gradients()
    instance.update()
    after_one = instance.parameters()
    index = (case.index + 1) % len(case.X)
    instance.fetch_batch(case.X, case.Y, index)
    instance.forward()
    instance.loss()
    instance.backward()
    second = instance.gradients()
    there = replace(case, parameters=after_one, index=index)
    right = RIGHT.gradients(there)
    if not _agree(second, right):
        added = [(a + c, b + d) for (a, b), (c, d) in zip(first, right, strict=True)]
        stale = RIGHT.gradients(replace(case, parameters=after_one))
        if _agree(second, added):
            return "the gradients of one step are added to those of the step before: set dW to 0 when backward begins"
        if _agree(second, stale):
            return "the second step is on the samples of the first: fetch_batch has to take the rows `index` each time"
        return "the first step is right and the second is not: something is kept from one step to the next"
    instance.update()
    after_two = instance.parameters()
    expected = _updates(heavy_ball, case.parameters, [first, second], network)
    if _agree(after_two, expected[1]) and _agree(after_one, expected[0]):
        return None
    for rule, message in UPDATE_MISTAKES:
        wrong = _updates(rule, case.parameters, [first, second], network)
        if _agree(after_one, wrong[0]) and _agree(after_two, wrong[1]):
            return message
    unmoved = [all(np.array_equal(x[1], y[1]) for x, y in zip(after_two, case.parameters, strict=True))]
    if all(unmoved):
        return "update() leaves the biases where they are: they move by rate * v as the weights do"
    return "update() moves the weights elsewhere than v = momentum * v + gradient; W -= rate * v does"


def _diagnose_rest(cls: type[Variant], case: Case) -> str | None:
    """train_step against the five methods called singly, and predict."""
    singly, whole = (cls(case.network, [(W.copy(), b.copy()) for W, b in case.parameters]) for _ in range(2))
    for _ in range(2):
        singly.fetch_batch(case.X, case.Y, case.index)
        singly.forward()
        loss = singly.loss()
        singly.backward()
        singly.update()
        told = whole.train_step(case.X, case.Y, case.index)
    if _distance(singly.parameters(), whole.parameters()) > LIKE_A_MISTAKE:
        return "train_step does something else than fetch_batch, forward, loss, backward, update in this order"
    if told is None or abs(float(told) - float(loss)) > LIKE_A_MISTAKE:
        return "train_step has to return the loss of the batch before the update"
    fresh = cls(case.network, [(W.copy(), b.copy()) for W, b in case.parameters])
    predicted = np.asarray(fresh.predict(case.X))
    right, _ = outputs(case.network, case.parameters, case.X)
    if predicted.shape == right.shape[::-1] and predicted.shape != right.shape:
        return f"predict returns {predicted.shape}: a row has to be a sample, {right.shape}; return A.T"
    if predicted.shape != right.shape:
        return f"predict returns {predicted.shape}, expected {right.shape}: a row a sample"
    if not np.allclose(predicted, right, rtol=1e-8, atol=1e-10):
        return "predict computes something else than forward: the same layers, with the biases, on all rows of X"
    return None


def _loss_problem(loss: Any, case: Case) -> str | None:
    right = loss_of(case.network)(forward(case)[1][-1].T, case.Y[case.index].T)
    if loss is None:
        return "loss() returns nothing; expected the mean loss of the batch"
    if np.isclose(float(loss), right, rtol=1e-8):
        return None
    for value, message in loss_mistakes(case):
        if np.isclose(float(loss), value, rtol=1e-8):
            return message
    if np.isclose(float(loss), right, rtol=LIKE_SINGLE_PRECISION):
        return ONLY_SINGLE
    return (
        f"loss() is {float(loss):.6g}, expected {right:.6g}, so forward or loss is wrong: Z[l] = W[l] @ A[l - 1] + "
        "b[l], A[l] = sigmoid(Z[l]), a column a sample, and column 0 of the stored W[l] holds b[l]"
    )


def _shape_problem(gradients: Parameters, case: Case) -> str | None:
    if not isinstance(gradients, list | tuple):
        return f"gradients() returns {type(gradients).__name__}; expected a list of pairs (dW, db), one a layer"
    if len(gradients) != case.network.depth:
        return f"gradients() has {len(gradients)} pairs (dW, db); expected {case.network.depth}, one a layer"
    for l, ((dW, db), (W, b)) in enumerate(zip(gradients, case.parameters, strict=True), start=1):
        if np.shape(dW) == W.shape and np.shape(db) == b.shape:
            continue
        if np.shape(dW) == W.shape[::-1]:
            return (
                f"dW[{l}] is transposed: it is {np.shape(dW)}, and W[{l}] is {W.shape}; dW[l] = delta[l] @ A[l - 1].T"
            )
        return (
            f"layer {l}: gradients() has shapes {np.shape(dW)} and {np.shape(db)}; expected {W.shape} and {b.shape}, "
            "as parameters() has them"
        )
    return None


def activations_held(instance: Variant, case: Case) -> dict[int, list[Array]]:
    """The arrays that an instance holds after forward and that are A[l] of a hidden layer, with or without biases."""
    _, A = forward(case)
    held: dict[int, list[Array]] = {}
    for array in _arrays(vars(instance), DEEPEST):
        for l in range(1, case.network.depth):
            if _is_like(array, A[l]):
                held.setdefault(l, []).append(array)
    return held


def _is_still(array: Array, case: Case, l: int) -> bool:
    return _is_like(array, forward(case)[1][l])


def _is_like(array: Array, A: Array) -> bool:
    """Whether an array is A (m, n), as rows or as columns."""
    return any(x.shape == A.shape and np.allclose(x, A, rtol=1e-9, atol=1e-12) for x in (array, array.T))


def _arrays(value: object, depth: int) -> Iterator[Array]:
    if isinstance(value, np.ndarray) and value.ndim == 2:
        yield value
    elif depth and isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item, depth - 1)


def _updates(
    rule: Callable[..., tuple[Array, Array]], parameters: Parameters, gradients: list[Parameters], network: Network
) -> list[Parameters]:
    """The parameters after each of some steps by a rule."""
    flat = [value for pair in parameters for value in pair]
    velocity = [np.zeros_like(value) for value in flat]
    found = []
    for step in gradients:
        moved = [
            rule(W, v, g, network.rate, network.momentum)
            for W, v, g in zip(flat, velocity, (value for pair in step for value in pair), strict=True)
        ]
        flat, velocity = [W for W, _ in moved], [v for _, v in moved]
        found.append(list(zip(flat[::2], flat[1::2], strict=True)))
    return found


def _agree(ours: Parameters, theirs: Parameters) -> bool:
    return _distance(ours, theirs) < LIKE_A_MISTAKE


def _distance(ours: Parameters, theirs: Parameters) -> float:
    """The largest deviation of a layer, normwise; infinite where shapes differ or a value is not finite."""
    found = layer_deviations("", ours, theirs, [1.0] * max(1, len(ours)))
    sizes = [deviation.size for deviation in found]
    return float(np.max(sizes)) if np.isfinite(sizes).all() else float("inf")


def _with_place(message: str, gradients: Parameters, right: Parameters) -> str:
    """The message with the layers in which the gradients are off, from the output on, where backward begins."""
    found = layer_deviations("", gradients, right, [LIKE_A_MISTAKE] * len(right))
    layers = [str(deviation.layer) for deviation in reversed(found) if deviation.severity > 1]
    where = f" (layer {layers[0]})" if len(layers) == 1 else f" (layers {', '.join(layers)}, seen from the output)"
    return message + where
