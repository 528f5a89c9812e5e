"""The network's specification: what it refuses, and the initial weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LEGAL_PAIRS, networks

from mlpprof.errors import EXIT_USAGE, UsageError
from mlpprof.model import ACTIVATIONS, Network, loss_of
from mlpprof.model.network import HIDDEN, ILLEGAL_PAIRS, LOSS_NAMES, MAX_PARAMETERS, OUTPUTS, parse_layers


def test_the_legal_pairs_are_these_four():
    assert sorted(LEGAL_PAIRS) == [
        ("identity", "squared_error"),
        ("sigmoid", "cross_entropy"),
        ("sigmoid", "squared_error"),
        ("softmax", "cross_entropy"),
    ]


@pytest.mark.parametrize(("output", "loss"), list(ILLEGAL_PAIRS))
def test_an_illegal_pair_is_refused_with_both_names_the_reason_and_a_way_out(output, loss):
    with pytest.raises(UsageError) as caught:
        Network((3, 2), output=output, loss=loss)
    message = str(caught.value)
    assert f"'{output}'" in message
    assert f"'{loss}'" in message
    assert ILLEGAL_PAIRS[output, loss] in message
    ways_out = message.rpartition("use ")[2].split(", ")
    assert ways_out
    for way_out in ways_out:
        assert Network((3, 2), output=way_out, loss=loss).output == way_out
    assert "\n" not in message
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"layers": ()}, "layers  do not make a network"),
        ({"layers": (784,)}, "784"),
        ({"layers": (784, 0, 10)}, "784-0-10"),
        ({"hidden": "sigmiod"}, "no hidden activation 'sigmiod'; did you mean 'sigmoid'? (known: sigmoid, tanh, relu)"),
        ({"output": "relu"}, "no output activation 'relu'"),
        ({"loss": "mse"}, "no loss 'mse' (known: squared_error, cross_entropy)"),
        ({"rate": -0.5}, "rate -0.5"),
        ({"rate": math.nan}, "rate nan"),
        ({"momentum": -0.1}, "momentum -0.1"),
        ({"momentum": math.nan}, "momentum nan"),
        ({"momentum": 1.0}, "momentum 1.0 diverges"),
        ({"l1": -1e-9}, "l1 -1e-09"),
        ({"l1": math.inf}, "l1 inf"),
        ({"l2": -3.0}, "l2 -3.0"),
        ({"layers": (3, 1), "output": "softmax"}, "'softmax' with 1 output neuron"),
    ],
)
def test_a_value_that_is_not_allowed_is_a_usage_error_that_names_it(values, named):
    with pytest.raises(UsageError) as caught:
        Network(**{"layers": (3, 2), **values})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_past_the_limit_on_parameters_are_refused_with_their_number():
    most = Network((MAX_PARAMETERS - 1, 1))
    assert most.parameter_count == MAX_PARAMETERS
    with pytest.raises(UsageError, match=r"layers 200000000-1 have 200,000,001 parameters; at most 200,000,000"):
        Network((MAX_PARAMETERS, 1))


def test_text_depth_and_parameter_count_follow_the_layers():
    network = Network((784, 70, 30, 10), rate=0.0, momentum=0.999, l2=100.0)
    assert (network.text, network.depth) == ("784-70-30-10", 3)
    assert network.parameter_count == 785 * 70 + 71 * 30 + 31 * 10


@given(networks(), st.integers(0, 2**32))
def test_initial_parameters_are_the_same_for_every_dtype(network, seed):
    single, double = network.initial_parameters(seed, np.float32), network.initial_parameters(seed)
    assert network.parameter_count == sum(W.size + b.size for W, b in double)
    sizes = network.layers
    for l, ((W32, b32), (W64, b64)) in enumerate(zip(single, double, strict=True), start=1):
        assert W32.shape == W64.shape == (sizes[l], sizes[l - 1])
        assert b32.shape == b64.shape == (sizes[l],)
        assert W32.dtype == b32.dtype == np.float32
        assert W64.dtype == b64.dtype == np.float64
        assert np.array_equal(W32, W64.astype(np.float32))
        assert not b32.any()
        assert not b64.any()


def test_initial_weights_follow_the_seed_and_the_fan_in():
    network = Network((400, 300, 2))
    (W, _), (V, _) = network.initial_parameters(1)
    assert np.array_equal(W, network.initial_parameters(1)[0][0])
    assert not np.array_equal(W, network.initial_parameters(2)[0][0])
    assert np.std(W) == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert np.std(V) == pytest.approx(1 / math.sqrt(300), rel=0.1)
    assert abs(np.mean(W)) < 0.001


@pytest.mark.parametrize(("output", "loss"), LEGAL_PAIRS)
def test_delta_of_the_output_layer_needs_the_derivative_exactly_where_the_network_says_so(output, loss):
    network = Network((2, 3), output=output, loss=loss)
    mean_loss, activation = loss_of(network), ACTIVATIONS[output]
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((3, 4))
    Y = np.eye(3)[:, [0, 2, 1, 1]]
    A = activation.value(Z)
    delta = (A - Y) / 4
    if network.delta_needs_derivative:
        delta = delta * activation.derivative_from_Z(Z)
    numeric = np.empty_like(Z)
    for position in np.ndindex(Z.shape):
        above, below = Z.copy(), Z.copy()
        above[position] += 1e-6
        below[position] -= 1e-6
        numeric[position] = (mean_loss(activation.value(above), Y) - mean_loss(activation.value(below), Y)) / 2e-6
    assert np.allclose(delta, numeric, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("784-70-x-10", "'x'"),
        ("784,70", "'784,70'"),
        ("784--10", "''"),
        ("", "''"),
        ("-784-10", "''"),
        ("784-1e3", "'1e3'"),
        ("784-7.5-10", "'7.5'"),
        ("784-²", "'²'"),
        ("784-١٠", "'١٠'"),
        ("784- 70", "' 70'"),
        ("9" * 5000 + "-1", "9'"),  # Python refuses to read it
    ],
)
def test_parse_layers_names_the_part_that_is_not_a_size(text, part):
    with pytest.raises(UsageError) as caught:
        parse_layers(text)
    assert f"{part} is not a layer size" in str(caught.value)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6).map(tuple))
def test_parse_layers_is_the_inverse_of_the_text(sizes):
    text = "-".join(map(str, sizes))
    assert parse_layers(text) == parse_layers(f" {text}\n") == sizes


def test_every_function_that_a_network_may_name_exists():
    assert set(HIDDEN) | set(OUTPUTS) == set(ACTIVATIONS)
    assert {loss for _, loss in LEGAL_PAIRS} == set(LOSS_NAMES)
