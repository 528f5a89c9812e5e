"""Finds out why a learner's MLP computes wrong numbers, and says so in words that help.

It runs inside a worker, on one small network. It calls the five methods one by one, compares each result with the
correct one, and compares a wrong result with those of typical mistakes. Only the first problem is reported, because the
others usually follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from mlpprof.errors import one_line
from mlpprof.model import Array, Network, Parameters, Variant, loss_of
from mlpprof.model.gradcheck import (
    Case,
    close,
    finite_difference_gradients,
    layer_deviations,
    outputs,
    random_case,
)
from mlpprof.workshop.mistakes import (
    BIAS_GRADIENT,
    CORRECT,
    GRADIENT_MISTAKES,
    UPDATE_MISTAKES,
    forward,
    heavy_ball,
    loss_mistakes,
)

DIAGNOSED_LAYERS = (5, 3, 3, 3)
"""Above the first layer the weights are square, so that a transposed W fits, and its numbers show the mistake."""
DIAGNOSED_SAMPLES = 4
SAME = 1e-6
"""Two results that differ by less than this are the same."""
DIFFERENCE_OF_FLOAT32 = 1e-5
"""A difference below this comes from float32, if it does not come from a known mistake."""
ONLY_SINGLE = (
    "the numbers are correct, but only to single precision, although this check runs the class in float64 too. "
    "Something is converted to float32 (astype(np.float32), dtype=np.float32, np.float32(...), or a function that "
    "computes in float32 only). Take the dtype from another array (A.dtype), so that the class works with both"
)
DEEPEST = 3
"""Arrays are looked for in lists of lists of lists, but no deeper."""


def diagnosed_case(network: Network) -> Case:
    """Return a small version of the workshop's network; its momentum and penalty are large enough to matter."""
    small = replace(network, layers=DIAGNOSED_LAYERS, rate=0.5, momentum=0.7, l2=0.1)
    return random_case(small, DIAGNOSED_SAMPLES, seed=1)


def agrees(cls: type[Variant], network: Network, m: int) -> bool:
    """Return whether three training steps give the correct losses and weights; the third has the batch of the first.

    m: the number of samples in a batch.

    Raises whatever the learner's code raises.
    """
    case = random_case(network, m, seed=2)
    instance = cls(network, [(W.copy(), b.copy()) for W, b in case.parameters])
    there, gradients = case, []
    try:
        for index in (case.index, (case.index + 1) % len(case.X), case.index):
            there = replace(there, index=index)
            right = loss_of(network)(forward(there)[1][-1].T, case.Y[index].T)
            loss = instance.train_step(case.X.copy(), case.Y.copy(), index)
            gradients.append(CORRECT.gradients(there))
            there = replace(there, parameters=_updates(heavy_ball, case.parameters, gradients, network)[-1])
            if loss is None or not np.isclose(float(loss), right, rtol=SAME):
                return False
        return _agree(instance.parameters(), there.parameters)
    finally:
        close(instance)


def diagnose(cls: type[Variant], network: Network) -> str | None:
    """Return what is wrong first, or None if this small network shows nothing.

    Raises whatever the learner's code raises.
    """
    case = diagnosed_case(network)
    instance = cls(case.network, [(W.copy(), b.copy()) for W, b in case.parameters])
    try:
        return _diagnose_step(instance, case) or _diagnose_update(instance, case) or _diagnose_rest(cls, case)
    finally:
        close(instance)


