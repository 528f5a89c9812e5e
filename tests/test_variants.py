"""The rungs of the ladder compute the same results, in the dtype that they are given, and learn."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import batch_sizes, cases, dtypes, networks
from threadpoolctl import threadpool_limits

from mlpprof.catalog import ladder, load
from mlpprof.data.source import DataSource
from mlpprof.data.source import load as load_data
from mlpprof.model import Network, Parameters, UnsupportedNetwork, Variant
from mlpprof.model.gradcheck import deviations, first_gradients, layer_deviations
from mlpprof.profile.passes import batches

RUNGS = (
    *("per_sample", "naive", "float32", "no_input_delta", "contiguous", "cached", "sliced"),
    *("tanh_sigmoid", "buffered", "chunked", "fused_update"),
)
BATCHED = RUNGS[1:]
LADDER = {name: entry for name, entry in ladder().items() if entry.extra != "peers"}  # see test_variants_peers.py
CLASSES = {name: load(LADDER[name]) for name in RUNGS}
PARENTS = dict(zip(RUNGS, (None, *RUNGS), strict=False))

each_rung = pytest.mark.parametrize("name", RUNGS)


def deviating(ours: Parameters, theirs: Parameters, tolerance: float) -> list[str]:
    found = layer_deviations("", ours, theirs, tolerance)
    return [f"layer {d.layer}: {d.size}" for d in found if d.severity > 1]


def arrays_in(value: Any) -> list[np.ndarray]:
    """All arrays in an object, also those in its lists, tuples and dictionaries."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [array for item in value for array in arrays_in(item)] if isinstance(value, list | tuple) else []


@each_rung
@given(case=cases())
@settings(max_examples=20)
def test_a_rung_agrees_with_finite_differences_its_parent_and_itself_in_float32(name, case):
    parent = None if PARENTS[name] is None else CLASSES[PARENTS[name]]
    assert [d for d in deviations(CLASSES[name], parent, case) if d.severity > 1] == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if entry.extra == "compiled" else ())  # numba compiles for seconds
        for name, entry in LADDER.items()
        if name not in RUNGS
    ],
)
@given(case=cases())
@settings(max_examples=10)
def test_a_variant_off_the_ladder_has_the_gradients_of_naive_when_its_phases_are_called_singly(name, case):
    try:
        loss, ours = first_gradients(load(LADDER[name]), case)
    except UnsupportedNetwork:
        return
    naive_loss, theirs = first_gradients(CLASSES["naive"], case)
    assert loss == pytest.approx(naive_loss, rel=1e-10, abs=1e-13)
    assert deviating(ours, theirs, 1e-6) == []  # one of these variants uses finite differences


