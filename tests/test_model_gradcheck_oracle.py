"""The oracle against networks small enough to be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from strategies import cases

from mlpprof.model import Network
from mlpprof.model.gradcheck import finite_difference_gradients, objective, outputs, penalty


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def pair(W: list[list[float]], b: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(W), np.array(b)


ONE_NEURON = Network((1, 1), output="identity", loss="squared_error")


def test_one_linear_neuron_by_hand():
    # a = 2 * 3 + 1 = 7 against y = 5: error 2, loss 2, dW = error * x, db = error
    parameters = [pair([[2.0]], [1.0])]
    X, Y = np.array([[3.0]]), np.array([[5.0]])
    A, hidden_Z = outputs(ONE_NEURON, parameters, X)
    assert A.tolist() == [[7.0]]
    assert hidden_Z == []
    assert objective(ONE_NEURON, parameters, X, Y) == 2.0
    [(dW, db)] = finite_difference_gradients(ONE_NEURON, parameters, X, Y)
    assert dW[0, 0] == pytest.approx(6.0, abs=1e-8)
    assert db[0] == pytest.approx(2.0, abs=1e-8)


def test_the_loss_and_its_gradient_are_means_over_the_samples():
    # a = (7, 1) against (5, 1): losses 2 and 0; dW = (2 * 3 + 0) / 2
    parameters = [pair([[2.0]], [1.0])]
    X, Y = np.array([[3.0], [0.0]]), np.array([[5.0], [1.0]])
    assert objective(ONE_NEURON, parameters, X, Y) == 1.0
    [(dW, db)] = finite_difference_gradients(ONE_NEURON, parameters, X, Y)
    assert dW[0, 0] == pytest.approx(3.0, abs=1e-8)
    assert db[0] == pytest.approx(1.0, abs=1e-8)


def test_the_penalty_counts_weights_and_never_biases():
    network = Network((2, 1), output="identity", loss="squared_error", l1=0.5, l2=3.0)
    parameters = [pair([[2.0, -4.0]], [100.0])]
    assert penalty(network, parameters) == 0.5 * (2 + 4) + 3.0 / 2 * (4 + 16)
    X, Y = np.array([[0.0, 0.0]]), np.array([[100.0]])  # no error: only the penalty has a slope
    assert objective(network, parameters, X, Y) == penalty(network, parameters)
    [(dW, db)] = finite_difference_gradients(network, parameters, X, Y)
    assert dW[0] == pytest.approx([0.5 + 3.0 * 2, -0.5 - 3.0 * 4], abs=1e-7)
    assert db[0] == pytest.approx(0.0, abs=1e-7)


def test_two_sigmoid_layers_by_hand():
    network = Network((2, 2, 1), hidden="sigmoid", output="sigmoid", loss="cross_entropy")
    parameters = [pair([[0.1, -0.2], [0.4, 0.3]], [0.05, -0.5]), pair([[0.7, -1.1]], [0.2])]
    x, y = (1.0, 2.0), 1.0
    z1 = (0.1 * 1 - 0.2 * 2 + 0.05, 0.4 * 1 + 0.3 * 2 - 0.5)
    a1 = tuple(map(sigmoid, z1))
    a2 = sigmoid(0.7 * a1[0] - 1.1 * a1[1] + 0.2)
    delta2 = a2 - y
    delta1 = (0.7 * delta2 * a1[0] * (1 - a1[0]), -1.1 * delta2 * a1[1] * (1 - a1[1]))

    X, Y = np.array([x]), np.array([[y]])
    A, hidden_Z = outputs(network, parameters, X)
    assert A[0, 0] == pytest.approx(a2, rel=1e-14)
    assert hidden_Z[0][0] == pytest.approx(z1, rel=1e-14)
    assert objective(network, parameters, X, Y) == pytest.approx(-math.log(a2), rel=1e-14)
    (dW1, db1), (dW2, db2) = finite_difference_gradients(network, parameters, X, Y)
    assert dW2[0] == pytest.approx([delta2 * a for a in a1], abs=1e-9)
    assert db2[0] == pytest.approx(delta2, abs=1e-9)
    assert dW1 == pytest.approx(np.outer(delta1, x), abs=1e-9)
    assert db1 == pytest.approx(delta1, abs=1e-9)


def test_relu_and_softmax_by_hand():
    network = Network((1, 2, 2), hidden="relu", output="softmax", loss="cross_entropy")
    parameters = [pair([[1.0], [-1.0]], [0.0, 0.5]), pair([[1.0, 7.0], [0.0, 7.0]], [0.0, 0.0])]
    # x = 2: Z1 = (2, -1.5), A1 = (2, 0), Z2 = (2, 0); the right class is the second
    p = math.exp(2) / (math.exp(2) + 1)
    X, Y = np.array([[2.0]]), np.array([[0.0, 1.0]])
    A, hidden_Z = outputs(network, parameters, X)
    assert hidden_Z[0][0].tolist() == [2.0, -1.5]
    assert A[0] == pytest.approx([p, 1 - p], rel=1e-14)
    assert objective(network, parameters, X, Y) == pytest.approx(-math.log(1 - p), rel=1e-13)
    (dW1, db1), (dW2, db2) = finite_difference_gradients(network, parameters, X, Y)
    assert dW2 == pytest.approx(np.array([[2 * p, 0.0], [-2 * p, 0.0]]), abs=1e-8)
    assert db2 == pytest.approx([p, -p], abs=1e-8)
    assert dW1 == pytest.approx(np.array([[2 * p], [0.0]]), abs=1e-8)  # W2[0, 0] * p - W2[1, 0] * p, times x
    assert db1 == pytest.approx([p, 0.0], abs=1e-8)


def test_tanh_before_a_sigmoid_with_squared_error_keeps_the_output_derivative():
    network = Network((1, 1, 1), hidden="tanh", output="sigmoid", loss="squared_error")
    parameters = [pair([[0.8]], [0.1]), pair([[1.5]], [-0.3])]
    a1 = math.tanh(0.8 * 0.6 + 0.1)
    a2 = sigmoid(1.5 * a1 - 0.3)
    delta2 = (a2 - 0.9) * a2 * (1 - a2)
    delta1 = 1.5 * delta2 * (1 - a1**2)
    X, Y = np.array([[0.6]]), np.array([[0.9]])
    assert objective(network, parameters, X, Y) == pytest.approx((a2 - 0.9) ** 2 / 2, rel=1e-13)
    (dW1, db1), (dW2, db2) = finite_difference_gradients(network, parameters, X, Y)
    assert [dW1[0, 0], db1[0], dW2[0, 0], db2[0]] == pytest.approx(
        [delta1 * 0.6, delta1, delta2 * a1, delta2], abs=1e-10
    )


@given(cases())
def test_finite_differences_leave_parameters_and_samples_as_they_were(case):
    kept = [values.copy() for pair in case.parameters for values in pair] + [case.X.copy(), case.Y.copy()]
    gradients = finite_difference_gradients(case.network, case.parameters, case.X, case.Y)
    now = [values for pair in case.parameters for values in pair] + [case.X, case.Y]
    assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))
    for (dW, db), (W, b) in zip(gradients, case.parameters, strict=True):
        assert (dW.shape, db.shape) == (W.shape, b.shape)


@given(cases())
def test_the_objective_of_a_batch_is_the_mean_over_its_samples(case):
    network, parameters = case.network, case.parameters
    extra = penalty(network, parameters)
    singly = [objective(network, parameters, x[None], y[None]) - extra for x, y in zip(case.X, case.Y, strict=True)]
    assert objective(network, parameters, case.X, case.Y) - extra == pytest.approx(np.mean(singly), rel=1e-11)
