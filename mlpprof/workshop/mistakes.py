"""Typical mistakes, and what each of them computes: wrong gradients, losses and updates.

`right_numbers` compares a learner's numbers with all of them. The mistake that gives the same numbers is the one that
the learner made. Everything here is written with a sample as a row, and shares no code with any variant except for
the activations and losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from mlpprof.model import ACTIVATIONS, Activation, Array, Network, Parameters, loss_of
from mlpprof.model.gradcheck import Case, penalty


@dataclass(frozen=True)
class Backward:
    """A way to compute the gradients. The defaults are correct, and each mistake changes one of them.

    scale: a factor of the error (A - Y) / m, from m. derivative: that of a hidden activation, from (Z, A). at_output:
    delta[L] gets the derivative although loss and output cancel it. wrong_way: uses W[l + 1] instead of its transpose,
    if the shapes fit. overwritten: A[l] is replaced by its derivative before dW[l + 1] is taken. updated: W[l + 1] is
    updated before delta[l] is taken.
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
        """Return the gradients of the case's batch. An L1 penalty is left out, because the workshop has none."""
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
    """Return Z[l] and A[l] (m, n_l) of the case's batch, l = 0..L; Z[0] is the input."""
    network = case.network
    Z, A = [case.X[case.index]], [case.X[case.index]]
    for l, (W, b) in enumerate(case.parameters, start=1):
        function = ACTIVATIONS[network.hidden if l < network.depth else network.output]
        Z.append(A[-1] @ W.T + b)
        A.append(function.value(Z[-1].T).T)
    return Z, A


def _activation(network: Network) -> Activation:
    return ACTIVATIONS[network.hidden]


CORRECT = Backward()

BIAS_GRADIENT = (
    "db[l] is the sum of delta[l] over the samples (in column 0 of dW[l], if column 0 of W[l] holds the biases)"
)

GRADIENT_MISTAKES: tuple[tuple[Backward, str], ...] = (
    (
        Backward(bias=lambda delta: np.zeros(delta.shape[1])),
        f"the gradient of the biases is missing (it is 0): {BIAS_GRADIENT}",
    ),
    (
        Backward(bias=lambda delta: delta.mean(axis=0)),
        "the gradient of the biases is a mean over the samples: delta[l] is already divided by m, so db[l] is its sum",
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
        "the penalty is missing: dW[l] needs network.l2 * W[l] on the weights (regularize). Perhaps dW[l] is assigned "
        "after the penalty was added",
    ),
    (
        Backward(l2_on_biases=1.0),
        "the penalty is added to the biases too: only the weights have a penalty, columns 1: of W[l]",
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
        "derivative_from_Z got A, but it needs Z, because it evaluates the activation again. If you have A, use "
        "derivative_from_A(A)",
    ),
    (
        Backward(derivative=lambda n, Z, A: _activation(n).derivative_from_A(Z)),
        "derivative_from_A got Z, but it needs A, the result of the activation in forward",
    ),
    (
        Backward(derivative=lambda n, Z, A: A),
        "delta[l] is multiplied by A[l] instead of the derivative of the activation, which is A[l] * (1 - A[l]) for "
        "the sigmoid",
    ),
    (
        Backward(at_output=True),
        "delta[L] is multiplied by a derivative that does not belong there: with cross-entropy after a sigmoid it "
        "cancels, and delta[L] is (A[L] - Y) / m",
    ),
    (
        Backward(wrong_way=True),
        "W has to be transposed in backward: the error is multiplied by W[l + 1].T, of shape (n_l, n_{l+1}), and only "
        "forward uses W itself",
    ),
    (
        Backward(overwritten=True),
        "A[l] was overwritten by its derivative, in place (`*=` or `out=`), before dW[l + 1] was computed from it. "
        "Compute dW[l + 1] first, or write the derivative into an array of its own",
    ),
    (
        Backward(updated=True),
        "W[l + 1] is updated before delta[l] is computed from it: compute all deltas and gradients first, then update",
    ),
)
"""Each mistake with its message. If several give the learner's numbers, the first one is reported."""