@each_rung
@given(network=networks(), m=batch_sizes, dtype=dtypes, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_every_array_of_a_step_has_the_dtype_of_the_data(name, network, m, dtype, seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(2 * m, network.layers[0])).astype(dtype)
    Y = np.eye(network.layers[-1], dtype=dtype)[rng.integers(network.layers[-1], size=2 * m)]
    instance = CLASSES[name](network, network.initial_parameters(seed, dtype))
    for _ in range(2):
        instance.train_step(X, Y, rng.permutation(2 * m)[:m])
    held = arrays_in(vars(instance))
    assert len(held) > 3 * network.depth  # at least W, velocity and dW
    assert {array.dtype.name for array in held} == {dtype}
    returned = [values for pair in (*instance.parameters(), *instance.gradients()) for values in pair]
    assert {array.dtype.name for array in (*returned, instance.predict(X))} == {dtype}


@each_rung
@given(network=networks(), m=batch_sizes, dtype=dtypes)
@settings(max_examples=15)
def test_shapes_are_canonical_and_the_loss_is_a_number(name, network, m, dtype):
    X = np.full((m + 1, network.layers[0]), 0.5, dtype)
    Y = np.eye(network.layers[-1], dtype=dtype)[np.zeros(m + 1, int)]
    instance = CLASSES[name](network, network.initial_parameters(0, dtype))
    loss = instance.train_step(X, Y, np.arange(m))
    assert np.isfinite(loss)
    assert np.ndim(loss) == 0
    sizes = network.layers
    for given_ in (instance.parameters(), instance.gradients()):
        shapes = [(W.shape, b.shape) for W, b in given_]
        assert shapes == [((n, k), (n,)) for k, n in itertools.pairwise(sizes)]
    assert instance.predict(X).shape == (m + 1, sizes[-1])


@each_rung
@given(case=cases())
@settings(max_examples=10)
def test_a_train_step_is_bit_for_bit_the_five_methods_called_one_by_one(name, case):
    whole, singly = (CLASSES[name](case.network, case.parameters) for _ in range(2))
    for _ in range(3):
        loss = whole.train_step(case.X, case.Y, case.index)
        singly.fetch_batch(case.X, case.Y, case.index)
        singly.forward()
        assert singly.loss() == loss
        singly.backward()
        singly.update()
    for (W, b), (V, c) in zip(whole.parameters(), singly.parameters(), strict=True):
        assert np.array_equal(W, V)
        assert np.array_equal(b, c)


@each_rung
def test_parameters_are_copied_in_and_out(name):
    network = Network((3, 4, 2), momentum=0.9)
    handed = network.initial_parameters(1)
    kept = [(W.copy(), b.copy()) for W, b in handed]
    instance = CLASSES[name](network, handed)
    for W, b in instance.parameters():
        W += 1
        b += 1
    X, Y = np.eye(3), np.eye(2)[[0, 1, 1]]
    for (W, b), (V, c) in zip(instance.parameters(), kept, strict=True):
        assert np.array_equal(W, V)
        assert np.array_equal(b, c)
    instance.train_step(X, Y, np.arange(3))
    instance.gradients()[0][0][:] = 7.0
    assert not (instance.gradients()[0][0] == 7.0).any()
    for (W, b), (V, c) in zip(handed, kept, strict=True):
        assert np.array_equal(W, V)
        assert np.array_equal(b, c)


@each_rung
def test_the_batch_has_the_rows_of_the_index_in_its_order(name, tiny):
    X, Y = tiny
    network = Network((20, 5, 3))
    by_index, by_rows = (CLASSES[name](network, network.initial_parameters(0)) for _ in range(2))
    index = np.array([250, 3, 77, 3])  # a sample may come twice
    assert by_index.train_step(X, Y, index) == by_rows.train_step(X[index].copy(), Y[index].copy(), np.arange(4))


@each_rung
def test_a_batch_may_change_its_size_from_step_to_step(name, tiny):
    X, Y = tiny
    network = Network((20, 5, 3), momentum=0.9)
    ours = CLASSES[name](network, network.initial_parameters(0))
    reference = CLASSES["naive"](network, network.initial_parameters(0))
    for m in (30, 1, 7, 300):
        assert ours.train_step(X, Y, np.arange(m)) == pytest.approx(reference.train_step(X, Y, np.arange(m)), rel=1e-9)


# Memory order, as the docstrings describe it


def one_step(name: str) -> Any:
    network = Network((5, 4, 3))
    instance = CLASSES[name](network, network.initial_parameters(0))
    instance.train_step(np.ones((8, 5)), np.ones((8, 3)), np.arange(6))
    return instance


@pytest.mark.parametrize("name", ["naive", "float32", "no_input_delta"])
def test_below_contiguous_the_stacked_input_is_C_and_the_input_is_F(name):
    instance = one_step(name)
    assert instance.A[0].flags.f_contiguous
    assert not instance.A[0].flags.c_contiguous
    assert instance.A_bias[0].flags.c_contiguous


@pytest.mark.parametrize("name", ["contiguous", "cached"])
def test_from_contiguous_on_the_stacked_input_is_F_like_the_input(name):
    instance = one_step(name)
    assert instance.A[0].flags.f_contiguous
    assert instance.A_bias[0].flags.f_contiguous
    assert instance.A_bias[1].flags.c_contiguous
    assert instance.A[1].flags.c_contiguous


def test_in_sliced_the_weights_are_a_view_that_is_neither_C_nor_F_and_no_array_has_a_bias_row():
    instance = one_step("sliced")
    weights = instance.W[1][:, 1:]
    assert weights.base is instance.W[1]
    assert not weights.flags.c_contiguous
    assert not weights.flags.f_contiguous
    assert weights.strides[1] == weights.itemsize
    assert instance.A[0].flags.f_contiguous
    assert instance.A[1].flags.c_contiguous
    assert [A.shape for A in instance.A] == [(5, 6), (4, 6), (3, 6)]


def test_only_the_rungs_below_cached_keep_Z():
    keeps_Z = {name: "Z" in vars(one_step(name)) for name in BATCHED}
    assert keeps_Z == {n: n in ("naive", "float32", "no_input_delta", "contiguous") for n in BATCHED}


def test_the_dtype_of_a_rung_is_single_from_float32_on():
    assert {name: CLASSES[name].DTYPE for name in CLASSES} == {
        name: np.float64 if name in ("per_sample", "naive") else np.float32 for name in CLASSES
    }


# Learning


def train(cls: type[Variant], network: Network, X: np.ndarray, Y: np.ndarray, m: int, epochs: int) -> tuple:
    """The instance, and the losses of every step."""
    instance = cls(network, network.initial_parameters(0, X.dtype))
    walk = batches(len(X), m, seed=0)
    losses = [float(instance.train_step(X, Y, next(walk))) for _ in range(epochs * (len(X) // m))]
    return instance, losses


@pytest.mark.parametrize("name", RUNGS[1:])
def test_10_epochs_on_the_tiny_set_lower_the_loss_exactly_as_the_parent_s(name, tiny):
    X, Y = tiny
    network = Network((20, 8, 5, 3), rate=0.5, momentum=0.9, l2=1e-4)
    ours, losses = train(CLASSES[name], network, X, Y, 30, 10)
    theirs, parent_losses = train(CLASSES[PARENTS[name]], network, X, Y, 30, 10)
    assert losses == pytest.approx(parent_losses, rel=1e-8)
    assert deviating(ours.parameters(), theirs.parameters(), 1e-7) == []
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert np.mean(ours.predict(X).argmax(axis=1) == Y.argmax(axis=1)) > 0.8


@pytest.fixture(scope="module")
def mnist(shared_data) -> tuple[np.ndarray, ...]:
    data = load_data(DataSource(path=str(shared_data)))
    test = data.test_arrays(10, np.float32)
    assert test is not None
    return (*data.arrays(10, np.float32), *test)


def mnist_accuracy(name: str, mnist: tuple[np.ndarray, ...], samples: int, m: int) -> float:
    """The share of the 10,000 test digits that are correct after 10 epochs on the first samples, in float32."""
    X, Y, X_test, Y_test = mnist
    network = Network((784, 70, 30, 10), rate=0.2, momentum=0.9, l2=1e-4)
    with threadpool_limits(1):  # with products this small, several threads would wait for each other
        instance, _ = train(CLASSES[name], network, X[:samples], Y[:samples], m, 10)
        return float(np.mean(instance.predict(X_test).argmax(axis=1) == Y_test.argmax(axis=1)))


@pytest.mark.slow
def test_all_of_mnist_gives_95_percent_in_10_epochs(mnist):
    assert mnist_accuracy("buffered", mnist, 60_000, 500) > 0.95


@pytest.mark.slow
def test_all_batched_rungs_learn_a_tenth_of_mnist_equally_well(mnist):
    accuracy = {name: mnist_accuracy(name, mnist, 6_000, 100) for name in BATCHED}
    assert min(accuracy.values()) > 0.90, accuracy
    assert max(accuracy.values()) - min(accuracy.values()) < 0.01, accuracy
