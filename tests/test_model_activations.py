"""Activations and losses: values, derivatives by finite differences, saturation, dtypes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LEGAL_PAIRS

from mlpprof.model import ACTIVATIONS, Network, loss_of, sample_losses
from mlpprof.model.activations import binary_cross_entropy, categorical_cross_entropy, squared_error

ELEMENTWISE = ("sigmoid", "tanh", "relu", "identity")
LOSSES = (squared_error, binary_cross_entropy, categorical_cross_entropy)
STEP = 1e-6
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def grid() -> np.ndarray:
    """Z (4, 50) from -8 to 8 without 0, where ReLU has its kink."""
    return np.linspace(-8, 8, 200).reshape(4, 50)


def functions_of(name: str) -> list:
    """The functions of an activation that take any Z; softmax has no derivatives."""
    f = ACTIVATIONS[name]
    return [f.value] if name == "softmax" else [f.value, f.derivative_from_Z, f.derivative_from_A]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_both_derivatives_are_the_slope_of_the_value(name):
    f, Z = ACTIVATIONS[name], grid()
    slope = (f.value(Z + STEP) - f.value(Z - STEP)) / (2 * STEP)
    assert np.allclose(f.derivative_from_Z(Z), slope, rtol=0, atol=1e-9)
    assert np.allclose(f.derivative_from_A(f.value(Z)), f.derivative_from_Z(Z), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
@each_dtype
def test_every_function_of_an_activation_keeps_dtype_shape_and_argument(name, dtype):
    for function in functions_of(name):
        Z = grid().astype(dtype)
        for part in (Z, Z[:, 0], Z[:1, :1]):
            assert function(part).dtype == dtype
            assert function(part).shape == part.shape
        assert np.array_equal(Z, grid().astype(dtype))


@pytest.mark.parametrize(
    ("name", "z", "a", "derivative"),
    [
        ("sigmoid", 0.0, 0.5, 0.25),
        ("sigmoid", math.log(3), 0.75, 0.1875),
        ("sigmoid", 1e4, 1.0, 0.0),
        ("sigmoid", -1e4, 0.0, 0.0),
        ("tanh", 0.0, 0.0, 1.0),
        ("tanh", math.log(2), 0.6, 0.64),
        ("tanh", -1e4, -1.0, 0.0),
        ("relu", 2.5, 2.5, 1.0),
        ("relu", -2.5, 0.0, 0.0),
        ("relu", 0.0, 0.0, 0.0),
        ("identity", -7.0, -7.0, 1.0),
    ],
)
def test_activations_have_the_values_of_the_textbook(name, z, a, derivative):
    f, Z = ACTIVATIONS[name], np.array([[z]])
    assert f.value(Z)[0, 0] == pytest.approx(a, abs=1e-15)
    assert f.derivative_from_Z(Z)[0, 0] == pytest.approx(derivative, abs=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
@each_dtype
def test_large_arguments_neither_overflow_nor_give_nan(name, dtype):
    Z = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 700.0]], dtype)  # warnings are errors here
    for function in functions_of(name):
        assert np.isfinite(function(Z)).all()


def test_softmax_is_a_distribution_over_the_neurons_of_every_sample():
    softmax = ACTIVATIONS["softmax"].value
    assert np.allclose(softmax(grid()).sum(axis=0), 1, rtol=0, atol=1e-15)
    by_hand = softmax(np.array([[math.log(1.0)], [math.log(3.0)], [math.log(4.0)]]))
    assert by_hand[:, 0] == pytest.approx([1 / 8, 3 / 8, 4 / 8], abs=1e-15)
    assert np.array_equal(softmax(grid()[:, 7]), softmax(grid())[:, 7])


@given(st.floats(-500, 500))
def test_softmax_does_not_change_when_all_neurons_are_shifted(shift):
    Z = np.array([[0.3, -1.0], [2.0, 0.5]])
    assert np.allclose(ACTIVATIONS["softmax"].value(Z + shift), ACTIVATIONS["softmax"].value(Z), rtol=1e-12, atol=0)


def test_softmax_says_that_it_has_no_elementwise_derivative():
    for derivative in (ACTIVATIONS["softmax"].derivative_from_Z, ACTIVATIONS["softmax"].derivative_from_A):
        with pytest.raises(NotImplementedError, match="cross-entropy"):
            derivative(grid())


@pytest.mark.parametrize(
    ("loss", "A", "Y", "samples"),
    [
        (squared_error, [[1.0, 0.0], [3.0, 2.0]], [[0.0, 0.0], [1.0, 4.0]], [0.5 * (1 + 4), 0.5 * 4]),
        (
            binary_cross_entropy,
            [[0.25, 0.5], [0.9, 0.5]],
            [[1.0, 0.0], [0.0, 0.5]],
            [-math.log(0.25) - math.log(0.1), -math.log(0.5) - math.log(0.5)],
        ),
        (
            categorical_cross_entropy,
            [[0.2, 0.5], [0.8, 0.5]],
            [[1.0, 0.0], [0.0, 1.0]],
            [-math.log(0.2), -math.log(0.5)],
        ),
    ],
)
def test_a_loss_is_a_sum_over_the_outputs_and_a_mean_over_the_samples(loss, A, Y, samples):
    A, Y = np.array(A), np.array(Y)
    assert loss(A, Y) == pytest.approx(np.mean(samples), rel=1e-14)
    for output, name in LEGAL_PAIRS:
        network = Network((2, 2), output=output, loss=name)
        if loss_of(network) is loss:
            assert sample_losses(network, A, Y) == pytest.approx(samples, rel=1e-14)


@each_dtype
def test_a_saturated_and_wrong_output_costs_much_but_not_infinity(dtype):
    A, Y = np.array([[0.0, 1.0]], dtype), np.array([[1.0, 0.0]], dtype)
    assert binary_cross_entropy(A, Y) == pytest.approx(-math.log(np.finfo(dtype).eps), rel=1e-6)
    assert categorical_cross_entropy(A.T, Y.T) == pytest.approx(-math.log(np.finfo(dtype).tiny), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@each_dtype
def test_a_right_and_saturated_output_costs_nothing(loss, dtype):
    A = np.eye(2, dtype=dtype)
    assert 0 <= loss(A, A) <= 4 * np.finfo(dtype).eps


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_a_python_float_and_leaves_its_arguments_alone(loss):
    A, Y = np.array([[0.0, 0.3]], np.float32), np.array([[1.0, 0.0]], np.float32)
    assert type(loss(A, Y)) is float
    assert A.tolist() == [[0.0, np.float32(0.3)]]
    assert Y.tolist() == [[1.0, 0.0]]


def test_cross_entropy_is_categorical_after_a_softmax_and_binary_after_a_sigmoid():
    assert {pair: loss_of(Network((2, 2), output=pair[0], loss=pair[1])) for pair in LEGAL_PAIRS} == {
        ("sigmoid", "squared_error"): squared_error,
        ("identity", "squared_error"): squared_error,
        ("sigmoid", "cross_entropy"): binary_cross_entropy,
        ("softmax", "cross_entropy"): categorical_cross_entropy,
    }