def _diagnose_step(instance: Variant, case: Case) -> str | None:
    """Check one step, up to backward."""
    X, Y = case.X.copy(), case.Y.copy()
    instance.fetch_batch(X, Y, case.index)
    instance.forward()
    found = _loss_problem(instance.loss(), case)
    if found:
        return found
    before = instance.parameters()
    held = activations_held(instance, case)
    instance.backward()
    try:
        gradients = instance.gradients()
    except Exception as error:  # noqa: BLE001 - the learner's code may raise anything
        return (
            f"gradients() fails after backward ({type(error).__name__}: {one_line(error)}). Has backward computed the "
            "gradient of every layer, from layer L down to layer 1?"
        )
    found = _shape_problem(gradients, case)
    if found:
        return found
    if not (np.array_equal(X, case.X) and np.array_equal(Y, case.Y)):
        return (
            "the data were overwritten: X and Y belong to the caller, so fetch_batch has to copy them (X[index] with "
            "an array of indices is a copy, but a slice or X itself is not)"
        )
    if _distance(instance.parameters(), before) > 0:
        return (
            "backward changes the weights, but delta[l] needs W[l + 1] as it was in forward: compute all gradients "
            "first, and change the weights in update()"
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
    if _distance(gradients, right) < DIFFERENCE_OF_FLOAT32:
        return ONLY_SINGLE
    divisor = _divisor(gradients, case)
    if divisor is not None:
        return (
            f"the sums over the samples are divided by {divisor}, and should be divided by {len(case.index)}, the "
            "number of samples in the batch of this check. Use len(index) instead of a fixed number"
        )
    if overwritten:
        layers = ", ".join(f"A[{l}]" for l in overwritten)
        return (
            f"{layers} was overwritten in backward, in place (`*=`, `-=`, `+=` or out=), but a gradient still needs "
            "it. Write the result into an array of its own"
        )
    if _agree([(dW, 0 * db) for dW, db in gradients], [(dW, 0 * db) for dW, db in right]):
        return _with_place(
            f"only the gradient of the biases is wrong: {BIAS_GRADIENT}. Does your code compute one number per neuron?",
            gradients,
            right,
        )
    return _with_place("the gradients are wrong", gradients, right)


def _diagnose_update(instance: Variant, case: Case) -> str | None:
    """Check the update of that step, then a second step on other samples, which shows what the first one left over."""
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
    right = CORRECT.gradients(there)
    if not _agree(second, right):
        added = [(a + c, b + d) for (a, b), (c, d) in zip(first, right, strict=True)]
        stale = CORRECT.gradients(replace(case, parameters=after_one))
        if _agree(second, added):
            return "the gradients of a step are added to those of the step before: set dW to 0 when backward begins"
        if _agree(second, stale):
            return "the second step uses the samples of the first: fetch_batch has to take the rows `index` every time"
        return "the first step is correct but the second is not: something from the first step is still used"
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
        return "update() does not change the biases: they need b -= rate * v, like the weights"
    return "update() is wrong: expected v = momentum * v + gradient, then W -= rate * v"


def _diagnose_rest(cls: type[Variant], case: Case) -> str | None:
    """Check train_step, which has to equal the five methods called one by one, and predict."""
    singly, whole = (cls(case.network, [(W.copy(), b.copy()) for W, b in case.parameters]) for _ in range(2))
    for _ in range(2):
        singly.fetch_batch(case.X, case.Y, case.index)
        singly.forward()
        loss = singly.loss()
        singly.backward()
        singly.update()
        try:
            returned = whole.train_step(case.X, case.Y, case.index)
        except EOFError:
            raise  # it reads from the keyboard, and the message about that says in which line
        except Exception as error:  # noqa: BLE001 - the learner's code may raise anything
            return (
                f"train_step fails ({type(error).__name__}: {one_line(error)}), although the five methods work if they "
                "are called one by one. It has to call fetch_batch, forward, loss, backward and update in this order"
            )
    if _distance(singly.parameters(), whole.parameters()) > SAME:
        return "train_step has to call fetch_batch, forward, loss, backward and update in this order; it does not"
    if returned is None or abs(float(returned) - float(loss)) > SAME:
        return "train_step has to return the loss of the batch before the update"
    fresh = cls(case.network, [(W.copy(), b.copy()) for W, b in case.parameters])
    predicted = np.asarray(fresh.predict(case.X))
    right, _ = outputs(case.network, case.parameters, case.X)
    if predicted.shape == right.shape[::-1] and predicted.shape != right.shape:
        return f"predict returns the shape {predicted.shape}; expected {right.shape}, one row per sample: return A.T"
    if predicted.shape != right.shape:
        return f"predict returns the shape {predicted.shape}; expected {right.shape}, one row per sample"
    if not np.allclose(predicted, right, rtol=1e-8, atol=1e-10):
        return "predict has to compute the same as forward, with the biases, for all rows of X, but it differs"
    if not agrees(cls, case.network, len(case.index)):
        return (
            "the first two steps are correct, but not a third one with the samples of the first, so something that was "
            "computed for them is kept. The weights have changed since, so it has to be computed again"
        )
    return None


def _divisor(gradients: Parameters, case: Case) -> int | None:
    """Return the whole number by which the gradients are divided in place of m; None if that is not what is wrong."""
    without = replace(CORRECT, l2_on_weights=0.0).gradients(case)
    W_b = zip(gradients, case.parameters, strict=True)
    ours = np.concatenate([part.ravel() for (dW, db), (W, _) in W_b for part in (dW - case.network.l2 * W, db)])
    theirs = np.concatenate([part.ravel() for pair in without for part in pair])
    scale = float(ours @ theirs / (theirs @ theirs))
    if not scale > 0 or not np.allclose(ours, scale * theirs, rtol=1e-6, atol=1e-9):
        return None
    divisor = round(len(case.index) / scale)
    return divisor if np.isclose(divisor * scale, len(case.index), rtol=1e-6) else None


def _loss_problem(loss: Any, case: Case) -> str | None:
    right = loss_of(case.network)(forward(case)[1][-1].T, case.Y[case.index].T)
    if loss is None:
        return "loss() returns nothing; expected the mean loss of the batch"
    if np.isclose(float(loss), right, rtol=1e-8):
        return None
    for value, message in loss_mistakes(case):
        if np.isclose(float(loss), value, rtol=1e-8):
            return message
    if np.isclose(float(loss), right, rtol=DIFFERENCE_OF_FLOAT32):
        return ONLY_SINGLE
    divisor = len(case.index) * right / float(loss) if loss else 0.0
    if divisor >= 1 and np.isclose(divisor, round(divisor), rtol=1e-8):
        return (
            f"loss() divides the sum over the samples by {round(divisor)}, and should divide it by {len(case.index)}, "
            "the number of samples in the batch of this check. Use len(index) instead of a fixed number"
        )
    hidden, output = case.network.hidden, case.network.output
    at_output = "" if output == hidden else f", but A[L] = {output}(Z[L]) in the last layer"
    return (
        f"loss() is {float(loss):.6g}, expected was {right:.6g}, so forward or loss is wrong. If a sample is a "
        f"column, Z[l] = W[l] @ A[l - 1] + b[l] and A[l] = {hidden}(Z[l]){at_output}. If your W[l] has a column "
        "of biases, W[l] stands for the other columns here"
    )


def _shape_problem(gradients: Parameters, case: Case) -> str | None:
    if not isinstance(gradients, list | tuple):
        return f"gradients() returns {type(gradients).__name__}; expected a list of pairs (dW, db), one per layer"
    if len(gradients) != case.network.depth:
        return f"gradients() has {len(gradients)} pairs (dW, db); expected {case.network.depth}, one per layer"
    for l, ((dW, db), (W, b)) in enumerate(zip(gradients, case.parameters, strict=True), start=1):
        if np.shape(dW) == W.shape and np.shape(db) == b.shape:
            continue
        if np.shape(dW) == W.shape[::-1]:
            return (
                f"dW[{l}] is transposed: its shape is {np.shape(dW)}, that of W[{l}] is {W.shape}; "
                "dW[l] = delta[l] @ A[l - 1].T"
            )
        return (
            f"layer {l}: gradients() has shapes {np.shape(dW)} and {np.shape(db)}; expected {W.shape} and {b.shape}, "
            "the shapes that parameters() returns"
        )
    return None


def activations_held(instance: Variant, case: Case) -> dict[int, list[Array]]:
    """Return the arrays of an instance that hold A[l] of a hidden layer after forward, by layer."""
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
    """Return whether an array is A (m, n) or its transpose."""
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
    """Return the parameters after each step, if `rule` makes the updates."""
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
    return _distance(ours, theirs) < SAME


def _distance(ours: Parameters, theirs: Parameters) -> float:
    """Return the largest relative difference of a layer; infinite if shapes differ or a value is not finite."""
    found = layer_deviations("", ours, theirs, 1.0)
    sizes = [deviation.size for deviation in found]
    return float(np.max(sizes)) if np.isfinite(sizes).all() else float("inf")


def _with_place(message: str, gradients: Parameters, right: Parameters) -> str:
    """Add the layers whose gradients are wrong to the message, starting at the output, where backward begins."""
    found = layer_deviations("", gradients, right, SAME)
    layers = [str(deviation.layer) for deviation in reversed(found) if deviation.severity > 1]
    where = f" (layer {layers[0]})" if len(layers) == 1 else f" (layers {', '.join(layers)}, from the output on)"
    return message + where
