"""Single-sample steps: the first layer's updates are delayed, and made up for by the samples' products.

Idea: with one sample a step, the first layer is read for Z[1] and changed for the next step, 784 numbers a neuron, while
a matrix product would use each number for many samples. It may: step t sees W[1] only through its product with sample
x_t, and what the steps s < t of a block have changed, delta_s x_s.T, has the product delta_s (x_s . x_t) with it. So

    Z[1] of step t = W[1] x_t + sum over s < t of lag(t - s) (x_s . x_t) delta_s

where W[1] is as the block of STEPS steps began. All W[1] x_t are one matrix product, all x_s . x_t another; and when
the block ends, its changes go into W[1] in a third, as an update of rank STEPS. lag is what is left, j steps later, of a
gradient of 1: -rate, or with momentum and L2 the response of the recurrence v = mu v + l2 w + g, w -= rate v. Exact
but for rounding.

In between, a step is some 17 calls on vectors, and the call is what it costs. So the arrays of a block exist once, and so
do their views of every step; H holds all hidden activations of a step side by side, a one before each layer for the
biases, so that the derivative is taken of all of them at once; D holds W[1] x_t in the rows to come and delta[1] in those
of the past, so that the sum above is one product. The weights above the first layer lie in one block.

What changes: train, which is given the indices of many steps, and fetches samples ahead. train_step is the parent's.

TODO

Limits: only train is fast, and only for batches of a few samples. An L1 penalty is refused: the sign of W[1] is not
linear, so that the changes of the past cannot be added up.

Source: "first layer's rank-1 updates delayed over 40 steps" in the project's own measurements.
"""

import numpy as np
from scipy.special import expit

from mlpprof.model import ACTIVATIONS, UnsupportedNetwork, loss_of

PARENT = "sliced"

ROWS = 40  # samples in a block: STEPS times the batch


def relu(Z, A):
    """A becomes max(Z, 0)."""
    np.maximum(Z, 0, A)


def softmax(Z, A):
    """A becomes exp(Z), normalized over each row."""
    np.exp(Z - Z.max(axis=1, keepdims=True), A)
    A /= A.sum(axis=1, keepdims=True)


def sigmoid_derivative(A, D):
    """D becomes A - A**2."""
    np.multiply(A, A, D)
    np.subtract(A, D, D)


def tanh_derivative(A, D):
    """D becomes 1 - A**2."""
    np.multiply(A, A, D)
    np.subtract(1, D, D)


def relu_derivative(A, D):
    """D becomes 1 where A > 0, else 0."""
    np.greater(A, 0, D)


VALUE = {"sigmoid": expit, "tanh": np.tanh, "relu": relu, "identity": np.positive, "softmax": softmax}
DERIVATIVE = {"sigmoid": sigmoid_derivative, "tanh": tanh_derivative, "relu": relu_derivative}


def response(network, l2, w, v, gradient):
    """A weight and its velocity (2, ROWS + 1) after 0, 1 ... steps, if `gradient` comes in the first step alone."""
    states = [(w, v)]
    for _ in range(ROWS):
        v = network.momentum * v + l2 * w + gradient
        w, gradient = w - network.rate * v, 0.0
        states.append((w, v))
    return np.array(states).T