def loss_mistakes(case: Case) -> list[tuple[float, str]]:
    """Return each wrong loss of the case's batch with its message."""
    network, m = case.network, len(case.index)
    _, A = forward(case)
    right = loss_of(network)(A[-1].T, case.Y[case.index].T)
    return [
        (m * right, "loss() returns the sum over the batch; expected the mean, so divide it by m"),
        (right / m, "loss() is divided by m twice"),
        (
            right + penalty(network, case.parameters),
            "loss() contains the penalty; expected the mean loss of the batch without it",
        ),
        (-right, "loss() has the wrong sign: cross-entropy is minus the sum of Y log A + (1 - Y) log(1 - A)"),
        (
            _loss(replace(case, parameters=[(W, 0 * b) for W, b in case.parameters]), case.index, case.index),
            "forward leaves out the biases: Z[l] = W[l] @ A[l - 1] + b[l]",
        ),
        *_one_bias(case),
        *_other_rows(case),
    ]


def _one_bias(case: Case) -> Iterator[tuple[float, str]]:
    """Yield the loss if one number takes the place of all biases of a layer."""
    for one in (lambda b: b[0], np.sum, np.mean):
        parameters = [(W, np.full_like(b, one(b))) for W, b in case.parameters]
        yield (
            _loss(replace(case, parameters=parameters), case.index, case.index),
            "forward adds the same bias to all neurons of a layer, but each neuron has its own: Z[l] = W[l] @ A[l - 1] "
            "+ b[l], with all n_l numbers of b[l]",
        )


def _other_rows(case: Case) -> Iterator[tuple[float, str]]:
    """Yield the loss of batches that consist of other rows than those of the case, each with its message."""
    index, samples = case.index, len(case.X)
    first = np.arange(len(index))
    shifted = [(index - 1) % samples, (index + 1) % samples, first]
    for rows in (*shifted, index[1:], index[:-1], np.append(index[1:], index[-1:]), np.append(index[:1], index[:-1])):
        yield _loss(case, rows, rows), "fetch_batch takes other rows than those in `index`: use X[index] and Y[index]"
    for rows in (*shifted, index[::-1], np.sort(index)):
        for x_rows, y_rows in ((rows, index), (index, rows)):
            yield (
                _loss(case, x_rows, y_rows),
                "fetch_batch takes the inputs and the targets from other rows, but row i of X belongs to row i of Y: "
                "use X[index] and Y[index]",
            )


def _loss(case: Case, x_rows: Array, y_rows: Array) -> float:
    """Return the loss with the inputs of some rows and the targets of as many others."""
    _, A = forward(replace(case, index=x_rows))
    return loss_of(case.network)(A[-1].T, case.Y[y_rows].T)


Step = Callable[[Array, Array, Array, float, float], tuple[Array, Array]]
"""An update: it gets (W, v, gradient, rate, momentum) and returns the new (W, v)."""


def heavy_ball(W: Array, v: Array, g: Array, rate: float, momentum: float) -> tuple[Array, Array]:
    """Make the correct update."""
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
        "update() goes uphill: it has to subtract, as in W -= rate * v",
    ),
    (
        lambda W, v, g, rate, mu: (W - (mu * v + g), mu * v + g),
        "update() does not use the rate: W -= rate * v",
    ),
    (
        lambda W, v, g, rate, mu: (W - rate * (mu * v + (1 - mu) * g), mu * v + (1 - mu) * g),
        "the gradient is multiplied by 1 - momentum: this network uses v = momentum * v + gradient (heavy ball)",
    ),
    (
        lambda W, v, g, rate, mu: (W - rate * v, mu * v + g),
        "update() uses the velocity of the step before: first v = momentum * v + gradient, then W -= rate * v",
    ),
    (
        lambda W, v, g, rate, mu: (W - rate * (mu * (v + g)), mu * (v + g)),
        "the gradient is multiplied by the momentum too: v = momentum * v + gradient",
    ),
    (
        lambda W, v, g, rate, mu: (W, v),
        "update() changes nothing: W -= rate * v has to change the W that forward uses",
    ),
)
"""Each wrong update with its message."""
