"""Activations and losses: values, derivatives by finite differences, saturation, dtypes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LEGAL_PAIRS

from mlpprof.model import ACTIVATIONS, Network, loss_of
from mlpprof.model.activations import binary_cross_entropy, categorical_cross_entropy, squared_error

ELEMENTWISE = ("sigmoid", "tanh", "relu", "identity")
STEP = 1e-6


def grid() -> np.ndarray:
    """Z (4, 50) from -8 to 8 without 0, where ReLU has its kink."""
    return np.linspace(-8, 8, 200).reshape(4, 50)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_derivative_from_Z_is_the_slope_of_the_value(name):
    f, Z = ACTIVATIONS[name], grid()
    slope = (f.value(Z + STEP) - f.value(Z - STEP)) / (2 * STEP)
    assert np.allclose(f.derivative_from_Z(Z), slope, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_derivative_from_A_is_the_derivative_from_Z(name):
    f, Z = ACTIVATIONS[name], grid()
    assert np.allclose(f.derivative_from_A(f.value(Z)), f.derivative_from_Z(Z), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_function_of_an_activation_keeps_dtype_and_shape(name, dtype):
    f, Z = ACTIVATIONS[name], grid().astype(dtype)
    functions = [f.value] if name == "softmax" else [f.value, f.derivative_from_Z, f.derivative_from_A]
    for function in functions:
        assert function(Z).dtype == dtype
        assert function(Z).shape == Z.shape
        assert function(Z[:, 0]).shape == (4,)
        assert function(Z[:1, :1]).shape == (1, 1)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_activation_writes_into_its_argument(name):
    f, Z = ACTIVATIONS[name], grid()
    kept = Z.copy()
    f.value(Z)
    if name != "softmax":
        f.derivative_from_Z(Z)
        f.derivative_from_A(Z)
    assert np.array_equal(Z, kept)


@pytest.mark.parametrize(
    ("name", "z", "a", "derivative"),
    [
        ("sigmoid", 0.0, 0.5, 0.25),
        ("sigmoid", math.log(3), 0.75, 0.1875),
        ("tanh", 0.0, 0.0, 1.0),
        ("tanh", math.log(2), 0.6, 0.64),
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
    assert f.derivative_from_A(f.value(Z))[0, 0] == pytest.approx(derivative, abs=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_arguments_neither_overflow_nor_give_nan(name, dtype):
    f = ACTIVATIONS[name]
    Z = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 700.0]], dtype)  # warnings are errors here
    A = f.value(Z)
    assert np.isfinite(A).all()
    if name != "softmax":
        assert np.isfinite(f.derivative_from_Z(Z)).all()
        assert np.isfinite(f.derivative_from_A(A)).all()


def test_the_ends_of_the_saturating_activations_are_exact():
    Z = np.array([[1e4, -1e4]])
    assert ACTIVATIONS["sigmoid"].value(Z).tolist() == [[1.0, 0.0]]
    assert ACTIVATIONS["tanh"].value(Z).tolist() == [[1.0, -1.0]]
    assert ACTIVATIONS["sigmoid"].derivative_from_Z(Z).tolist() == [[0.0, 0.0]]


def test_softmax_is_a_distribution_over_the_neurons_of_every_sample():
    A = ACTIVATIONS["softmax"].value(grid())
    assert np.allclose(A.sum(axis=0), 1, rtol=0, atol=1e-15)
    assert (A > 0).all()
    by_hand = ACTIVATIONS["softmax"].value(np.array([[math.log(1.0)], [math.log(3.0)], [math.log(4.0)]]))
    assert by_hand[:, 0] == pytest.approx([1 / 8, 3 / 8, 4 / 8], abs=1e-15)


@given(st.floats(-500, 500))
def test_softmax_does_not_change_when_all_neurons_are_shifted(shift):
    Z = np.array([[0.3, -1.0], [2.0, 0.5]])
    assert np.allclose(ACTIVATIONS["softmax"].value(Z + shift), ACTIVATIONS["softmax"].value(Z), rtol=1e-12, atol=0)


def test_softmax_of_one_sample_as_a_vector_is_its_column_in_the_batch():
    Z = grid()
    assert np.array_equal(ACTIVATIONS["softmax"].value(Z[:, 7]), ACTIVATIONS["softmax"].value(Z)[:, 7])


def test_softmax_says_that_it_has_no_elementwise_derivative():
    for derivative in (ACTIVATIONS["softmax"].derivative_from_Z, ACTIVATIONS["softmax"].derivative_from_A):
        with pytest.raises(NotImplementedError, match="cross-entropy"):
            derivative(grid())


def test_squared_error_is_half_the_squared_distance_averaged_over_samples():
    A, Y = np.array([[1.0, 0.0], [3.0, 2.0]]), np.array([[0.0, 0.0], [1.0, 4.0]])
    assert squared_error(A, Y) == (0.5 * (1 + 4) + 0.5 * 4) / 2


def test_binary_cross_entropy_sums_the_outputs_and_averages_the_samples():
    A, Y = np.array([[0.25, 0.5], [0.9, 0.5]]), np.array([[1.0, 0.0], [0.0, 0.5]])
    first = -math.log(0.25) - math.log(0.1)
    second = -math.log(0.5) - math.log(0.5)
    assert binary_cross_entropy(A, Y) == pytest.approx((first + second) / 2, rel=1e-14)


def test_categorical_cross_entropy_is_the_mean_surprise_at_the_right_class():
    A, Y = np.array([[0.2, 0.5], [0.8, 0.5]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert categorical_cross_entropy(A, Y) == pytest.approx(-(math.log(0.2) + math.log(0.5)) / 2, rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saturated_and_wrong_output_costs_much_but_not_infinity(dtype):
    A, Y = np.array([[0.0, 1.0]], dtype), np.array([[1.0, 0.0]], dtype)
    binary = binary_cross_entropy(A, Y)
    assert binary == pytest.approx(-math.log(np.finfo(dtype).eps), rel=1e-6)
    A, Y = np.array([[0.0], [1.0]], dtype), np.array([[1.0], [0.0]], dtype)
    assert categorical_cross_entropy(A, Y) == pytest.approx(-math.log(np.finfo(dtype).tiny), rel=1e-6)


@pytest.mark.parametrize("loss", [squared_error, binary_cross_entropy, categorical_cross_entropy])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_right_and_saturated_output_costs_nothing(loss, dtype):
    A = np.array([[1.0, 0.0], [0.0, 1.0]], dtype)
    assert 0 <= loss(A, A) <= 4 * np.finfo(dtype).eps


@pytest.mark.parametrize("loss", [squared_error, binary_cross_entropy, categorical_cross_entropy])
def test_a_loss_is_a_python_float_and_leaves_its_arguments_alone(loss):
    A, Y = np.array([[0.0, 0.3]], np.float32), np.array([[1.0, 0.0]], np.float32)
    assert type(loss(A, Y)) is float
    assert A.tolist() == [[0.0, np.float32(0.3)]]
    assert Y.tolist() == [[1.0, 0.0]]


def test_cross_entropy_is_categorical_behind_a_softmax_and_binary_behind_a_sigmoid():
    chosen = {pair: loss_of(Network((2, 2), output=pair[0], loss=pair[1])) for pair in LEGAL_PAIRS}
    assert chosen == {
        ("sigmoid", "squared_error"): squared_error,
        ("identity", "squared_error"): squared_error,
        ("sigmoid", "cross_entropy"): binary_cross_entropy,
        ("softmax", "cross_entropy"): categorical_cross_entropy,
    }
